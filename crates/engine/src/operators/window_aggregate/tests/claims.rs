//! Single claims: what is late, what is freed, what a trigger touches, what is deleted.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimestampMicrosecondType};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion_physical_expr::aggregate::AggregateExprBuilder;
use datafusion_physical_expr::expressions::{col, lit};

use super::super::output::WindowKey;
use super::super::windows::Windows;
use super::super::{Aggregate, Window, WindowAggregate};
use super::rows::{Row, Seen, aggregate, aggregates, batch, column, plan};
use crate::batch::{Batch, Change, Port};
use crate::operator::{CurrentWindow, Operator, OperatorSpec, Output, StateSize};
use crate::state::Backend;
use crate::time::{MAX_TIME, Micros};

const BOTH: [Port; 2] = [Port::Rows, Port::Update];

fn row(time: Micros, key: u8, v: i32) -> Row {
    Row { time, key: Some(key), v: Some(v), n: Some(1), m: Some(key) }
}

fn tumbling(having: bool) -> WindowAggregate {
    plan(Window::Struct { key: 0 }, aggregates().0, having)
}

fn session() -> WindowAggregate {
    plan(Window::Session { key: 0, time: column("ts"), gap: 10 }, aggregates().0, false)
}

fn insert(operator: &mut Box<dyn Operator>, rows: &[Row], out: &mut Output) {
    operator.on_batch(0, Batch::insert(batch(rows, 0, 100, 100)), out).unwrap();
}

/// Key and count of each final row, in order.
fn finals(seen: &Seen) -> Vec<(String, i64)> {
    let of = |rows: &RecordBatch| -> Vec<_> {
        let keys = rows.column(1).as_string::<i32>().iter().map(|k| k.unwrap_or("").to_owned());
        keys.zip(rows.column(2).as_primitive::<Int64Type>().values().to_vec()).collect()
    };
    seen.finals.iter().flat_map(of).collect()
}

fn end_epoch(operator: &mut Box<dyn Operator>) -> Seen {
    let (mut seen, mut out) = (Seen::default(), Output::default());
    operator.on_epoch_end(&mut out).unwrap();
    seen.take(&mut out);
    seen
}

#[test]
fn late_rows_are_counted_and_dropped() {
    for plan in [tumbling(false), session()] {
        let (mut operator, mut out, mut seen) =
            (plan.create(&BOTH, &Backend::Memory).unwrap(), Output::default(), Seen::default());
        insert(&mut operator, &[row(10, 1, 1), row(250, 1, 1)], &mut out);
        operator.on_watermark(200, &mut out).unwrap();
        let late = Batch { rows: batch(&[row(10, 1, 1), row(300, 1, 1)], 0, 100, 100), change: Change::Late };
        operator.on_batch(0, late, &mut out).unwrap();
        insert(&mut operator, &[row(20, 1, 1), row(251, 1, 1)], &mut out);
        operator.on_watermark(MAX_TIME, &mut out).unwrap();
        seen.take(&mut out);
        assert_eq!(seen.late, 3, "two marked as late, one whose window was closed");
        assert_eq!(finals(&seen), [("key 1".to_owned(), 1), ("key 1".to_owned(), 2)]);
    }
}

#[test]
fn rows_without_a_window_are_counted_and_dropped() {
    let rows = batch(&[row(10, 1, 1), row(20, 1, 1)], 0, 100, 100);
    let without = |column: usize| {
        let mut columns = rows.columns().to_vec();
        columns[column] = arrow::array::new_null_array(columns[column].data_type(), 2);
        Batch::insert(RecordBatch::try_new(rows.schema(), columns).unwrap())
    };
    for (plan, column) in [(tumbling(false), 3), (session(), 1)] {
        let (mut operator, mut out, mut seen) =
            (plan.create(&BOTH, &Backend::Memory).unwrap(), Output::default(), Seen::default());
        operator.on_batch(0, without(column), &mut out).unwrap();
        operator.on_watermark(MAX_TIME, &mut out).unwrap();
        seen.take(&mut out);
        assert_eq!((seen.late, seen.finals.len()), (2, 0));
    }
}

