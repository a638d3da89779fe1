//! What the planner knows of the columns that flow along an edge: which carry event time, which hold the source's
//! partition key, which hold a group's key.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::ScalarFunction;
use riverrun_engine::time::Micros;

/// What is known of one column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Fact {
    /// How it carries event time.
    pub time: Option<Time>,
    /// Which of the source's PARTITIONED BY columns it holds unchanged.
    pub partition: Option<usize>,
    /// What it is to the group that a row describes (meaningful above an aggregate only).
    pub origin: Origin,
}

/// How a column carries event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Time {
    /// A timestamp, a multiple of `grain`; all rows of value `v` have come once the watermark is at `v + closes`.
    Point { grain: Micros, closes: Micros },
    /// A window (a struct of start and end, or a list of such); starts are multiples of `grain`; all rows of a window have
    /// come once the watermark is at its end plus `delay`. `size` is end - start, where it is the same for all.
    Window { grain: Micros, size: Option<Micros>, delay: Micros },
}

impl Time {
    /// Event time as a source gives it: a row may be as old as the watermark, not older.
    pub(crate) const SOURCE: Time = Time::Point { grain: 1, closes: 1 };

    /// The bounds that hold for rows of either side of a UNION.
    pub(crate) fn either(self, other: Time) -> Option<Time> {
        match (self, other) {
            (Time::Point { grain: a, closes: x }, Time::Point { grain: b, closes: y }) => {
                Some(Time::Point { grain: if a == b { a } else { 1 }, closes: x.max(y) })
            }
            (a, b) => (a == b).then_some(a),
        }
    }
}

/// What a column is to the group that a row describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Origin {
    /// Group key number so, or the start or end of the window that is that key.
    Key(usize),
    /// Computed from keys and constants: never changes for a group.
    OfKeys,
    /// May change while the group lives.
    #[default]
    Value,
}

/// The facts of `expr`, computed over columns with `facts` (by index in `schema`).
pub(crate) fn of(expr: &Expr, schema: &DFSchema, facts: &[Fact]) -> Fact {
    match strip(expr) {
        Expr::Column(c) => schema.maybe_index_of_column(c).map(|i| facts[i].clone()).unwrap_or_default(),
        other => Fact { time: time(other, schema, facts), partition: None, origin: origin(other, schema, facts) },
    }
}

/// How `expr` carries event time.
pub(crate) fn time(expr: &Expr, schema: &DFSchema, facts: &[Fact]) -> Option<Time> {
    match strip(expr) {
        Expr::Column(c) => facts[schema.maybe_index_of_column(c)?].time,
        Expr::ScalarFunction(f) => match f.name() {
            "tumble" => windows(f, schema, facts, interval(f.args.get(1)?)?, None),
            "hop_windows" => windows(f, schema, facts, interval(f.args.get(1)?)?, Some(interval(f.args.get(2)?)?)),
            "get_field" => bound(time(f.args.first()?, schema, facts)?, text(f.args.get(1)?)?),
            "date_trunc" => {
                let (unit, grid) = unit(text(f.args.first()?)?)?;
                truncated(time(f.args.get(1)?, schema, facts)?, unit, grid)
            }
            "date_bin" if f.args.len() == 2 => {
                let unit = interval(&f.args[0]).filter(|unit| *unit > 0)?;
                truncated(time(&f.args[1], schema, facts)?, unit, unit)
            }
            _ => None,
        },
        _ => None,
    }
}

/// The event time and the gap of `session(time, gap)`.
pub(crate) fn session(expr: &Expr) -> Option<(&Expr, Micros)> {
    match strip(expr) {
        Expr::ScalarFunction(f) if f.name() == "session" => Some((f.args.first()?, interval(f.args.get(1)?)?)),
        _ => None,
    }
}

fn windows(f: &ScalarFunction, schema: &DFSchema, facts: &[Fact], size: Micros, slide: Option<Micros>) -> Option<Time> {
    let Time::Point { grain, closes } = time(f.args.first()?, schema, facts)? else { return None };
    let starts = slide.unwrap_or(size);
    if size <= 0 || starts <= 0 {
        return None;
    }
    // A time that is a multiple of the windows' own grid is at most `end - grain`.
    let grain = if size % grain == 0 && starts % grain == 0 { grain } else { 1 };
    Some(Time::Window { grain: starts, size: Some(size), delay: (closes - grain).max(0) })
}

