//! Against librdkafka's mock cluster, for what it does honestly: produce, fetch, offsets, errors. No test sleeps: what is
//! waited for is looked at until it comes, or a deadline. What needs a real server is in `services/tests/test_kafka_*.py`.

mod options;
mod topics;
mod transactions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use riverrun_engine::batch::{Batch, Change};
use riverrun_engine::connect::Context;
use riverrun_engine::error::Kind;
use riverrun_engine::graph::{SinkNode, SourceNode};
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::source::{Limit, Poll, Source, Start};
use riverrun_engine::table::{Column, Emit, Location, Metadata, Options, Table};
use riverrun_engine::time::{ManualClock, Stopwatch, SystemClock};
use riverrun_engine::{Error, Result};

use super::*;
use crate::generator::{Generator, Labels, ProduceSettings, Settings, produce};
use crate::partitioner::partition_of;

const PARTITIONS: u32 = 4;

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster(topic: &str) -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(topic, PARTITIONS as i32, 1).unwrap();
    cluster
}

fn table(brokers: &str, topic: &str, more: &[(&str, &str)]) -> Table {
    let column = |name: &str, data_type: DataType, metadata: Option<Metadata>| Column {
        field: Arc::new(Field::new(name, data_type, true)),
        metadata,
        location: Location::default(),
    };
    let mut options = Options::of(&[("connector", "kafka"), ("brokers", brokers), ("topic", topic)]);
    for (name, value) in more {
        options = options.with(name, value);
    }
    Table {
        name: "t".into(),
        columns: vec![
            column("user_id", DataType::Utf8, None),
            column("n", DataType::Int64, None),
            column("k", DataType::Utf8, Some(Metadata::Key)),
            column("p", DataType::Int32, Some(Metadata::Partition)),
            column("o", DataType::Int64, Some(Metadata::Offset)),
        ],
        watermark: None,
        partitioned_by: Vec::new(),
        primary_key: vec!["user_id".into()],
        options,
        location: Location::default(),
    }
}

fn context() -> Context {
    Context::new("test", "unused", Arc::new(ManualClock::at(0)))
}

fn source(table: &Table) -> Result<Arc<dyn Source>> {
    connector().unwrap().source(&SourceNode { schema: table.schema(), table: table.clone() }, &context())
}

fn sink(table: &Table) -> Result<Box<dyn Sink>> {
    let mut table = table.clone();
    table.columns.truncate(2);
    let schema = table.schema();
    let node = SinkNode { table, schema, emit: Emit::Update, trigger: std::time::Duration::ZERO, key: vec![0] };
    connector().unwrap().sink(&node, &context())
}

fn rows(table: &Table, numbers: std::ops::Range<i64>) -> RecordBatch {
    let users = StringArray::from_iter_values(numbers.clone().map(|n| format!("user_{}", n % 50)));
    let mut table = table.clone();
    table.columns.truncate(2);
    RecordBatch::try_new(table.schema(), vec![Arc::new(users), Arc::new(Int64Array::from_iter_values(numbers))]).unwrap()
}

fn output(epoch: u64, change: Change, rows: RecordBatch) -> EpochOutput {
    EpochOutput { task: 0, epoch, clock: 0, batches: vec![Batch { rows, change }] }
}

fn write(table: &Table, numbers: std::ops::Range<i64>) {
    let mut sink = sink(table).unwrap();
    sink.write(&output(1, Change::Insert, rows(table, numbers))).unwrap();
    assert_eq!(sink.flush(0, true).unwrap(), Flushed::All);
}

/// What a look finds at last.
fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let stopwatch = Stopwatch::start();
    while stopwatch.nanos() < 60_000_000_000 {
        match look() {
            Some(found) => return found,
            None => std::thread::yield_now(),
        }
    }
    panic!("nothing came within a minute")
}

/// All of a partition from an offset to a stop offset: rows, and bad records by reason.
fn read(source: &dyn Source, partition: u32, offset: i64, stop: i64) -> (Vec<RecordBatch>, Vec<&'static str>) {
    let mut reader = source.open(partition, offset, Some(stop)).unwrap();
    let (mut batches, mut bad) = (Vec::new(), Vec::new());
    until(|| match reader.poll(Limit::new(100, 1 << 20), 0).unwrap() {
        Poll::Ready(fetch) => {
            assert!(fetch.rows.num_rows() <= 100);
            bad.extend(fetch.bad.iter().map(|b| b.reason));
            batches.push(fetch.rows);
            None
        }
        Poll::Pending => None,
        Poll::End => Some(()),
    });
    (batches, bad)
}

