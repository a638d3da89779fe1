//! Each count driven to a known value. The clock stands still but for what a test moves it by.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch, TimestampMicrosecondArray};

use super::{Collected, Rows, graph, run, schema};
use crate::batch::Port;
use crate::runtime::health::Health;
use crate::runtime::stats::PipelineStats;
use crate::runtime::{Bindings, Pipeline, Settings};
use crate::sink::{EpochOutput, Flushed, Sink};
use crate::source::{Fetch, Limit, OnBadRecord, PartitionReader, Poll, Source, Start};
use crate::time::{Clock, Micros};
use crate::{Error, Result};

const SECOND: Micros = 1_000_000;

/// A clock that only a test moves.
struct Still(AtomicI64);

impl Clock for Still {
    fn now(&self) -> Micros {
        self.0.load(Relaxed)
    }

    fn sleep(&self, _wait: Duration) {
        std::thread::yield_now();
    }
}

/// Looks until something holds, for as long as a slow machine may need.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..200_000_000_u64 {
        if holds() {
            return;
        }
        std::thread::yield_now();
    }
    panic!("it never came to: {what}");
}

/// A partition per list of event times, given at once and then silent; with `endless`, over and over. Records are 20 ms old.
struct Partitions {
    times: Vec<Vec<Micros>>,
    endless: bool,
    clock: Arc<Still>,
    fails: Arc<AtomicBool>,
}

struct Reader {
    times: Vec<Micros>,
    at: i64,
    endless: bool,
    clock: Arc<Still>,
    fails: Arc<AtomicBool>,
}

impl PartitionReader for Reader {
    fn poll(&mut self, _limit: Limit, _clock: Micros) -> Result<Poll> {
        if self.fails.load(Relaxed) {
            return Err(Error::transient("the broker is away"));
        }
        if self.at > 0 && !self.endless {
            return Ok(Poll::Pending);
        }
        self.at += self.times.len() as i64;
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from(self.times.clone()).with_timezone("UTC")),
            Arc::new(Int64Array::from(self.times.clone())),
        ];
        let rows = RecordBatch::try_new(schema(), columns)?;
        let newest = Some(self.clock.now() - 20_000);
        Ok(Poll::Ready(Fetch { rows, bad: Vec::new(), next_offset: self.at, bytes: 7, newest_record_time: newest }))
    }

    fn lag(&self) -> Option<u64> {
        Some(3)
    }
}

impl Source for Partitions {
    fn partitions(&self) -> Result<u32> {
        Ok(self.times.len() as u32)
    }

    fn resolve(&self, _partition: u32, _start: Start) -> Result<i64> {
        Ok(0)
    }

    fn end_offset(&self, _partition: u32) -> Result<Option<i64>> {
        Ok(None)
    }

    fn open(&self, partition: u32, _offset: i64, _stop: Option<i64>) -> Result<Box<dyn PartitionReader>> {
        let times = self.times[partition as usize].clone();
        let (endless, clock, fails) = (self.endless, self.clock.clone(), self.fails.clone());
        Ok(Box::new(Reader { times, at: 0, endless, clock, fails }))
    }
}

/// A sink that hangs within `write` until it is let go.
#[derive(Clone, Default)]
struct Frozen(Collected, Arc<AtomicBool>);

impl Sink for Frozen {
    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        until("let go", || self.1.load(Relaxed));
        self.0.write(output)
    }

    fn flush(&mut self, now: Micros, force: bool) -> Result<Flushed> {
        self.0.flush(now, force)
    }
}

struct Running {
    pipeline: Pipeline,
    stats: Arc<PipelineStats>,
    clock: Arc<Still>,
    fails: Arc<AtomicBool>,
}

fn start(times: &[&[Micros]], endless: bool, sink: impl Sink + 'static, settings: Settings) -> Running {
    let (clock, fails) = (Arc::new(Still(AtomicI64::new(1000 * SECOND))), Arc::new(AtomicBool::new(false)));
    let times = times.iter().map(|t| t.to_vec()).collect();
    let source = Partitions { times, endless, clock: clock.clone(), fails: fails.clone() };
    let mut bindings = Bindings::default();
    bindings.sources.insert(0, Arc::new(source));
    bindings.sinks.insert(1, Box::new(sink));
    let pipeline = Pipeline::start(&graph(&[Port::Rows]), bindings, settings, clock.clone()).unwrap();
    Running { stats: pipeline.stats(), pipeline, clock, fails }
}

