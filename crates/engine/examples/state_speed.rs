//! What state costs: rows per second for keys that are new and for keys that are known, in a random order; time and bytes of
//! a snapshot between which 1,000 keys changed; and the memory of the process, where the system tells it.
//!
//! `cargo run --release -p riverrun-engine --example state_speed [keys] [MiB] [what]`: with a number of MiB, state is on disk,
//! and as much of it in memory; `what` is one of the names that are printed, or the beginning of one.

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
use riverrun_engine::state::{Backend, Disk};
use riverrun_engine::time::{Micros, Stopwatch};

const CHUNK: i64 = 8192;
const SECOND: Micros = 1_000_000;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let keys = args.next().map_or(Ok(1_000_000), |keys| keys.parse())?;
    let disk = args
        .next()
        .map(|size| Ok::<_, Box<dyn Error>>(Disk::open(std::env::temp_dir().join("state_speed"), size.parse::<usize>()? << 20)?));
    let (disk, what) = (disk.transpose()?, args.next().unwrap_or_default());
    let (groups, sessions, lag) = (group_by(false)?, group_by(true)?, lag()?);
    let all: [(&str, &dyn OperatorSpec, Port); 5] = [
        ("group by, updates", &groups, Port::Update),
        ("group by, final rows", &groups, Port::Rows),
        ("sessions, updates", &sessions, Port::Update),
        ("lag, updates", &lag, Port::Update),
        ("lag, final rows", &lag, Port::Rows),
    ];
    for (name, plan, port) in all.into_iter().filter(|(name, ..)| name.starts_with(&what)) {
        let backend = || -> Result<Backend> {
            Ok(match &disk {
                None => Backend::Memory,
                Some(disk) => Backend::Disk(disk.space()?),
            })
        };
        measure(name, &|| Ok(plan.create(&[port], &backend()?)?), keys)?;
    }
    Ok(())
}

/// What the system says of this process's memory, in MiB: now, and at most so far.
fn resident() -> Option<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib >> 10)
    };
    Some((field("VmRSS")?, field("VmHWM")?))
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

/// Feeds batches, an epoch each of eight; the watermark passes the time of each epoch's last. Gives rows per second of the
/// operator's time.
fn feed(operator: &mut dyn Operator, batches: impl Iterator<Item = Result<(Micros, Batch)>>) -> Result<f64> {
    let (mut out, mut nanos, mut rows, mut batches) = (Output::default(), 0, 0, batches.peekable());
    while batches.peek().is_some() {
        let epoch = batches.by_ref().take(8).collect::<Result<Vec<_>>>()?;
        rows += epoch.iter().map(|(_, batch)| batch.rows.num_rows()).sum::<usize>();
        let newest = epoch.last().map_or(0, |(time, _)| *time);
        let stopwatch = Stopwatch::start();
        epoch.into_iter().try_for_each(|(_, batch)| operator.on_batch(0, batch, &mut out))?;
        operator.on_watermark(newest + 1, &mut out)?;
        operator.on_epoch_end(&mut out)?;
        nanos += stopwatch.nanos();
        out.take();
    }
    Ok(rows as f64 * 1e9 / nanos as f64)
}

/// Takes a snapshot; gives its milliseconds, and the bytes of what `known` does not have.
fn snapshot(operator: &mut dyn Operator, known: &mut BTreeSet<u64>) -> Result<(f64, usize, Vec<StatePart>)> {
    let stopwatch = Stopwatch::start();
    let parts = operator.snapshot()?;
    let took = stopwatch.nanos() as f64 / 1e6;
    let fresh = parts.iter().filter(|part| part.number.is_none_or(|number| known.insert(number)));
    let bytes = fresh.map(|part| part.rows.load().map_or(0, |rows| rows.get_array_memory_size())).sum();
    Ok((took, bytes, parts))
}

fn measure(what: &str, make: &dyn Fn() -> Result<Box<dyn Operator>>, keys: i64) -> Result<()> {
    let mut operator = make()?;
    let all = |key: fn(i64, i64) -> i64, second: Micros| {
        let batch = move |from: i64| rows((from..(from + CHUNK).min(keys)).map(|k| key(k, keys)), second * SECOND + from);
        (0..keys).step_by(CHUNK as usize).map(batch)
    };
    // A prime: every key once, in an order without neighbours.
    let spread = |k: i64, keys: i64| k * 2_654_435_761 % keys;
    let fresh = feed(operator.as_mut(), all(|k, _| k, 1))?;
    let known = feed(operator.as_mut(), all(spread, 10))?;
    let mut numbers = BTreeSet::new();
    let (took, bytes, parts) = snapshot(operator.as_mut(), &mut numbers)?;
    drop(parts);
    let again = feed(operator.as_mut(), all(spread, 20))?;
    snapshot(operator.as_mut(), &mut numbers)?;
    let mut each = Vec::new();
    for round in 0..32 {
        let changed = rows((0..1000).map(|i| spread(i + round * 1009, keys)), (30 + round) * SECOND);
        feed(operator.as_mut(), std::iter::once(changed))?;
        let (took, bytes, parts) = snapshot(operator.as_mut(), &mut numbers)?;
        each.push((took, bytes, parts.len()));
    }
    let size = operator.state_size();
    println!(
        "{what}: {keys} keys, {} bytes a key in memory, {} on disk",
        size.bytes / keys.unsigned_abs(),
        size.disk / keys.unsigned_abs()
    );
    if let Some((now, most)) = resident() {
        println!("  the process has {now} MiB in memory, at most {most} MiB so far");
    }
    let parts = operator.snapshot()?;
    let (mut restored, stopwatch) = (make()?, Stopwatch::start());
    restored.restore(parts)?;
    let restore = stopwatch.nanos() as f64 / 1e6;
    each.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mean = each.iter().map(|(_, bytes, _)| bytes).sum::<usize>() / each.len();
    println!("  M rows/s: {:.2} new keys, {:.2} known keys, {:.2} behind a snapshot", fresh / 1e6, known / 1e6, again / 1e6);
    println!("  first snapshot {took:.1} ms, {} KiB; restore {restore:.0} ms", bytes >> 10);
    let (median, most) = (each[each.len() / 2], each[each.len() - 1]);
    println!("  1,000 changed: median {:.2} ms, most {:.2} ms, {} KiB, {} parts", median.0, most.0, mean >> 10, median.2);
    Ok(())
}