fn read_all(source: &dyn Source) -> RecordBatch {
    let end = |p| source.end_offset(p).unwrap().unwrap();
    let batches: Vec<_> = (0..PARTITIONS).flat_map(|p| read(source, p, 0, end(p)).0).collect();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

fn failure<T>(result: Result<T>) -> Error {
    result.err().expect("an error")
}

#[test]
fn written_rows_come_back_from_the_partition_of_their_key_in_order() {
    let cluster = cluster("orders");
    let table = table(&cluster.bootstrap_servers(), "orders", &[]);
    write(&table, 0..1_000);
    let source = source(&table).unwrap();
    assert_eq!(source.partitions().unwrap(), PARTITIONS);
    let all = read_all(source.as_ref());
    let (users, keys) = (all.column(0).as_string::<i32>(), all.column(2).as_string::<i32>());
    let (numbers, partitions) = (all.column(1).as_primitive::<Int64Type>(), all.column(3).as_primitive::<Int32Type>());
    let mut last = BTreeMap::new();
    for row in 0..all.num_rows() {
        assert_eq!(users.value(row), keys.value(row));
        assert_eq!(partition_of(keys.value(row).as_bytes(), PARTITIONS), partitions.value(row) as u32);
        let before = last.insert(users.value(row), numbers.value(row));
        assert!(before < Some(numbers.value(row)), "a user's rows in order");
    }
    assert_eq!(numbers.values().iter().copied().collect::<BTreeSet<_>>(), (0..1_000).collect());
    assert_eq!(all.num_rows(), 1_000);
}

#[test]
fn starts_resolve_and_a_stop_offset_ends_a_read_before_younger_records() {
    let cluster = cluster("orders");
    let table = table(&cluster.bootstrap_servers(), "orders", &[("starting_offsets", "{\"0\": 7}")]);
    write(&table, 0..800);
    let source = source(&table).unwrap();
    let end = source.resolve(0, Start::Latest).unwrap();
    assert!(end > 20);
    assert_eq!(source.end_offset(0).unwrap(), Some(end));
    assert_eq!(source.resolve(0, Start::Earliest).unwrap(), 0);
    assert_eq!((source.start(0), source.start(1)), (Start::Offset(7), Start::Earliest));
    let (batches, _) = read(source.as_ref(), 0, 7, 20);
    let offsets: Vec<_> = batches.iter().flat_map(|b| b.column(4).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(offsets, (7..20).collect::<Vec<_>>());
    // The same partition again, to its end: no record past the stop offset had been swallowed.
    let rest: usize = read(source.as_ref(), 0, 20, end).0.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rest as i64, end - 20);
    assert!(matches!(source.open(0, end, Some(end)).unwrap().poll(Limit::new(1, 1), 0).unwrap(), Poll::End));
}

#[test]
fn an_open_end_waits_for_records_and_takes_them_when_they_come() {
    let cluster = cluster("orders");
    let table = table(&cluster.bootstrap_servers(), "orders", &[]);
    let source = source(&table).unwrap();
    let partition = partition_of(b"user_0", PARTITIONS);
    let mut reader = source.open(partition, 0, None).unwrap();
    let limit = Limit::new(100, 1 << 20);
    assert!(matches!(reader.poll(limit, 0).unwrap(), Poll::Pending));
    write(&table, 0..1);
    let fetch = until(|| match reader.poll(limit, 0).unwrap() {
        Poll::Ready(fetch) => Some(fetch),
        _ => None,
    });
    assert_eq!((fetch.rows.num_rows(), fetch.next_offset), (1, 1));
    assert!(fetch.newest_record_time.is_some());
    until(|| (reader.poll(limit, 0).is_ok() && reader.lag() == Some(0)).then_some(()));
}

#[test]
fn a_range_is_repeated_in_other_pieces_and_nothing_behind_it_is_lost() {
    let cluster = cluster("orders");
    let table = table(&cluster.bootstrap_servers(), "orders", &[]);
    write(&table, 0..800);
    let source = source(&table).unwrap();
    let end = source.end_offset(0).unwrap().unwrap();
    assert!(end > 100);
    let mut reader = source.open(0, 5, None).unwrap();
    let (mut position, mut offsets) = (5, Vec::new());
    for range in [3, 5, 6, 57, 57, 100, end, i64::MAX] {
        let limit = Limit { until: range, ..Limit::new(33, 1 << 20) };
        if range == i64::MAX {
            write(&table, 0..800);
        }
        until(|| {
            match reader.poll(limit, 0).unwrap() {
                Poll::Ready(fetch) => {
                    assert!(fetch.next_offset <= range);
                    offsets.extend_from_slice(fetch.rows.column(4).as_primitive::<Int64Type>().values());
                    position = fetch.next_offset;
                }
                Poll::Pending => {}
                Poll::End => panic!("ended"),
            }
            (position >= range.min(2 * end)).then_some(())
        });
        if range < i64::MAX {
            assert!(matches!(reader.poll(limit, 0).unwrap(), Poll::Pending));
        }
    }
    assert_eq!(offsets, (5..2 * end).collect::<Vec<_>>());
}

#[test]
fn a_range_that_is_gone_from_the_topic_is_refused() {
    let cluster = cluster("orders");
    let table = table(&cluster.bootstrap_servers(), "orders", &[]);
    write(&table, 0..100);
    let source = source(&table).unwrap();
    let end = source.end_offset(0).unwrap().unwrap();
    let mut reader = source.open(0, end - 1, None).unwrap();
    let limit = Limit { until: end + 5, ..Limit::new(100, 1 << 20) };
    let error = until(|| reader.poll(limit, 0).err());
    assert_eq!(error.kind(), Kind::Permanent);
    assert!(error.message().contains(&format!("ends at offset {end}, before {}", end + 5)), "{error}");
}

#[test]
fn committed_positions_are_kept_by_the_group() {
    let cluster = cluster("orders");
    let table = table(&cluster.bootstrap_servers(), "orders", &[]);
    write(&table, 0..400);
    let first = source(&table).unwrap();
    assert_eq!(first.committed(1).unwrap(), None);
    first.commit(&[(1, 5), (2, 6)]).unwrap();
    drop(first);
    let second = source(&table).unwrap();
    assert_eq!([0, 1, 2].map(|p| second.committed(p).unwrap()), [None, Some(5), Some(6)]);
}

#[test]
fn positions_that_the_topic_does_not_have_are_refused() {
    let cluster = cluster("orders");
    let table = table(&cluster.bootstrap_servers(), "orders", &[]);
    let source = source(&table).unwrap();
    let error = failure(source.resolve(0, Start::Offset(99)));
    assert_eq!(error.kind(), Kind::Permanent);
    assert!(error.message().contains("ends at offset 0"), "{error}");
}

#[test]
fn deletes_are_tombstones() {
    let cluster = cluster("orders");
    let table = table(&cluster.bootstrap_servers(), "orders", &[("bad_records", "drop")]);
    let mut sink = sink(&table).unwrap();
    sink.write(&output(1, Change::Upsert, rows(&table, 0..1))).unwrap();
    sink.write(&output(2, Change::Delete, rows(&table, 0..1))).unwrap();
    assert_eq!(sink.flush(0, true).unwrap(), Flushed::All);
    let source = source(&table).unwrap();
    let (batches, bad) = read(source.as_ref(), partition_of(b"user_0", PARTITIONS), 0, 2);
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    assert_eq!(bad, ["empty"]);
}

#[test]
fn a_delivery_that_fails_for_now_is_told_and_sent_again() {
    let cluster = cluster("orders");
    let table = table(&cluster.bootstrap_servers(), "orders", &[]);
    let mut sink = sink(&table).unwrap();
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN]);
    sink.write(&output(1, Change::Insert, rows(&table, 0..20))).unwrap();
    let error = failure(sink.flush(0, true));
    assert!(error.is_transient() && error.message().contains("was not delivered"), "{error}");
    let flushed = (0..100).find(|_| matches!(sink.flush(0, true), Ok(Flushed::All)));
    assert!(flushed.is_some());
    let source = source(&table).unwrap();
    let numbers = read_all(source.as_ref()).column(1).as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(numbers.len(), 20);
    assert_eq!(numbers.into_iter().collect::<BTreeSet<_>>(), (0..20).collect());
}

