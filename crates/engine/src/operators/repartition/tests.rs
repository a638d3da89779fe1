//! What goes in comes out, once, where its key belongs, and never behind the watermark that was told.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use proptest::prelude::*;

use super::record::{Codec, Head};
use super::{Gather, Scatter};
use crate::batch::{Batch, Change, Port};
use crate::operator::{Operator, OperatorSpec, Output, Seat};
use crate::state::Backend;
use crate::time::{MAX_TIME, MIN_TIME, Micros};

/// Key, event time, and a number that tells the row from all others.
type Row = (Option<i64>, i64, i64);

fn schema() -> SchemaRef {
    let field = |name: &str, nullable| Field::new(name, DataType::Int64, nullable);
    Arc::new(Schema::new(vec![field("k", true), field("t", false), field("id", false)]))
}

fn batch(rows: &[Row]) -> Batch {
    let column = |of: &dyn Fn(&Row) -> Option<i64>| Arc::new(rows.iter().map(of).collect::<Int64Array>()) as ArrayRef;
    let columns = vec![column(&|r| r.0), column(&|r| Some(r.1)), column(&|r| Some(r.2))];
    Batch::insert(RecordBatch::try_new(schema(), columns).unwrap())
}

fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let column = |i: usize| batch.column(i).as_primitive::<Int64Type>().clone();
    let (k, t, id) = (column(0), column(1), column(2));
    (0..batch.num_rows()).map(|i| (k.iter().nth(i).unwrap(), t.value(i), id.value(i))).collect()
}

fn scatter() -> Scatter {
    let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new("k", 0));
    Scatter::new(schema(), vec![key]).unwrap()
}

fn scattering(seat: Seat) -> Box<dyn Operator> {
    let mut operator = scatter().create(&[Port::Rows], &Backend::Memory).unwrap();
    operator.begin(seat).unwrap();
    operator
}

fn gathering() -> Box<dyn Operator> {
    Gather::new(schema()).unwrap().create(&[Port::Rows], &Backend::Memory).unwrap()
}

/// An epoch of a task: gives its records, by partition.
fn epoch(operator: &mut dyn Operator, rows: &[Row], watermark: Micros, clock: Micros) -> Vec<(i32, Vec<u8>)> {
    let mut out = Output::default();
    for rows in rows.chunks(3) {
        operator.on_batch(0, batch(rows), &mut out).unwrap();
    }
    operator.on_watermark(watermark, &mut out).unwrap();
    operator.on_clock(clock);
    operator.on_epoch_end(&mut out).unwrap();
    let mut records = Vec::new();
    for (_, Batch { rows, .. }) in out.take().0 {
        let (partitions, payloads) = (rows.column(0).as_primitive::<Int32Type>(), rows.column(1).as_binary::<i32>());
        records.extend(partitions.values().iter().copied().zip(payloads.iter().map(|p| p.unwrap().to_vec())));
    }
    records
}

fn read(operator: &mut dyn Operator, records: &[&[u8]]) -> Vec<Row> {
    let payloads: ArrayRef = Arc::new(arrow::array::BinaryArray::from_iter_values(records));
    let schema = Arc::new(Schema::new(vec![Field::new("payload", DataType::Binary, false)]));
    let mut out = Output::default();
    operator.on_batch(0, Batch::insert(RecordBatch::try_new(schema, vec![payloads]).unwrap()), &mut out).unwrap();
    out.take().0.iter().flat_map(|(_, batch)| rows_of(&batch.rows)).collect()
}

fn again(operator: &mut Box<dyn Operator>, mut fresh: Box<dyn Operator>) {
    fresh.restore(operator.snapshot().unwrap()).unwrap();
    *operator = fresh;
}

/// By epoch: the task, keys and event times ahead of its watermark, how far that moves, time that passes, and whether everyone is
/// started again from snapshots.
type Epochs = Vec<(usize, Vec<(i64, i64)>, i64, i64, bool)>;

fn epochs() -> impl Strategy<Value = Epochs> {
    let rows = prop::collection::vec((-1i64..7, 0i64..50), 0..9);
    prop::collection::vec((0usize..3, rows, 0i64..20, 1i64..150_000, prop::bool::weighted(0.2)), 0..40)
}

