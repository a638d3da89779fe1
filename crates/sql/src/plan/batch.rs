//! The same script over tables at rest: what streaming must equal, and what `riverrun sql` runs.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::LogicalPlan;
use riverrun_engine::table::Table;

use super::refusal::{Refusal, Result};
use super::{queries, sink};
use crate::catalog::{Catalog, StreamTable};
use crate::error::ScriptError;
use crate::script::Script;

/// One INSERT of a script, to be run by DataFusion.
pub struct BatchQuery {
    /// The table that it is for, with all its columns.
    pub sink: Table,
    /// The query, its columns named and typed as the sink's; not optimised.
    pub plan: LogicalPlan,
}

/// Plans the INSERTs of a script over `tables` at rest, by name, in a session that knows Riverrun's functions. The tables
/// and views stay in the session for further queries. Tables without rows at rest can be planned over, not read.
///
/// # Errors
/// What is wrong with the script. What only a stream can't do is no error here.
pub fn batch_plan(
    script: &Script,
    mut tables: HashMap<String, Arc<dyn TableProvider>>,
    context: SessionContext,
) -> Result<Vec<BatchQuery>, ScriptError> {
    let catalog = Catalog::new(context);
    let planned = add_tables(script, &mut tables, &catalog).and_then(|()| queries(script, &catalog));
    let fitted = planned.and_then(|queries| queries.into_iter().map(|query| fit(script, query)).collect());
    fitted.map_err(|refusal| refusal.into_error(script))
}

fn add_tables(script: &Script, tables: &mut HashMap<String, Arc<dyn TableProvider>>, catalog: &Catalog) -> Result<()> {
    for table in &script.tables {
        let provider = tables.remove(&table.name).unwrap_or_else(|| Arc::new(StreamTable::new(table)));
        catalog.add_table(&table.name, provider).map_err(|e| Refusal::from(e).or_at(table.location))?;
    }
    Ok(())
}

fn fit(script: &Script, query: super::Query) -> Result<BatchQuery> {
    let location = query.location;
    let table = script.tables.iter().find(|t| t.name == query.sink);
    let table =
        table.ok_or_else(|| Refusal::new(format!("INSERT INTO {}: there is no such table", query.sink)).or_at(location))?;
    let mut sink = sink::written(table);
    let fitted =
        sink::fill_columns(&mut sink, &query.plan, &query.columns).and_then(|()| sink::fit(query.plan, &sink, &query.columns));
    Ok(BatchQuery { plan: fitted.map_err(|e| e.or_at(location))?, sink })
}
