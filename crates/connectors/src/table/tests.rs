//! Tests of embedded tables: upserts, deletes, scans, definitions, the source.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit};
use proptest::prelude::*;
use riverrun_engine::batch::{Batch, Change};
use riverrun_engine::connect::Context;
use riverrun_engine::error::Kind;
use riverrun_engine::graph::{SinkNode, SourceNode};
use riverrun_engine::sink::{EpochOutput, Sink};
use riverrun_engine::source::{Limit, Poll};
use riverrun_engine::table::{Emit, Location, Options, Table as Declared};
use riverrun_engine::time::ManualClock;

use super::connector::TableConnector;
use super::*;
use crate::connector::Connector;

fn schema() -> SchemaRef {
    let field = |name, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("total", DataType::Float64),
        field("user", DataType::Utf8),
        field("window", DataType::Int64),
    ]))
}

/// Key: (user, window).
const KEY: [usize; 2] = [1, 2];

fn rows(rows: &[(&str, i64, f64)]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.2))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.0))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn epoch(number: u64, batches: Vec<(Change, RecordBatch)>) -> EpochOutput {
    let batches = batches.into_iter().map(|(change, rows)| Batch { rows, change }).collect();
    EpochOutput { task: 0, epoch: number, clock: 0, batches }
}

fn scanned(table: &Table) -> Vec<(String, i64, f64)> {
    let mut all = Vec::new();
    for batch in table.scan().unwrap() {
        let batch = batch.unwrap();
        let totals = batch.column(0).as_primitive::<Float64Type>();
        let windows = batch.column(2).as_primitive::<Int64Type>();
        let users = batch.column(1).as_string::<i32>();
        all.extend((0..batch.num_rows()).map(|r| (users.value(r).to_owned(), windows.value(r), totals.value(r))));
    }
    all
}

fn open(directory: &Path) -> Table {
    Tables::open(directory).unwrap().create_table("sums", &schema(), &KEY).unwrap()
}

#[test]
fn the_newest_row_of_a_key_stays_and_a_delete_removes_it() {
    let directory = tempfile::tempdir().unwrap();
    let table = open(directory.path());
    let first = rows(&[("b", 1, 1.0), ("a", 2, 2.0), ("a", -1, 3.0), ("b", 1, 4.0)]);
    table.write(&epoch(1, vec![(Change::Upsert, first), (Change::Delete, rows(&[("a", 2, 2.0)]))]), None).unwrap();
    assert_eq!(scanned(&table), [("a".into(), -1, 3.0), ("b".into(), 1, 4.0)]);
    let again = vec![(Change::Delete, rows(&[("b", 1, 0.0)])), (Change::Upsert, rows(&[("b", 1, 5.0)]))];
    table.write(&epoch(2, again), None).unwrap();
    assert_eq!(scanned(&table), [("a".into(), -1, 3.0), ("b".into(), 1, 5.0)]);
    drop(table);
    let table = open(directory.path());
    assert_eq!(scanned(&table).len(), 2);
}

fn sink(directory: &Path, name: &str) -> Box<dyn Sink> {
    let table = Declared {
        name: name.into(),
        options: Options::of(&[("connector", "table"), ("table", "sums")]),
        ..node(name, &schema()).table
    };
    let node = SinkNode { table, schema: schema(), emit: Emit::Update, trigger: Duration::ZERO, key: KEY.to_vec() };
    TableConnector.sink(&node, &context(directory)).unwrap()
}

