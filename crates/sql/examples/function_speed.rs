//! How many rows a core takes through each function in a second.
//!
//! `cargo run --release -p riverrun-sql --example function_speed [batches of 8192 rows]`

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, TimestampMicrosecondArray};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::Expr;
use datafusion::prelude::col;
use riverrun_engine::time::Stopwatch;
use riverrun_sql::functions::{haversine_km, hop_windows, tumble};
use riverrun_sql::session::session_context;

const ROWS: i64 = 8192;

fn main() -> Result<()> {
    let batches = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(5000);
    // In order of time, a row a millisecond: the common case. Then in no order: a new window for almost every row.
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let ordered = batch(|n| n * 1000)?;
    let mixed = batch(|n| n * 7_919_000_003 % 86_400_000_000)?;
    measure("tumble, times in order", tumble(col("ts"), minutes(5)), &ordered, batches)?;
    measure("tumble, times in no order", tumble(col("ts"), minutes(5)), &mixed, batches)?;
    measure("hop_windows, 2 a row", hop_windows(col("ts"), minutes(1), minutes(1) / 2), &mixed, batches)?;
    measure("haversine_km", haversine_km(col("lat"), col("lon"), col("lon"), col("lat")), &mixed, batches)
}

fn batch(time: impl Fn(i64) -> i64) -> Result<RecordBatch> {
    let times = TimestampMicrosecondArray::from_iter_values((0..ROWS).map(time)).with_timezone("UTC");
    let degrees = |scale: f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values((0..ROWS).map(|n| n as f64 * scale))) };
    Ok(RecordBatch::try_from_iter([("ts", Arc::new(times) as ArrayRef), ("lat", degrees(0.01)), ("lon", degrees(-0.02))])?)
}

fn measure(what: &str, expr: Expr, batch: &RecordBatch, batches: u32) -> Result<()> {
    let schema = DFSchema::try_from(batch.schema())?;
    let expr = session_context().state().create_physical_expr(expr, &schema)?;
    let watch = Stopwatch::start();
    for _ in 0..batches {
        std::hint::black_box(expr.evaluate(std::hint::black_box(batch))?);
    }
    let seconds = watch.nanos() as f64 / 1e9;
    println!("{what}: {:.1} M rows/s", f64::from(batches) * ROWS as f64 / seconds / 1e6);
    Ok(())
}
