//! A script with its connectors: loaded, checked, planned, started.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use riverrun_connectors::registry::Registry;
use riverrun_engine::checkpoint::Storage;
use riverrun_engine::connect::{Connectors, Context};
use riverrun_engine::error::Kind;
use riverrun_engine::graph::{Graph, Parallelism};
use riverrun_engine::runtime::{Bindings, Pipeline, Settings};
use riverrun_engine::sink::Sink;
use riverrun_engine::table::Table;
use riverrun_engine::time::{Clock, SystemClock};
use riverrun_engine::{Error, Result};
use riverrun_serve::metrics::declared::Declared;
use riverrun_sql::plan::{Planned, plan};
use riverrun_sql::script::Script;

use crate::storage::Location;

/// Values of `${NAME}` in scripts: what was set, else the environment.
#[derive(Debug, Clone, Default)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// From `NAME=value` pairs, as `--set` gives them.
    ///
    /// # Errors
    /// A pair without `=`.
    pub fn parse(pairs: &[String]) -> Result<Self> {
        let pair = |pair: &String| match pair.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(Error::invalid(format!("--set {pair}: write --set NAME=value"))),
        };
        Ok(Self(pairs.iter().map(pair).collect::<Result<_>>()?))
    }

    /// Sets one unless it was set before.
    pub fn or_set(&mut self, name: &str, value: &str) {
        self.0.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned().or_else(|| std::env::var(name).ok())
    }

    /// Where embedded stores live: `DATA_DIR`, else `./riverrun-data`.
    pub fn data_dir(&self) -> PathBuf {
        self.get("DATA_DIR").map_or_else(|| PathBuf::from("./riverrun-data"), PathBuf::from)
    }
}

/// A script that can be run.
pub struct Program {
    /// The script as parsed.
    pub script: Script,
    /// What it computes.
    pub graph: Graph,
    /// What `SET` said.
    pub settings: riverrun_sql::plan::Settings,
    /// The metrics that the script declares (`SET metric.NAME`).
    pub metrics: Vec<Declared>,
    /// The connectors.
    pub registry: Arc<Registry>,
    /// What they are told.
    pub context: Context,
}

