//! Tests of source and sink: what the sink writes, the source gives back.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use riverrun_engine::batch::{Batch as Rows, Change};
use riverrun_engine::connect::Context;
use riverrun_engine::graph::{SinkNode, SourceNode};
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::source::{Fetch, Limit, OnBadRecord, Poll, Source, Start};
use riverrun_engine::table::{Column, Emit, Location, Options, Table};
use riverrun_engine::time::ManualClock;

use super::connector::LogConnector;
use super::*;
use crate::connector::Connector;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("user", DataType::Utf8, true), Field::new("n", DataType::Int64, true)]))
}

fn table(options: &[(&str, &str)], primary_key: &[&str]) -> Table {
    let column = |field: &Arc<Field>| Column { field: Arc::clone(field), metadata: None, location: Location::default() };
    let all = [&[("connector", "log"), ("topic", "events"), ("partitions", "3")], options].concat();
    Table {
        name: "events".into(),
        columns: schema().fields().iter().map(column).collect(),
        watermark: None,
        partitioned_by: Vec::new(),
        primary_key: primary_key.iter().map(|k| (*k).to_owned()).collect(),
        options: Options::of(&all),
        location: Location::default(),
    }
}

fn context(directory: &Path) -> Context {
    Context::new("p", directory, Arc::new(ManualClock::at(0)))
}

fn sink(directory: &Path, options: &[(&str, &str)], primary_key: &[&str]) -> riverrun_engine::Result<Box<dyn Sink>> {
    let key = primary_key.iter().map(|k| schema().index_of(k).unwrap()).collect();
    let table = table(options, primary_key);
    let node = SinkNode { table, schema: schema(), emit: Emit::Append, trigger: Duration::ZERO, key };
    LogConnector.sink(&node, &context(directory))
}

fn source(directory: &Path, options: &[(&str, &str)]) -> Arc<dyn Source> {
    let node = SourceNode { table: table(options, &[]), schema: schema() };
    LogConnector.source(&node, &context(directory)).unwrap()
}

fn rows(rows: &[(Option<&str>, i64)]) -> RecordBatch {
    let users = StringArray::from(rows.iter().map(|r| r.0).collect::<Vec<_>>());
    let numbers = Int64Array::from(rows.iter().map(|r| r.1).collect::<Vec<_>>());
    RecordBatch::try_new(schema(), vec![Arc::new(users), Arc::new(numbers)]).unwrap()
}

fn epoch(epoch: u64, batches: Vec<Rows>) -> EpochOutput {
    EpochOutput { task: 0, epoch, clock: 1_000_000 * epoch as i64, batches }
}

fn poll(source: &Arc<dyn Source>, partition: u32, offset: i64, stop: Option<i64>) -> Option<Fetch> {
    let mut reader = source.open(partition, offset, stop).unwrap();
    match reader.poll(Limit::new(1000, 1 << 20), 0).unwrap() {
        Poll::Ready(fetch) => Some(fetch),
        Poll::Pending | Poll::End => None,
    }
}

#[test]
fn what_the_sink_takes_the_source_gives_back_by_partition() {
    let directory = tempfile::tempdir().unwrap();
    let mut sink = sink(directory.path(), &[("key", "user")], &[]).unwrap();
    sink.write(&epoch(1, vec![Rows::insert(rows(&[(Some("a"), 1), (Some("b"), 2), (Some("a"), 3)]))])).unwrap();
    sink.write(&epoch(2, vec![])).unwrap();
    sink.write(&epoch(3, vec![Rows::insert(rows(&[(Some("a"), 4)]))])).unwrap();
    assert_eq!(sink.flush(0, true).unwrap(), Flushed::All);

    let source = source(directory.path(), &[]);
    assert_eq!(source.partitions().unwrap(), 3);
    let partition = crate::partitioner::partition_of(b"a", 3);
    let fetch = poll(&source, partition, 0, None).unwrap();
    let users = fetch.rows.column(0).as_string::<i32>();
    let numbers = fetch.rows.column(1).as_primitive::<Int64Type>();
    let of_a: Vec<_> = (0..fetch.rows.num_rows()).filter(|r| users.value(*r) == "a").map(|r| numbers.value(r)).collect();
    assert_eq!(of_a, [1, 3, 4]);
    assert_eq!(fetch.newest_record_time, Some(3_000_000));
    assert_eq!(source.end_offset(partition).unwrap(), Some(fetch.next_offset));
    let total: i64 = (0..3).map(|p| source.end_offset(p).unwrap().unwrap()).sum();
    assert_eq!(total, 4);
}