#[test]
fn updates_of_another_operator_are_refused() {
    let mut operator = tumbling(false).create(&BOTH, &Backend::Memory).unwrap();
    let upsert = Batch { rows: batch(&[row(1, 1, 1)], 0, 100, 100), change: Change::Upsert };
    let error = operator.on_batch(0, upsert, &mut Output::default()).unwrap_err();
    assert!(error.to_string().contains("new rows only"), "{error}");
}

#[test]
fn windows_close_in_the_order_of_their_ends_and_groups_in_first_seen_order() {
    let (mut operator, mut out, mut seen) =
        (tumbling(false).create(&BOTH, &Backend::Memory).unwrap(), Output::default(), Seen::default());
    insert(&mut operator, &[row(210, 3, 1), row(10, 2, 1), row(211, 1, 1), row(110, 9, 1), row(12, 1, 1)], &mut out);
    operator.on_epoch_end(&mut out).unwrap();
    // Key 1 is touched first in the second epoch, yet was seen after key 2.
    insert(&mut operator, &[row(13, 1, 1), row(14, 2, 1), row(15, 0, 1)], &mut out);
    operator.on_watermark(205, &mut out).unwrap();
    seen.take(&mut out);
    let expected = [("key 2", 2), ("key 1", 2), ("key 0", 1), ("key 9", 1)].map(|(k, n)| (k.to_owned(), n));
    assert_eq!(finals(&seen), expected);
    let first = |rows: &RecordBatch| rows.column(0).as_struct().column(1).as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!(seen.finals.iter().map(first).collect::<Vec<_>>(), [100, 200]);
}

#[test]
fn unsent_changes_go_out_as_upserts_before_the_window_closes() {
    let (mut operator, mut out) = (tumbling(false).create(&BOTH, &Backend::Memory).unwrap(), Output::default());
    insert(&mut operator, &[row(10, 1, 1)], &mut out);
    operator.on_watermark(100, &mut out).unwrap();
    let order: Vec<_> = out.take().0.into_iter().map(|(port, batch)| (port, batch.change)).collect();
    assert_eq!(order, [(Port::Update, Change::Upsert), (Port::Rows, Change::Insert)]);
    assert_eq!(end_epoch(&mut operator).upserts, 0, "nothing is left to tell");
}

#[test]
fn state_is_freed_while_input_goes_on() {
    let few = || aggregates().0.into_iter().take(8).collect::<Vec<_>>();
    let tumbling = || plan(Window::Struct { key: 0 }, few(), false);
    let session = || plan(Window::Session { key: 0, time: column("ts"), gap: 10 }, few(), false);
    let (all, finals) = (&BOTH[..], &BOTH[..1]);
    for (plan, ports) in [(tumbling(), all), (tumbling(), finals), (session(), all), (session(), finals)] {
        let (mut operator, mut out, mut most) =
            (plan.create(ports, &Backend::Memory).unwrap(), Output::default(), StateSize::default());
        let mut rows_out = 0;
        for i in 0..200i64 {
            let rows: Vec<_> = (0..50u8).map(|k| row(i * 100 + i64::from(k % 7), k, 1)).collect();
            insert(&mut operator, &rows, &mut out);
            operator.on_watermark(i * 100 - 200, &mut out).unwrap();
            operator.on_epoch_end(&mut out).unwrap();
            rows_out +=
                out.take().0.iter().filter(|(port, _)| *port == Port::Rows).map(|(_, b)| b.rows.num_rows()).sum::<usize>();
            let size = operator.state_size();
            most = StateSize { rows: most.rows.max(size.rows), bytes: most.bytes.max(size.bytes), ..most };
        }
        assert!(most.rows <= 4 * 50, "{most:?}");
        assert!(most.bytes > 0 && most.bytes < 2_000_000, "{most:?}");
        assert!(rows_out >= 190 * 50, "rows left before the end of the input");
    }
}

