//! The contract between a graph and the connectors: how tables become sources and sinks.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::FieldRef;

use crate::graph::{Graph, SinkNode, SourceNode};
use crate::journal::Journal;
use crate::sink::Sink;
use crate::source::Source;
use crate::table::{Capabilities, Options, Table};
use crate::time::Clock;
use crate::{Error, Result};

/// What a connector may need to know of the pipeline that it serves.
#[derive(Clone)]
pub struct Context {
    /// `SET pipeline.name`: consumer group, names of internal things.
    pub pipeline: String,
    /// `SET pipeline.instance`, or `--instance`: which of the instances that share the pipeline's tasks. `None`: the only one,
    /// as far as anybody said.
    pub instance: Option<String>,
    /// Where embedded stores live when an option names no path of its own.
    pub data_dir: PathBuf,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Whether the run ends with what is there now: then who cannot be reached is not waited for.
    pub bounded: bool,
}

impl Context {
    /// Of a pipeline's only instance, in a run that goes on.
    pub fn new(pipeline: impl Into<String>, data_dir: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self { pipeline: pipeline.into(), instance: None, data_dir: data_dir.into(), clock, bounded: false }
    }
}

/// What a schema registry tells of a table.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Its columns, in order.
    pub columns: Vec<FieldRef>,
    /// Options to read them by, unless the script says them: names and values.
    pub options: Vec<(String, String)>,
}

/// All connectors of a program. The planner asks it what is possible, the runtime to open.
pub trait Connectors: Send + Sync {
    /// Checks a declaration without I/O: connector known, options known (else the nearest name is told) and well-formed.
    /// An error says what is wrong with it; that it is about this table is for the caller to say.
    fn check(&self, table: &Table) -> Result<Capabilities>;

    /// The columns of a table that a schema registry tells. May do I/O: asked before planning, and only for such tables.
    fn columns(&self, table: &Table, context: &Context) -> Result<Told> {
        let _ = context;
        Err(Error::invalid(format!("nobody tells the columns of {}", table.name)))
    }

    /// The table that takes the bad records of this source, where its options ask for one.
    fn dead_letters(&self, table: &Table) -> Result<Option<Table>>;

    /// The options of a repartition topic's table, but for its name: on the bus of a graph's sources, where all are on one that can
    /// hold it beside its `sinks`. `None`: one task reads all partitions where keys do not contain the sources' own.
    ///
    /// # Errors
    /// An option of a table that is none.
    fn repartition(&self, sources: &[&Table], sinks: &[&Table]) -> Result<Option<Options>> {
        let _ = (sources, sinks);
        Ok(None)
    }

    /// The table, as a query reads it that begins at `start` (`earliest`, `latest`, a time) with a reading of its own. No I/O.
    ///
    /// # Errors
    /// The table cannot be read from there.
    fn starting(&self, table: &Table, start: &str) -> Result<Table> {
        Err(Error::invalid(format!("{} cannot be read from '{start}' on", table.name)))
    }

    /// Connects a source. May do I/O.
    fn source(&self, node: &SourceNode, context: &Context) -> Result<Arc<dyn Source>>;

    /// Connects a sink. May do I/O; creates topics, tables and folders that are missing.
    fn sink(&self, node: &SinkNode, context: &Context) -> Result<Box<dyn Sink>>;

    /// The journal that lives on the bus of the graph's tables, where there is one that can hold it. May do I/O. `None`: the
    /// journal is kept beside the checkpoints.
    fn journal(&self, graph: &Graph, context: &Context) -> Result<Option<Box<dyn Journal>>> {
        let _ = (graph, context);
        Ok(None)
    }
}
