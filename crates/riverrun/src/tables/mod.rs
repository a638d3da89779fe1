//! The tables of a script, to be asked: sources, and sinks that can be read, as they are now.
//!
//! Invariant: a query only reads, and reaches these tables alone: no statement that changes anything is run, and there is no
//! file, no URL and no store behind them that a query could name ([`bounds`]).

mod bounds;
mod info;
mod wanted;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::dataframe::DataFrame;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::context::{SQLOptions, SessionContext};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::{DFParser, Statement};
use futures::StreamExt as _;
use riverrun_engine::connect::Connectors;
use riverrun_engine::graph::SourceNode;
use riverrun_engine::table::{Column, Location, Table};
use riverrun_engine::{Error, Result};
use riverrun_serve::protocol::{Answer, ColumnInfo, RowsWanted, TableInfo};
use riverrun_sql::session::session_context_in;
use riverrun_sql::source_table::{OpenSource, SourceTable};

use crate::Program;

/// The most bytes that one answer holds in memory.
const ANSWER_BYTES: usize = 64 << 20;

/// Connectors whose sources are what there was when they were opened: a version of a Delta table, a list of files.
const SNAPSHOTS: [&str; 2] = ["delta", "filesystem"];

/// Sessions over the tables of a program. Each query sees what they hold when it begins.
pub struct Tables {
    context: SessionContext,
    runtime: Arc<RuntimeEnv>,
    providers: Vec<(String, Arc<dyn TableProvider>)>,
    infos: Vec<TableInfo>,
    /// Whether what a query may cost is bounded.
    bounded: bool,
    /// Tables that could not be opened, and why.
    pub missing: Vec<(String, Error)>,
}

impl Tables {
    /// Opens every table that can be read, for queries of whoever started this process: they may take what they need.
    pub fn open(program: &Program) -> Result<Self> {
        Self::open_in(program, readable(program), bounds::runtime(None)?, false)
    }

    /// As [`open`](Self::open), of these tables alone: no other one is connected.
    pub(crate) fn open_some(program: &Program, tables: Vec<Table>) -> Result<Self> {
        Self::open_in(program, tables, bounds::runtime(None)?, false)
    }

    /// As [`open`](Self::open), for queries from outside: all that run at once have `memory` bytes together.
    pub fn open_bounded(program: &Program, memory: usize) -> Result<Self> {
        Self::open_in(program, readable(program), bounds::runtime(Some(memory))?, true)
    }

    fn open_in(program: &Program, tables: Vec<Table>, runtime: Arc<RuntimeEnv>, bounded: bool) -> Result<Self> {
        let (mut providers, mut missing) = (Vec::<(String, Arc<dyn TableProvider>)>::new(), Vec::new());
        for table in tables {
            let node = SourceNode { schema: table.schema(), table: table.clone() };
            match program.registry.source(&node, &program.context) {
                Ok(source) => {
                    let provider = SourceTable::new(node.schema.clone(), source, program.clock().now());
                    let provider = match SNAPSHOTS.contains(&table.connector()?.as_str()) {
                        true => provider.opened_anew(opener(program, node)),
                        false => provider,
                    };
                    providers.push((table.name, Arc::new(provider)));
                }
                Err(e) => missing.push((table.name, e)),
            }
        }
        let infos = info::tables(program, &missing);
        let context = session_context_in(SessionConfig::new().with_information_schema(true), runtime.clone());
        let tables = Self { context, runtime, providers, infos, bounded, missing };
        tables.offer(&tables.context)?;
        Ok(tables)
    }

    /// Registers the tables in a session, and takes out of it what could be used for harm.
    fn offer(&self, context: &SessionContext) -> Result<()> {
        for (name, provider) in &self.providers {
            context.register_table(TableReference::bare(name.as_str()), provider.clone())?;
        }
        if self.bounded {
            bounds::drop_growing_functions(context);
        }
        Ok(())
    }

    /// Another session over the same tables, within the same bounds.
    pub fn session(&self, config: SessionConfig) -> Result<SessionContext> {
        let context = session_context_in(config, self.runtime.clone());
        self.offer(&context)?;
        Ok(context)
    }

    /// What there is.
    pub fn infos(&self) -> &[TableInfo] {
        &self.infos
    }

    /// Runs one read-only query; gives all its rows.
    ///
    /// # Errors
    /// What is wrong with the query; anything but a query.
    pub async fn query(&self, query: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let frame = self.plan(query).await.map_err(|e| self.explain(&e))?;
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let rows = frame.collect().await.map_err(|e| self.explain(&e))?;
        Ok((schema, rows))
    }

