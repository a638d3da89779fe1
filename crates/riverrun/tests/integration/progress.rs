//! Progress of a small script with a clock that stands still unless the test moves it: every number is known.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use riverrun::engine::progress::{Idle, Listener, Listeners, Progress, Started, Terminated, Timestamp};
use riverrun::engine::runtime::{Pipeline, Settings};
use riverrun::engine::sink::{EpochOutput, Flushed, Sink};
use riverrun::engine::time::{Clock, Micros};
use riverrun::engine::{Error, Result};
use riverrun::{Program, Variables};
use serde_json::{Value, json};

const SCRIPT: &str = include_str!("progress.sql");
/// 2023-11-14T22:20:00Z.
const NOW: Micros = 1_700_000_400_000_000;

/// Seconds of event time since [`NOW`], an hour before it; `None`: a line that is no JSON. Two are late, three windows
/// come of the others.
const INPUT: [Option<i64>; 8] = [Some(0), Some(30), Some(25), Some(10), None, Some(61), Some(40), Some(120)];

/// Moves only by hand; who sleeps on it gives the processor away.
struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Micros {
        self.0.load(SeqCst)
    }

    fn sleep(&self, _wait: Duration) {
        std::thread::yield_now();
    }
}

impl HandClock {
    fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_micros() as i64, SeqCst);
    }
}

/// Takes everything, and 2 seconds for the first row; or fails for good.
struct Slow {
    clock: Arc<HandClock>,
    took: Duration,
    fails: bool,
}

impl Sink for Slow {
    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        if output.rows() > 0 {
            self.clock.advance(std::mem::take(&mut self.took));
            if self.fails {
                return Err(Error::permanent("the disk is full"));
            }
        }
        Ok(())
    }

    fn flush(&mut self, _now: Micros, _force: bool) -> Result<Flushed> {
        Ok(Flushed::All)
    }
}

