//! Embedded tables as a connector: what tables it can serve.

use std::sync::Arc;

use riverrun_engine::connect::Context;
use riverrun_engine::graph::{SinkNode, SourceNode};
use riverrun_engine::sink::Sink;
use riverrun_engine::source::Source;
use riverrun_engine::table::{Capabilities, Table};
use riverrun_engine::{Error, Result};

use super::sink::TableSink;
use super::source::TableSource;
use crate::connector::Connector;
use crate::embedded::check_alone;

pub(super) struct TableConnector;

impl Connector for TableConnector {
    fn check(&self, table: &Table) -> Result<Capabilities> {
        if let Some(column) = table.columns.iter().find(|c| c.metadata.is_some()) {
            return Err(Error::invalid(format!(
                "{}: rows of a table have no metadata: column {}",
                column.location,
                column.field.name()
            )));
        }
        // Without a key it can still be read.
        let keyed = !table.primary_key.is_empty();
        Ok(Capabilities { source: true, sink: true, upsert: keyed, delete: keyed, ignored: Vec::new() })
    }

    fn source(&self, node: &SourceNode, context: &Context) -> Result<Arc<dyn Source>> {
        check_alone(context, "an embedded table")?;
        Ok(Arc::new(TableSource::new(node, context)?))
    }

    fn sink(&self, node: &SinkNode, context: &Context) -> Result<Box<dyn Sink>> {
        check_alone(context, "an embedded table")?;
        Ok(Box::new(TableSink::new(node, context)?))
    }
}