impl Running {
    fn advance(&self, by: Micros) {
        self.clock.0.fetch_add(by, Relaxed);
    }

    fn stop(self) -> Arc<PipelineStats> {
        self.pipeline.stop_handle().stop();
        self.pipeline.wait().unwrap();
        self.stats
    }
}

#[test]
fn seven_late_rows_are_seven() {
    let source = Rows::of(vec![0, 100, 50, 51, 95, 52, 53, 54, 120, 109, 108], OnBadRecord::Fail);
    let (outcome, stats) = run(&source, &[Port::Rows], &[Collected::default()]);
    outcome.unwrap();
    assert_eq!(stats.nodes[0].late.load(Relaxed), 7);
    assert_eq!(stats.partitions[0].late.load(Relaxed), 7);
    let (count, sum) = stats.partitions[0].event_times.count_and_sum();
    assert_eq!((count, (sum * 1e6).round()), (11, 792.0));
}

#[test]
fn three_malformed_records_are_three_of_that_reason() {
    let source = Rows::of(vec![-1, 0, -1, 2, 3, -1], OnBadRecord::Drop);
    let (outcome, stats) = run(&source, &[Port::Rows], &[Collected::default()]);
    outcome.unwrap();
    assert_eq!(stats.nodes[0].bad(), BTreeMap::from([("malformed", 3)]));
    assert_eq!((stats.nodes[0].rows_in.load(Relaxed), stats.partitions[0].records.load(Relaxed)), (6, 6));
}

#[test]
fn a_silent_partition_shows_in_its_watermark_until_it_is_idle() {
    let running = start(&[&[900 * SECOND], &[400 * SECOND]], false, Collected::default(), Settings::default());
    let [first, silent] = [&running.stats.partitions[0], &running.stats.partitions[1]];
    until("both were read", || first.watermark().is_some() && silent.watermark().is_some());
    assert_eq!(silent.watermark(), Some(400 * SECOND - 10));
    assert_eq!((silent.idle.load(Relaxed), silent.last_data()), (false, Some(1000 * SECOND)));
    running.advance(61 * SECOND);
    until("idle", || silent.idle.load(Relaxed));
    assert_eq!(silent.watermark(), Some(900 * SECOND - 10));
    running.stop();
}

