//! What a stream cannot do, with the place, the reason, and what to write instead.
//!
//! [`query`] looks at the text as parsed, where every place is known; [`node`] and [`expressions`] look at the plan, for
//! DataFrames, and for what only types tell.

use std::ops::ControlFlow;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast::{self, Spanned, Visit, Visitor};
use datafusion::sql::sqlparser::tokenizer::Span;
use riverrun_engine::table::Location;

use super::over;
use super::refusal::{Refusal, Result};

/// Refuses what a query says that no stream can do.
pub(crate) fn query(query: &ast::Query) -> Result<()> {
    match query.visit(&mut Refuser) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refusal) => Err(refusal),
    }
}

struct Refuser;

impl Visitor for Refuser {
    type Break = Refusal;

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<Refusal> {
        if let Some(order) = &query.order_by {
            return refuse(sorted(), order.span());
        }
        if query.limit_clause.is_some() || query.fetch.is_some() {
            let span = query.limit_clause.as_ref().map(Spanned::span).or(query.fetch.as_ref().map(Spanned::span));
            return refuse(limited(), span.unwrap_or_else(Span::empty));
        }
        if let Some(with) = query.with.as_ref().filter(|w| w.recursive) {
            return refuse(Refusal::new("WITH RECURSIVE is not possible over a stream"), with.span());
        }
        set_operations(&query.body)
    }

    fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<Refusal> {
        let joined = select.from.iter().find_map(|t| t.joins.first()).map(Spanned::span);
        if let Some(span) = joined.or_else(|| select.from.get(1).map(Spanned::span)) {
            return refuse(join(), span);
        }
        let extends =
            |w: &&ast::NamedWindowDefinition| matches!(&w.1, ast::NamedWindowExpr::WindowSpec(s) if s.window_name.is_some());
        if let Some(window) = select.named_window.iter().find(extends) {
            return refuse(window_of_a_window(), window.0.span);
        }
        if matches!(select.distinct, Some(ast::Distinct::On(_))) {
            return refuse(distinct_on(), select.span());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Refusal> {
        match expr {
            ast::Expr::Subquery(_) | ast::Expr::Exists { .. } | ast::Expr::InSubquery { .. } => refuse(subquery(), expr.span()),
            ast::Expr::Function(f) => {
                if matches!(&f.over, Some(ast::WindowType::WindowSpec(spec)) if spec.window_name.is_some()) {
                    return refuse(window_of_a_window(), f.name.span());
                }
                let name = f.name.to_string().to_ascii_lowercase();
                let refusal = function(&name).or_else(|| {
                    (f.over.is_some() && over::UNSUPPORTED.contains(&name.as_str())).then(|| over::unsupported(&name))
                });
                refusal.map_or(ControlFlow::Continue(()), |r| refuse(r, f.name.span()))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// DataFusion plans `OVER (w ROWS …)` as if `w` were not there.
fn window_of_a_window() -> Refusal {
    Refusal::new("a window that builds on a named one is not possible")
        .hint("write its PARTITION BY and ORDER BY out, or use the named window as it is: OVER w")
}

fn refuse(refusal: Refusal, span: Span) -> ControlFlow<Refusal> {
    let at = Location { line: span.start.line, column: span.start.column };
    ControlFlow::Break(if at.line > 0 { refusal.or_at(at) } else { refusal })
}

fn set_operations(body: &ast::SetExpr) -> ControlFlow<Refusal> {
    let ast::SetExpr::SetOperation { op, left, right, .. } = body else { return ControlFlow::Continue(()) };
    if *op != ast::SetOperator::Union {
        let refusal = Refusal::new(format!("{op} would have to remember every row of a stream that has no end"));
        return refuse(refusal.hint("UNION ALL is possible, and WHERE on one stream"), body.span());
    }
    set_operations(left)?;
    set_operations(right)
}

/// Refuses expressions that a replay could not repeat, or that need more than their own row.
pub(crate) fn expressions(plan: &LogicalPlan) -> Result<()> {
    let mut found = None;
    plan.apply_expressions(|expr| {
        expr.apply(|e| {
            let refusal = match e {
                Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => Some(subquery()),
                Expr::ScalarFunction(f) => function(f.name()),
                _ => None,
            };
            found = found.take().or(refusal);
            Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    found.map_or(Ok(()), Err)
}

/// Functions whose value is another one at the next run.
fn function(name: &str) -> Option<Refusal> {
    match name {
        "random" | "rand" | "uuid" | "gen_random_uuid" => Some(
            Refusal::new(format!("{name}() gives another value when an epoch is run again, so outputs could not be repeated"))
                .hint("derive the value from the row: a key of the record, or md5(…) of columns that identify it"),
        ),
        "now" | "current_timestamp" | "current_date" | "current_time" | "today" | "localtimestamp" => Some(
            Refusal::new(format!("{name} has no repeatable value in a stream"))
                .hint("declare a column at the source: broker_time TIMESTAMP METADATA FROM 'timestamp', or 'processing_time'"),
        ),
        _ => None,
    }
}

/// Why a plan node has no place in a stream.
pub(crate) fn node(plan: &LogicalPlan) -> Refusal {
    let refusal = match plan {
        LogicalPlan::Sort(_) => sorted(),
        LogicalPlan::Limit(_) => limited(),
        LogicalPlan::Join(_) => join(),
        LogicalPlan::Distinct(Distinct::On(_)) => distinct_on(),
        LogicalPlan::Subquery(_) => subquery(),
        LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => {
            Refusal::new("a query without a table: it would run once, not over a stream")
                .hint("SELECT … FROM a table of this script")
        }
        other => {
            let text = other.display().to_string();
            Refusal::new(format!("'{}' is not possible over a stream", text.split([':', ' ']).next().unwrap_or_default()))
        }
    };
    refusal.or_at_some(plan.expressions().iter().find_map(place))
}

fn sorted() -> Refusal {
    Refusal::new("ORDER BY over a whole stream would wait for an end that never comes")
        .hint("order what reads the sink, or order inside a window: array_agg(x ORDER BY y) … GROUP BY tumble(…)")
}

fn limited() -> Refusal {
    Refusal::new("LIMIT over a stream has no meaning that a restart could keep").hint("leave it out, or filter with WHERE")
}

fn join() -> Refusal {
    Refusal::new("joins are not supported yet").hint(
        "compare rows of one stream with LAG(…) OVER (PARTITION BY … ORDER BY …), or bring streams together with UNION ALL and GROUP BY",
    )
}

fn distinct_on() -> Refusal {
    Refusal::new("DISTINCT ON over a stream would have to remember every row")
        .hint("GROUP BY the columns and a window, with first_value(… ORDER BY …)")
}

fn subquery() -> Refusal {
    Refusal::new("a subquery inside an expression reads a whole stream for each row")
        .hint("compute it in a view of its own, or with a function OVER (PARTITION BY … ORDER BY …)")
}

/// The place of the first column in an expression.
pub(crate) fn place(expr: &Expr) -> Option<Location> {
    let mut at = None;
    let walked = expr.apply(|e| {
        if let Expr::Column(c) = e {
            at = at.or(c.spans.first().map(|s| Location { line: s.start.line, column: s.start.column }));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.ok().and(at).filter(|at| at.line > 0)
}
