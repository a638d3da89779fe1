//! The programmatic API: the same pipelines from Rust.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::dataframe::DataFrame;
use datafusion::execution::context::SessionContext;
use riverrun_connectors::registry::Registry;
use riverrun_engine::connect::{Connectors, Context};
use riverrun_engine::graph::{Graph, SinkNode, SourceNode};
use riverrun_engine::progress::{Listener, Listeners};
use riverrun_engine::runtime::{Bindings, Pipeline, Settings};
use riverrun_engine::sink::Sink;
use riverrun_engine::source::Source;
use riverrun_engine::table::{Capabilities, Table};
use riverrun_engine::{Error, Result};
use riverrun_sql::catalog::StreamTable;
use riverrun_sql::plan::{Output, plan_outputs};
use riverrun_sql::session::session_context;

use crate::Variables;

/// Sinks of a program's own, by the table's name.
type OwnSinks = BTreeMap<String, Box<dyn Sink>>;

/// Streams as DataFusion `DataFrame`s, written to tables or to sinks of one's own.
///
/// ```
/// use riverrun::StreamContext;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut streams = StreamContext::new(
///     "CREATE TABLE transactions (user_id VARCHAR NOT NULL, amount DOUBLE NOT NULL, timestamp TIMESTAMP NOT NULL,
///          WATERMARK FOR timestamp AS timestamp - INTERVAL '10 minutes')
///      WITH (connector = 'generator', count = 1000, rate = 0);
///      CREATE TABLE large (user_id VARCHAR, amount DOUBLE) WITH (connector = 'console');",
/// )?;
/// let large = streams.sql("SELECT user_id, amount FROM transactions WHERE amount > 4000")?;
/// streams.insert_into("large", large)?;
/// println!("{}", streams.explain()?);
/// # Ok(())
/// # }
/// ```
pub struct StreamContext {
    tables: Vec<Table>,
    session: SessionContext,
    registry: Registry,
    outputs: Vec<Output>,
    sinks: OwnSinks,
    context: Context,
    settings: riverrun_sql::plan::Settings,
    listeners: Listeners,
}

impl StreamContext {
    /// A context with the tables and views that a script of CREATE statements declares. Of its SET statements those hold
    /// that need no checkpoint: `pipeline.name`, `trigger.interval`, `progress.interval`, `state.ttl`,
    /// `state.backend`, `state.path`, `state.memory`.
    ///
    /// # Errors
    /// What is wrong with the script, with its place.
    pub fn new(script: &str) -> Result<Self> {
        Self::with_variables(script, &Variables::default())
    }

    /// As [`new`](StreamContext::new), with values for the script's `${NAME}`.
    pub fn with_variables(script: &str, variables: &Variables) -> Result<Self> {
        let invalid = |e: riverrun_sql::ScriptError| Error::invalid(e.to_string());
        let mut script = riverrun_sql::parse("program", script, &|name| variables.get(name)).map_err(invalid)?;
        let settings = riverrun_sql::plan::settings(&script).map_err(invalid)?;
        let registry = Registry::default();
        let name = settings.pipeline_name.clone().unwrap_or_else(|| "program".into());
        let clock = Arc::new(riverrun_engine::time::SystemClock);
        let context = Context { instance: settings.instance.clone(), ..Context::new(name, variables.data_dir(), clock) };
        crate::program::resolve(&mut script, &registry, &context)?;
        let session = session_context();
        let catalog = riverrun_sql::catalog::Catalog::new(session);
        for table in &script.tables {
            catalog.add_table(&table.name, Arc::new(StreamTable::new(table)))?;
        }
        for view in &script.views {
            catalog.add_view(&view.name, catalog.plan(&view.query)?)?;
        }
        Ok(Self {
            tables: script.tables,
            session: catalog.context().clone(),
            registry,
            outputs: Vec::new(),
            sinks: OwnSinks::new(),
            context,
            settings,
            listeners: Listeners::default(),
        })
    }

