//! Windows against a naive model, through the SQL that users write.

use arrow::array::{Array, AsArray, RecordBatch, StructArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, TimeUnit, TimestampMicrosecondType};
use datafusion::prelude::{SessionContext, col};
use proptest::prelude::*;

use super::*;
use crate::session::session_context;

type Span = (i64, i64);

fn context(times: Vec<Option<i64>>) -> SessionContext {
    let context = session_context();
    let time = arrow::datatypes::DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema = Arc::new(Schema::new(vec![Field::new("ts", time, true)]));
    let column = TimestampMicrosecondArray::from(times).with_timezone("UTC");
    context.register_batch("t", RecordBatch::try_new(schema, vec![Arc::new(column)]).unwrap()).unwrap();
    context
}

fn run(context: &SessionContext, expr: Expr) -> datafusion::common::Result<Vec<arrow::array::ArrayRef>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let batches = runtime.block_on(async { context.table("t").await?.select(vec![expr])?.collect().await })?;
    Ok(batches.iter().map(|b| Arc::clone(b.column(0))).collect())
}

fn spans(windows: &StructArray) -> Vec<Option<Span>> {
    let column = |i: usize| windows.column(i).as_primitive::<TimestampMicrosecondType>();
    (0..windows.len()).map(|i| windows.is_valid(i).then(|| (column(0).value(i), column(1).value(i)))).collect()
}

fn error(sql: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let context = context(vec![Some(0)]);
    let failed = runtime.block_on(async { context.sql(sql).await?.collect().await }).unwrap_err();
    failed.strip_backtrace()
}

/// All windows of a grid that hold a time, by trying every one around it.
fn naive(time: i64, size: i64, slide: i64) -> Vec<Span> {
    let near = time / slide;
    let starts = (near - size / slide - 2..=near + 2).map(|n| n * slide);
    starts.filter(|start| (*start..start + size).contains(&time)).map(|start| (start, start + size)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn tumble_gives_the_one_window_that_holds_the_time(
        times in prop::collection::vec(prop::option::of(-1_000_000_i64..1_000_000), 1..40),
        size in 1_i64..5000,
    ) {
        let columns = run(&context(times.clone()), tumble(col("ts"), Duration::from_micros(size as u64))).unwrap();
        let windows: Vec<_> = columns.iter().flat_map(|c| spans(c.as_struct())).collect();
        let expected: Vec<_> = times.iter().map(|t| t.map(|t| naive(t, size, size)[0])).collect();
        prop_assert_eq!(windows, expected);
    }

    #[test]
    fn hop_gives_every_window_that_holds_the_time(
        times in prop::collection::vec(prop::option::of(-100_000_i64..100_000), 1..40),
        (size, slide) in (1_i64..5000, 100_i64..6000),
    ) {
        let length = |micros: i64| Duration::from_micros(micros as u64);
        let columns = run(&context(times.clone()), hop_windows(col("ts"), length(size), length(slide))).unwrap();
        let lists = columns.iter().flat_map(|c| c.as_list::<i32>().iter().collect::<Vec<_>>());
        let windows: Vec<_> = lists.map(|l| l.map(|l| spans(l.as_struct()).into_iter().flatten().collect::<Vec<_>>())).collect();
        let expected: Vec<_> = times.iter().map(|t| t.map(|t| naive(t, size, slide))).collect();
        prop_assert_eq!(windows, expected);
    }
}

#[test]
fn times_at_the_ends_of_time_do_not_overflow() {
    let context = context(vec![Some(i64::MIN), Some(i64::MAX), Some(i64::MIN)]);
    let minute = Duration::from_secs(60);
    assert_eq!(run(&context, tumble(col("ts"), minute)).unwrap()[0].len(), 3);
    let hops = run(&context, hop_windows(col("ts"), minute, minute / 2)).unwrap();
    let counts: Vec<_> = hops[0].as_list::<i32>().iter().map(|windows| windows.unwrap().len()).collect();
    assert_eq!(counts, [1, 2, 1], "no window begins before the first time there is");
}

#[test]
fn lengths_must_be_constant_positive_and_without_months() {
    let cases = [
        ("SELECT tumble(ts, INTERVAL '0 seconds') FROM t", "tumble(): the size must be a microsecond or more"),
        ("SELECT tumble(ts, INTERVAL '-5 minutes') FROM t", "tumble(): the size must be a microsecond or more"),
        ("SELECT tumble(ts, INTERVAL '1 month') FROM t", "tumble(): the size cannot be in months or years"),
        ("SELECT tumble(ts, ts - ts) FROM t", "tumble(): the size must be a constant"),
        ("SELECT tumble(ts, 5) FROM t", "tumble(): the size must be an interval such as INTERVAL '5 minutes', not Int64"),
        ("SELECT tumble('x', INTERVAL '1 day') FROM t", "tumble(): the first argument must be a TIMESTAMP, not Utf8"),
        ("SELECT tumble(ts) FROM t", "tumble() takes a TIMESTAMP and the size"),
        ("SELECT hop_windows(ts, INTERVAL '1 day', INTERVAL '1 second') FROM t", "hop(): every row would be in 86400 windows"),
        ("SELECT session(ts, INTERVAL '1 day') FROM t", "session() is no function of one row"),
        ("SELECT haversine_km('a', 1, 2, 3) FROM t", "haversine_km(): degrees are numbers, not Utf8"),
    ];
    for (sql, expected) in cases {
        let error = error(sql);
        assert!(error.contains(expected), "{sql}: {error}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn casts_and_literals_have_the_types_of_columns() {
    let query = "SELECT arrow_typeof(CAST('2024-01-01' AS TIMESTAMP)), arrow_typeof(TIMESTAMP '2024-01-01 00:00:00'), \
                 arrow_typeof(CAST(1 AS VARCHAR)), arrow_typeof(tumble(TIMESTAMP '2024-01-01T00:00:00Z', INTERVAL '1 day')['start'])";
    let rows = session_context().sql(query).await.unwrap().collect().await.unwrap();
    let types: Vec<_> = rows[0].columns().iter().map(|c| c.as_string::<i32>().value(0).to_owned()).collect();
    let time = "Timestamp(µs, \"UTC\")";
    assert_eq!(types, [time, time, "Utf8", time]);
}

#[tokio::test(flavor = "current_thread")]
async fn seconds_between_two_times_keep_their_micros() {
    let context = context(vec![Some(1_500_000), Some(3_750_001)]);
    let query = "SELECT date_part('epoch', max(ts)) - date_part('epoch', min(ts)) FROM t";
    let rows = context.sql(query).await.unwrap().collect().await.unwrap();
    let seconds = rows[0].column(0).as_primitive::<arrow::datatypes::Float64Type>().value(0);
    assert!((seconds - 2.250_001).abs() < 1e-6, "{seconds}");
}
