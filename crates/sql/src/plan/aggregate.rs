//! GROUP BY over a stream: which key carries event time, and so says when a group is final.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Aggregate, Expr};
use riverrun_engine::time::Micros;

use super::facts::{self, Fact, Origin, Time};
use super::refusal::{Refusal, Result};
use super::refuse;
use super::step::Stream;

/// Which key makes a group final, and when.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum WindowKey {
    /// Key number `key` is a window struct.
    Struct { key: usize },
    /// Key number `key` is a timestamp; the group is final once the watermark is at its value plus `size`.
    Timestamp { key: usize, size: Micros },
    /// Key number `key` is `session(time, gap)`.
    Session { key: usize, time: Expr, gap: Micros },
    /// No key carries time.
    None,
}

/// Finds the window of a GROUP BY, and the facts of its output columns.
pub(crate) fn read(a: &Aggregate, input: &Stream) -> Result<(WindowKey, Vec<Fact>)> {
    if let Some(Expr::GroupingSet(set)) = a.group_expr.first() {
        return Err(Refusal::new("GROUPING SETS, CUBE and ROLLUP are not possible over a stream")
            .hint("write one GROUP BY for each set, and UNION ALL them")
            .or_at_some(refuse::place(&Expr::GroupingSet(set.clone()))));
    }
    let schema = a.input.schema();
    let mut facts: Vec<_> = a.group_expr.iter().map(|e| facts::of(e, schema, &input.facts)).collect();
    for (number, fact) in facts.iter_mut().enumerate() {
        fact.origin = Origin::Key(number);
    }
    let window = window(a, input, &mut facts)?;
    keep_times(&window, &mut facts);
    facts.resize(a.schema.fields().len(), Fact::default());
    Ok((window, facts))
}

fn window(a: &Aggregate, input: &Stream, facts: &mut [Fact]) -> Result<WindowKey> {
    for (key, expr) in a.group_expr.iter().enumerate() {
        let Some((time, gap)) = facts::session(expr) else { continue };
        let Some(Time::Point { closes: ..=1, .. }) = facts::time(time, a.input.schema(), &input.facts) else {
            return Err(Refusal::new(format!("session({time}, …): {time} is not event time"))
                .hint("sessions are cut along the column that the source's WATERMARK names, or an earlier window's end")
                .or_at_some(refuse::place(time)));
        };
        facts[key].time = Some(Time::Window { grain: 1, size: None, delay: 0 });
        return Ok(WindowKey::Session { key, time: time.clone(), gap });
    }
    let times = || facts.iter().enumerate().filter_map(|(key, f)| Some((key, f.time?)));
    let structs = times().find_map(|(key, t)| matches!(t, Time::Window { .. }).then_some((key, t)));
    if let Some((key, Time::Window { delay, .. })) = structs {
        if delay > 0 {
            return Err(Refusal::new(
                "these windows do not fit the windows of the aggregate below: its rows would come too late",
            )
            .hint("take the end of the earlier window as time (its window_end), or a size that is a multiple of its size")
            .or_at_some(refuse::place(&a.group_expr[key])));
        }
        return Ok(WindowKey::Struct { key });
    }
    let points = times().filter_map(|(key, t)| match t {
        Time::Point { closes, .. } => Some((closes, key)),
        Time::Window { .. } => None,
    });
    Ok(points.min().map_or(WindowKey::None, |(size, key)| WindowKey::Timestamp { key, size }))
}

/// A group goes out when the chosen key says so; what another key said of its time holds only if it is of the same window.
fn keep_times(window: &WindowKey, facts: &mut [Fact]) {
    let chosen = match window {
        WindowKey::Struct { key } | WindowKey::Timestamp { key, .. } | WindowKey::Session { key, .. } => facts[*key].time,
        WindowKey::None => None,
    };
    let grain = |time: Option<Time>| match time {
        Some(Time::Point { grain, .. } | Time::Window { grain, .. }) => Some(grain),
        None => None,
    };
    for fact in facts {
        if fact.time != chosen && (grain(fact.time) != grain(chosen) || grain(chosen) == Some(1)) {
            fact.time = None;
        }
    }
}

/// Whether a predicate above the aggregate reads its keys only.
pub(crate) fn only_group_keys(predicate: &Expr, a: &Aggregate) -> bool {
    let keys = a.group_expr.len();
    let mut all = true;
    let walked = predicate.apply(|e| {
        if let Expr::Column(c) = e {
            all &= a.schema.maybe_index_of_column(c).is_some_and(|i| i < keys);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.is_ok() && all
}

/// Why an aggregate without a window can't be appended.
pub(crate) fn never_final(a: &Aggregate, input: &Stream) -> Refusal {
    let schema = a.input.schema();
    let time = input.facts.iter().position(|f| matches!(f.time, Some(Time::Point { .. })));
    let window = match time {
        Some(i) => format!("group by a window as well, tumble({}, INTERVAL '5 minutes')", schema.field(i).name()),
        None => "declare event time at the source (WATERMARK FOR …) and group by a window of it".to_owned(),
    };
    let places = a.group_expr.iter().chain(&a.aggr_expr);
    Refusal::new("this GROUP BY has no window of event time: its groups would never be final")
        .hint(format!("{window}; or write the changing groups to a sink with a PRIMARY KEY (emit = 'update')"))
        .or_at_some(places.into_iter().find_map(refuse::place))
}
