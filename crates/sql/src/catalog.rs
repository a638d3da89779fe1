//! The names that the queries of a script can use: its tables and views, in a session of DataFusion.
//!
//! Planning needs schemas only: a table stands here as [`StreamTable`], which can be planned over but not scanned. Where the
//! same queries shall run over tables at rest, any other provider stands under the same name.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result, TableReference, exec_err, plan_datafusion_err};
use datafusion::datasource::ViewTable;
use datafusion::execution::context::{SessionContext, SessionState};
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use futures::FutureExt;
use riverrun_engine::table::Table;

/// The tables and views of a script.
pub struct Catalog {
    context: SessionContext,
}

impl Catalog {
    /// An empty catalog over a session that knows the functions.
    pub fn new(context: SessionContext) -> Self {
        let state = context.state_ref();
        state.write().config_mut().options_mut().sql_parser.collect_spans = true;
        Self { context }
    }

    /// Puts a table under its name.
    ///
    /// # Errors
    /// The name is taken.
    pub fn add_table(&self, name: &str, provider: Arc<dyn TableProvider>) -> Result<()> {
        match self.context.register_table(TableReference::bare(name), provider)? {
            None => Ok(()),
            Some(_) => Err(plan_datafusion_err!("'{name}' is declared twice")),
        }
    }

    /// Puts a planned view under its name.
    ///
    /// # Errors
    /// The name is taken.
    pub fn add_view(&self, name: &str, plan: LogicalPlan) -> Result<()> {
        self.add_table(name, Arc::new(ViewTable::new(plan, None)))
    }

    /// Plans a query, without optimising it.
    ///
    /// # Errors
    /// Whatever DataFusion finds wrong; names that are not there with their place.
    pub fn plan(&self, query: &ast::Query) -> Result<LogicalPlan> {
        let statement = Statement::Statement(Box::new(ast::Statement::Query(Box::new(query.clone()))));
        let state = self.state();
        // Planning is async since a catalog may be remote; this one is in memory and never waits.
        let planned = state.statement_to_plan(statement).now_or_never();
        planned.ok_or_else(|| DataFusionError::Internal("a catalog in memory made planning wait".into()))?
    }

    /// The session as it is now.
    pub fn state(&self) -> SessionState {
        self.context.state()
    }

    /// The session.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }
}

/// A table of a script that is planned over, never scanned by DataFusion.
#[derive(Debug)]
pub struct StreamTable {
    name: String,
    schema: SchemaRef,
}

impl StreamTable {
    /// The table's columns under its name.
    pub fn new(table: &Table) -> Self {
        Self { name: table.name.clone(), schema: table.schema() }
    }
}

#[async_trait]
impl TableProvider for StreamTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        exec_err!("{} is a stream: it is read by a pipeline (INSERT INTO … SELECT), not by collecting it", self.name)
    }
}