#[test]
fn a_sink_tells_how_far_each_lineage_is() {
    let directory = tempfile::tempdir().unwrap();
    let one = |number, total| epoch(number, vec![(Change::Upsert, rows(&[("a", 1, total)]))]);
    let mut bounded = sink(directory.path(), "sums");
    bounded.write(&one(9, 0.0)).unwrap();
    drop(bounded);
    let mut killed = sink(directory.path(), "sums");
    assert_eq!(killed.recover("p-1", 2).unwrap(), Some(vec![0, 0]));
    killed.write(&one(1, 1.0)).unwrap();
    killed.write(&one(2, 2.0)).unwrap();
    killed.write(&EpochOutput { task: 1, ..one(7, 3.0) }).unwrap();
    killed.write(&epoch(3, Vec::new())).unwrap();
    drop(killed);
    let mut again = sink(directory.path(), "sums");
    assert_eq!(again.recover("p-1", 3).unwrap(), Some(vec![2, 7, 0]), "an epoch without rows needs no write");
    assert_eq!(sink(directory.path(), "sums").recover("p-2", 1).unwrap(), Some(vec![0]));
    assert_eq!(sink(directory.path(), "others").recover("p-1", 1).unwrap(), Some(vec![0]), "another sink of the same table");
    again.write(&one(4, 4.0)).unwrap();
    assert_eq!(again.recover("p-1", 1).unwrap(), Some(vec![4]));
    drop(again);
    let tables = Tables::open(&directory.path().join("tables")).unwrap();
    assert_eq!(scanned(&tables.table("sums").unwrap()), [("a".into(), 1, 4.0)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn a_table_holds_what_a_map_would(
        epochs in prop::collection::vec(prop::collection::vec((any::<bool>(), "[a-c]", -2i64..3, any::<i32>()), 0..30), 1..5),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let table = open(directory.path());
        let mut expected = BTreeMap::new();
        for (number, changes) in (1..).zip(&epochs) {
            let mut batches = Vec::new();
            for (delete, user, window, total) in changes {
                let row = rows(&[(user, *window, f64::from(*total))]);
                batches.push((if *delete { Change::Delete } else { Change::Upsert }, row));
                match delete {
                    true => expected.remove(&(user.clone(), *window)),
                    false => expected.insert((user.clone(), *window), f64::from(*total)),
                };
            }
            table.write(&epoch(number, batches), None).unwrap();
        }
        let expected: Vec<_> = expected.into_iter().map(|((user, window), total)| (user, window, total)).collect();
        prop_assert_eq!(scanned(&table), expected);
    }
}

#[test]
fn nested_and_null_values_come_back_as_they_were() {
    let place = Fields::from(vec![Field::new("lat", DataType::Float64, true), Field::new("lon", DataType::Float64, true)]);
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, true),
        Field::new("place", DataType::Struct(place.clone()), true),
        Field::new("merchants", DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))), true),
        Field::new("at", time, true),
    ]));
    let lat = Arc::new(Float64Array::from(vec![Some(1.5), None]));
    let places = StructArray::new(place, vec![lat.clone(), lat], Some(vec![true, false].into()));
    let mut merchants = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
    merchants.append_value([Some("x"), None]);
    merchants.append_null();
    let merchants: ListArray = merchants.finish();
    let times = arrow::array::TimestampMicrosecondArray::from(vec![Some(-1), None]).with_timezone("UTC");
    let columns: Vec<ArrayRef> =
        vec![Arc::new(StringArray::from(vec!["a", "b"])), Arc::new(places), Arc::new(merchants), Arc::new(times)];
    let rows = RecordBatch::try_new(schema.clone(), columns).unwrap();

    let directory = tempfile::tempdir().unwrap();
    let table = Tables::open(directory.path()).unwrap().create_table("t", &schema, &[0]).unwrap();
    table.write(&epoch(1, vec![(Change::Upsert, rows.clone())]), None).unwrap();
    drop(table);
    let table = Tables::open(directory.path()).unwrap().table("t").unwrap();
    assert_eq!(table.primary_key(), ["id"]);
    assert_eq!(table.scan().unwrap().map(|b| b.unwrap()).collect::<Vec<_>>(), [rows]);
}

#[test]
fn a_table_of_keys_alone_can_be_kept() {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let directory = tempfile::tempdir().unwrap();
    let table = Tables::open(directory.path()).unwrap().create_table("t", &schema, &[0]).unwrap();
    let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![3, 1, 3]))]).unwrap();
    table.write(&epoch(1, vec![(Change::Insert, rows)]), None).unwrap();
    let batch = table.scan().unwrap().next().unwrap().unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[1, 3]);
}

