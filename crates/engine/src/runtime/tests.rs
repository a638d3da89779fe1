//! The runtime over sources and sinks made by hand: what is read is handed over once, in order, and positions follow.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

mod counts;
mod feeds;
mod sharing;
mod steering;

use super::{Bindings, Pipeline, Settings};
use crate::batch::Port;
use crate::checkpoint::{MemoryStorage, Storage as _, Stored};
use crate::graph::{Edge, Graph, Node, NodeKind, Parallelism, SinkNode, SourceNode};
use crate::sink::{EpochOutput, Flushed, Sink};
use crate::source::{BadRecord, Fetch, Limit, OnBadRecord, PartitionReader, Poll, Source, Start};
use crate::table::{Column, Emit, Location, Options, Table, Watermark};
use crate::time::{Clock, ManualClock, Micros};
use crate::{Error, Result};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("n", DataType::Int64, false),
    ]))
}

fn table(name: &str, options: &[(&str, &str)]) -> Table {
    let columns =
        schema().fields().iter().map(|f| Column { field: f.clone(), metadata: None, location: Location::default() }).collect();
    Table {
        name: name.into(),
        columns,
        watermark: Some(Watermark { column: 0, delay: Duration::from_micros(10) }),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        options: Options::of(options),
        location: Location::default(),
    }
}

/// Rows whose event time is their number, `times` in order; a negative time stands for a bad record.
struct Rows {
    times: Vec<i64>,
    on_bad: OnBadRecord,
    committed: Mutex<BTreeMap<u32, i64>>,
    fails: Mutex<usize>,
}

impl Rows {
    fn of(times: Vec<i64>, on_bad: OnBadRecord) -> Arc<Self> {
        Arc::new(Self { times, on_bad, committed: Mutex::default(), fails: Mutex::new(0) })
    }
}

struct Reader {
    source: Arc<Rows>,
    at: usize,
    stop: usize,
}

impl PartitionReader for Reader {
    fn poll(&mut self, limit: Limit, _clock: Micros) -> Result<Poll> {
        let mut fails = self.source.fails.lock().unwrap();
        if *fails > 0 {
            *fails -= 1;
            return Err(Error::transient("the broker is away"));
        }
        if self.at >= self.stop {
            return Ok(Poll::End);
        }
        let end = (self.at + limit.rows.min(7)).min(self.stop);
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for offset in self.at..end {
            match self.source.times[offset] {
                time if time >= 0 => good.push(time),
                _ => bad.push(BadRecord {
                    reason: "malformed",
                    detail: "not JSON".into(),
                    offset: offset as i64,
                    timestamp: None,
                    key: None,
                    payload: "x".into(),
                    tombstone: false,
                    headers: Vec::new(),
                }),
            }
        }
        self.at = end;
        let columns: Vec<arrow::array::ArrayRef> =
            vec![Arc::new(TimestampMicrosecondArray::from(good.clone()).with_timezone("UTC")), Arc::new(Int64Array::from(good))];
        let rows = RecordBatch::try_new(schema(), columns)?;
        Ok(Poll::Ready(Fetch { rows, bad, next_offset: end as i64, bytes: 0, newest_record_time: None }))
    }
}

impl Source for Arc<Rows> {
    fn partitions(&self) -> Result<u32> {
        Ok(1)
    }

    fn resolve(&self, _partition: u32, start: Start) -> Result<i64> {
        Ok(match start {
            Start::Offset(offset) => offset,
            Start::Latest => self.times.len() as i64,
            _ => 0,
        })
    }

    fn end_offset(&self, _partition: u32) -> Result<Option<i64>> {
        Ok(Some(self.times.len() as i64))
    }

    fn open(&self, _partition: u32, offset: i64, stop: Option<i64>) -> Result<Box<dyn PartitionReader>> {
        let stop = stop.unwrap_or(self.times.len() as i64) as usize;
        Ok(Box::new(Reader { source: self.clone(), at: offset as usize, stop }))
    }

    fn committed(&self, partition: u32) -> Result<Option<i64>> {
        Ok(self.committed.lock().unwrap().get(&partition).copied())
    }

    fn commit(&self, positions: &[(u32, i64)]) -> Result<()> {
        self.committed.lock().unwrap().extend(positions.iter().copied());
        Ok(())
    }

    fn bad_records(&self) -> OnBadRecord {
        self.on_bad
    }
}

#[derive(Default, Clone)]
struct Collected(Arc<Mutex<Vec<EpochOutput>>>, Arc<Mutex<usize>>);

