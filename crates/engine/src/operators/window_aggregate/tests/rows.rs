//! Rows, plans and a driver for the tests of the window aggregate.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::functions_aggregate as functions;
use datafusion::logical_expr::AggregateUDF;
use datafusion_common::ScalarValue;
use datafusion_expr::Operator as Op;
use datafusion_physical_expr::aggregate::AggregateExprBuilder;
use datafusion_physical_expr::expressions::{binary, col, lit};
use datafusion_physical_expr::{PhysicalExpr, PhysicalSortExpr};

use super::super::{Aggregate, Window, WindowAggregate};
use crate::batch::{Batch, Change, Port};
use crate::operator::{Operator, OperatorSpec, Output};
use crate::state::parts::lives::Lives;
use crate::time::{MAX_TIME, Micros};

/// One row of input.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) time: Micros,
    pub(super) key: Option<u8>,
    /// Quarters: sums are exact in any order.
    pub(super) v: Option<i32>,
    pub(super) n: Option<i64>,
    pub(super) m: Option<u8>,
}

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

pub(super) fn window_fields() -> Fields {
    Fields::from(vec![Field::new("start", time_type(), true), Field::new("end", time_type(), true)])
}

pub(super) fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("ts", time_type(), true),
        Field::new("t", DataType::Int64, false),
        Field::new("w", DataType::Struct(window_fields()), true),
        Field::new("k", DataType::Utf8, true),
        Field::new("v", DataType::Float64, true),
        Field::new("n", DataType::Int64, true),
        Field::new("m", DataType::Utf8, true),
    ]))
}

fn times(values: impl Iterator<Item = Micros>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}

/// A batch of rows, each in its windows: those of `size` that start every `slide`.
pub(super) fn batch(rows: &[Row], first_id: i64, size: Micros, slide: Micros) -> RecordBatch {
    let windows = |time: Micros| {
        let last = time.div_euclid(slide) * slide;
        (0..size / slide).rev().map(move |i| last - i * slide)
    };
    let all: Vec<(i64, &Row, Micros)> =
        rows.iter().zip(first_id..).flat_map(|(row, id)| windows(row.time).map(move |start| (id, row, start))).collect();
    let starts = times(all.iter().map(|r| r.2));
    let ends = times(all.iter().map(|r| r.2 + size));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(all.iter().map(|r| r.0))),
        times(all.iter().map(|r| r.1.time)),
        Arc::new(Int64Array::from_iter_values(all.iter().map(|r| r.1.time))),
        Arc::new(StructArray::new(window_fields(), vec![starts, ends], None)),
        Arc::new(StringArray::from_iter(all.iter().map(|r| r.1.key.map(|k| format!("key {k}"))))),
        Arc::new(Float64Array::from_iter(all.iter().map(|r| r.1.v.map(|v| f64::from(v) / 4.0)))),
        Arc::new(Int64Array::from_iter(all.iter().map(|r| r.1.n))),
        Arc::new(StringArray::from_iter(all.iter().map(|r| r.1.m.map(|m| format!("merchant {m}"))))),
    ];
    RecordBatch::try_new(input(), columns).unwrap()
}

pub(super) fn column(name: &str) -> Arc<dyn PhysicalExpr> {
    col(name, &input()).unwrap()
}

/// An aggregate over columns of the input.
pub(super) fn aggregate(
    name: &str,
    function: Arc<AggregateUDF>,
    of: &str,
    tune: impl Fn(AggregateExprBuilder) -> AggregateExprBuilder,
) -> Aggregate {
    let arguments = if of == "*" { vec![lit(1i64)] } else { of.split(',').map(column).collect() };
    let builder = AggregateExprBuilder::new(function, arguments).schema(input()).alias(name);
    Aggregate { function: Arc::new(tune(builder).build().unwrap()), filter: None }
}