#[test]
fn groups_without_a_window_are_kept_and_given_at_the_end() {
    let (mut operator, mut out) =
        (plan(Window::None, aggregates().0, false).create(&BOTH, &Backend::Memory).unwrap(), Output::default());
    insert(&mut operator, &[row(10, 1, 1), row(999, 2, 1)], &mut out);
    operator.on_watermark(1_000_000, &mut out).unwrap();
    let seen = end_epoch(&mut operator);
    assert_eq!((seen.upserts, seen.finals.len()), (2, 0));
    operator.on_watermark(MAX_TIME, &mut out).unwrap();
    let mut seen = Seen::default();
    seen.take(&mut out);
    assert_eq!(finals(&seen).len(), 2);
}

#[test]
fn the_current_window_is_the_oldest_of_those_that_hold_the_newest_event() {
    let mut operator = tumbling(false).create(&BOTH, &Backend::Memory).unwrap();
    let mut current = |rows: &[Row], size| {
        operator.on_batch(0, Batch::insert(batch(rows, 0, size, 100)), &mut Output::default()).unwrap();
        end_epoch(&mut operator);
        let CurrentWindow { start, end, groups } = operator.current_window().unwrap();
        (start, end, groups)
    };
    assert_eq!(current(&[], 100), (i64::MIN, i64::MIN, 0));
    assert_eq!(current(&[row(10, 1, 1), row(20, 2, 1), row(30, 1, 1)], 100), (0, 100, 2));
    assert_eq!(current(&[row(110, 3, 1)], 100), (100, 200, 1));
    assert_eq!(current(&[row(50, 4, 1)], 100), (100, 200, 1), "an older window");
    // Windows of 200, one every 100: those at 300 and at 400 hold 450.
    assert_eq!(current(&[row(350, 1, 1), row(360, 2, 1), row(450, 3, 1)], 200), (300, 500, 3));

    let mut kept = plan(Window::None, aggregates().0, false).create(&BOTH, &Backend::Memory).unwrap();
    insert(&mut kept, &[row(1, 1, 1), row(2, 2, 1)], &mut Output::default());
    end_epoch(&mut kept);
    assert_eq!(kept.current_window().map(|w| w.groups), Some(2), "no window at all: all groups");
}

#[test]
fn a_group_that_fails_having_later_is_deleted_once_and_one_that_never_went_out_is_not() {
    let (mut operator, mut out) = (tumbling(true).create(&BOTH, &Backend::Memory).unwrap(), Output::default());
    insert(&mut operator, &[row(10, 1, 4), row(10, 2, -4)], &mut out);
    operator.on_epoch_end(&mut out).unwrap();
    insert(&mut operator, &[row(11, 1, -40), row(11, 2, -4)], &mut out);
    operator.on_epoch_end(&mut out).unwrap();
    insert(&mut operator, &[row(12, 1, -40)], &mut out);
    operator.on_epoch_end(&mut out).unwrap();
    let mut seen = Seen::default();
    seen.take(&mut out);
    assert_eq!((seen.upserts, seen.deletes, seen.newest.len()), (1, 1, 0));
    operator.on_watermark(MAX_TIME, &mut out).unwrap();
    seen.take(&mut out);
    assert!(seen.finals.is_empty());
}

#[test]
fn rows_exactly_a_gap_apart_are_two_sessions_and_a_row_between_merges_them() {
    let (mut operator, mut out, mut seen) =
        (session().create(&BOTH, &Backend::Memory).unwrap(), Output::default(), Seen::default());
    insert(&mut operator, &[row(0, 1, 1), row(10, 1, 1), row(0, 2, 1)], &mut out);
    operator.on_epoch_end(&mut out).unwrap();
    seen.take(&mut out);
    assert_eq!(seen.newest.len(), 3);
    insert(&mut operator, &[row(9, 1, 1)], &mut out);
    operator.on_epoch_end(&mut out).unwrap();
    seen.take(&mut out);
    assert_eq!((seen.deletes, seen.newest.len()), (2, 2), "both old sessions are taken back, the merged one goes out");
    operator.on_watermark(MAX_TIME, &mut out).unwrap();
    seen.take(&mut out);
    assert_eq!(finals(&seen), [("key 2".to_owned(), 1), ("key 1".to_owned(), 3)]);
}