#[test]
fn a_delivery_that_is_forbidden_stops_the_pipeline() {
    let cluster = cluster("orders");
    let table = table(&cluster.bootstrap_servers(), "orders", &[]);
    let mut sink = sink(&table).unwrap();
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 8]);
    sink.write(&output(1, Change::Insert, rows(&table, 0..20))).unwrap();
    let error = failure(sink.flush(0, true));
    assert_eq!(error.kind(), Kind::Permanent, "{error}");
    assert!(error.to_string().contains("orders") && error.hint_text().is_some(), "{error}");
}

#[test]
fn a_record_that_is_too_large_is_told_with_its_position() {
    let cluster = cluster("orders");
    let table = table(&cluster.bootstrap_servers(), "orders", &[("kafka.message.max.bytes", "1000")]);
    let mut sink = sink(&table).unwrap();
    let mut batch = rows(&table, 0..3);
    let users = StringArray::from(vec!["a".to_owned(), "b".repeat(2_000), "c".to_owned()]);
    batch = RecordBatch::try_new(batch.schema(), vec![Arc::new(users), Arc::clone(batch.column(1))]).unwrap();
    let error = failure(sink.write(&output(3, Change::Insert, batch)));
    assert_eq!(error.kind(), Kind::Permanent);
    assert!(error.message().contains("epoch 3") && error.message().contains("row 1"), "{error}");
}