/// Sends every event on, as JSON.
struct Told(Sender<(&'static str, Value)>);

impl Told {
    fn send(&self, name: &'static str, event: &impl serde::Serialize) {
        self.0.send((name, serde_json::to_value(event).unwrap())).unwrap();
    }
}

impl Listener for Told {
    fn started(&self, event: &Started) {
        self.send("started", event);
    }

    fn progress(&self, progress: &Progress) {
        self.send("progress", progress);
    }

    fn idle(&self, event: &Idle) {
        self.send("idle", event);
    }

    fn terminated(&self, event: &Terminated) {
        self.send("terminated", event);
    }
}

fn write_input(path: &Path) {
    let line = |second: &Option<i64>| match second {
        Some(second) => {
            let at = Timestamp(NOW - 3_600_000_000 + second * 1_000_000);
            json!({"device": "a", "at": at, "value": 1.5}).to_string() + "\n"
        }
        None => "no JSON\n".to_owned(),
    };
    std::fs::write(path, INPUT.iter().map(line).collect::<String>()).unwrap();
}

fn start(dir: &Path, bounded: bool, fails: bool) -> (Pipeline, Arc<HandClock>, Receiver<(&'static str, Value)>) {
    let path = dir.join("readings.jsonl");
    write_input(&path);
    let set = [format!("INPUT={}", path.display()), format!("DATA_DIR={}", dir.display())];
    let mut program = Program::parse("progress.sql", SCRIPT, &Variables::parse(&set).unwrap()).unwrap();
    let clock = Arc::new(HandClock(AtomicI64::new(NOW)));
    program.context.clock = clock.clone();
    let (sender, events) = channel();
    let listeners = Listeners(vec![Arc::new(Told(sender))]);
    let sink = Slow { clock: clock.clone(), took: Duration::from_secs(if bounded { 2 } else { 0 }), fails };
    let own = BTreeMap::from([("minutes".to_owned(), Box::new(sink) as Box<dyn Sink>)]);
    let pipeline = program.start_with(own, Settings { bounded, listeners, ..Settings::default() }).unwrap();
    (pipeline, clock, events)
}

fn names(events: &[(&'static str, Value)]) -> Vec<&'static str> {
    events.iter().map(|(name, _)| *name).collect()
}

/// Takes a member out of an object: what no test can know, after a look that it is there.
fn take(value: &mut Value, name: &str) -> Value {
    value.as_object_mut().unwrap().remove(name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn a_bounded_run_reports_known_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let (pipeline, _, events) = start(dir.path(), true, false);
    let (recent, stats) = (pipeline.progress(), pipeline.stats());
    pipeline.wait().unwrap();
    let events: Vec<_> = events.iter().collect();
    assert_eq!(names(&events), ["started", "progress", "terminated"]);
    assert_eq!(events[0].1["name"], "devices");
    assert_eq!(events[0].1["timestamp"], "2023-11-14T22:20:00.000Z");
    assert_eq!(events[2].1["timestamp"], "2023-11-14T22:20:02.000Z");
    assert_eq!(events[2].1["error"], Value::Null);
    for (name, event) in &events {
        assert_eq!((&event["id"], &event["run_id"]), (&events[0].1["id"], &events[0].1["run_id"]), "{name}");
    }

    let mut progress = events[1].1.clone();
    let typed: Progress = serde_json::from_value(progress.clone()).unwrap();
    assert_eq!(recent.last().as_deref(), Some(&typed), "what listeners are told is what is kept");
    assert_eq!(recent.reports(100).len(), 1);
    // Measured on the machine, and rows over that.
    for name in ["id", "run_id", "duration_ms", "processed_rows_per_second", "batch_id"] {
        take(&mut progress, name);
    }
    let source = &mut progress["sources"][0];
    assert!(take(source, "processed_rows_per_second").as_f64().unwrap() > 0.0);
    take(source, "busy_ms");
    let bytes = std::fs::metadata(dir.path().join("readings.jsonl")).unwrap().len();
    assert_eq!(take(source, "num_input_bytes"), take(source, "num_input_bytes_total"));
    assert!(bytes > 0);
    take(&mut progress["sinks"][0], "busy_ms");
    take(&mut progress["state_operators"][0], "memory_used_bytes");
    for operator in progress["operators"].as_array_mut().unwrap() {
        take(operator, "busy_ms");
    }
    assert_eq!(progress, expected(), "{progress:#}");
    assert_eq!(stats.node("readings").unwrap().late.load(std::sync::atomic::Ordering::Relaxed), 2);
}

fn expected() -> Value {
    json!({
        "name": "devices",
        "timestamp": "2023-11-14T22:20:00.000Z",
        "batch_duration": 2000,
        "num_input_rows": 8,
        "input_rows_per_second": 4.0,
        "event_time": {
            "min": "2023-11-14T21:20:00.000Z",
            "max": "2023-11-14T21:22:00.000Z",
            "avg": "2023-11-14T21:20:40.857Z",
            "watermark": "2023-11-14T21:21:50.000Z",
        },
        "state_operators": [{
            "operator_name": "minutes.window_aggregate",
            "num_rows_total": 0,
            "num_rows_dropped_by_watermark": 2,
            "num_rows_dropped_by_watermark_total": 2,
        }],
        "operators": [
            {
                "operator_name": "minutes.window_aggregate",
                "num_input_rows": 7,
                "num_input_rows_total": 7,
                "num_output_rows": 3,
                "num_output_rows_total": 3,
            },
            {
                "operator_name": "minutes.project",
                "num_input_rows": 3,
                "num_input_rows_total": 3,
                "num_output_rows": 3,
                "num_output_rows_total": 3,
            },
        ],
        "sources": [{
            "description": "filesystem[readings]",
            "name": "readings",
            "start_offset": {"0": 0},
            "end_offset": {"0": 421},
            "latest_offset": {},
            "watermark": {"0": "2023-11-14T21:21:50.000Z"},
            "lag": 0,
            "num_input_rows": 8,
            "num_input_rows_total": 8,
            "input_rows_per_second": 4.0,
            "num_late_rows": 2,
            "num_late_rows_total": 2,
            "bad_records_total": {"malformed": 1},
        }],
        "sinks": [{
            "description": "blackhole[minutes]",
            "name": "minutes",
            "num_output_rows": 3,
            "num_output_rows_total": 3,
            "output_rows_per_second": 1.5,
            "queue_bytes": 0,
            "retries_total": 0,
        }],
    })
}

#[test]
fn idle_is_told_when_nothing_came_for_an_interval() {
    let dir = tempfile::tempdir().unwrap();
    let (pipeline, clock, events) = start(dir.path(), false, false);
    let stop = pipeline.stop_handle();
    let recent = pipeline.progress();
    let (mut seen, mut read, mut written) = (Vec::new(), 0, 0);
    // Every interval ends with an event: progress until all is read and written, then idle.
    while (read, written) != (8, 1) || seen.last() != Some(&"idle") {
        let (name, event) = events.recv_timeout(Duration::from_secs(60)).unwrap();
        read += event["num_input_rows"].as_u64().unwrap_or_default();
        written += event["sinks"][0]["num_output_rows"].as_u64().unwrap_or_default();
        seen.push(name);
        assert!(seen.len() < 100_000, "never idle: {read} rows read, {written} written");
        clock.advance(Duration::from_secs(10));
    }
    assert_eq!(seen[0], "started");
    assert!(seen.contains(&"progress"));
    let live = recent.live();
    assert_eq!((live.num_input_rows, live.sources[0].num_input_rows_total), (0, 8));
    assert_eq!((live.event_time.min, live.event_time.avg), (None, None));
    assert_eq!(live.sources[0].num_late_rows_total, 2);
    assert_eq!(live.sources[0].bad_records_total.values().sum::<u64>(), 1);
    assert_eq!(live.state_operators[0].num_rows_total, 2, "two windows are open: the watermark stands in the second");
    stop.stop();
    pipeline.wait().unwrap();
    assert_eq!(events.iter().last().unwrap().0, "terminated");
}

#[test]
fn the_error_that_ended_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (pipeline, _, events) = start(dir.path(), true, true);
    let error = pipeline.wait().unwrap_err();
    let events: Vec<_> = events.iter().collect();
    assert_eq!(names(&events), ["started", "progress", "terminated"]);
    assert_eq!(events[2].1["error"], "sink minutes: the disk is full");
    assert_eq!(error.message(), "sink minutes: the disk is full");
}