/// Many kinds of accumulators, and what they are in SQL. (Order of arrival is written out in the SQL: for the aggregates
/// with an ORDER BY DataFusion sorts the whole input, which its plain array_agg would show.)
pub(super) fn aggregates() -> (Vec<Aggregate>, String) {
    let plain = |b: AggregateExprBuilder| b;
    let distinct = |b: AggregateExprBuilder| b.distinct();
    let newest = |b: AggregateExprBuilder| {
        let options = SortOptions { descending: true, nulls_first: true };
        b.order_by(vec![PhysicalSortExpr { expr: column("id"), options }])
    };
    let mut filtered = aggregate("filtered", functions::sum::sum_udaf(), "v", plain);
    filtered.filter = Some(binary(column("n"), Op::Gt, lit(2i64), &input()).unwrap());
    let all = vec![
        (aggregate("count", functions::count::count_udaf(), "*", plain), "count(*)"),
        (aggregate("sum", functions::sum::sum_udaf(), "v", plain), "sum(v)"),
        (aggregate("avg", functions::average::avg_udaf(), "v", plain), "avg(v)"),
        (aggregate("min", functions::min_max::min_udaf(), "v", plain), "min(v)"),
        (aggregate("max", functions::min_max::max_udaf(), "v", plain), "max(v)"),
        (aggregate("stddev", functions::stddev::stddev_udaf(), "v", plain), "stddev(v)"),
        (aggregate("list", functions::array_agg::array_agg_udaf(), "m", plain), "array_agg(m ORDER BY id)"),
        (aggregate("numbers", functions::count::count_udaf(), "n", distinct), "count(DISTINCT n)"),
        (aggregate("texts", functions::count::count_udaf(), "m", distinct), "count(DISTINCT m)"),
        (filtered, "sum(v) FILTER (WHERE n > 2)"),
        (aggregate("newest", functions::first_last::first_value_udaf(), "m", newest), "first_value(m ORDER BY id DESC)"),
        (aggregate("backwards", functions::array_agg::array_agg_udaf(), "m", newest), "array_agg(m ORDER BY id DESC)"),
        (aggregate("least", functions::min_max::min_udaf(), "m", plain), "min(m)"),
        (aggregate("about", functions::approx_distinct::approx_distinct_udaf(), "m", plain), "approx_distinct(m)"),
        (aggregate("median", functions::median::median_udaf(), "v", plain), "median(v)"),
        (aggregate("sum_distinct", functions::sum::sum_udaf(), "n", distinct), "sum(DISTINCT n)"),
        (aggregate("corr", functions::correlation::corr_udaf(), "v,v", plain), "corr(v, v)"),
    ];
    let sql: Vec<_> = all.iter().map(|(a, sql)| format!("{sql} AS {}", a.function.name())).collect();
    let sql = sql.join(", ");
    (all.into_iter().map(|(a, _)| a).collect(), sql)
}

/// `avg > 0`, over the output of [`aggregates`] grouped by window and key.
pub(super) fn plan(window: Window, aggregates: Vec<Aggregate>, having: bool) -> WindowAggregate {
    let struct_key = (column("w"), Arc::new(Field::new("w", DataType::Struct(window_fields()), true)));
    let keys = vec![struct_key, (column("k"), Arc::new(Field::new("k", DataType::Utf8, true)))];
    let plan = WindowAggregate::new(input(), keys.clone(), window.clone(), aggregates.clone(), None).unwrap();
    let output = plan.schema();
    let having = having.then(|| binary(col("avg", &output).unwrap(), Op::Gt, lit(0.0), &output).unwrap());
    WindowAggregate::new(input(), keys, window, aggregates, having).unwrap()
}

/// What went out.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) finals: Vec<RecordBatch>,
    /// By window and key: the newest version, less what was deleted.
    pub(super) newest: BTreeMap<String, Vec<ScalarValue>>,
    pub(super) upserts: usize,
    pub(super) deletes: usize,
    pub(super) late: u64,
}