impl Program {
    /// Reads, parses, checks and plans the script in a file. Connects to nothing, but for a schema registry where the script
    /// leaves columns to it.
    ///
    /// # Errors
    /// The file cannot be read, or what is wrong with the script, with its place.
    pub fn load(path: &Path, variables: &Variables) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
        Self::parse(&path.display().to_string(), &text, variables)
    }

    /// As [`load`](Program::load), of a text; `file` is its name in messages.
    pub fn parse(file: &str, text: &str, variables: &Variables) -> Result<Self> {
        let registry = Arc::new(Registry::default());
        let invalid = |e: riverrun_sql::ScriptError| Error::invalid(e.to_string());
        let mut script = riverrun_sql::parse(file, text, &|name| variables.get(name)).map_err(invalid)?;
        let stem = Path::new(file).file_stem().map_or_else(|| "pipeline".into(), |s| s.to_string_lossy().into_owned());
        let context = Context::new(stem.clone(), variables.data_dir(), Arc::new(SystemClock));
        resolve(&mut script, registry.as_ref(), &context)?;
        let Planned { graph, settings } = plan(&script, registry.as_ref()).map_err(|e| Error::invalid(e.to_string()))?;
        let metrics = crate::metrics::declared(&script, &graph).map_err(|e| Error::invalid(e.to_string()))?;
        let pipeline = settings.pipeline_name.clone().unwrap_or(stem);
        let instance = settings.instance.clone();
        let context = Context { pipeline, instance, ..context };
        Ok(Self { script, graph, settings, metrics, registry, context })
    }

    /// Connects its tables and starts it.
    ///
    /// # Errors
    /// A table that cannot be connected.
    pub fn start(&self, bounded: bool, workers: Option<usize>) -> Result<Pipeline> {
        self.start_with(BTreeMap::new(), Settings { bounded, workers, ..Settings::default() })
    }

    /// As [`start`](Program::start), with sinks of one's `own` for the tables of those names.
    pub fn start_with(&self, mut own: BTreeMap<String, Box<dyn Sink>>, settings: Settings) -> Result<Pipeline> {
        let location = self.location()?;
        let checkpoints: Option<Arc<dyn Storage>> = match settings.bounded {
            true => None,
            false => Some(Arc::new(location.open(&self.settings.checkpoint_s3)?)),
        };
        let local = location.directory().map(Path::to_owned).unwrap_or_else(|| self.local_folder());
        let settings = Settings {
            name: self.context.pipeline.clone(),
            instance: self.context.instance.clone(),
            progress_interval: self.settings.progress_interval,
            trigger_interval: self.settings.trigger_interval,
            checkpoints,
            checkpoint_keep: self.settings.checkpoint_keep,
            journal_dir: Some(local.join("journal")),
            checkpoint_interval: self.settings.checkpoint_interval,
            disk: crate::state::open(&self.settings, &self.context)?,
            ..settings
        };
        let context = Context { bounded: settings.bounded, ..self.context.clone() };
        // Repartition topics live with a journal; a bounded run keeps none, and is one task then.
        let journaled = settings.checkpoints.is_some();
        let graph = if journaled { self.graph.clone() } else { self.graph.joined() };
        let bindings = Bindings::open(&graph, self.registry.as_ref(), &context, &mut own, journaled)?;
        if settings.checkpoints.is_some() && bindings.journal.is_none() && location.directory().is_none() {
            tracing::info!(
                "checkpoints go to {location}; the journal is a local file in {}: keep both, or a start is refused",
                local.display()
            );
        }
        Pipeline::start(&graph, bindings, settings, self.clock())
    }

    /// Where state and positions are kept: `checkpoint.location`, by default in the data directory; one folder per pipeline.
    ///
    /// # Errors
    /// It is no path or URL.
    pub fn location(&self) -> Result<Location> {
        match &self.settings.checkpoint_location {
            None => Location::parse(&self.local_folder().to_string_lossy()),
            Some(location) => {
                let location = Location::parse(location).map_err(|e| e.within("SET checkpoint.location"))?;
                Ok(location.folder(&self.context.pipeline))
            }
        }
    }

    /// The pipeline's folder in the data directory.
    pub fn local_folder(&self) -> PathBuf {
        self.context.data_dir.join("checkpoints").join(&self.context.pipeline)
    }

    /// The graph and where its state lies, as `riverrun explain` prints them.
    pub fn explain(&self) -> String {
        let mut text = self.graph.explain();
        let on_kafka = self.graph.sources().all(|(_, source)| source.table.connector().is_ok_and(|name| name == "kafka"));
        text.push_str(match (&self.graph.parallelism, self.settings.repartition) {
            (Parallelism::Single(_), 0) if on_kafka => "SET repartition.partitions = '8', or another number, lets so many tasks share this by key\n",
            (Parallelism::Single(_), 1..) => {
                "repartition.partitions changes nothing here: all sources must be on one Kafka cluster, and no UNION ALL may mix rows \
                 before and behind a repartition\n"
            }
            _ => "",
        });
        text + &crate::state::explain(&self.settings, &self.context)
    }

    /// Wall time.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.context.clock.clone()
    }
}

/// Asks schema registries for the columns that a script leaves to them.
pub(crate) fn resolve(script: &mut Script, registry: &Registry, context: &Context) -> Result<()> {
    let failed = Cell::new(Kind::Invalid);
    let ask = |table: &Table| registry.columns(table, context).inspect_err(|e| failed.set(e.kind()));
    riverrun_sql::resolve(script, &ask).map_err(|e| match failed.get() {
        Kind::Invalid => Error::invalid(e.to_string()),
        Kind::Permanent => Error::permanent(e.to_string()),
        Kind::Transient => Error::transient(e.to_string()),
    })
}