impl Sink for Collected {
    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        let mut fails = self.1.lock().unwrap();
        if *fails > 0 {
            *fails -= 1;
            return Err(Error::transient("the disk is full"));
        }
        self.0.lock().unwrap().push(output.clone());
        Ok(())
    }

    fn flush(&mut self, _now: Micros, _force: bool) -> Result<Flushed> {
        Ok(Flushed::All)
    }
}

impl Collected {
    fn numbers(&self) -> Vec<i64> {
        let outputs = self.0.lock().unwrap();
        let batches: Vec<_> = outputs.iter().flat_map(|o| &o.batches).map(|b| b.rows.clone()).collect();
        let all = concat_batches(&schema(), &batches).unwrap();
        all.column(1).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
    }
}

/// One source; a sink on each of these ports.
fn graph(ports: &[Port]) -> Graph {
    let source = SourceNode { table: table("rows", &[("connector", "test")]), schema: schema() };
    let mut nodes =
        vec![Node { name: "rows".into(), inputs: Vec::new(), kind: NodeKind::Source(source), identity: String::new() }];
    for port in ports {
        let schema = if *port == Port::DeadLetters { crate::dead_letter::schema() } else { schema() };
        let name = format!("{port:?}");
        let sink = SinkNode { table: table(&name, &[]), schema, emit: Emit::Append, trigger: Duration::ZERO, key: Vec::new() };
        nodes.push(Node {
            name,
            inputs: vec![Edge { from: 0, port: *port }],
            kind: NodeKind::Sink(sink),
            identity: String::new(),
        });
    }
    Graph { nodes, parallelism: Parallelism::Partitioned, ignored_options: Vec::new() }
}

fn run(source: &Arc<Rows>, ports: &[Port], sinks: &[Collected]) -> (Result<()>, Arc<super::stats::PipelineStats>) {
    let graph = graph(ports);
    let mut bindings = Bindings::default();
    bindings.sources.insert(0, Arc::new(source.clone()));
    for (i, sink) in sinks.iter().enumerate() {
        bindings.sinks.insert(i + 1, Box::new(sink.clone()));
    }
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(1_000_000));
    // Every thread that waits moves the clock, and far while another is not scheduled: no deadline may decide here.
    let stop_deadline = Duration::from_secs(100 * 365 * 86_400);
    let settings = Settings { epoch_rows: 20, chunk_rows: 5, stop_deadline, ..Settings::default() };
    let pipeline = Pipeline::start(&graph, bindings, settings, clock).unwrap();
    let stats = pipeline.stats();
    (pipeline.wait(), stats)
}

#[test]
fn every_row_reaches_the_sink_once_and_the_position_follows() {
    let source = Rows::of((0..100).collect(), OnBadRecord::Fail);
    let sink = Collected::default();
    run(&source, &[Port::Rows], std::slice::from_ref(&sink)).0.unwrap();
    assert_eq!(sink.numbers(), (0..100).collect::<Vec<_>>());
    assert_eq!(source.committed(0).unwrap(), Some(100));

    let again = Collected::default();
    run(&source, &[Port::Rows], std::slice::from_ref(&again)).0.unwrap();
    assert!(again.0.lock().unwrap().iter().all(|o| o.rows() == 0), "a restart repeats nothing that was safe");
}

