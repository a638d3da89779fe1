//! Pausing and checkpoints on demand, step by step: parts are stepped by hand, time moves when the test says so.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

use super::*;
use crate::runtime::stats::PipelineStats;
use crate::runtime::{Assembly, Part, Stage, State, Steering};

/// Two partitions of endless input: rows whose event time is their number, as many as the test has let come; and whether readers
/// hold a record that they cannot give.
#[derive(Default)]
struct Flow([AtomicI64; 2], AtomicBool);

impl Source for Arc<Flow> {
    fn partitions(&self) -> Result<u32> {
        Ok(2)
    }

    fn resolve(&self, _partition: u32, start: Start) -> Result<i64> {
        Ok(if let Start::Offset(offset) = start { offset } else { 0 })
    }

    fn end_offset(&self, _partition: u32) -> Result<Option<i64>> {
        Ok(None)
    }

    fn open(&self, partition: u32, offset: i64, _stop: Option<i64>) -> Result<Box<dyn PartitionReader>> {
        Ok(Box::new(FlowReader { flow: self.clone(), partition, at: offset }))
    }
}

struct FlowReader {
    flow: Arc<Flow>,
    partition: u32,
    at: i64,
}

impl PartitionReader for FlowReader {
    fn poll(&mut self, _limit: Limit, _clock: Micros) -> Result<Poll> {
        let end = self.flow.0[self.partition as usize].load(Relaxed);
        if self.at == end {
            return Ok(Poll::Pending);
        }
        let numbers: Vec<i64> = (self.at..end).collect();
        self.at = end;
        let times = TimestampMicrosecondArray::from(numbers.clone()).with_timezone("UTC");
        let rows = RecordBatch::try_new(schema(), vec![Arc::new(times), Arc::new(Int64Array::from(numbers))])?;
        Ok(Poll::Ready(Fetch { rows, bad: Vec::new(), next_offset: end, bytes: 0, newest_record_time: None }))
    }

    fn holds(&self) -> bool {
        self.flow.1.load(Relaxed)
    }
}

/// A sink with a rhythm of its own: nothing is safe before it is forced.
struct Rare;

impl Sink for Rare {
    fn write(&mut self, _output: &EpochOutput) -> Result<()> {
        Ok(())
    }

    fn flush(&mut self, _now: Micros, force: bool) -> Result<Flushed> {
        Ok(if force { Flushed::All } else { Flushed::Pending })
    }
}

struct Stepped {
    parts: Vec<Part>,
    steering: Steering,
    stats: Arc<PipelineStats>,
    clock: Arc<dyn Clock>,
    flow: Arc<Flow>,
    storage: MemoryStorage,
    _dir: tempfile::TempDir,
}

impl Stepped {
    fn new() -> Self {
        let (flow, dir, storage) = (Arc::<Flow>::default(), tempfile::tempdir().unwrap(), MemoryStorage::default());
        let mut bindings = Bindings::default();
        bindings.sources.insert(0, Arc::new(flow.clone()));
        bindings.sinks.insert(1, Box::new(Rare));
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(1_000_000));
        let settings = Settings {
            workers: Some(1),
            checkpoints: Some(Arc::new(storage.clone())),
            journal_dir: Some(dir.path().into()),
            checkpoint_interval: Duration::from_secs(100 * 365 * 86_400),
            ..Settings::default()
        };
        let Assembly { parts, control } = Assembly::new(&graph(&[Port::Rows]), bindings, settings, clock.clone()).unwrap();
        // As a pipeline does for each of its threads.
        for part in &parts {
            control.stats().add_thread(&part.name, part.role(), clock.now());
        }
        Self { parts, steering: Steering::new(&control), stats: control.stats(), clock, flow, storage, _dir: dir }
    }

    /// A step of the worker alone.
    fn work(&mut self) {
        let worker = self.parts.iter_mut().find(|part| part.stage == Stage::Read).unwrap();
        worker.work.step().unwrap();
    }

    /// A step of each part, as the data goes.
    fn step(&mut self) {
        for stage in Stage::ALL {
            for part in self.parts.iter_mut().filter(|part| part.stage == stage) {
                part.work.step().unwrap();
            }
        }
    }

    fn pass(&self, seconds: u64) {
        self.clock.sleep(Duration::from_secs(seconds));
    }

    fn come(&self, partition: usize, rows: i64) {
        self.flow.0[partition].fetch_add(rows, Relaxed);
    }

    fn read(&self) -> u64 {
        self.stats.nodes[0].rows_in.load(Relaxed)
    }
}

