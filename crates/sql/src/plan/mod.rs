//! From a script to a graph.
//!
//! Each INSERT's query is planned by DataFusion over the script's tables and views ([`crate::catalog`]), lightly optimised
//! ([`optimize`]), matched to its sink ([`sink`]) and added to one set of shared steps ([`steps`]), along which the planner
//! follows event time and keys ([`facts`]). Steps then become the engine's nodes ([`lower`]). What a stream can't do is
//! refused with its place ([`refuse`]).

mod aggregate;
mod batch;
mod facts;
mod live;
mod lower;
mod optimize;
mod over;
mod refusal;
mod refuse;
mod repartition;
mod settings;
mod sink;
mod sinks;
mod step;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::LogicalPlan;
use riverrun_engine::connect::Connectors;
use riverrun_engine::graph::{Graph, Parallelism};
use riverrun_engine::table::{Capabilities, Location, Table};

use crate::catalog::{Catalog, StreamTable};
use crate::error::ScriptError;
use crate::script::{Insert, Script};
use crate::suggest;
pub use batch::{BatchQuery, batch_plan};
use refusal::{Refusal, Result};
use repartition::Topics;
pub use settings::{Settings, StateBackend};
use sinks::Sinks;
use steps::Steps;

/// A script, ready to run.
pub struct Planned {
    /// What to compute.
    pub graph: Graph,
    /// What `SET` said.
    pub settings: Settings,
}

/// Plans a script.
///
/// # Errors
/// What is wrong with the script, or what no stream can do, with its place.
pub fn plan(script: &Script, connectors: &dyn Connectors) -> Result<Planned, ScriptError> {
    plan_with(script, connectors, crate::session::session_context())
}

/// Plans a script whose queries may use whatever functions `context` knows.
///
/// # Errors
/// As [`plan`].
pub fn plan_with(script: &Script, connectors: &dyn Connectors, context: SessionContext) -> Result<Planned, ScriptError> {
    plan_script(script, connectors, context).map_err(|refusal| refusal.into_error(script))
}

/// What a script's SET statements say.
///
/// # Errors
/// An unknown setting, or a value that is none, with its place.
pub fn settings(script: &Script) -> Result<Settings, ScriptError> {
    Settings::parse(&script.settings).map_err(|refusal| refusal.into_error(script))
}

/// A query and the table that takes its rows.
pub struct Output {
    /// The query, as DataFusion built it, not optimised. It scans tables by their names.
    pub query: LogicalPlan,
    /// The sink; without columns it takes the query's.
    pub sink: Table,
}

/// Plans queries that were made without a script, such as DataFrames: over `tables`, each for its sink.
///
/// # Errors
/// As [`plan`], without places.
pub fn plan_outputs(
    tables: &[Table],
    outputs: Vec<Output>,
    settings: &Settings,
    connectors: &dyn Connectors,
    context: &SessionContext,
) -> Result<Graph, ScriptError> {
    let sinks = outputs.iter().map(|o| o.sink.clone());
    let script = Script { file: "program".into(), tables: tables.iter().cloned().chain(sinks).collect(), ..Script::default() };
    let queries = outputs.into_iter().map(|o| Query {
        sink: o.sink.name,
        columns: Vec::new(),
        plan: o.query,
        location: Location::default(),
    });
    let tables = checked(&script.tables, connectors);
    tables
        .and_then(|tables| build(&tables, &[], queries.collect(), settings, connectors, context))
        .map_err(|refusal| refusal.into_error(&script))
}

/// The tables of a script and what their connectors can do with them.
pub(crate) struct Tables {
    pub by_name: HashMap<String, Table>,
    pub can: HashMap<String, Capabilities>,
    /// In the order of the script.
    pub names: Vec<String>,
}

/// One INSERT, planned by DataFusion.
pub(crate) struct Query {
    pub sink: String,
    pub columns: Vec<String>,
    pub plan: LogicalPlan,
    pub location: Location,
}