    /// A stream by SQL.
    ///
    /// # Errors
    /// What is wrong with the query.
    pub fn sql(&self, query: &str) -> Result<DataFrame> {
        let query = riverrun_sql::parse_query("query", query).map_err(|e| Error::invalid(e.to_string()))?;
        let catalog = riverrun_sql::catalog::Catalog::new(self.session.clone());
        Ok(DataFrame::new(catalog.state(), catalog.plan(&query)?))
    }

    /// A table or view as a stream.
    pub async fn table(&self, name: &str) -> Result<DataFrame> {
        Ok(self.session.table(name).await?)
    }

    /// Writes a stream to a declared table.
    ///
    /// # Errors
    /// There is no such table.
    pub fn insert_into(&mut self, table: &str, stream: DataFrame) -> Result<()> {
        let sink = self.tables.iter().find(|t| t.name == table).cloned();
        let sink = sink.ok_or_else(|| Error::invalid(format!("there is no table {table}")))?;
        self.tables.retain(|t| t.name != table);
        self.outputs.push(Output { query: stream.logical_plan().clone(), sink });
        Ok(())
    }

    /// Writes a stream to a sink of one's own: what foreachBatch is elsewhere. Rows come as inserts, each once and final.
    pub fn insert_into_sink(&mut self, name: &str, stream: DataFrame, sink: Box<dyn Sink>) {
        let table = Table {
            name: name.to_owned(),
            columns: Vec::new(),
            watermark: None,
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
            options: riverrun_engine::table::Options::of(&[("connector", OWN)]),
            location: Default::default(),
        };
        self.sinks.insert(name.to_owned(), sink);
        self.outputs.push(Output { query: stream.logical_plan().clone(), sink: table });
    }

    /// Tells `listener` when the pipeline starts, what it does every `progress.interval`, and how it ends.
    pub fn add_listener(&mut self, listener: Arc<dyn Listener>) {
        self.listeners.0.push(listener);
    }

    /// The graph as `riverrun explain` prints it.
    pub fn explain(&self) -> Result<String> {
        let outputs = self.outputs.iter().map(|o| Output { query: o.query.clone(), sink: o.sink.clone() }).collect();
        Ok(self.plan(outputs)?.explain() + &crate::state::explain(&self.settings, &self.context))
    }

    fn plan(&self, outputs: Vec<Output>) -> Result<Graph> {
        let connectors = WithOwn(&self.registry);
        plan_outputs(&self.tables, outputs, &self.settings, &connectors, &self.session).map_err(|e| Error::invalid(e.to_string()))
    }

    /// Connects everything and starts it. `bounded`: read to the end that the sources have now, and stop.
    pub fn start(mut self, bounded: bool) -> Result<Pipeline> {
        let outputs = std::mem::take(&mut self.outputs);
        let graph = self.plan(outputs)?;
        self.context.bounded = bounded;
        let bindings = Bindings::open(&graph, &self.registry, &self.context, &mut self.sinks, false)?;
        let settings = Settings {
            name: self.context.pipeline.clone(),
            bounded,
            trigger_interval: self.settings.trigger_interval,
            progress_interval: self.settings.progress_interval,
            listeners: self.listeners,
            disk: crate::state::open(&self.settings, &self.context)?,
            ..Settings::default()
        };
        Pipeline::start(&graph, bindings, settings, self.context.clock)
    }
}

/// The connector of sinks that a program brings along.
const OWN: &str = "program";

/// The registry, and the sinks that a program brings along.
struct WithOwn<'a>(&'a Registry);

impl Connectors for WithOwn<'_> {
    fn check(&self, table: &Table) -> Result<Capabilities> {
        if table.connector()? == OWN {
            return Ok(Capabilities { sink: true, ..Capabilities::default() });
        }
        self.0.check(table)
    }

    fn dead_letters(&self, table: &Table) -> Result<Option<Table>> {
        self.0.dead_letters(table)
    }

    fn source(&self, node: &SourceNode, context: &Context) -> Result<Arc<dyn Source>> {
        self.0.source(node, context)
    }

    fn sink(&self, node: &SinkNode, context: &Context) -> Result<Box<dyn Sink>> {
        self.0.sink(node, context)
    }
}