#[test]
fn a_reader_waits_at_the_end_and_ends_at_its_stop() {
    let directory = tempfile::tempdir().unwrap();
    let mut sink = sink(directory.path(), &[("key", "user")], &[]).unwrap();
    let source = source(directory.path(), &[]);
    let partition = crate::partitioner::partition_of(b"a", 3);
    let mut live = source.open(partition, 0, None).unwrap();
    let limit = Limit::new(2, 1 << 20);
    assert!(matches!(live.poll(limit, 0).unwrap(), Poll::Pending));
    sink.write(&epoch(1, vec![Rows::insert(rows(&[(Some("a"), 1), (Some("a"), 2), (Some("a"), 3)]))])).unwrap();
    assert_eq!(live.lag(), Some(3));
    assert!(matches!(live.poll(limit, 0).unwrap(), Poll::Ready(f) if f.rows.num_rows() == 2 && f.next_offset == 2));
    let mut bounded = source.open(partition, 1, Some(2)).unwrap();
    assert!(matches!(bounded.poll(limit, 0).unwrap(), Poll::Ready(f) if f.rows.num_rows() == 1));
    assert!(matches!(bounded.poll(limit, 0).unwrap(), Poll::End));
}

#[test]
fn a_range_is_repeated_in_other_pieces_and_nothing_behind_it_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let mut sink = sink(directory.path(), &[("key", "user")], &[]).unwrap();
    for number in 0..10 {
        let twenty: Vec<_> = (number * 20..number * 20 + 20).map(|n| (Some("a"), n)).collect();
        sink.write(&epoch(number as u64 + 1, vec![Rows::insert(rows(&twenty))])).unwrap();
    }
    let source = source(directory.path(), &[]);
    let mut reader = source.open(crate::partitioner::partition_of(b"a", 3), 7, None).unwrap();
    let mut read = Vec::new();
    for until in [0, 7, 8, 20, 55, 55, 200] {
        while let Poll::Ready(fetch) = reader.poll(Limit { until, ..Limit::new(9, 1 << 20) }, 0).unwrap() {
            assert!(fetch.next_offset <= until);
            read.extend_from_slice(fetch.rows.column(1).as_primitive::<Int64Type>().values());
        }
        assert_eq!(read.len() as i64, (until - 7).max(0), "rows up to {until} and none behind");
    }
    assert!(read.into_iter().eq(7..200));
}

#[test]
fn a_sink_tells_how_far_each_lineage_is_and_no_record_is_there_twice() {
    let directory = tempfile::tempdir().unwrap();
    let open = || sink(directory.path(), &[("key", "user")], &[]).unwrap();
    let one = |number: u64| epoch(number, vec![Rows::insert(rows(&[(Some("a"), number as i64)]))]);
    let records = || {
        let source = source(directory.path(), &[]);
        let fetch = poll(&source, crate::partitioner::partition_of(b"a", 3), 0, None).unwrap();
        fetch.rows.column(1).as_primitive::<Int64Type>().values().to_vec()
    };
    let mut killed = open();
    assert_eq!(killed.recover("p-1", 2).unwrap(), Some(vec![0, 0]));
    killed.write(&one(1)).unwrap();
    killed.write(&epoch(2, Vec::new())).unwrap();
    killed.write(&EpochOutput { task: 1, ..one(5) }).unwrap();
    killed.write(&one(3)).unwrap();
    drop(killed);
    let mut again = open();
    assert_eq!(again.recover("p-1", 3).unwrap(), Some(vec![3, 5, 0]));
    again.write(&one(4)).unwrap();
    assert_eq!(records(), [1, 5, 3, 4]);
    assert_eq!(open().recover("p-2", 1).unwrap(), Some(vec![0]));
    // A bounded run is never asked: it writes again what it wrote.
    for _ in 0..2 {
        open().write(&one(1)).unwrap();
    }
    assert_eq!(records(), [1, 5, 3, 4, 1, 1]);
    assert_eq!(open().recover("p-1", 1).unwrap(), Some(vec![4]));
}