#[test]
fn a_paused_pipeline_reads_nothing_and_goes_on_where_it_was() {
    let mut pipeline = Stepped::new();
    pipeline.come(0, 5);
    pipeline.work();
    assert_eq!((pipeline.read(), pipeline.steering.state()), (5, State::Running));
    pipeline.steering.pause();
    assert!(!pipeline.steering.stands_still(), "the worker has not looked yet");
    pipeline.come(0, 5);
    pipeline.work();
    pipeline.work();
    assert!(pipeline.steering.stands_still());
    assert_eq!((pipeline.read(), pipeline.steering.state()), (5, State::Paused));
    pipeline.steering.resume();
    pipeline.work();
    assert_eq!((pipeline.read(), pipeline.steering.state()), (10, State::Running));
    assert!(!pipeline.steering.stands_still());
}

#[test]
fn a_pause_is_no_silence_of_partitions() {
    let mut pipeline = Stepped::new();
    pipeline.come(0, 1000);
    pipeline.come(1, 100);
    pipeline.work();
    let idle = |pipeline: &Stepped| pipeline.stats.partitions[1].idle.load(Relaxed);
    let watermark = |pipeline: &Stepped| pipeline.stats.partitions[1].watermark();
    assert_eq!(watermark(&pipeline), Some(99 - 10));
    pipeline.pass(40);
    pipeline.steering.pause();
    pipeline.work();
    pipeline.pass(3600);
    pipeline.work();
    pipeline.steering.resume();
    pipeline.work();
    assert_eq!((idle(&pipeline), watermark(&pipeline)), (false, Some(89)), "silent for 40 seconds of 60");
    pipeline.pass(21);
    pipeline.work();
    assert_eq!((idle(&pipeline), watermark(&pipeline)), (true, Some(999 - 10)), "silent for 61 seconds");
}

#[test]
fn a_partition_whose_record_cannot_be_given_yet_is_not_silent() {
    let mut pipeline = Stepped::new();
    pipeline.come(0, 1000);
    pipeline.come(1, 100);
    pipeline.work();
    let watermark = |pipeline: &Stepped| pipeline.stats.partitions[1].watermark();
    pipeline.flow.1.store(true, Relaxed);
    pipeline.pass(3600);
    pipeline.work();
    assert_eq!(watermark(&pipeline), Some(99 - 10), "what it holds must not become late");
    pipeline.flow.1.store(false, Relaxed);
    pipeline.work();
    assert_eq!(watermark(&pipeline), Some(999 - 10));
}

#[test]
fn a_checkpoint_is_written_when_it_is_asked_for_paused_or_not() {
    let mut pipeline = Stepped::new();
    pipeline.come(0, 5);
    pipeline.come(1, 5);
    for _ in 0..5 {
        pipeline.step();
    }
    let kept = |pipeline: &Stepped| pipeline.storage.list("task-0/").unwrap().len();
    assert_eq!(kept(&pipeline), 0, "none is due for a hundred years");
    for paused in [false, true] {
        pipeline.come(0, 1);
        pipeline.step();
        if paused {
            pipeline.steering.pause();
        }
        let mut request = pipeline.steering.checkpoint().unwrap();
        assert!(!request.is_written());
        assert_eq!((request.tasks(), request.waits_for().as_str()), (2, "tasks 0, 1 have not come to the end of an epoch"));
        let before = kept(&pipeline);
        let mut steps = 0;
        while !request.is_written() {
            steps += 1;
            assert!(steps < 20, "{}", request.waits_for());
            pipeline.step();
        }
        assert!(kept(&pipeline) > before || steps == 0);
    }
    // Nothing happened since: there is nothing to write.
    let mut request = pipeline.steering.checkpoint().unwrap();
    pipeline.work();
    assert!(request.is_written());
}