    /// Runs one read-only query; gives at most `limit` rows, and no more than fit in an answer.
    ///
    /// # Errors
    /// What is wrong with the query; anything but a query; it takes more memory than it may.
    pub async fn ask(&self, query: &str, limit: usize) -> Result<Answer> {
        bounds::check_text(query)?;
        let frame = self.plan(query).await.map_err(|e| self.explain(&e))?;
        self.answer(frame, limit).await
    }

    /// Rows of one table.
    ///
    /// # Errors
    /// A column or a value that does not fit.
    pub async fn rows(&self, table: &str, wanted: &RowsWanted) -> Result<Answer> {
        let info = self.infos.iter().find(|info| info.name == table);
        let info = info.ok_or_else(|| Error::invalid(format!("there is no table {table}")))?;
        let all = self.context.table(TableReference::bare(table)).await.map_err(|e| self.explain(&e))?;
        let frame = wanted::choose(all, info, wanted)?;
        self.answer(frame, wanted.limit).await
    }

    async fn answer(&self, frame: DataFrame, limit: usize) -> Result<Answer> {
        let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
        let columns: Vec<ColumnInfo> = schema.fields().iter().map(|field| info::column(field)).collect();
        let mut answer = Answer { schema, columns, batches: Vec::new(), truncated: false };
        let (mut left, mut bytes) = (limit, 0);
        let mut stream = frame.execute_stream().await.map_err(|e| self.explain(&e))?;
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(|e| self.explain(&e))?;
            let taken = batch.num_rows().min(left);
            bytes += batch.get_array_memory_size();
            answer.truncated = taken < batch.num_rows() || bytes > ANSWER_BYTES;
            left -= taken;
            answer.batches.push(batch.slice(0, taken));
            if answer.truncated {
                break;
            }
        }
        Ok(answer)
    }

    async fn plan(&self, query: &str) -> PlanResult<DataFrame> {
        let mut statement = DFParser::parse_sql(query)?;
        let Some(statement) = (statement.len() == 1).then(|| statement.pop_front()).flatten() else {
            return datafusion::common::plan_err!("write one query at a time");
        };
        let mut statement = statement;
        if let Statement::Statement(sql) = &mut statement {
            riverrun_sql::hop::rewrite(sql.as_mut(), "query", query).map_err(|e| DataFusionError::Plan(e.to_string()))?;
        }
        let plan = self.context.state().statement_to_plan(statement).await?;
        check_reads(&plan)?;
        self.context.execute_logical_plan(plan).await
    }

    /// An error of a query, with why a table that it names is missing.
    pub fn explain(&self, error: &DataFusionError) -> Error {
        let text = error.strip_backtrace();
        if let DataFusionError::ResourcesExhausted(_) = error.find_root() {
            return Error::invalid(format!("the query takes more memory than queries may: {text}"))
                .hint("ask for less: filter, aggregate, add LIMIT; or try again when fewer queries run");
        }
        let message = text.strip_prefix("Error during planning: ").unwrap_or(&text).to_owned();
        match self.missing.iter().find(|(name, _)| message.contains(name.as_str())) {
            Some((name, why)) => Error::invalid(message).hint(format!("{name} is not there: {why}")),
            None => Error::invalid(message),
        }
    }
}

/// Opens the source of a node.
fn opener(program: &Program, node: SourceNode) -> OpenSource {
    let (registry, context) = (program.registry.clone(), program.context.clone());
    Arc::new(move || registry.source(&node, &context))
}

/// Refuses a plan that does anything but read.
pub fn check_reads(plan: &LogicalPlan) -> PlanResult<()> {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false).verify_plan(plan)
}

/// Refuses a text that is too long or too deep to be planned safely.
///
/// # Errors
/// That it is.
pub fn check_text(query: &str) -> Result<()> {
    bounds::check_text(query)
}

/// The tables of the graph whose connector can read them; a sink's columns are those that its query gave.
fn readable(program: &Program) -> Vec<Table> {
    let mut tables = all(program);
    tables.retain(|t| program.registry.check(t).is_ok_and(|can| can.source));
    tables
}

/// The tables of the graph.
fn all(program: &Program) -> Vec<Table> {
    let mut tables: Vec<Table> = program.graph.sources().map(|(_, s)| s.table.clone()).collect();
    for (_, sink) in program.graph.sinks() {
        let mut table = sink.table.clone();
        let column = |f: &Arc<_>| Column { field: Arc::clone(f), metadata: None, location: Location::default() };
        table.columns = sink.schema.fields().iter().map(column).collect();
        tables.push(table);
    }
    let mut names = std::collections::BTreeSet::new();
    tables.retain(|table| names.insert(table.name.clone()));
    tables
}
