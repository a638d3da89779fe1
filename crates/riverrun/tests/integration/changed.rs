//! A script that is changed between two runs: what is unchanged keeps its state, what cannot be kept is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::util::display::array_value_to_string;
use riverrun::engine::runtime::Settings;
use riverrun::engine::sink::{EpochOutput, Flushed, Sink};
use riverrun::engine::time::{Clock, Micros};
use riverrun::engine::{Error, Result};
use riverrun::{Program, Variables};

const TABLES: &str = "SET pipeline.name = 'changing';
CREATE TABLE events (
    user_id VARCHAR NOT NULL, amount DOUBLE NOT NULL, place VARCHAR, at TIMESTAMP NOT NULL,
    WATERMARK FOR at AS at - INTERVAL '1 hour'
) PARTITIONED BY (user_id) WITH (connector = 'log', topic = 'events', starting_offsets = 'earliest');
CREATE TABLE numbers WITH (connector = 'blackhole', emit = 'update');
CREATE TABLE totals (PRIMARY KEY (user_id)) WITH (connector = 'blackhole');
";
const NUMBERS: &str = "CREATE VIEW numbered AS
SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY at) AS n FROM events;
INSERT INTO numbers SELECT user_id, n FROM numbered;
";
/// Reads a column more, and stands before the other query: no node has the place that it had.
const TOTALS: &str = "CREATE VIEW spent AS
SELECT user_id, sum(amount) AS total, count(place) AS places FROM events GROUP BY user_id;
INSERT INTO totals SELECT user_id, total, places FROM spent;
";

/// Keeps the rows, as text.
struct Kept(Arc<Mutex<Vec<String>>>);

impl Sink for Kept {
    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        for batch in &output.batches {
            for row in 0..batch.rows.num_rows() {
                let values = batch.rows.columns().iter().map(|c| array_value_to_string(c, row).unwrap());
                self.0.lock().unwrap().push(values.collect::<Vec<_>>().join(" "));
            }
        }
        Ok(())
    }

    fn flush(&mut self, _now: Micros, _force: bool) -> Result<Flushed> {
        Ok(Flushed::All)
    }
}

/// A clock that stands: no sink is ever too slow for a checkpoint, and no stop too long.
struct Still;

impl Clock for Still {
    fn now(&self) -> Micros {
        1_700_000_000_000_000
    }

    fn sleep(&self, _wait: Duration) {
        std::thread::yield_now();
    }
}

fn program(dir: &Path, text: &str) -> Program {
    let set = [format!("DATA_DIR={}", dir.display())];
    let mut program = Program::parse("changing.sql", text, &Variables::parse(&set).unwrap()).unwrap();
    program.context.clock = Arc::new(Still);
    program
}

/// Appends an event of each user to the log, at this second.
fn send(dir: &Path, users: &[&str], second: u32) {
    let file = dir.join("events.jsonl");
    let line = |user: &&str| {
        format!("{{\"user_id\":\"{user}\",\"amount\":10,\"place\":\"x\",\"at\":\"2023-11-14T22:00:{second:02}Z\"}}\n")
    };
    std::fs::write(&file, users.iter().map(line).collect::<String>()).unwrap();
    let text = format!(
        "SET pipeline.name = 'sending';
        CREATE TABLE file (user_id VARCHAR NOT NULL, amount DOUBLE NOT NULL, place VARCHAR, at TIMESTAMP NOT NULL)
        WITH (connector = 'filesystem', path = '{}');
        CREATE TABLE events WITH (connector = 'log', topic = 'events', partitions = 2, key = 'user_id');
        INSERT INTO events SELECT * FROM file;",
        file.display()
    );
    program(dir, &text).start(true, None).unwrap().wait().unwrap();
}

