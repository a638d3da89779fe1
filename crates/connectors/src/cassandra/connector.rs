//! What Cassandra's tables can do, told to the planner.

use std::sync::Arc;

use riverrun_engine::connect::Context;
use riverrun_engine::graph::{SinkNode, SourceNode};
use riverrun_engine::sink::Sink;
use riverrun_engine::source::Source;
use riverrun_engine::table::{Capabilities, Table};
use riverrun_engine::{Error, Result};

use super::config::Config;
use super::late;
use super::source::CassandraSource;
use crate::connector::Connector;

/// The connector.
pub(super) struct Cassandra;

impl Connector for Cassandra {
    fn check(&self, table: &Table) -> Result<Capabilities> {
        if let Some(column) = table.columns.iter().find(|c| c.metadata.is_some()) {
            let (at, name) = (column.location, column.field.name());
            return Err(Error::invalid(format!("{at}: column {name}: rows of a Cassandra table have no metadata")));
        }
        if table.primary_key.is_empty() {
            return Err(Error::invalid("a Cassandra table needs a PRIMARY KEY: its rows are written and replaced by it")
                .hint("add PRIMARY KEY (column, …) to CREATE TABLE; its first column finds the node (option 'partition_key')"));
        }
        Config::of(table)?;
        // Event time belongs to a table that is read from.
        Ok(Capabilities { source: true, sink: table.watermark.is_none(), upsert: true, delete: true, ignored: Vec::new() })
    }

    fn source(&self, node: &SourceNode, _: &Context) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(CassandraSource::open(node)?))
    }

    fn sink(&self, node: &SinkNode, context: &Context) -> Result<Box<dyn Sink>> {
        late::open(node, context.bounded)
    }
}