#[test]
fn a_full_queue_is_waited_for() {
    let cluster = cluster("orders");
    let table = table(&cluster.bootstrap_servers(), "orders", &[("kafka.queue.buffering.max.messages", "10")]);
    write(&table, 0..200);
    assert_eq!(read_all(source(&table).unwrap().as_ref()).num_rows(), 200);
}

#[test]
fn a_write_that_brokers_broke_off_goes_on_where_it_was() {
    let cluster = cluster("orders");
    let more = [("kafka.queue.buffering.max.messages", "10"), ("kafka.socket.timeout.ms", "1000")];
    let table = table(&cluster.bootstrap_servers(), "orders", &more);
    let mut sink = sink(&table).unwrap();
    let numbers = output(1, Change::Insert, rows(&table, 0..50));
    cluster.broker_down(1).unwrap();
    let error = failure(sink.write(&numbers));
    assert!(error.is_transient() && error.message().contains("takes no more records"), "{error}");
    let error = failure(sink.flush(0, true));
    assert!(error.is_transient() && error.message().contains("does not acknowledge"), "{error}");
    cluster.broker_up(1).unwrap();
    assert!((0..100).any(|_| sink.write(&numbers).is_ok()));
    assert!((0..100).any(|_| matches!(sink.flush(0, true), Ok(Flushed::All))));
    let source = source(&table).unwrap();
    let mut numbers = read_all(source.as_ref()).column(1).as_primitive::<Int64Type>().values().to_vec();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
}

#[test]
fn no_broker_at_the_start_is_transient_and_says_where_it_looked() {
    let table = table("127.0.0.1:1", "orders", &[("kafka.socket.timeout.ms", "300")]);
    for error in [failure(source(&table)), failure(sink(&table))] {
        assert!(error.is_transient(), "{error}");
        assert!(error.message().contains("127.0.0.1:1") && error.message().contains("orders"), "{error}");
        assert!(error.hint_text().is_some());
    }
}

#[test]
fn a_missing_topic_is_told_with_the_names_near_it() {
    let cluster = cluster("financial-transactions");
    let table = table(&cluster.bootstrap_servers(), "financial-transaction", &[]);
    let error = failure(source(&table));
    assert_eq!(error.kind(), Kind::Permanent);
    assert_eq!(error.hint_text(), Some("did you mean financial-transactions?"));
}

#[test]
fn generated_records_are_delivered_and_counted_by_partition() {
    let cluster = cluster("transactions");
    let brokers = cluster.bootstrap_servers();
    let mut records = KafkaRecords::connect(&Options::of(&[("brokers", &brokers), ("topic", "transactions")])).unwrap();
    let mut generator = Generator::new(Settings { malformed: 0.1, ..Settings::default() }).unwrap();
    let settings = ProduceSettings { count: Some(3_000), ..ProduceSettings::default() };
    let labels: Option<&mut Labels<Vec<u8>>> = None;
    let (stop, target) = (AtomicBool::new(false), (&mut generator, &mut records as &mut dyn crate::generator::RecordSink));
    let summary = produce(target, &settings, labels, &SystemClock, &stop, &mut |_| {}).unwrap();
    assert_eq!((summary.sent, summary.deliveries.acknowledged(), summary.deliveries.lost()), (3_000, 3_000, 0));
    let source = source(&table(&brokers, "transactions", &[])).unwrap();
    for (partition, delivered) in &summary.deliveries.partitions {
        assert_eq!(source.end_offset(*partition).unwrap(), Some(delivered.last_offset + 1));
        assert_eq!(delivered.records as i64, delivered.last_offset + 1);
    }
}