#[test]
fn final_batches_are_bounded() {
    let numbers = numbers_plan();
    let (mut operator, mut out) = (numbers.create(&[Port::Rows], &Backend::Memory).unwrap(), Output::default());
    operator.on_batch(0, numbers_batch(0..20_000), &mut out).unwrap();
    operator.on_watermark(MAX_TIME, &mut out).unwrap();
    let sizes: Vec<_> = out.take().0.iter().map(|(_, b)| b.rows.num_rows()).collect();
    assert_eq!(sizes, [8192, 8192, 3616]);
}

#[test]
fn a_trigger_touches_the_groups_that_changed_not_those_that_are_kept() {
    let plan = numbers_plan();
    let shared = Arc::new(plan.shared(&[Port::Update], &Backend::Memory).unwrap());
    let (mut operator, mut out) = (Windows::new(shared, WindowKey::Nothing).unwrap(), Output::default());
    for from in (0..1_000_000).step_by(100_000) {
        operator.on_batch(0, numbers_batch(from..from + 100_000), &mut out).unwrap();
        operator.on_epoch_end(&mut out).unwrap();
    }
    assert_eq!(operator.state_size().rows, 1_000_000);
    let before = operator.touched();
    out.take();
    operator.on_batch(0, numbers_batch(500_000..500_010), &mut out).unwrap();
    operator.on_epoch_end(&mut out).unwrap();
    assert_eq!(operator.touched() - before, 10);
    let (batches, _) = out.take();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].1.rows.num_rows(), 10);
    assert_eq!(batches[0].1.rows.column(1).as_primitive::<Int64Type>().values(), &[2; 10]);
}

#[test]
fn an_unfit_window_is_refused_when_the_operator_is_made() {
    let key = (column("k"), Arc::new(Field::new("k", DataType::Utf8, true)));
    let count = vec![aggregate("count", count_udaf(), "*", |b| b)];
    for window in [Window::Struct { key: 0 }, Window::Timestamp { key: 0, size: 1 }] {
        let plan = WindowAggregate::new(super::rows::input(), vec![key.clone()], window, count.clone(), None).unwrap();
        assert!(plan.create(&BOTH, &Backend::Memory).is_err());
    }
}

#[test]
fn describe_names_keys_window_aggregates_and_when_state_is_freed() {
    let lines = plan(Window::Struct { key: 0 }, vec![aggregate("total", count_udaf(), "*", |b| b)], false).describe();
    assert_eq!(
        lines,
        [
            "keys: k",
            "window: w, closes when the watermark passes its end",
            "aggregates: total",
            "state: one row per key and window, freed when the watermark passes the window's end"
        ]
    );
    let lines = plan(Window::None, Vec::new(), false).describe();
    assert!(lines.contains(&"state: one row per key, kept for ever".to_owned()), "{lines:?}");
}

/// count(*) by a number.
fn numbers_plan() -> WindowAggregate {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let count = AggregateExprBuilder::new(count_udaf(), vec![lit(1i64)]).schema(schema.clone()).alias("count").build().unwrap();
    let key = (col("n", &schema).unwrap(), Arc::new(Field::new("n", DataType::Int64, false)));
    let count = Aggregate { function: Arc::new(count), filter: None };
    WindowAggregate::new(schema, vec![key], Window::None, vec![count], None).unwrap()
}

fn numbers_batch(numbers: std::ops::Range<i64>) -> Batch {
    let schema = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
    Batch::insert(RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from_iter_values(numbers))]).unwrap())
}