fn bound(time: Time, field: &str) -> Option<Time> {
    let Time::Window { grain, size, delay } = time else { return None };
    match field {
        // The end of a hop is a multiple of the slide only where its start and size are.
        "end" => Some(Time::Point { grain: if size.is_some_and(|s| s % grain == 0) { grain } else { 1 }, closes: delay }),
        "start" => Some(Time::Point { grain, closes: size? + delay }),
        _ => None,
    }
}

/// A time cut down to the beginning of a unit that is at most `unit` long and begins at multiples of `grid`.
fn truncated(time: Time, unit: Micros, grid: Micros) -> Option<Time> {
    let Time::Point { grain, closes } = time else { return None };
    let grain = if unit == grid && unit % grain == 0 { grain } else { 1 };
    Some(Time::Point { grain: grid, closes: unit - grain + closes })
}

fn origin(expr: &Expr, schema: &DFSchema, facts: &[Fact]) -> Origin {
    if let Expr::ScalarFunction(f) = expr
        && f.name() == "get_field"
        && let Some(base @ Fact { time: Some(Time::Window { .. }), .. }) = f.args.first().map(|e| of(e, schema, facts))
    {
        return base.origin;
    }
    if only_keys(expr, schema, facts) { Origin::OfKeys } else { Origin::Value }
}

/// Whether `expr` reads nothing but what identifies a group.
pub(crate) fn only_keys(expr: &Expr, schema: &DFSchema, facts: &[Fact]) -> bool {
    let mut all = true;
    let walked = expr.apply(|e| {
        if let Expr::Column(c) = e {
            let fact = schema.maybe_index_of_column(c).map(|i| &facts[i]);
            all &= fact.is_some_and(|f| f.origin != Origin::Value);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.is_ok() && all
}

/// The expression without its names.
pub(crate) fn strip(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => strip(&alias.expr),
        other => other,
    }
}

/// A literal interval in microseconds. Months have no fixed length: none.
pub(crate) fn interval(expr: &Expr) -> Option<Micros> {
    match strip(expr) {
        Expr::Literal(value, _) => interval_value(value),
        _ => None,
    }
}

/// An interval or duration in microseconds.
pub(crate) fn interval_value(value: &ScalarValue) -> Option<Micros> {
    const DAY: Micros = 86_400_000_000;
    match value {
        ScalarValue::IntervalMonthDayNano(Some(v)) if v.months == 0 => {
            Micros::from(v.days).checked_mul(DAY)?.checked_add(v.nanoseconds / 1000)
        }
        ScalarValue::IntervalDayTime(Some(v)) => Some(Micros::from(v.days) * DAY + Micros::from(v.milliseconds) * 1000),
        ScalarValue::DurationSecond(Some(v)) => v.checked_mul(1_000_000),
        ScalarValue::DurationMillisecond(Some(v)) => v.checked_mul(1000),
        ScalarValue::DurationMicrosecond(Some(v)) => Some(*v),
        ScalarValue::DurationNanosecond(Some(v)) => Some(v / 1000),
        _ => None,
    }
}

fn text(expr: &Expr) -> Option<&str> {
    match strip(expr) {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}

/// The greatest length of a unit of date_trunc, and the grid that it begins on.
fn unit(name: &str) -> Option<(Micros, Micros)> {
    const SECOND: Micros = 1_000_000;
    const DAY: Micros = 86_400 * SECOND;
    Some(match name.to_ascii_lowercase().as_str() {
        "microsecond" => (1, 1),
        "millisecond" => (1000, 1000),
        "second" => (SECOND, SECOND),
        "minute" => (60 * SECOND, 60 * SECOND),
        "hour" => (3600 * SECOND, 3600 * SECOND),
        "day" => (DAY, DAY),
        "week" => (7 * DAY, DAY),
        "month" => (31 * DAY, DAY),
        "quarter" => (92 * DAY, DAY),
        "year" => (366 * DAY, DAY),
        _ => return None,
    })
}