#[test]
fn a_row_taken_back_is_a_tombstone_of_its_primary_key() {
    let directory = tempfile::tempdir().unwrap();
    let mut sink = sink(directory.path(), &[], &["user"]).unwrap();
    let upsert = Rows { rows: rows(&[(Some("a"), 1)]), change: Change::Upsert };
    let delete = Rows { rows: rows(&[(Some("a"), 1)]), change: Change::Delete };
    sink.write(&epoch(1, vec![upsert, delete])).unwrap();
    let log = Log::open(&directory.path().join("log")).unwrap();
    let topic = log.topic("events").unwrap();
    let partition = crate::partitioner::partition_of(b"a", 3);
    let mut reader = Reader::open(log, topic, partition, 0, true).unwrap();
    let mut records = Vec::new();
    reader.read(9, 999, i64::MAX, |r| records.push((r.key.unwrap().to_vec(), r.value.map(<[u8]>::to_vec)))).unwrap();
    let json = br#"{"user":"a","n":1}"#.to_vec();
    assert_eq!(records, [(b"a".to_vec(), Some(json)), (b"a".to_vec(), None)]);
}

#[test]
fn records_that_are_no_rows_cost_themselves_alone() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(&directory.path().join("log")).unwrap();
    let topic = log.create_topic("events", Some(3), None).unwrap();
    let mut batch = Batch::new(Durability::Process);
    for value in [Some(r#"{"user":"a","n":1}"#), Some("not json"), None, Some(r#"{"user":"b","n":2}"#)] {
        let record = NewRecord { partition: Some(0), value: value.map(str::as_bytes), ..NewRecord::default() };
        batch.push(&topic, record).unwrap();
    }
    log.append(&mut batch, 0).unwrap();
    let source = source(directory.path(), &[("bad_records", "drop")]);
    assert_eq!(source.bad_records(), OnBadRecord::Drop);
    let fetch = poll(&source, 0, 0, None).unwrap();
    assert_eq!((fetch.rows.num_rows(), fetch.next_offset), (2, 4));
    assert_eq!(fetch.bad.iter().map(|b| (b.offset, b.reason)).collect::<Vec<_>>(), [(1, "malformed"), (2, "empty")]);
}

#[test]
fn positions_are_kept_by_the_pipelines_name_or_the_option_group() {
    let directory = tempfile::tempdir().unwrap();
    let own = source(directory.path(), &[]);
    own.commit(&[(1, 7)]).unwrap();
    assert_eq!(source(directory.path(), &[]).committed(1).unwrap(), Some(7));
    assert_eq!(source(directory.path(), &[("group", "p")]).committed(1).unwrap(), Some(7));
    assert_eq!(source(directory.path(), &[("group", "q")]).committed(1).unwrap(), None);
    assert_eq!(own.committed(0).unwrap(), None);
}

#[test]
fn starts_resolve_to_offsets() {
    let directory = tempfile::tempdir().unwrap();
    let mut sink = sink(directory.path(), &[("key", "user")], &[]).unwrap();
    for number in 1..=3 {
        sink.write(&epoch(number, vec![Rows::insert(rows(&[(Some("a"), 1)]))])).unwrap();
    }
    let source = source(directory.path(), &[("starting_offsets", "1970-01-01T00:00:02Z")]);
    let partition = crate::partitioner::partition_of(b"a", 3);
    let resolved = |start| source.resolve(partition, start).unwrap();
    assert_eq!(resolved(source.start(partition)), 1);
    assert_eq!([resolved(Start::Earliest), resolved(Start::Latest), resolved(Start::Offset(2))], [0, 3, 2]);
    assert!(source.resolve(9, Start::Earliest).unwrap_err().message().contains("no partition 9"));
}

#[test]
fn a_key_column_that_is_not_there_is_told_with_those_that_are() {
    let error = LogConnector.check(&table(&[("key", "usr")], &[])).unwrap_err();
    assert!(error.message().contains("no column 'usr'") && error.hint_text().unwrap().contains("user, n"), "{error}");
    let directory = tempfile::tempdir().unwrap();
    let Err(error) = sink(directory.path(), &[("key", "usr")], &[]) else { panic!("took a key that is not there") };
    assert!(error.message().contains("no column 'usr'"), "{error}");
}

#[test]
fn only_a_key_that_is_the_primary_key_can_take_rows_back() {
    let can = |options: &[(&str, &str)], key: &[&str]| {
        let can = LogConnector.check(&table(options, key)).unwrap();
        (can.upsert, can.delete)
    };
    assert_eq!(can(&[], &[]), (false, false));
    assert_eq!(can(&[], &["user", "n"]), (true, true));
    assert_eq!(can(&[("key", "user")], &["user"]), (true, true));
    assert_eq!(can(&[("key", "user")], &["n"]), (true, false));
}
