//! A script from its text to the text of `/metrics`: each count driven to a known value by real records.

use std::fmt::Write as _;
use std::time::Duration;

use riverrun::engine::time::{Clock, SystemClock};
use riverrun::{Program, Variables};
use riverrun_serve::metrics::Observed;
use riverrun_serve::metrics::family::{Format, render};

/// Windows of 10 seconds that begin every 5; a row may be 20 seconds late.
const SCRIPT: &str = r#"
SET pipeline.name = 'trial';
SET metric.events_processed_total = 'riverrun_source_rows_total{source="events"}';
SET metric.active_users = 'riverrun_window_groups{operator="busy.window_aggregate"}';
SET metric.waiting_bytes = 'riverrun_sink_queue_bytes';
CREATE TABLE events (who VARCHAR NOT NULL, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t - INTERVAL '20 seconds')
WITH (connector = 'filesystem', path = '${INPUT}', watch = true, format = 'json', bad_records = 'drop');
CREATE TABLE counts WITH (connector = 'blackhole', emit = 'append');
CREATE TABLE copy WITH (connector = 'blackhole');
CREATE VIEW busy AS
SELECT hop(t, INTERVAL '10 seconds', INTERVAL '5 seconds')['end'] AS until, who, count(*) AS n
FROM events GROUP BY hop(t, INTERVAL '10 seconds', INTERVAL '5 seconds'), who;
INSERT INTO counts SELECT * FROM busy;
INSERT INTO copy SELECT * FROM events;
"#;

fn program(dir: &std::path::Path) -> Program {
    let set = [format!("INPUT={}", dir.join("in.jsonl").display()), format!("DATA_DIR={}", dir.display())];
    Program::parse("trial.sql", SCRIPT, &Variables::parse(&set).unwrap()).unwrap()
}

#[test]
fn each_metric_comes_to_the_value_that_the_records_drive_it_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut input = String::new();
    let mut put = |who: &str, second: u32| {
        let _ = writeln!(input, r#"{{"who": "{who}", "t": "2024-05-01T12:{:02}:{:02}Z"}}"#, second / 60, second % 60);
    };
    for second in 0..60 {
        put("early", second);
    }
    for (user, second) in [("a", 101), ("b", 102), ("a", 106), ("c", 107), ("c", 108)] {
        put(user, second);
    }
    for second in 80..87 {
        put("late", second);
    }
    input.push_str("not json\n{\"who\": \"x\"\n[]\n{\"who\": \"y\"}\n");
    std::fs::write(dir.path().join("in.jsonl"), input).unwrap();

    let program = program(dir.path());
    let pipeline = program.start(false, Some(1)).unwrap();
    let stats = pipeline.stats();
    let text = || {
        let observed = Observed { pipeline: "trial", stats: &stats, now: SystemClock.now(), declared: &program.metrics };
        render(&observed.families(), Format::Text)
    };
    // The other sink's rows may still wait when this one has them all: all are read, and nothing waits.
    let read = |text: &str| {
        text.contains("riverrun_sink_rows_total{pipeline=\"trial\",sink=\"copy\"} 72\n")
            && text.contains("waiting_bytes{pipeline=\"trial\"} 0\n")
    };
    let mut looks = 0;
    while !read(&text()) {
        looks += 1;
        assert!(looks < 2000, "the file was never read:\n{}", text());
        SystemClock.sleep(Duration::from_millis(10));
    }
    let text = text();
    for line in [
        r#"riverrun_source_records_total{pipeline="trial",source="events"} 76"#,
        r#"riverrun_source_rows_total{pipeline="trial",source="events"} 72"#,
        r#"events_processed_total{pipeline="trial"} 72"#,
        r#"riverrun_late_rows_total{pipeline="trial",source="events"} 7"#,
        r#"riverrun_dead_letters_total{pipeline="trial",source="events",reason="malformed"} 3"#,
        r#"riverrun_dead_letters_total{pipeline="trial",source="events",reason="missing_field"} 1"#,
        r#"riverrun_dead_letters_total{pipeline="trial",source="events",reason="wrong_type"} 0"#,
        // A row is in two windows, so it is dropped from two: the operator sees it after hop() has unnested it.
        r#"riverrun_operator_late_rows_total{pipeline="trial",operator="busy.window_aggregate"} 14"#,
        // 108 s is in the windows that begin at 100 and at 105 s: in the first there were a, b and c.
        r#"active_users{pipeline="trial"} 3"#,
        r#"riverrun_source_watermark_seconds{pipeline="trial",source="events",partition="0"} 1714564888"#,
        r#"waiting_bytes{pipeline="trial"} 0"#,
        r#"riverrun_ready{pipeline="trial"} 1"#,
    ] {
        assert!(text.contains(&format!("{line}\n")), "no line {line} in\n{text}");
    }
    pipeline.stop_handle().stop();
    pipeline.wait().unwrap();
}

#[test]
fn a_wrong_declaration_is_refused_before_anything_runs_with_its_place() {
    let script = SCRIPT.replace("{source=\"events\"}", "{source=\"event\"}");
    let error = Program::parse("trial.sql", &script, &Variables::parse(&["INPUT=x".to_owned()]).unwrap()).err().unwrap();
    let text = error.to_string();
    assert!(text.starts_with("trial.sql:3:5: SET metric.events_processed_total: there is no source 'event'"), "{text}");
}

#[test]
fn the_shipped_script_declares_its_three_metrics() {
    let script = include_str!("../../../../pipelines/transactions.sql");
    let program = Program::parse("transactions.sql", script, &Variables::default()).unwrap();
    let names: Vec<_> = program.metrics.iter().map(|m| m.name()).collect();
    assert_eq!(names, ["active_users", "processing_latency_seconds", "transactions_processed_total"]);
}
