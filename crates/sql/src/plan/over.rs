//! OVER clauses: which windows over a stream can be computed as rows come, and which can't.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, Sort, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Operator, Window, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
    binary_expr, lit,
};
use riverrun_engine::operators::over::Frame;
use riverrun_engine::time::Micros;

use super::facts::{self, Fact, Time};
use super::refusal::{Refusal, Result};
use super::refuse;

/// The functions that share one PARTITION BY and ORDER BY, over logical expressions.
#[derive(Debug, Clone)]
pub(crate) struct OverPlan {
    pub partition_by: Vec<Expr>,
    /// What rows are ordered by: event time, shifted such that no row is older than the watermark when it comes.
    pub time: Expr,
    pub calls: Vec<Call>,
}

/// One function of an OVER clause.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Lag { value: Expr, offset: usize, default: ScalarValue },
    RowNumber,
    FirstValue { value: Expr, frame: Frame },
    LastValue { value: Expr, frame: Frame },
    Aggregate { function: Expr, frame: Frame },
}

/// Reads the functions of a Window node, whose input has `facts`.
pub(crate) fn read(window: &Window, facts: &[Fact]) -> Result<OverPlan> {
    let schema = window.input.schema();
    let functions: Vec<_> = window.window_expr.iter().filter_map(window_function).collect();
    let Some(first) = functions.first() else { return Err(Refusal::new("an OVER clause without a function")) };
    let time = order(&first.params.order_by, schema, facts)?;
    let calls = functions.iter().map(|f| call(f, schema)).collect::<Result<_>>()?;
    Ok(OverPlan { partition_by: first.params.partition_by.clone(), time, calls })
}

fn window_function(expr: &Expr) -> Option<&WindowFunction> {
    match facts::strip(expr) {
        Expr::WindowFunction(f) => Some(f),
        _ => None,
    }
}

/// ORDER BY must be event time, ascending: the one order that a stream can wait for.
fn order(order_by: &[Sort], schema: &DFSchema, facts: &[Fact]) -> Result<Expr> {
    let hint = "write OVER (PARTITION BY … ORDER BY t), t being the column that the source's WATERMARK names";
    let [sort] = order_by else {
        let what = if order_by.is_empty() { "OVER without ORDER BY" } else { "OVER with several ORDER BY columns" };
        return Err(Refusal::new(format!("{what}: rows of a stream are ordered by event time alone")).hint(hint));
    };
    if !sort.asc {
        return Err(Refusal::new("OVER … ORDER BY … DESC: it would look at rows that have not come yet")
            .hint(hint)
            .or_at_some(refuse::place(&sort.expr)));
    }
    match facts::time(&sort.expr, schema, facts) {
        Some(Time::Point { closes, .. }) if closes <= 1 => Ok(sort.expr.clone()),
        // Such as a window's start: its rows come later by a fixed time, and in this order.
        Some(Time::Point { closes, .. }) => {
            let shift = ScalarValue::new_interval_mdn(0, 0, (closes - 1) * 1000);
            Ok(binary_expr(sort.expr.clone(), Operator::Plus, lit(shift)))
        }
        _ => Err(Refusal::new(format!("OVER … ORDER BY {}: that is not event time", sort.expr))
            .hint(hint)
            .or_at_some(refuse::place(&sort.expr))),
    }
}

fn call(function: &WindowFunction, schema: &DFSchema) -> Result<Call> {
    let params = &function.params;
    let name = function.fun.name().to_owned();
    if params.null_treatment == Some(NullTreatment::IgnoreNulls) {
        return Err(Refusal::new(format!("{name} … IGNORE NULLS is not possible over a stream")).hint("write it without"));
    }
    if let WindowFunctionDefinition::AggregateUDF(udf) = &function.fun {
        let frame = frame(&params.window_frame, &name)?;
        if frame == Frame::Unbounded {
            return Err(Refusal::new(format!("{name} over all earlier rows would read an ever longer past for each row")).hint(
                "bound the frame (ROWS BETWEEN 10 PRECEDING AND CURRENT ROW, RANGE BETWEEN INTERVAL '1 hour' PRECEDING \
                       AND CURRENT ROW), or GROUP BY the key with emit = 'update'",
            ));
        }
        let WindowFunctionParams { args, filter, distinct, .. } = params.clone();
        let function = AggregateFunction::new_udf(udf.clone(), args, distinct, filter, Vec::new(), None);
        return Ok(Call::Aggregate { function: Expr::AggregateFunction(function), frame });
    }
    let value = || params.args.first().cloned().ok_or_else(|| Refusal::new(format!("{name}() needs a value")));
    match name.as_str() {
        "row_number" => Ok(Call::RowNumber),
        "lag" => lag(value()?, &params.args, schema),
        "first_value" => Ok(Call::FirstValue { value: value()?, frame: frame(&params.window_frame, &name)? }),
        "last_value" => Ok(Call::LastValue { value: value()?, frame: last_frame(&params.window_frame)? }),
        _ => Err(unsupported(&name)),
    }
}

