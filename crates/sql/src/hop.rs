//! `hop(time, size, slide)` in a query, rewritten into what batch engines know: a column of windows, unnested.
//!
//! ```sql
//! SELECT user_id, hop(ts, size, slide)['start'], count(*) FROM t GROUP BY hop(ts, size, slide), user_id
//! -- becomes
//! SELECT user_id, "hop(…)"['start'], count(*)
//! FROM (SELECT *, unnest(hop_windows(ts, size, slide)) AS "hop(…)" FROM t) AS t
//! GROUP BY "hop(…)", user_id
//! ```
//! Every row stands once in each of its windows; equal calls share one column; rows without a time are in no window.
//! Stock DataFusion unnests within GROUP BY but not within the `['start']` of it: hence the subquery.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableAlias, TableFactor, TableWithJoins, VisitMut,
    VisitorMut, WildcardAdditionalOptions, visit_expressions, visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Span;
use riverrun_engine::table::Location;

use crate::ScriptError;
use crate::parse::{Fault, place};

/// Rewrites every `hop(…)` of a query or statement, in place. `file` and `text` are what it was parsed from, for messages.
///
/// # Errors
/// `hop` with other than three plain arguments; over several tables without saying whose column its time is.
pub fn rewrite<T: VisitMut>(node: &mut T, file: &str, text: &str) -> Result<(), ScriptError> {
    rewrite_node(node).map_err(|fault| fault.into_error(file, text))
}

pub(crate) fn rewrite_node<T: VisitMut>(node: &mut T) -> Result<(), Fault> {
    match node.visit(&mut Rewrite::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(fault) => Err(fault),
    }
}

/// Visits from the inside out: when a SELECT comes up, those within it hold no `hop` any more.
#[derive(Default)]
struct Rewrite {
    /// The window columns made so far.
    columns: BTreeSet<String>,
}

/// Calls by the name of the column that takes their place.
type Calls = BTreeMap<String, Function>;

impl VisitorMut for Rewrite {
    type Break = Fault;

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Fault> {
        let mut calls = Calls::new();
        visit_expressions_mut(select, |expr| replace(expr, &mut calls))?;
        for (column, call) in calls {
            let added = add_windows(select, &column, call);
            self.columns.insert(column);
            if let Err(fault) = added {
                return ControlFlow::Break(fault);
            }
        }
        ControlFlow::Continue(())
    }

    /// ORDER BY belongs to the query, not to its SELECT.
    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Fault> {
        let mut calls = Calls::new();
        if let Some(order_by) = &mut query.order_by {
            visit_expressions_mut(order_by, |expr| replace(expr, &mut calls))?;
        }
        match calls.iter().find(|(column, _)| !self.columns.contains(*column)) {
            Some((_, call)) => ControlFlow::Break(fault(call, "hop() in ORDER BY must stand in SELECT or GROUP BY too")),
            None => ControlFlow::Continue(()),
        }
    }
}

/// Puts a column in the place of a call, and keeps the call.
fn replace(expr: &mut Expr, calls: &mut Calls) -> ControlFlow<Fault> {
    let Expr::Function(call) = expr else { return ControlFlow::Continue(()) };
    if !call.name.0.first().and_then(|p| p.as_ident()).is_some_and(|name| name.value.eq_ignore_ascii_case("hop")) {
        return ControlFlow::Continue(());
    }
    if time_of(call).is_none() {
        let fault = fault(call, "hop() takes a time, a size and a slide");
        return ControlFlow::Break(fault.hint("such as hop(ts, INTERVAL '1 minute', INTERVAL '30 seconds')"));
    }
    let span = normalise(call);
    let column = call.to_string();
    let mut ident = Ident::with_quote('"', &column);
    ident.span = span;
    // Of equal calls the first one stands for all in messages.
    calls.entry(column).or_insert_with(|| call.clone());
    *expr = Expr::Identifier(ident);
    ControlFlow::Continue(())
}