#[test]
fn offsets_and_lag_are_told_by_partition() {
    let running = start(&[&[1, 2, 3], &[4]], false, Collected::default(), Settings::default());
    let [a, b] = [&running.stats.partitions[0], &running.stats.partitions[1]];
    until("both were read", || a.lag().is_some() && b.lag().is_some() && a.offset() == Some(3) && b.offset() == Some(1));
    assert_eq!((a.start_offset(), a.end_offset(), a.lag()), (Some(0), Some(6), Some(3)));
    assert_eq!((b.start_offset(), b.end_offset(), b.lag()), (Some(0), Some(4), Some(3)));
    let stats = running.stop();
    assert_eq!(stats.partitions.iter().map(|p| p.bytes.load(Relaxed)).collect::<Vec<_>>(), [7, 7]);
    assert_eq!(stats.tasks.iter().map(|t| t.epochs.load(Relaxed)).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(stats.tasks[0].epoch_duration.counts().count(), 1);
}

#[test]
fn latency_is_from_the_newest_record_to_the_acknowledgement() {
    let running = start(&[&[1, 2, 3]], false, Collected::default(), Settings::default());
    until("acknowledged", || running.stats.sinks[0].latency.counts().count() > 0);
    let stats = running.stop();
    let latency = stats.sinks[0].latency.counts();
    assert_eq!((latency.count(), latency.sum_nanos), (1, 20_000_000));
    assert_eq!((stats.sinks[0].rows_safe.load(Relaxed), stats.sinks[0].last_acknowledged()), (3, Some(1000 * SECOND)));
    assert_eq!(stats.sinks[0].bytes_safe.load(Relaxed), stats.sinks[0].bytes_written.load(Relaxed));
}

#[test]
fn a_frozen_sink_shows_in_its_queue_and_in_the_time_that_workers_wait() {
    let frozen = Frozen::default();
    let settings = Settings { queue_bytes: 2000, chunk_rows: 5, epoch_rows: 5, ..Settings::default() };
    let running = start(&[&[1, 2, 3, 4, 5]], true, frozen.clone(), settings);
    let sink = &running.stats.sinks[0];
    let mut moved: Micros = 0;
    until("workers wait", || {
        running.advance(1000);
        moved += 1000;
        sink.backpressure_nanos.load(Relaxed) > 0
    });
    running.advance(5 * SECOND);
    until("the wait is counted", || sink.backpressure_nanos.load(Relaxed) >= 5_000_000_000);
    let waited = sink.backpressure_nanos.load(Relaxed);
    assert!(waited <= 5_000_000_000 + 1000 * moved.unsigned_abs(), "{waited} ns in {moved} us and 5 s");
    // The worker counts it for the sink first, then for its tasks.
    until("it is counted for the task", || running.stats.tasks[0].backpressure_nanos.load(Relaxed) == waited);

    let (queued, epochs) = (sink.queue_bytes.load(Relaxed), running.stats.tasks[0].epochs.load(Relaxed) as usize);
    assert!(queued >= 2000, "{queued}");
    assert!(Health::of(&running.stats, running.clock.now()).is_live());
    running.advance(121 * SECOND);
    let stuck = |dead: &[String]| dead.iter().any(|why| why.starts_with("thread sink-Rows has been stuck for "));
    until("the worker came round", || Health::of(&running.stats, running.clock.now()).dead.len() == 1);
    assert!(stuck(&Health::of(&running.stats, running.clock.now()).dead));

    frozen.1.store(true, Relaxed);
    let stats = running.stop();
    let outputs = frozen.0.0.lock().unwrap();
    assert_eq!(queued, outputs[..epochs].iter().map(|o| o.bytes() as u64).sum::<u64>());
    assert_eq!(stats.sinks[0].queue_bytes.load(Relaxed), 0);
    assert!(Health::of(&stats, 0).is_live());
}

#[test]
fn trouble_of_a_source_or_sink_that_lasts_makes_the_pipeline_not_ready() {
    let troubled = Collected(Arc::default(), Arc::new(Mutex::new(usize::MAX)));
    let settings = Settings { queue_bytes: 100_000, ..Settings::default() };
    let running = start(&[&[1]], true, troubled.clone(), settings);
    let health = || Health::of(&running.stats, running.clock.now());
    until("the sink failed", || running.stats.sinks[0].retries.load(Relaxed) == 1);
    until("the first poll", || health().is_ready());
    running.advance(31 * SECOND);
    assert_eq!(health().not_ready, ["sink Rows: cannot be written for 31 s"]);
    *troubled.1.lock().unwrap() = 0;
    let ready = || {
        running.advance(SECOND / 100);
        health().is_ready()
    };
    until("the sink works", ready);

    running.fails.store(true, Relaxed);
    until("the source failed", || running.stats.partitions[0].failing_since().is_some());
    running.advance(31 * SECOND);
    // It fails as of its epoch's clock, which may be from before the sink worked again.
    let told = health().not_ready;
    let seconds = told[0].strip_prefix("source rows, partition 0: cannot be read for ").and_then(|t| t.strip_suffix(" s"));
    assert!(seconds.is_some_and(|s| s.parse::<i64>().unwrap() >= 31) && told.len() == 1, "{told:?}");
    running.fails.store(false, Relaxed);
    until("the source works", ready);
    running.pipeline.stop_handle().stop();
    assert_eq!(health().not_ready, ["the pipeline is stopping"]);
    running.stop();
}

#[test]
fn a_permanent_error_is_kept_for_whoever_asks() {
    let source = Rows::of(vec![0, -1], OnBadRecord::Fail);
    let (outcome, stats) = run(&source, &[Port::Rows], &[Collected::default()]);
    outcome.unwrap_err();
    let health = Health::of(&stats, 0);
    assert!(health.dead[0].starts_with("the pipeline has failed: source rows: record at partition 0, offset 1"), "{health:?}");
    assert!(health.dead.contains(&"thread worker-0 has failed".to_owned()), "{health:?}");
}