fn plan_script(script: &Script, connectors: &dyn Connectors, context: SessionContext) -> Result<Planned> {
    let settings = Settings::parse(&script.settings)?;
    if let Some(table) = script.tables.iter().find(|t| script.open.contains_key(&t.name)) {
        return Err(
            Refusal::new(format!("a schema registry was not asked for the columns of {}", table.name)).or_at(table.location)
        );
    }
    let tables = checked(&script.tables, connectors)?;
    if script.inserts.is_empty() {
        return Err(Refusal::new("the script has no INSERT: there is nothing to run")
            .hint("add INSERT INTO a_sink SELECT … FROM a_source"));
    }
    for (query, location) in
        script.views.iter().map(|v| (&v.query, v.location)).chain(script.inserts.iter().map(|i| (&i.query, i.location)))
    {
        refuse::query(query).map_err(|e| e.or_at(location))?;
    }
    let catalog = Catalog::new(context);
    for table in &script.tables {
        catalog.add_table(&table.name, Arc::new(StreamTable::new(table))).map_err(|e| Refusal::from(e).or_at(table.location))?;
    }
    let queries = queries(script, &catalog)?;
    let views: Vec<_> = script.views.iter().map(|v| v.name.clone()).collect();
    let graph = build(&tables, &views, queries, &settings, connectors, catalog.context())?;
    Ok(Planned { graph, settings })
}

/// Plans the views, then the INSERTs, over what the catalog holds.
fn queries(script: &Script, catalog: &Catalog) -> Result<Vec<Query>> {
    let names = || script.tables.iter().map(|t| t.name.as_str()).chain(script.views.iter().map(|v| v.name.as_str()));
    let refused = |e, location| Refusal::from(e).suggest_table(names()).or_at(location);
    for view in &script.views {
        let planned = catalog.plan(&view.query).and_then(|plan| catalog.add_view(&view.name, plan));
        planned.map_err(|e| refused(e, view.location))?;
    }
    let plan = |insert: &Insert| {
        let plan = catalog.plan(&insert.query).map_err(|e| refused(e, insert.location))?;
        Ok(Query { sink: insert.table.clone(), columns: insert.columns.clone(), plan, location: insert.location })
    };
    script.inserts.iter().map(plan).collect()
}

/// Asks the connectors about every table, whether a query uses it or not.
fn checked(tables: &[Table], connectors: &dyn Connectors) -> Result<Tables> {
    let mut checked = Tables { by_name: HashMap::new(), can: HashMap::new(), names: Vec::new() };
    for table in tables {
        let refused = |e| Refusal::from(e).within(&format!("table {}", table.name)).or_at(table.location);
        let can = connectors.check(table).map_err(refused)?;
        checked.by_name.insert(table.name.clone(), table.clone());
        if checked.can.insert(table.name.clone(), can).is_none() {
            checked.names.push(table.name.clone());
        }
    }
    Ok(checked)
}

impl Tables {
    /// A table that is written to.
    pub fn sink(&self, name: &str) -> Result<(&Table, &Capabilities)> {
        let (Some(table), Some(can)) = (self.by_name.get(name), self.can.get(name)) else {
            let hint = match suggest::nearest(name, self.names.iter().map(String::as_str)) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("declare it: CREATE TABLE {name} WITH (connector = …)"),
            };
            return Err(Refusal::new(format!("INSERT INTO {name}: there is no such table")).hint(hint));
        };
        if !can.sink {
            return Err(Refusal::new(format!("{name} can't be written to: connector '{}' only reads", table.connector()?)));
        }
        Ok((table, can))
    }
}

/// The graph of all queries.
fn build(
    tables: &Tables,
    views: &[String],
    queries: Vec<Query>,
    settings: &Settings,
    connectors: &dyn Connectors,
    context: &SessionContext,
) -> Result<Graph> {
    let state = context.state();
    let topics = Topics::of(&queries, tables, settings, connectors)?;
    let mut steps = Steps::new(tables, views, topics.possible(), connectors);
    let mut sinks = Sinks::new(tables, connectors);
    for query in queries {
        let location = query.location;
        sinks.insert(query, &mut steps, &state).map_err(|e| e.or_at(location))?;
    }
    sinks.sources(&mut steps)?;
    sinks.check_starts(&steps.steps)?;
    let single = steps.single.take();
    let (nodes, exchanges) = sinks.nodes(&steps.steps, (&state, settings.state_ttl), &topics)?;
    let parallelism = match &single {
        _ if !exchanges.is_empty() => Parallelism::Staged(exchanges),
        Some(why) => Parallelism::Single(why.clone()),
        None => Parallelism::Partitioned,
    };
    let ignored = tables.names.iter().flat_map(|name| tables.can[name].ignored.iter().map(move |o| (name.clone(), o.clone())));
    let graph = Graph { nodes, parallelism, ignored_options: ignored.collect() };
    // Some rows can be repartitioned and others not: then one task sees all.
    Ok(match single {
        Some(why) if !graph.exchanges().is_empty() => Graph { parallelism: Parallelism::Single(why), ..graph.joined() },
        _ => graph,
    })
}
