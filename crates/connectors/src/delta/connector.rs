//! What Delta tables can do, told to the planner.

use std::sync::Arc;

use riverrun_engine::connect::Context;
use riverrun_engine::graph::{SinkNode, SourceNode};
use riverrun_engine::sink::Sink;
use riverrun_engine::source::Source;
use riverrun_engine::table::{Capabilities, Metadata, Table};
use riverrun_engine::{Error, Result};

use super::config::Config;
use super::source::has_metadata;
use super::types::{check_partition_by, columns};
use super::{DeltaSink, DeltaSource};
use crate::connector::Connector;

/// The connector.
pub(super) struct Delta;

impl Connector for Delta {
    fn check(&self, table: &Table) -> Result<Capabilities> {
        let config = Config::parse(&table.options)?;
        let mut writable = table.watermark.is_none();
        for column in &table.columns {
            let Some(metadata) = column.metadata else { continue };
            if !has_metadata(metadata) {
                let name = Metadata::NAMES.iter().find(|(_, m)| *m == metadata).map_or("", |(name, _)| name);
                let text = format!("{}: column {}: rows of a Delta table have no {name}", column.location, column.field.name());
                return Err(Error::invalid(text).hint("they have offset, partition, topic (the path) and processing_time"));
            }
            writable = false;
        }
        if !table.columns.is_empty() {
            let schema = table.schema();
            columns(&schema)?;
            check_partition_by(&schema, &config.partition_by.unwrap_or_default())?;
        }
        // Event time and metadata columns belong to a table that is read from.
        Ok(Capabilities { source: true, sink: writable, ..Capabilities::default() })
    }

    fn starting(&self, table: &Table, start: &str) -> Result<Table> {
        let options = match start {
            "latest" => table.options.with("starting_version", "latest"),
            "earliest" if table.options.get("starting_version").is_none() => table.options.clone(),
            _ => {
                let what = format!("a Delta table is read from the first of its rows on, or from the latest, not from '{start}'");
                return Err(Error::invalid(what).hint("declare it a second time with another starting_version"));
            }
        };
        Config::parse(&options)?;
        Ok(Table { options, ..table.clone() })
    }

    fn source(&self, node: &SourceNode, _: &Context) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(DeltaSource::open(node)?))
    }

    fn sink(&self, node: &SinkNode, _: &Context) -> Result<Box<dyn Sink>> {
        Ok(Box::new(DeltaSink::open(node)?))
    }
}
