//! The program is killed with SIGKILL at named places, and started again until its input is read: every sink then holds what
//! it holds after a run without a crash.
//!
//! `RIVERRUN_CRASHES` says how many histories are tried at each place (the gate takes few; `bench/crashes` many).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Where it is killed, and the most times that it gets there in a run of this input, about.
const PLACES: [(&str, u64); 14] = [
    ("journal.before-commit", 45),
    ("journal.committed", 45),
    ("checkpoint.before-manifest", 4),
    ("checkpoint.before-deletion", 4),
    ("checkpoint.in-deletion", 3),
    ("restore", 1),
    ("repeat", 3),
    ("log.after-append", 90),
    ("table.after-write", 40),
    ("delta.before-commit", 15),
    ("delta.after-commit", 15),
    ("files.before-rename", 6),
    ("files.after-rename", 6),
    ("file.after-append", 40),
];

const TABLES: [&str; 7] = ["late", "spending", "steps", "totals", "lake", "folder", "file"];

fn riverrun(arguments: &[&str], input: &Path, data: &Path, failpoint: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_riverrun"));
    command.args(arguments).env("RIVERRUN_LOG", "warn");
    for (name, value) in [("INPUT", input), ("DATA_DIR", data)] {
        command.arg("--set").arg(format!("{name}={}", value.display()));
    }
    // Each start goes on from the checkpoint of the other backend.
    static STARTS: AtomicUsize = AtomicUsize::new(0);
    let backend = ["memory", "disk"][STARTS.fetch_add(1, Relaxed) % 2];
    command.arg("--set").arg(format!("BACKEND={backend}"));
    if let Some(failpoint) = failpoint {
        command.env("RIVERRUN_FAILPOINT", failpoint);
    }
    command.output().unwrap()
}

fn script() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/crash.sql")
}

/// Runs the script once; whether it came to its end, else it was killed.
fn run(input: &Path, data: &Path, failpoint: Option<&str>) -> bool {
    let output = riverrun(&["run", script()], input, data, failpoint);
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => true,
        // A signal.
        None => false,
        Some(code) => panic!("it failed with {code} at {failpoint:?}: {said}"),
    }
}

/// The rows of all tables, sorted: sinks promise no order between keys.
fn rows(input: &Path, data: &Path) -> BTreeMap<&'static str, Vec<String>> {
    let lines = |text: &[u8]| {
        let mut lines: Vec<_> = String::from_utf8_lossy(text).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let mut letters = lines(&std::fs::read(data.join("bad.jsonl")).unwrap());
    // When each was read, the last column, differs from run to run.
    letters.iter_mut().for_each(|letter| letter.truncate(letter.find(",\"read_time\":").unwrap()));
    let mut rows = BTreeMap::from([("dead letters", letters)]);
    for table in TABLES {
        let query = format!("SELECT * FROM {table}");
        let output = riverrun(&["sql", "--script", script(), "--format", "json", &query], input, data, None);
        assert!(output.status.success(), "{table}: {}", String::from_utf8_lossy(&output.stderr));
        rows.insert(table, lines(&output.stdout));
    }
    rows
}

/// Numbers that look random and are the same each time (splitmix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn wherever_it_is_killed_every_sink_holds_each_row_once() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("transactions.jsonl");
    let made = Command::new(env!("CARGO_BIN_EXE_riverrun"))
        .args([
            "generate",
            "transactions",
            "--count",
            "6000",
            "--users",
            "50",
            "--malformed",
            "0.002",
            "--events-per-second",
            "5",
            "--out",
        ])
        .arg(&input)
        .output();
    assert!(made.unwrap().status.success());
    let good = dir.path().join("good");
    assert!(run(&input, &good, None));
    let expected = rows(&input, &good);
    for (table, rows) in &expected {
        assert!(!rows.is_empty(), "{table} holds nothing: the test shows nothing");
    }
    let histories: u64 = std::env::var("RIVERRUN_CRASHES").map_or(1, |n| n.parse().unwrap());
    for (place, most) in PLACES {
        let mut killed = 0;
        for seed in 0..histories {
            let mut state = seed.wrapping_mul(1009) + most;
            let data = dir.path().join(format!("{place}-{seed}"));
            let mut history = Vec::new();
            // To restore or to repeat there must have been a crash before.
            let first = if ["restore", "repeat"].contains(&place) { "journal.committed" } else { place };
            for (place, most) in [(first, if first == place { most } else { 40 }), (place, most), ("journal.committed", 20)] {
                history.push(format!("{place}:{}", 1 + next(&mut state) % most));
            }
            killed += history.iter().filter(|failpoint| !run(&input, &data, Some(failpoint))).count();
            assert!(run(&input, &data, None), "{history:?}");
            let found = rows(&input, &data);
            for (table, expected) in &expected {
                let found = &found[table];
                let missing = expected.iter().filter(|row| !found.contains(row)).count();
                assert_eq!(found.len(), expected.len(), "{table} after {history:?}: {missing} rows are missing");
                assert!(found == expected, "{table} after {history:?} holds other rows: {missing} are missing");
            }
            std::fs::remove_dir_all(&data).unwrap();
        }
        assert!(killed > 0, "nothing was ever killed at {place}");
    }
}