/// Equal calls must read alike: names that are not quoted go to lower case, as in DataFusion. Gives the place of the call,
/// which its name keeps.
fn normalise(call: &mut Function) -> Span {
    let lower = |ident: &mut Ident| {
        if ident.quote_style.is_none() {
            ident.value = ident.value.to_lowercase();
        }
    };
    let span = call.name.0.first().and_then(|p| p.as_ident()).map_or_else(Span::empty, |ident| ident.span);
    call.name = ObjectName::from(Ident::with_span(span, "hop"));
    let _: ControlFlow<()> = visit_expressions_mut(&mut call.args, |expr| {
        match expr {
            Expr::Identifier(ident) => lower(ident),
            Expr::CompoundIdentifier(parts) => parts.iter_mut().for_each(lower),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    span
}

/// The first of three plain arguments.
fn time_of(call: &Function) -> Option<&Expr> {
    let plain = call.name.0.len() == 1 && call.over.is_none() && call.filter.is_none() && call.within_group.is_empty();
    match &call.args {
        FunctionArguments::List(list) if plain && list.duplicate_treatment.is_none() && list.clauses.is_empty() => {
            match list.args.as_slice() {
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(time)), FunctionArg::Unnamed(_), FunctionArg::Unnamed(_)] => {
                    Some(time)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn fault(call: &Function, message: &str) -> Fault {
    let ident = call.name.0.first().and_then(|p| p.as_ident());
    Fault::at(ident.map_or(Location::default(), |i| place(i.span.start)), message)
}

/// Puts the table that holds the call's time into a subquery that adds the windows as `column`.
fn add_windows(select: &mut Select, column: &str, call: Function) -> Result<(), Fault> {
    let owner = owner(select, &call)?;
    let mut subquery = template(owner.is_some()).ok_or_else(|| fault(&call, "hop() cannot stand here"))?;
    let SetExpr::Select(windows) = subquery.body.as_mut() else { return Err(fault(&call, "hop() cannot stand here")) };
    windows.projection.push(SelectItem::ExprWithAlias { expr: unnest(call), alias: Ident::with_quote('"', column) });
    let Some((from, join)) = owner else {
        windows.projection.remove(0);
        let derived = TableFactor::Derived { lateral: false, subquery: Box::new(subquery), alias: None, sample: None };
        select.from = vec![TableWithJoins { relation: derived, joins: Vec::new() }];
        return Ok(());
    };
    let table = match join {
        None => &mut select.from[from].relation,
        Some(join) => &mut select.from[from].joins[join].relation,
    };
    let alias = alias_of(table);
    std::mem::swap(&mut windows.from[0].relation, table);
    *table = TableFactor::Derived { lateral: false, subquery: Box::new(subquery), alias: alias.clone(), sample: None };
    hide_from_wildcards(select, column, alias.as_ref());
    Ok(())
}

/// The place in FROM of the table whose column is the call's time: its item, and its join within that. None without FROM.
type Owner = Option<(usize, Option<usize>)>;

fn owner(select: &Select, call: &Function) -> Result<Owner, Fault> {
    let places = select.from.iter().enumerate().flat_map(|(from, item)| {
        let joins = item.joins.iter().enumerate().map(move |(j, join)| ((from, Some(j)), &join.relation));
        std::iter::once(((from, None), &item.relation)).chain(joins)
    });
    let places: Vec<_> = places.collect();
    match places.as_slice() {
        [] => return Ok(None),
        [(only, _)] => return Ok(Some(*only)),
        _ => {}
    }
    let mut tables = BTreeSet::new();
    let _: ControlFlow<()> = visit_expressions(&time_of(call).cloned(), |expr| {
        if let Expr::CompoundIdentifier(parts) = expr {
            tables.extend(parts.first().map(|table| table.value.clone()));
        }
        ControlFlow::Continue(())
    });
    let named =
        |table: &TableFactor| alias_of(table).is_some_and(|a| tables.iter().any(|t| a.name.value.eq_ignore_ascii_case(t)));
    let mut owners = places.iter().filter(|(_, table)| named(table));
    match (owners.next(), owners.next()) {
        (Some((place, _)), None) => Ok(Some(*place)),
        _ => Err(fault(call, "hop() over several tables must say whose column its time is")
            .hint("name the table in front: hop(t.ts, …); or put hop() into a view of one table")),
    }
}

/// The name by which a query speaks of a table.
fn alias_of(table: &TableFactor) -> Option<TableAlias> {
    let alias = match table {
        TableFactor::Table { alias, .. } | TableFactor::Derived { alias, .. } | TableFactor::Function { alias, .. } => {
            alias.as_ref()
        }
        _ => None,
    };
    let named = |name: Ident| TableAlias { explicit: true, name, columns: Vec::new(), at: None };
    match (alias, table) {
        (Some(alias), _) => Some(named(alias.name.clone())),
        (None, TableFactor::Table { name, .. }) => name.0.last().and_then(|p| p.as_ident()).cloned().map(named),
        _ => None,
    }
}

/// `SELECT * FROM t`, for its parts to be replaced; without a table `SELECT *`.
fn template(from: bool) -> Option<Query> {
    let text = if from { "SELECT * FROM t" } else { "SELECT *" };
    let mut query = *Parser::new(&GenericDialect {}).try_with_sql(text).ok()?.parse_query().ok()?;
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.projection = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
    }
    Some(query)
}

/// `unnest(hop_windows(…))` of a `hop(…)`.
fn unnest(mut call: Function) -> Expr {
    let mut unnest = call.clone();
    unnest.name = ObjectName::from(Ident::new("unnest"));
    call.name = ObjectName::from(Ident::new("hop_windows"));
    let argument = FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Function(call)));
    unnest.args =
        FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args: vec![argument], clauses: Vec::new() });
    Expr::Function(unnest)
}

/// The added column is none that `*` stands for.
fn hide_from_wildcards(select: &mut Select, column: &str, table: Option<&TableAlias>) {
    for item in &mut select.projection {
        let options = match item {
            SelectItem::Wildcard(options) => options,
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options)
                if table.is_some_and(|t| name.to_string().eq_ignore_ascii_case(&t.name.value)) =>
            {
                options
            }
            _ => continue,
        };
        let mut hidden = match options.opt_exclude.take() {
            Some(ExcludeSelectItem::Single(name)) => vec![name],
            Some(ExcludeSelectItem::Multiple(names)) => names,
            None => Vec::new(),
        };
        hidden.push(ObjectName::from(Ident::with_quote('"', column)));
        options.opt_exclude = Some(ExcludeSelectItem::Multiple(hidden));
    }
}

#[cfg(test)]
mod tests;
