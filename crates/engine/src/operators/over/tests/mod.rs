//! Rows, plans and a driver for the tests of OVER.

mod append;
mod state;
mod update;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::stddev::stddev_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::AggregateUDF;
use datafusion_common::ScalarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::AggregateExprBuilder;
use datafusion_physical_expr::expressions::{binary, col, lit};
use proptest::prelude::*;

use super::{Frame, Function, Over};
use crate::batch::{Batch, Port};
use crate::operator::{Operator, OperatorSpec, Output};
use crate::state::parts::lives::Lives;
use crate::time::{MAX_TIME, MIN_TIME, Micros};

const SECOND: Micros = 1_000_000;
/// The watermark trails the greatest event time by so much.
const DELAY: Micros = 5 * SECOND;

/// A transaction in small.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    key: u8,
    time: Micros,
    value: Option<i32>,
}

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Columns `seq, k, ts, v, place`.
fn schema() -> SchemaRef {
    let place = Fields::from(vec![Field::new("lat", DataType::Float64, true), Field::new("lon", DataType::Float64, true)]);
    Arc::new(Schema::new(vec![
        Field::new("seq", DataType::Int64, false),
        Field::new("k", DataType::Utf8, true),
        Field::new("ts", utc(), true),
        Field::new("v", DataType::Float64, true),
        Field::new("place", DataType::Struct(place), true),
    ]))
}

/// The rows from number `from` on, which is also their `seq`. Key 0 is NULL. Values are quarters, so that sums are exact.
fn batch(rows: &[Row], from: usize) -> RecordBatch {
    let value = |row: &Row| row.value.map(|v| f64::from(v) / 4.0);
    let values: ArrayRef = Arc::new(Float64Array::from_iter(rows.iter().map(value)));
    let DataType::Struct(fields) = schema().field(4).data_type().clone() else { panic!("place is a struct") };
    let nulls = rows.iter().map(|r| r.value.is_some()).collect::<Vec<_>>().into();
    let place = StructArray::new(fields, vec![values.clone(), values.clone()], Some(nulls));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values((from as i64)..(from + rows.len()) as i64)),
        Arc::new(StringArray::from_iter(rows.iter().map(|r| (r.key > 0).then(|| format!("key {}", r.key))))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.time)).with_timezone("UTC")),
        values,
        Arc::new(place),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn column(name: &str) -> Arc<dyn PhysicalExpr> {
    col(name, &schema()).unwrap()
}

fn lag(value: &str, offset: usize, default: Option<f64>) -> Function {
    let default = default.map_or(ScalarValue::Null, |d| ScalarValue::Float64(Some(d)));
    Function::Lag { value: column(value), offset, default }
}

fn aggregate(udaf: Arc<AggregateUDF>, frame: Frame) -> Function {
    filtered(udaf, frame, None)
}

fn filtered(udaf: Arc<AggregateUDF>, frame: Frame, filter: Option<Arc<dyn PhysicalExpr>>) -> Function {
    let builder = AggregateExprBuilder::new(udaf, vec![column("v")]).schema(schema()).alias("aggregate");
    Function::Aggregate { function: Arc::new(builder.build().unwrap()), filter, frame }
}

fn positive() -> Arc<dyn PhysicalExpr> {
    binary(column("v"), datafusion::logical_expr::Operator::Gt, lit(0.0), &schema()).unwrap()
}

const fn rows(preceding: usize, until: usize) -> Frame {
    Frame::Rows { preceding, until }
}

const fn range(seconds: i64) -> Frame {
    Frame::Range { preceding: seconds * SECOND }
}

/// Functions, the type of their column, and the same in SQL.
fn functions() -> Vec<(Function, DataType, &'static str)> {
    let value = || column("v");
    let double = DataType::Float64;
    let place = schema().field(4).data_type().clone();
    vec![
        (lag("v", 1, None), double.clone(), "LAG(v) OVER w"),
        (lag("v", 2, Some(-1.0)), double.clone(), "LAG(v, 2, -1.0) OVER w"),
        (lag("place", 1, None), place, "LAG(place) OVER w"),
        (lag("ts", 3, None), utc(), "LAG(ts, 3) OVER w"),
        (Function::RowNumber, DataType::UInt64, "ROW_NUMBER() OVER w"),
        (Function::FirstValue { value: value(), frame: Frame::Unbounded }, double.clone(), "FIRST_VALUE(v) OVER w"),
        (Function::FirstValue { value: value(), frame: rows(2, 0) }, double.clone(), "FIRST_VALUE(v) OVER (w ROWS 2 PRECEDING)"),
        (
            Function::FirstValue { value: value(), frame: rows(3, 1) },
            double.clone(),
            "FIRST_VALUE(v) OVER (w ROWS BETWEEN 3 PRECEDING AND 1 PRECEDING)",
        ),
        (
            Function::FirstValue { value: value(), frame: range(3) },
            double.clone(),
            "FIRST_VALUE(v) OVER (p RANGE INTERVAL '3 seconds' PRECEDING)",
        ),
        (
            Function::LastValue { value: value(), frame: rows(3, 1) },
            double.clone(),
            "LAST_VALUE(v) OVER (w ROWS BETWEEN 3 PRECEDING AND 1 PRECEDING)",
        ),
        (
            Function::LastValue { value: value(), frame: range(3) },
            double.clone(),
            "LAST_VALUE(v) OVER (p RANGE INTERVAL '3 seconds' PRECEDING)",
        ),
        (Function::LastValue { value: value(), frame: Frame::Unbounded }, double.clone(), "LAST_VALUE(v) OVER p"),
        (aggregate(sum_udaf(), rows(2, 0)), double.clone(), "SUM(v) OVER (w ROWS 2 PRECEDING)"),
        (aggregate(avg_udaf(), range(3)), double.clone(), "AVG(v) OVER (p RANGE INTERVAL '3 seconds' PRECEDING)"),
        (aggregate(count_udaf(), rows(4, 2)), DataType::Int64, "COUNT(v) OVER (w ROWS BETWEEN 4 PRECEDING AND 2 PRECEDING)"),
        (aggregate(min_udaf(), range(0)), double.clone(), "MIN(v) OVER (p RANGE INTERVAL '0 seconds' PRECEDING)"),
        (aggregate(max_udaf(), rows(3, 0)), double.clone(), "MAX(v) OVER (w ROWS 3 PRECEDING)"),
        (aggregate(stddev_udaf(), rows(3, 0)), double.clone(), "STDDEV(v) OVER (w ROWS 3 PRECEDING)"),
        (
            filtered(sum_udaf(), range(3), Some(positive())),
            double,
            "SUM(v) FILTER (WHERE v > 0) OVER (p RANGE INTERVAL '3 seconds' PRECEDING)",
        ),
    ]
}

