//! `riverrun checkpoint` on the checkpoints of a real run: list, show, a copy, and going back.

use std::path::Path;
use std::process::{Command, Output};

const SCRIPT: &str = "
SET pipeline.name = 'back';
SET checkpoint.location = '${LOCATION}';
SET checkpoint.interval = '1 ms';
SET checkpoint.keep = '1000';
SET trigger.interval = '15 ms';
CREATE TABLE lines (n BIGINT) WITH (connector = 'filesystem', path = '${INPUT}', format = 'json', max_offsets_per_trigger = 10);
CREATE TABLE sums (n BIGINT, total BIGINT) WITH (connector = 'filesystem', path = '${DATA_DIR}/sums.jsonl', format = 'json');
INSERT INTO sums SELECT n, n + 1 AS total FROM lines;
";

fn riverrun(dir: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_riverrun"));
    command.args(arguments).env("RIVERRUN_LOG", "warn");
    if arguments.contains(&"script.sql") {
        for (name, value) in [("INPUT", "lines.jsonl"), ("DATA_DIR", "data"), ("LOCATION", "kept")] {
            command.arg("--set").arg(format!("{name}={value}"));
        }
    }
    let Output { status, stdout, stderr } = command.current_dir(dir).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

fn rows(dir: &Path) -> Vec<i64> {
    let text = std::fs::read_to_string(dir.join("data/sums.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["n"].as_i64().unwrap()).collect()
}

#[test]
fn checkpoints_are_listed_shown_copied_and_gone_back_to() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("script.sql"), SCRIPT).unwrap();
    std::fs::write(dir.join("lines.jsonl"), (0..1000).map(|n| format!("{{\"n\": {n}}}\n")).collect::<String>()).unwrap();
    let none = riverrun(dir, &["checkpoint", "list", "script.sql"]);
    assert!(none.0 == Some(2) && none.1.contains("there are no checkpoints in"), "{none:?}");
    let ran = riverrun(dir, &["run", "script.sql"]);
    assert!(ran.0 == Some(0), "{ran:?}");
    assert_eq!(rows(dir).len(), 1000);

    let (code, listed) = riverrun(dir, &["checkpoint", "list", "script.sql", "--json"]);
    assert_eq!(code, Some(0), "{listed}");
    let listed: Vec<serde_json::Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(listed.len() > 1, "{listed:?}");
    let (epoch, lineage) = (listed[0]["epoch"].as_u64().unwrap(), listed[0]["lineage"].as_str().unwrap().to_owned());
    let text = riverrun(dir, &["checkpoint", "list", "--location", "kept", "--pipeline", "back"]);
    assert!(text.1.contains("TASK NUMBER") && text.0 == Some(0), "{text:?}");

    let shown = riverrun(dir, &["checkpoint", "show", "script.sql"]);
    assert!(shown.0 == Some(0) && shown.1.contains("intact: all checksums fit") && shown.1.contains("reads lines"), "{shown:?}");

    let copied = riverrun(dir, &["checkpoint", "restore", "script.sql", "--to", "copies"]);
    assert!(copied.0 == Some(0) && copied.1.contains("verified the copy"), "{copied:?}");
    let again = riverrun(dir, &["checkpoint", "restore", "script.sql", "--to", "copies"]);
    assert!(again.0 == Some(2) && again.1.contains("is not empty"), "{again:?}");
    assert_eq!(riverrun(dir, &["checkpoint", "show", "--location", "copies"]).0, Some(0));

    let wanted = format!("epoch {epoch}");
    let asked = riverrun(dir, &["checkpoint", "reset", "script.sql", "--to", &wanted]);
    assert!(asked.0 == Some(2) && asked.1.contains("read again") && asked.1.contains("add --yes"), "{asked:?}");
    let idle = riverrun(dir, &["run", "script.sql"]);
    assert!(idle.0 == Some(0) && rows(dir).len() == 1000, "nothing was done: {idle:?}");
    let early = riverrun(dir, &["checkpoint", "reset", "script.sql", "--to", "1999-01-01", "--yes"]);
    assert!(early.0 == Some(2) && early.1.contains("no intact checkpoint that early"), "{early:?}");
    let done = riverrun(dir, &["checkpoint", "reset", "script.sql", "--to", &wanted, "--yes"]);
    assert!(done.0 == Some(0) && done.1.contains("done: the next start begins back-"), "{done:?}");
    let ran = riverrun(dir, &["run", "script.sql"]);
    assert_eq!(ran.0, Some(0), "{ran:?}");
    let rows = rows(dir);
    let first = rows[1000];
    assert!(rows.len() > 1000 && rows[1000..] == (first..1000).collect::<Vec<_>>(), "{rows:?}");
    let (_, listed) = riverrun(dir, &["checkpoint", "list", "script.sql", "--json"]);
    let last: serde_json::Value = serde_json::from_str(listed.lines().last().unwrap()).unwrap();
    assert_ne!(last["lineage"].as_str().unwrap(), lineage, "another life");
    // A start goes on in the new life as ever.
    let idle = riverrun(dir, &["run", "script.sql"]);
    assert!(idle.0 == Some(0), "{idle:?}");
}