/// Window functions that a stream can't answer, or not yet.
pub(crate) const UNSUPPORTED: [&str; 7] = ["lead", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "nth_value"];

/// Why a window function is refused.
pub(crate) fn unsupported(name: &str) -> Refusal {
    match name {
        "lead" => Refusal::new("LEAD looks at a row that has not come yet")
            .hint("write it from the later row's side: LAG(…) gives that row its predecessor"),
        "percent_rank" | "cume_dist" | "ntile" => {
            Refusal::new(format!("{name}() needs the number of all rows of its partition, and a stream has no end"))
                .hint("aggregate by window first (GROUP BY tumble(…))")
        }
        _ => Refusal::new(format!("{name}() is not possible over a stream"))
            .hint("OVER knows LAG, ROW_NUMBER, FIRST_VALUE, LAST_VALUE and aggregates over a bounded frame"),
    }
}

fn lag(value: Expr, args: &[Expr], schema: &DFSchema) -> Result<Call> {
    let offset = match args.get(1).map(facts::strip) {
        None => 1,
        Some(Expr::Literal(v, _)) => match v.cast_to(&DataType::Int64)? {
            ScalarValue::Int64(Some(n)) if n > 0 => n as usize,
            _ => return Err(Refusal::new(format!("LAG by {v} rows")).hint("LAG looks back by 1 row or more")),
        },
        Some(other) => return Err(Refusal::new(format!("LAG by {other} rows")).hint("the number of rows must be a constant")),
    };
    let data_type = value.get_type(schema)?;
    let default = match args.get(2).map(facts::strip) {
        None => ScalarValue::try_from(&data_type)?,
        Some(Expr::Literal(v, _)) => v.cast_to(&data_type)?,
        Some(other) => return Err(Refusal::new(format!("LAG with default {other}")).hint("the default must be a constant")),
    };
    Ok(Call::Lag { value, offset, default })
}

fn last_frame(frame: &WindowFrame) -> Result<Frame> {
    // Up to the current row by count: whatever lies before, the last value is the row's own.
    if frame.units == WindowFrameUnits::Rows && frame.end_bound == WindowFrameBound::CurrentRow {
        return Ok(Frame::Rows { preceding: 0, until: 0 });
    }
    self::frame(frame, "last_value")
}

/// Frames end at the current row, or before it.
fn frame(frame: &WindowFrame, name: &str) -> Result<Frame> {
    let bounded = "write ROWS BETWEEN n PRECEDING AND CURRENT ROW, or RANGE BETWEEN INTERVAL … PRECEDING AND CURRENT ROW";
    let refused = || Refusal::new(format!("{name} OVER ({frame}): such a frame can't be computed as rows come")).hint(bounded);
    if matches!(frame.end_bound, WindowFrameBound::Following(_)) || matches!(frame.start_bound, WindowFrameBound::Following(_)) {
        return Err(Refusal::new(format!("{name} OVER ({frame}): rows that follow have not come yet")).hint(bounded));
    }
    let preceding = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::CurrentRow => Some(0),
        WindowFrameBound::Preceding(v) => rows(v),
        WindowFrameBound::Following(_) => None,
    };
    let unbounded = matches!(&frame.start_bound, WindowFrameBound::Preceding(v) if v.is_null());
    match (frame.units, &frame.end_bound) {
        (WindowFrameUnits::Rows | WindowFrameUnits::Range, WindowFrameBound::CurrentRow) if unbounded => Ok(Frame::Unbounded),
        (WindowFrameUnits::Rows, end) => {
            let (Some(preceding), Some(until)) = (preceding(&frame.start_bound), preceding(end)) else { return Err(refused()) };
            Ok(Frame::Rows { preceding, until })
        }
        (WindowFrameUnits::Range, WindowFrameBound::CurrentRow) => {
            let preceding: Option<Micros> = match &frame.start_bound {
                WindowFrameBound::CurrentRow => Some(0),
                WindowFrameBound::Preceding(v) => facts::interval_value(v),
                WindowFrameBound::Following(_) => None,
            };
            Ok(Frame::Range { preceding: preceding.ok_or_else(refused)? })
        }
        _ => Err(refused()),
    }
}

fn rows(value: &ScalarValue) -> Option<usize> {
    match value {
        ScalarValue::UInt64(Some(n)) => usize::try_from(*n).ok(),
        _ => None,
    }
}
