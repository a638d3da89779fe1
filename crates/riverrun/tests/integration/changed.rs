//! A script that is changed between two runs: what is unchanged keeps its state, what cannot be kept is refused.

use std::collections::BTreeMap;
use std::path::Path;
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
fn run(dir: &Path, queries: &str, drop_state: bool, (sink, rows): (&str, usize)) -> Result<[Vec<String>; 2], Error> {
    let taken = ["numbers", "totals"].map(|name| (name.to_owned(), Arc::<Mutex<Vec<String>>>::default()));
    let own = taken.iter().map(|(name, rows)| (name.clone(), Box::new(Kept(rows.clone())) as Box<dyn Sink>));
    let program = program(dir, &format!("{TABLES}{queries}"));
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