proptest! {
    #[test]
    fn rows_arrive_once_by_key_in_order_and_in_time(epochs in epochs(), partitions in 1u32..5) {
        let seat = |number| Seat { number, of: 3, partitions };
        let mut from: Vec<_> = (0..3).map(|number| scattering(seat(number))).collect();
        let mut to: Vec<_> = (0..partitions).map(|_| gathering()).collect();
        let (mut watermarks, mut clock, mut id) = ([0i64; 3], 0i64, 0i64);
        let mut sent: BTreeMap<usize, Vec<Row>> = BTreeMap::new();
        let mut came: Vec<Vec<Row>> = vec![Vec::new(); partitions as usize];
        for (task, rows, moves, passes, restarts) in epochs {
            let rows: Vec<Row> = rows.into_iter().map(|(k, ahead)| {
                id += 1;
                ((k >= 0).then_some(k), watermarks[task] + ahead, id)
            }).collect();
            (watermarks[task], clock) = (watermarks[task] + moves, clock + passes);
            sent.entry(task).or_default().extend(&rows);
            for (partition, record) in epoch(from[task].as_mut(), &rows, watermarks[task], clock) {
                let taker = &mut to[partition as usize];
                let before = taker.watermark(MAX_TIME);
                for row in read(taker.as_mut(), &[&record]) {
                    prop_assert!(row.1 >= before, "{row:?} came behind {before}");
                    came[partition as usize].push(row);
                }
                prop_assert!(taker.watermark(MAX_TIME) >= before);
                prop_assert!(taker.watermark(MAX_TIME) <= *watermarks.iter().min().unwrap());
            }
            if restarts {
                from.iter_mut().zip(0..).for_each(|(operator, number)| again(operator, scattering(seat(number))));
                to.iter_mut().for_each(|operator| again(operator, gathering()));
            }
        }
        // Each task is heard everywhere; once time has passed, so is where it is.
        for task in 0..3 {
            for (partition, record) in epoch(from[task].as_mut(), &[], watermarks[task], clock + 1_000_000) {
                read(to[partition as usize].as_mut(), &[&record]);
            }
        }
        for taker in &to {
            prop_assert_eq!(taker.watermark(MAX_TIME), *watermarks.iter().min().unwrap());
        }
        let mut all: Vec<Row> = came.iter().flatten().copied().collect();
        all.sort_by_key(|row| row.2);
        let mut expected: Vec<Row> = sent.values().flatten().copied().collect();
        expected.sort_by_key(|row| row.2);
        prop_assert_eq!(all, expected);
        let mut places: BTreeMap<Option<i64>, usize> = BTreeMap::new();
        for (partition, rows) in came.iter().enumerate() {
            for row in rows {
                prop_assert_eq!(*places.entry(row.0).or_insert(partition), partition);
            }
            for sent in sent.values() {
                let ids = |rows: &[Row]| rows.iter().map(|row| row.2).collect::<Vec<_>>();
                let of_task: Vec<Row> = rows.iter().filter(|row| sent.contains(row)).copied().collect();
                let expected: Vec<Row> = sent.iter().filter(|row| rows.contains(row)).copied().collect();
                prop_assert_eq!(ids(&of_task), ids(&expected));
            }
        }
    }
}

#[test]
fn there_is_no_watermark_before_every_task_was_heard() {
    let mut taker = gathering();
    let seat = |number| Seat { number, of: 2, partitions: 1 };
    let (mut first, mut second) = (scattering(seat(0)), scattering(seat(1)));
    let record = |records: Vec<(i32, Vec<u8>)>| records[0].1.clone();
    read(taker.as_mut(), &[&record(epoch(first.as_mut(), &[], 70, 1))]);
    assert_eq!(taker.watermark(MAX_TIME), MIN_TIME);
    read(taker.as_mut(), &[&record(epoch(second.as_mut(), &[], 50, 1))]);
    assert_eq!(taker.watermark(MAX_TIME), 50);
}

#[test]
fn partitions_without_rows_are_told_now_and_then_and_of_the_end_at_once() {
    let mut operator = scattering(Seat { number: 0, of: 1, partitions: 3 });
    assert_eq!(operator.due(), Some(MIN_TIME), "it was not heard yet");
    assert_eq!(epoch(operator.as_mut(), &[], 10, 1_000).len(), 3);
    assert_eq!(operator.due(), None);
    assert_eq!(epoch(operator.as_mut(), &[], 20, 2_000).len(), 0, "too soon");
    assert_eq!(operator.due(), Some(101_000));
    let with_rows = epoch(operator.as_mut(), &[(Some(1), 30, 1)], 30, 3_000);
    assert_eq!(with_rows.len(), 1, "rows carry it along");
    assert_eq!(epoch(operator.as_mut(), &[], 30, 101_000).len(), 3);
    assert_eq!(epoch(operator.as_mut(), &[], 30, 999_000).len(), 0, "nothing new");
    assert_eq!(epoch(operator.as_mut(), &[], MAX_TIME, 999_001).len(), 3);
}

