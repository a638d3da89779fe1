//! What state costs: rows per second for keys that are new and for keys that are known, and time and bytes of a snapshot
//! between which 1,000 keys changed.
//!
//! `cargo run --release -p riverrun-engine --example state_speed [keys]`

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion_common::ScalarValue;
use datafusion_physical_expr::aggregate::AggregateExprBuilder;
use datafusion_physical_expr::expressions::{col, lit};
use riverrun_engine::batch::{Batch, Port};
use riverrun_engine::operator::{Operator, OperatorSpec, Output, StatePart};
use riverrun_engine::operators::over::{Function, Over};
use riverrun_engine::operators::window_aggregate::{Aggregate, Window, WindowAggregate};
use riverrun_engine::time::{Micros, Stopwatch};

const CHUNK: i64 = 8192;
const SECOND: Micros = 1_000_000;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    let keys = std::env::args().nth(1).map_or(Ok(1_000_000), |keys| keys.parse())?;
    measure("group by, updates", &group_by(false)?, Port::Update, keys)?;
    measure("group by, final rows", &group_by(false)?, Port::Rows, keys)?;
    measure("sessions, updates", &group_by(true)?, Port::Update, keys)?;
    measure("lag, updates", &lag()?, Port::Update, keys)?;
    measure("lag, final rows", &lag()?, Port::Rows, keys)
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        Field::new("v", DataType::Int64, false),
    ]))
}

/// count(*) and sum(v) by k.
fn group_by(sessions: bool) -> Result<WindowAggregate> {
    let aggregate = |function, of| -> Result<_> {
        let function = AggregateExprBuilder::new(function, vec![of]).schema(schema()).alias("a").build()?;
        Ok(Aggregate { function: Arc::new(function), filter: None })
    };
    let aggregates = vec![aggregate(count_udaf(), lit(1i64))?, aggregate(sum_udaf(), col("v", &schema())?)?];
    let mut keys = vec![(col("k", &schema())?, Arc::new(Field::new("k", DataType::Utf8, false)))];
    let mut window = Window::None;
    if sessions {
        let bound = |name| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, None), true);
        let of_window = DataType::Struct(Fields::from(vec![bound("start"), bound("end")]));
        keys.insert(0, (lit(0i64), Arc::new(Field::new("w", of_window, true))));
        window = Window::Session { key: 0, time: col("ts", &schema())?, gap: 3600 * SECOND };
    }
    Ok(WindowAggregate::new(schema(), keys, window, aggregates, None)?)
}

/// LAG(v) OVER (PARTITION BY k ORDER BY ts).
fn lag() -> Result<Over> {
    let value = Function::Lag { value: col("v", &schema())?, offset: 1, default: ScalarValue::Null };
    let field = Arc::new(Field::new("before", DataType::Int64, true));
    Ok(Over::new(schema(), vec![col("k", &schema())?], col("ts", &schema())?, vec![(value, field)], None))
}

fn rows(keys: impl Iterator<Item = i64>, time: Micros) -> Result<(Micros, Batch)> {
    let keys: Vec<_> = keys.collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(keys.iter().map(|k| format!("account {k}")))),
        Arc::new(TimestampMicrosecondArray::from(vec![time; keys.len()])),
        Arc::new(Int64Array::from_iter_values(keys.iter().copied())),
    ];
    Ok((time, Batch::insert(RecordBatch::try_new(schema(), columns)?)))
}

/// Feeds batches, an epoch each of eight; the watermark passes the time of each epoch's last. Gives rows per second.
fn feed(operator: &mut dyn Operator, batches: &[(Micros, Batch)]) -> Result<f64> {
    let (mut out, stopwatch) = (Output::default(), Stopwatch::start());
    for epoch in batches.chunks(8) {
        epoch.iter().try_for_each(|(_, batch)| operator.on_batch(0, batch.clone(), &mut out))?;
        let newest = epoch.last().map_or(0, |(time, _)| *time);
        operator.on_watermark(newest + 1, &mut out)?;
        operator.on_epoch_end(&mut out)?;
        out.take();
    }
    let rows: usize = batches.iter().map(|(_, b)| b.rows.num_rows()).sum();
    Ok(rows as f64 * 1e9 / stopwatch.nanos() as f64)
}

/// Takes a snapshot; gives its milliseconds, and the bytes of what `known` does not have.
fn snapshot(operator: &mut dyn Operator, known: &mut BTreeSet<u64>) -> Result<(f64, usize, Vec<StatePart>)> {
    let stopwatch = Stopwatch::start();
    let parts = operator.snapshot()?;
    let took = stopwatch.nanos() as f64 / 1e6;
    let fresh = parts.iter().filter(|part| part.number.is_none_or(|number| known.insert(number)));
    let bytes = fresh.map(|part| part.rows.get_array_memory_size()).sum();
    Ok((took, bytes, parts))
}

fn measure(what: &str, plan: &dyn OperatorSpec, port: Port, keys: i64) -> Result<()> {
    let mut operator = plan.create(&[port])?;
    let batches = |key: &dyn Fn(i64) -> i64, second: Micros| -> Result<Vec<_>> {
        let from: Vec<_> = (0..keys).step_by(CHUNK as usize).collect();
        let batch = |from: i64| rows((from..(from + CHUNK).min(keys)).map(key), second * SECOND + from);
        from.into_iter().map(batch).collect()
    };
    let spread = |k: i64| k * 7919 % keys;
    let fresh = feed(operator.as_mut(), &batches(&|k| k, 1)?)?;
    let known = feed(operator.as_mut(), &batches(&spread, 10)?)?;
    let mut numbers = BTreeSet::new();
    let first = snapshot(operator.as_mut(), &mut numbers)?;
    let again = feed(operator.as_mut(), &batches(&spread, 20)?)?;
    snapshot(operator.as_mut(), &mut numbers)?;
    let mut each = Vec::new();
    for round in 0..32 {
        let changed = rows((0..1000).map(|i| spread(i + round * 1009)), (30 + round) * SECOND)?;
        feed(operator.as_mut(), &[changed])?;
        let (took, bytes, parts) = snapshot(operator.as_mut(), &mut numbers)?;
        each.push((took, bytes, parts.len()));
    }
    let parts = operator.snapshot()?;
    let (mut restored, stopwatch) = (plan.create(&[port])?, Stopwatch::start());
    restored.restore(parts)?;
    let restore = stopwatch.nanos() as f64 / 1e6;
    let size = operator.state_size();
    each.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mean = each.iter().map(|(_, bytes, _)| bytes).sum::<usize>() / each.len();
    println!("{what}: {keys} keys, {} bytes in memory a key", size.bytes / keys.unsigned_abs());
    println!("  M rows/s: {:.2} new keys, {:.2} known keys, {:.2} behind a snapshot", fresh / 1e6, known / 1e6, again / 1e6);
    println!("  first snapshot {:.1} ms, {} KiB; restore {restore:.0} ms", first.0, first.1 >> 10);
    let (median, most) = (each[each.len() / 2], each[each.len() - 1]);
    println!("  1,000 changed: median {:.2} ms, most {:.2} ms, {} KiB, {} parts", median.0, most.0, mean >> 10, median.2);
    Ok(())
}