/// A plan by key `k` and time `ts`; the columns of the functions are f0, f1 and so on.
fn plan(functions: impl IntoIterator<Item = (Function, DataType)>, ttl: Option<Duration>) -> Over {
    let functions = functions.into_iter().enumerate();
    let functions = functions.map(|(i, (function, kind))| (function, Arc::new(Field::new(format!("f{i}"), kind, true))));
    Over::new(schema(), vec![column("k")], column("ts"), functions.collect(), ttl)
}

/// Rows whose event times are at most [`DELAY`] behind the greatest one before them, on a coarse grid: there are peers.
fn arrivals() -> impl Strategy<Value = Vec<Row>> {
    let step = (0..4u8, prop::option::weighted(0.8, -20..20i32), 0..5i64, 0..=20i64);
    prop::collection::vec(step, 1..80).prop_map(|steps| {
        let mut now = 100 * SECOND;
        let row = |(key, value, ahead, back)| {
            now += ahead * SECOND / 4;
            Row { key, value, time: now - back * SECOND / 4 }
        };
        steps.into_iter().map(row).collect()
    })
}

/// See [`cuts`].
type Cut = (usize, bool, Option<bool>);

/// How the input is cut: rows in a batch, whether the watermark is told behind it, whether a snapshot is taken there, and
/// whether an operator restored from it takes over.
fn cuts() -> impl Strategy<Value = Vec<Cut>> {
    let snapshot = prop::option::weighted(0.6, prop::bool::weighted(0.3));
    prop::collection::vec((1..12usize, prop::bool::weighted(0.7), snapshot), 1..10)
}

/// Drives one operator, gathering what goes out.
struct Driver {
    over: Over,
    operator: Lives,
    out: Output,
}

impl Driver {
    fn new(over: Over, ports: &[Port]) -> Self {
        let (plan, ports) = (over.clone(), ports.to_vec());
        let operator = Lives::new(move |backend| plan.create(&ports, backend).unwrap());
        Self { over, operator, out: Output::default() }
    }

    fn push(&mut self, rows: RecordBatch) {
        self.operator.on_batch(0, Batch::insert(rows), &mut self.out).unwrap();
    }

    fn watermark(&mut self, watermark: Micros) {
        self.operator.on_watermark(watermark, &mut self.out).unwrap();
    }

    fn restart(&mut self) {
        self.operator.restart();
    }

    /// Feeds all rows, cut as `cuts` says (over and over), to the end.
    fn run(&mut self, rows: &[Row], cuts: &[Cut]) {
        let (mut from, mut newest) = (0, MIN_TIME);
        for (count, watermark, restart) in cuts.iter().cycle() {
            let to = (from + count).min(rows.len());
            self.push(batch(&rows[from..to], from));
            newest = rows[from..to].iter().map(|r| r.time).fold(newest, Micros::max);
            if *watermark && newest > MIN_TIME {
                self.watermark(newest - DELAY);
            }
            match restart {
                Some(true) => self.restart(),
                Some(false) => drop(self.operator.snapshot().unwrap()),
                None => {}
            }
            from = to;
            if from == rows.len() {
                break;
            }
        }
        self.watermark(MAX_TIME);
    }

    /// What went out on a port, and how many rows were late.
    fn take(&mut self, port: Port) -> (RecordBatch, u64) {
        let (batches, late) = self.out.take();
        let of_port: Vec<_> = batches.into_iter().filter(|(p, _)| *p == port).map(|(_, b)| b.rows).collect();
        (concat_batches(&self.over.schema(), &of_port).unwrap(), late)
    }
}

fn by_seq(rows: &RecordBatch) -> RecordBatch {
    let order = sort_to_indices(rows.column(0), None, None).unwrap();
    take_record_batch(rows, &order).unwrap()
}

fn seqs(rows: &RecordBatch) -> Vec<i64> {
    rows.column(0).as_primitive::<Int64Type>().values().to_vec()
}

fn value_at(column: &ArrayRef, row: usize) -> ScalarValue {
    ScalarValue::try_from_array(column, row).unwrap()
}

/// Equal, doubles within 1e-6.
fn same(a: &ScalarValue, b: &ScalarValue) -> bool {
    match (a, b) {
        (ScalarValue::Float64(Some(a)), ScalarValue::Float64(Some(b))) => (a - b).abs() <= 1e-6,
        _ => a == b || (a.is_null() && b.is_null()),
    }
}