#[test]
fn late_rows_are_counted_and_go_no_further() {
    let mut operator = scattering(Seat { number: 0, of: 1, partitions: 2 });
    epoch(operator.as_mut(), &[], 10, 1);
    let mut out = Output::default();
    operator.on_batch(0, Batch { change: Change::Late, ..batch(&[(Some(1), 3, 1), (Some(2), 4, 2)]) }, &mut out).unwrap();
    operator.on_epoch_end(&mut out).unwrap();
    let (batches, late) = out.take();
    assert_eq!((batches.len(), late), (0, 2));
}

#[test]
fn records_stay_below_what_brokers_take() {
    let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, false)]));
    let mut operator = Scatter::new(schema.clone(), Vec::new()).unwrap().create(&[], &Backend::Memory).unwrap();
    operator.begin(Seat { number: 0, of: 1, partitions: 2 }).unwrap();
    // A few large rows among many small ones.
    let texts = (0..20_000).map(|i| if (500..510).contains(&i) { "x".repeat(300_000) } else { format!("row {i}") });
    let texts: Vec<String> = texts.collect();
    let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(StringArray::from(texts.clone()))]).unwrap();
    let mut out = Output::default();
    operator.on_batch(0, Batch::insert(rows), &mut out).unwrap();
    operator.on_watermark(5, &mut out).unwrap();
    operator.on_epoch_end(&mut out).unwrap();
    let (codec, mut came, mut watermarks) = (Codec::new(schema).unwrap(), Vec::new(), Vec::new());
    for (_, Batch { rows, .. }) in out.take().0 {
        for payload in rows.column(1).as_binary::<i32>().iter().flatten() {
            assert!(payload.len() < 1_000_000, "{}", payload.len());
            let (head, rows) = codec.decode(payload).unwrap();
            watermarks.push(head.watermark);
            came.extend(rows.iter().flat_map(|rows| rows.column(0).as_string::<i32>().iter().flatten().map(str::to_owned)));
        }
    }
    assert_eq!(came, texts, "without keys all go to one partition, in order");
    assert_eq!(watermarks.iter().filter(|watermark| **watermark == 5).count(), 2, "the last one of each partition");
}

#[test]
fn what_is_no_record_is_told() {
    let codec = Codec::new(schema()).unwrap();
    let head = Head { number: 1, of: 2, watermark: 7 };
    let good = codec.encode(head, Some(&batch(&[(None, 1, 2)]).rows)).unwrap();
    assert_eq!(codec.decode(&good).unwrap().0, head);
    for bad in [&b""[..], b"{}", &good[..12], &good[..40], &[&[9u8][..], &good[1..]].concat()] {
        assert!(codec.decode(bad).unwrap_err().message().contains("not as it was written"));
    }
    let mut taker = gathering();
    read(taker.as_mut(), &[&good]);
    let other = codec.encode(Head { number: 1, of: 3, watermark: 7 }, None).unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("payload", DataType::Binary, false)]));
    let payloads: ArrayRef = Arc::new(arrow::array::BinaryArray::from_iter_values([&other]));
    let batch = Batch::insert(RecordBatch::try_new(schema, vec![payloads]).unwrap());
    assert!(taker.on_batch(0, batch, &mut Output::default()).unwrap_err().message().contains("records of 2 tasks, and of 3"));
}

/// Where a key goes must never change, over versions of this program and of its libraries: state lies there. (The numbers are
/// those of another implementation of XxHash3, over arrow's row format as its documentation describes it.)
#[test]
fn a_key_stays_where_it_is() {
    let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true), Field::new("n", DataType::Int64, false)]));
    let key = |i: usize, name: &str| Arc::new(Column::new(name, i)) as Arc<dyn PhysicalExpr>;
    let mut operator =
        Scatter::new(schema.clone(), vec![key(0, "k"), key(1, "n")]).unwrap().create(&[], &Backend::Memory).unwrap();
    operator.begin(Seat { number: 0, of: 1, partitions: 1000 }).unwrap();
    let places = [(Some("Electronics"), 1), (Some(""), -5), (None, 0), (Some("a text of more than thirty-two bytes, here"), 7)]
        .map(|(text, number)| {
            let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec![text])), Arc::new(Int64Array::from(vec![number]))];
            let mut out = Output::default();
            operator.on_batch(0, Batch::insert(RecordBatch::try_new(schema.clone(), columns).unwrap()), &mut out).unwrap();
            operator.on_epoch_end(&mut out).unwrap();
            let (batches, codec) = (out.take().0, Codec::new(schema.clone()).unwrap());
            let rows = &batches[0].1.rows;
            let with_rows = |i: &usize| codec.decode(rows.column(1).as_binary::<i32>().value(*i)).unwrap().1.is_some();
            rows.column(0).as_primitive::<Int32Type>().value((0..rows.num_rows()).find(with_rows).unwrap())
        });
    assert_eq!(places, [561, 517, 785, 583]);
}
