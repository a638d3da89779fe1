//! The tables of a script, to be asked: sources, and sinks that can be read, as they are now.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::dataframe::DataFrame;
use datafusion::execution::context::{SQLOptions, SessionContext};
use datafusion::sql::parser::{DFParser, Statement};
use riverrun_engine::connect::Connectors;
use riverrun_engine::graph::SourceNode;
use riverrun_engine::table::{Column, Location, Table};
use riverrun_engine::{Error, Result};
use riverrun_sql::session::session_context;
use riverrun_sql::source_table::SourceTable;

use crate::Program;

/// A session over the tables of a program. Each query sees what they hold when it begins.
pub struct Tables {
    context: SessionContext,
    /// Tables that could not be opened, and why.
    pub missing: Vec<(String, Error)>,
}

impl Tables {
    /// Opens every table that can be read.
    pub fn open(program: &Program) -> Result<Self> {
        let context = session_context();
        let mut missing = Vec::new();
        for table in readable(program) {
            let node = SourceNode { schema: table.schema(), table: table.clone() };
            match program.registry.source(&node, &program.context) {
                Ok(source) => {
                    let provider = SourceTable::new(node.schema, source, program.clock().now());
                    context.register_table(table.name.as_str(), Arc::new(provider))?;
                }
                Err(e) => missing.push((table.name, e)),
            }
        }
        Ok(Self { context, missing })
    }

    /// Runs one read-only query.
    ///
    /// # Errors
    /// What is wrong with the query; anything but a query.
    pub async fn query(&self, query: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let frame = self.plan(query).await.map_err(|e| self.explain(e))?;
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let rows = frame.collect().await.map_err(|e| self.explain(e))?;
        Ok((schema, rows))
    }

    async fn plan(&self, query: &str) -> datafusion::error::Result<DataFrame> {
        let mut statement = DFParser::parse_sql(query)?;
        let Some(statement) = (statement.len() == 1).then(|| statement.pop_front()).flatten() else {
            return datafusion::common::plan_err!("write one query at a time");
        };
        let mut statement = statement;
        if let Statement::Statement(sql) = &mut statement {
            riverrun_sql::hop::rewrite(sql.as_mut(), "query", query)
                .map_err(|e| datafusion::error::DataFusionError::Plan(e.to_string()))?;
        }
        let plan = self.context.state().statement_to_plan(statement).await?;
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false).verify_plan(&plan)?;
        self.context.execute_logical_plan(plan).await
    }

    /// An error of a query, with why a table that it names is missing.
    fn explain(&self, error: datafusion::error::DataFusionError) -> Error {
        let text = error.strip_backtrace();
        let message = text.strip_prefix("Error during planning: ").unwrap_or(&text).to_owned();
        match self.missing.iter().find(|(name, _)| message.contains(name.as_str())) {
            Some((name, why)) => Error::invalid(message).hint(format!("{name} is not there: {why}")),
            None => Error::invalid(message),
        }
    }
}

/// The tables of the graph whose connector can read them; a sink's columns are those that its query gave.
fn readable(program: &Program) -> Vec<Table> {
    let mut tables: Vec<Table> = program.graph.sources().map(|(_, s)| s.table.clone()).collect();
    for (_, sink) in program.graph.sinks() {
        let mut table = sink.table.clone();
        let column = |f: &Arc<_>| Column { field: Arc::clone(f), metadata: None, location: Location::default() };
        table.columns = sink.schema.fields().iter().map(column).collect();
        tables.push(table);
    }
    tables.retain(|t| program.registry.check(t).is_ok_and(|can| can.source));
    tables.dedup_by(|a, b| a.name == b.name);
    tables
}