/// Runs a script until a sink has so many rows, and stops it in order. Gives what `numbers` and `totals` were given, sorted.
fn run(dir: &Path, queries: &str, drop_state: bool, until: (&str, usize)) -> Result<[Vec<String>; 2], Error> {
    run_script(dir, &format!("{TABLES}{queries}"), drop_state, until)
}

fn run_script(dir: &Path, script: &str, drop_state: bool, (sink, rows): (&str, usize)) -> Result<[Vec<String>; 2], Error> {
    let taken = ["numbers", "totals"].map(|name| (name.to_owned(), Arc::<Mutex<Vec<String>>>::default()));
    let own = taken.iter().map(|(name, rows)| (name.clone(), Box::new(Kept(rows.clone())) as Box<dyn Sink>));
    let program = program(dir, script);
    let pipeline = program.start_with(own.collect::<BTreeMap<_, _>>(), Settings { drop_state, ..Settings::default() })?;
    let stop = pipeline.stop_handle();
    let of_sink = &taken.iter().find(|(name, _)| name == sink).unwrap().1;
    while of_sink.lock().unwrap().len() < rows && !stop.stopped() {
        std::thread::yield_now();
    }
    stop.stop();
    pipeline.wait()?;
    Ok(taken.map(|(_, rows)| {
        let mut rows = rows.lock().unwrap().clone();
        rows.sort();
        rows
    }))
}

#[test]
fn what_is_unchanged_keeps_its_state() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    send(dir, &["ann", "bob"], 1);
    let [numbers, _] = run(dir, NUMBERS, false, ("numbers", 2)).unwrap();
    assert_eq!(numbers, ["ann 1", "bob 1"]);

    send(dir, &["ann", "bob", "cleo"], 2);
    let [numbers, totals] = run(dir, &format!("{TOTALS}{NUMBERS}"), false, ("totals", 3)).unwrap();
    assert_eq!(numbers, ["ann 2", "bob 2", "cleo 1"], "the query that was there goes on");
    assert_eq!(totals, ["ann 10.0 1", "bob 10.0 1", "cleo 10.0 1"], "the one that was added begins here");

    // A filter behind the state changes nothing before it.
    send(dir, &["ann", "cleo"], 3);
    let behind = NUMBERS.replace("FROM numbered", "FROM numbered WHERE n > 2");
    let [numbers, totals] = run(dir, &format!("{behind}{TOTALS}"), false, ("totals", 2)).unwrap();
    assert_eq!(numbers, ["ann 3"]);
    assert_eq!(totals, ["ann 20.0 2", "cleo 20.0 2"]);
}

#[test]
fn state_is_never_dropped_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    send(dir, &["ann"], 1);
    let both = format!("{NUMBERS}{TOTALS}");
    run(dir, &both, false, ("totals", 1)).unwrap();

    send(dir, &["ann"], 2);
    let refused = run(dir, NUMBERS, false, ("numbers", 1)).unwrap_err().to_string();
    assert!(refused.contains("there is state of spent.window_aggregate, which the script does not have"), "{refused}");
    let changed = both.replace("FROM events;\n", "FROM events WHERE amount > 5;\n");
    let refused = run(dir, &changed, false, ("numbers", 1)).unwrap_err().to_string();
    assert!(refused.contains("the state of numbered.over is of another query than the script has now"), "{refused}");
    assert!(refused.contains("--drop-state"), "{refused}");

    // A refusal costs nothing: the script as it was goes on.
    let [numbers, totals] = run(dir, &both, false, ("totals", 1)).unwrap();
    assert_eq!((numbers, totals), (vec!["ann 2".to_owned()], vec!["ann 20.0 2".to_owned()]));

    send(dir, &["ann"], 3);
    let [numbers, totals] = run(dir, &changed, true, ("totals", 1)).unwrap();
    assert_eq!(numbers, ["ann 1"], "begins anew");
    assert_eq!(totals, ["ann 30.0 3"], "goes on");
}