impl Seen {
    pub(super) fn take(&mut self, out: &mut Output) {
        let (batches, late) = out.take();
        self.late += late;
        for (port, batch) in batches {
            match (port, batch.change) {
                (Port::Rows, Change::Insert) => self.finals.push(batch.rows),
                (Port::Update, Change::Upsert) => {
                    self.upserts += batch.rows.num_rows();
                    self.newest.extend(by_key(&batch.rows));
                }
                (Port::Update, Change::Delete) => {
                    self.deletes += batch.rows.num_rows();
                    for key in by_key(&batch.rows).into_keys() {
                        assert!(self.newest.remove(&key).is_some(), "{key} was deleted, but had not gone out");
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The final rows by window and key; each went out once.
    pub(super) fn final_rows(&self) -> BTreeMap<String, Vec<ScalarValue>> {
        let mut all = BTreeMap::new();
        for batch in &self.finals {
            for (key, row) in by_key(batch) {
                assert!(all.insert(key.clone(), row).is_none(), "{key} went out twice");
            }
        }
        all
    }
}

/// Rows by their first two columns as text.
pub(super) fn by_key(rows: &RecordBatch) -> BTreeMap<String, Vec<ScalarValue>> {
    let cell = |c: &ArrayRef, row| ScalarValue::try_from_array(c, row).unwrap();
    let row = |row| -> Vec<_> { rows.columns().iter().map(|c| cell(c, row)).collect() };
    let key = |row: &[ScalarValue]| format!("{} | {}", row[0], row[1]);
    let all: Vec<_> = (0..rows.num_rows()).map(row).collect();
    let count = all.len();
    let all: BTreeMap<_, _> = all.into_iter().map(|row| (key(&row), row)).collect();
    assert_eq!(all.len(), count, "keys are unique within a batch");
    all
}

/// Whether two values are the same; floats within 1e-9 relative, lists in any order where `sorted`.
pub(super) fn same(a: &ScalarValue, b: &ScalarValue, sorted: bool) -> bool {
    match (a, b) {
        (ScalarValue::Float64(Some(a)), ScalarValue::Float64(Some(b))) => {
            (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0) || (a.is_nan() && b.is_nan())
        }
        (ScalarValue::List(a), ScalarValue::List(b)) if a.is_valid(0) && b.is_valid(0) => {
            let texts = |list: &ArrayRef| -> Vec<Option<String>> {
                let mut texts: Vec<_> = list.as_string::<i32>().iter().map(|t| t.map(str::to_owned)).collect();
                if sorted {
                    texts.sort();
                }
                texts
            };
            texts(&a.value(0)) == texts(&b.value(0))
        }
        _ => a == b || (a.is_null() && b.is_null()),
    }
}

/// How rows come: sizes of batches, batches per epoch, and every how many epochs an operator restored from it takes over;
/// with that, there is a snapshot after each.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    pub(super) batches: Vec<usize>,
    pub(super) epoch: usize,
    pub(super) restart: Option<usize>,
}

/// Runs rows through the plan's operator to the end. The watermark trails the greatest time by `delay`.
pub(super) fn run(
    plan: &WindowAggregate,
    ports: &[Port],
    rows: &[Row],
    cut: &Cut,
    delay: Micros,
    size: Micros,
    slide: Micros,
) -> Seen {
    let (of, to) = (plan.clone(), ports.to_vec());
    let mut operator = Lives::new(move |backend| of.create(&to, backend).unwrap());
    let (mut seen, mut out) = (Seen::default(), Output::default());
    let (mut at, mut newest, mut epoch) = (0, Micros::MIN, 0);
    for (number, length) in cut.batches.iter().cycle().enumerate() {
        let end = (at + length).min(rows.len());
        operator.on_batch(0, Batch::insert(batch(&rows[at..end], at as i64, size, slide)), &mut out).unwrap();
        newest = rows[at..end].iter().map(|r| r.time).fold(newest, Micros::max);
        operator.on_watermark(newest.saturating_sub(delay), &mut out).unwrap();
        seen.take(&mut out);
        at = end;
        if (number + 1) % cut.epoch == 0 || at == rows.len() {
            operator.on_epoch_end(&mut out).unwrap();
            seen.take(&mut out);
            epoch += 1;
            match cut.restart {
                Some(every) if epoch % every == 0 => operator.restart(),
                Some(_) => drop(operator.snapshot().unwrap()),
                None => {}
            }
        }
        if at == rows.len() {
            break;
        }
    }
    operator.on_watermark(MAX_TIME, &mut out).unwrap();
    operator.on_epoch_end(&mut out).unwrap();
    seen.take(&mut out);
    assert_eq!(operator.state_size().rows, 0, "nothing is left open");
    seen
}