#[test]
fn another_table_of_the_same_name_is_refused_by_what_differs() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let tables = Tables::open(directory.path()).unwrap();
    let other = Arc::new(Schema::new(vec![
        Field::new("total", DataType::Int64, true),
        Field::new("user", DataType::Utf8, true),
        Field::new("category", DataType::Utf8, true),
    ]));
    let error = tables.create_table("sums", &other, &[1]).map(|_| ()).unwrap_err();
    for part in [
        "column total was Float64 and is now Int64",
        "column window is kept but no longer written",
        "column category is new",
        "the key was (user, window) and is now (user)",
    ] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
    assert_eq!(error.kind(), Kind::Invalid);
    let error = tables.create_table("more", &schema(), &[]).map(|_| ()).unwrap_err();
    assert!(error.message().contains("PRIMARY KEY"), "{error}");
}

#[test]
fn a_scan_does_not_see_later_writes() {
    let directory = tempfile::tempdir().unwrap();
    let table = open(directory.path());
    table.write(&epoch(1, vec![(Change::Upsert, rows(&[("a", 1, 1.0)]))]), None).unwrap();
    let scan = table.scan().unwrap();
    table.write(&epoch(2, vec![(Change::Upsert, rows(&[("a", 1, 2.0), ("b", 1, 2.0)]))]), None).unwrap();
    let seen: Vec<_> = scan.map(|b| b.unwrap()).collect();
    assert_eq!(seen, [rows(&[("a", 1, 1.0)])]);
}

#[test]
fn the_source_gives_every_row_once_from_any_offset_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    let table = Tables::open(&directory.path().join("tables")).unwrap().create_table("sums", &schema(), &KEY).unwrap();
    let many: Vec<_> = (0..10_000).map(|w| ("a", w, w as f64)).collect();
    table.write(&epoch(1, vec![(Change::Upsert, rows(&many))]), None).unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("window", DataType::Int64, false)]));
    let source = TableConnector.source(&node("sums", &schema), &context(directory.path())).unwrap();
    assert_eq!((source.partitions().unwrap(), source.end_offset(0).unwrap()), (1, None));
    for (offset, stop) in [(0, None), (7, None), (8192, Some(9000)), (9999, None), (10_000, None)] {
        let mut reader = source.open(0, offset, stop).unwrap();
        let mut read = Vec::new();
        while let Poll::Ready(fetch) = reader.poll(Limit::new(3000, 1 << 20), 0).unwrap() {
            read.extend_from_slice(fetch.rows.column(0).as_primitive::<Int64Type>().values());
            assert_eq!(fetch.next_offset, read.last().unwrap() + 1);
        }
        assert!(read.into_iter().eq(offset..stop.unwrap_or(10_000)), "{offset} to {stop:?}");
    }
    let mut reader = source.open(0, 5, None).unwrap();
    let mut read = Vec::new();
    for until in [3, 5, 6, 8192, 9000, 10_000] {
        while let Poll::Ready(fetch) = reader.poll(Limit { until, ..Limit::new(3000, 1 << 20) }, 0).unwrap() {
            read.extend_from_slice(fetch.rows.column(0).as_primitive::<Int64Type>().values());
        }
        assert_eq!(read.len() as i64, (until - 5).max(0), "rows up to {until} and none behind");
    }
    assert!(read.into_iter().eq(5..10_000));
}

#[test]
fn a_source_that_does_not_fit_its_table_says_why() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(&directory.path().join("tables")));
    let of = |name: &str, field: Field| {
        let schema = Arc::new(Schema::new(vec![field]));
        TableConnector.source(&node(name, &schema), &context(directory.path())).map(|_| ()).unwrap_err().to_string()
    };
    let wrong = of("sums", Field::new("total", DataType::Utf8, true));
    assert!(wrong.contains("is a DOUBLE, not a VARCHAR"), "{wrong}");
    let missing = of("sums", Field::new("sum", DataType::Utf8, true));
    assert!(missing.contains("no column sum") && missing.contains("total, user, window"), "{missing}");
    let unknown = of("sum", Field::new("total", DataType::Float64, true));
    assert!(unknown.contains("no table sum") && unknown.contains("there are sums"), "{unknown}");
}

fn node(name: &str, schema: &SchemaRef) -> SourceNode {
    let table = Declared {
        name: name.into(),
        columns: Vec::new(),
        watermark: None,
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        options: Options::of(&[("connector", "table")]),
        location: Location::default(),
    };
    SourceNode { table, schema: schema.clone() }
}

fn context(directory: &Path) -> Context {
    Context::new("p", directory, Arc::new(ManualClock::at(0)))
}