#[test]
fn late_rows_go_to_stateless_sinks_and_to_their_own() {
    let source = Rows::of(vec![0, 100, 50, 95, 89, 90], OnBadRecord::Fail);
    let (all, late) = (Collected::default(), Collected::default());
    let (outcome, stats) = run(&source, &[Port::Rows, Port::Late], &[all.clone(), late.clone()]);
    outcome.unwrap();
    assert_eq!(late.numbers(), [50, 89]);
    let mut numbers = all.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 50, 89, 90, 95, 100]);
    assert_eq!(stats.nodes[0].late.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[test]
fn a_bad_record_costs_itself_alone() {
    let source = Rows::of(vec![0, -1, 2, 3, -1], OnBadRecord::DeadLetter);
    let (rows, letters) = (Collected::default(), Collected::default());
    let (outcome, stats) = run(&source, &[Port::Rows, Port::DeadLetters], &[rows.clone(), letters.clone()]);
    outcome.unwrap();
    assert_eq!(rows.numbers(), [0, 2, 3]);
    assert_eq!(letters.0.lock().unwrap().iter().map(EpochOutput::rows).sum::<usize>(), 2);
    assert_eq!(stats.nodes[0].bad(), BTreeMap::from([("malformed", 2)]));
}

#[test]
fn a_bad_record_stops_a_pipeline_that_asked_for_it_and_says_where() {
    let source = Rows::of(vec![0, 1, -1], OnBadRecord::Fail);
    let error = run(&source, &[Port::Rows], &[Collected::default()]).0.unwrap_err();
    assert_eq!(error.message(), "source rows: record at partition 0, offset 2: malformed: not JSON");
}

#[test]
fn transient_trouble_of_source_and_sink_passes_and_nothing_is_lost() {
    let source = Rows::of((0..50).collect(), OnBadRecord::Fail);
    *source.fails.lock().unwrap() = 3;
    let sink = Collected::default();
    *sink.1.lock().unwrap() = 4;
    let (outcome, stats) = run(&source, &[Port::Rows], std::slice::from_ref(&sink));
    outcome.unwrap();
    assert_eq!(sink.numbers(), (0..50).collect::<Vec<_>>());
    assert_eq!(stats.sinks[0].retries.load(std::sync::atomic::Ordering::Relaxed), 4);
}

/// A sink that is never there, and notes when it was tried.
struct Away(Arc<dyn Clock>, Arc<Mutex<Vec<Micros>>>);

impl Sink for Away {
    fn write(&mut self, _output: &EpochOutput) -> Result<()> {
        self.1.lock().unwrap().push(self.0.now());
        Err(Error::transient("nobody answers"))
    }

    fn flush(&mut self, _now: Micros, _force: bool) -> Result<Flushed> {
        Ok(Flushed::All)
    }
}

#[test]
fn a_sink_in_trouble_is_tried_ever_more_rarely_until_the_deadline_of_the_stop() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(1_000_000));
    let tried = Arc::new(Mutex::new(Vec::new()));
    let mut bindings = Bindings::default();
    bindings.sources.insert(0, Arc::new(Rows::of(vec![1, 2, 3], OnBadRecord::Fail)));
    bindings.sinks.insert(1, Box::new(Away(clock.clone(), tried.clone())));
    // A day: other threads that wait move the clock too, by minutes while the sink's is not scheduled.
    let settings = Settings { bounded: true, stop_deadline: Duration::from_secs(86_400), ..Settings::default() };
    let error = Pipeline::start(&graph(&[Port::Rows]), bindings, settings, clock).unwrap().wait().unwrap_err();
    assert_eq!(error.message(), "sink Rows: gave up at the stop's deadline: nobody answers");
    // Nine waits double up to 30 seconds, all later ones are that long, or by chance half of it. (A try is noted a little after the look at the clock
    // that allowed it, so single waits cannot be compared.)
    let tried = tried.lock().unwrap();
    let (tries, took) = (tried.len() as Micros, tried.last().unwrap() - 1_000_000);
    assert!(tries >= 2 && tries <= 10 + took / 15_000_000, "{tries} tries in {took} microseconds");
}

#[test]
fn checkpoints_and_positions_are_kept_while_nobody_waits() {
    let (dir, storage) = (tempfile::tempdir().unwrap(), MemoryStorage::default());
    let source = Rows::of((0..100).collect(), OnBadRecord::Fail);
    let mut bindings = Bindings::default();
    bindings.sources.insert(0, Arc::new(source.clone()));
    bindings.sinks.insert(1, Box::new(Collected::default()));
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(1_000_000));
    // Looks move the clock, by any time while the worker is not scheduled: between two epochs a checkpoint might be due, and
    // then there would be that one and the last. None is due before the end.
    let checkpoint_interval = Duration::from_secs(100 * 365 * 86_400);
    let settings = Settings {
        checkpoints: Some(Arc::new(storage.clone())),
        journal_dir: Some(dir.path().into()),
        checkpoint_interval,
        ..Settings::default()
    };
    let pipeline = Pipeline::start(&graph(&[Port::Rows]), bindings, settings, clock.clone()).unwrap();
    let mut looks = 0;
    while source.committed(0).unwrap() != Some(100) {
        looks += 1;
        assert!(looks < 50_000_000, "the position was never kept");
        clock.sleep(Duration::from_millis(1));
    }
    // One, with data beside it if a leap of the clock made the sink seem slow: then it holds the rows too.
    let is_manifest = |file: &&Stored| file.name.ends_with(".manifest");
    assert_eq!(storage.list("task-0/").unwrap().iter().filter(is_manifest).count(), 1, "kept before the position was");
    pipeline.wait().unwrap();
}