/// The script whose totals begin there.
fn totals_from(start: &str) -> String {
    let totals = "CREATE TABLE totals (PRIMARY KEY (user_id)) WITH (connector = 'blackhole'";
    assert!(TABLES.contains(totals));
    format!("{}{NUMBERS}{TOTALS}", TABLES.replace(totals, &format!("{totals}, start = '{start}'")))
}

#[test]
fn an_added_query_begins_where_its_sink_says() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    send(dir, &["ann", "bob"], 1);
    run(dir, NUMBERS, false, ("numbers", 2)).unwrap();

    send(dir, &["ann"], 2);
    let all = totals_from("earliest");
    let [numbers, totals] = run_script(dir, &all, false, ("totals", 2)).unwrap();
    assert_eq!((numbers, totals), (vec!["ann 2".to_owned()], vec!["ann 20.0 2".to_owned(), "bob 10.0 1".to_owned()]));

    // Both readings go on where they were.
    send(dir, &["bob"], 3);
    let [numbers, totals] = run_script(dir, &all, false, ("totals", 1)).unwrap();
    assert_eq!((numbers, totals), (vec!["bob 2".to_owned()], vec!["bob 20.0 2".to_owned()]));
    let refused = run_script(dir, &totals_from("latest"), false, ("totals", 1)).unwrap_err().to_string();
    assert!(refused.contains("the state of spent.window_aggregate is of another query"), "{refused}");
}

#[test]
fn an_added_query_passes_over_what_waits_and_after_a_crash_begins_at_the_same_place() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    send(dir, &["ann"], 1);
    run(dir, NUMBERS, false, ("numbers", 1)).unwrap();

    send(dir, &["ann"], 2);
    let latest = format!("SET checkpoint.keep = '100'; {}", totals_from("latest"));
    let kept = checkpoints(dir);
    let [numbers, totals] = run_script(dir, &latest, false, ("numbers", 1)).unwrap();
    assert_eq!((numbers, totals), (vec!["ann 2".to_owned()], vec![]));
    send(dir, &["ann"], 3);
    let [_, totals] = run_script(dir, &latest, false, ("totals", 1)).unwrap();
    assert_eq!(totals, ["ann 10.0 1"]);

    // As if no checkpoint had been written since the script changed: the journal alone knows where it began.
    for written in checkpoints(dir).difference(&kept) {
        std::fs::remove_file(written).unwrap();
    }
    let [numbers, totals] = run_script(dir, &latest, false, ("totals", 1)).unwrap();
    assert_eq!(numbers, ["ann 2", "ann 3"], "run again");
    assert_eq!(totals, ["ann 10.0 1"], "the same");
}

fn checkpoints(dir: &Path) -> BTreeSet<PathBuf> {
    let all = files_in(&dir.join("checkpoints/changing"));
    all.into_iter().filter(|path| path.extension().is_some_and(|of| of == "manifest" || of == "data")).collect()
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

#[test]
fn a_start_that_cannot_be_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let set = [format!("DATA_DIR={}", dir.path().display())];
    let refused = |script: &str| {
        let program = Program::parse("changing.sql", script, &Variables::parse(&set).unwrap());
        program.map(drop).unwrap_err().to_string()
    };
    let soon = refused(&totals_from("soon"));
    assert!(soon.contains("table events") && soon.contains("start = 'soon'") && soon.contains("earliest, latest"), "{soon}");
    let of_source = refused(&format!("{}{NUMBERS}", TABLES.replace("starting_offsets", "start")));
    assert!(of_source.contains("events is read") && of_source.contains("starting_offsets"), "{of_source}");
    let files = "CREATE TABLE lines (n INT) WITH (connector = 'filesystem', path = 'x.jsonl');
        CREATE TABLE out WITH (connector = 'blackhole', start = 'latest'); INSERT INTO out SELECT n FROM lines;";
    let files = refused(files);
    assert!(files.contains("reads lines from its first row on") && files.contains("earliest"), "{files}");
}
