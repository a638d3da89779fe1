//! Tables of `connector = 'kafka'`: what is possible, and how they are opened.

use std::sync::Arc;

use riverrun_engine::connect::Context;
use riverrun_engine::graph::{Graph, SinkNode, SourceNode};
use riverrun_engine::journal::Journal;
use riverrun_engine::sink::Sink;
use riverrun_engine::source::Source;
use riverrun_engine::table::{Capabilities, Options, Table};
use riverrun_engine::{Error, Result};

use super::config::Config;
use super::journal::{Bus, KafkaJournal};
use super::key::Key;
use super::redelivery::KafkaRedelivery;
use super::repartition;
use super::sink::KafkaSink;
use super::source::KafkaSource;
use crate::connector::{Connector, starting_at};
use crate::format::{self, RowEncoder};
use crate::redelivery::Redelivery;

pub(super) struct Kafka;

impl Connector for Kafka {
    fn check(&self, table: &Table) -> Result<Capabilities> {
        let config = Config::of(table, "riverrun")?;
        config.check()?;
        let decodable = format::check_source(table);
        let writable = format::check_sink(table);
        let is_read = table.watermark.is_some() || table.columns.iter().any(|c| c.metadata.is_some());
        if is_read {
            // A table that is only written may have columns that cannot be decoded.
            decodable.clone()?;
        }
        if !table.columns.is_empty() {
            Key::of(&config.key, &table.schema()).map_err(|what| table.options.error("key", &what))?;
        }
        let mut key = config.key.clone();
        let mut primary = table.primary_key.clone();
        key.sort();
        primary.sort();
        let keyed = !primary.is_empty();
        // A tombstone names a row by the record's key: only where that is the primary key does it take back one row.
        let delete = keyed && key == primary;
        let source = !table.columns.is_empty() && decodable.is_ok();
        let sink = config.topics.one().is_some();
        if !sink && table.columns.is_empty() {
            return Err(table.options.error("topic", "rows are written to one topic, and a table without columns is written to"));
        }
        if table.columns.is_empty() || !source {
            // What is wrong says more than that nothing can be done with it.
            writable.clone()?;
        }
        Ok(Capabilities { source, sink: sink && writable.is_ok(), upsert: keyed, delete, ..Capabilities::default() })
    }

    fn starting(&self, table: &Table, start: &str) -> Result<Table> {
        let at = starting_at(table, start);
        Config::of(&at, "riverrun")?;
        Ok(at)
    }

    fn source(&self, node: &SourceNode, context: &Context) -> Result<Arc<dyn Source>> {
        let config = Config::of(&node.table, &context.pipeline)?;
        Ok(Arc::new(KafkaSource::connect(config, &node.table, context)?))
    }

    fn sink(&self, node: &SinkNode, context: &Context) -> Result<Box<dyn Sink>> {
        let (config, key) = written(node, &context.pipeline)?;
        if config.is_repartition {
            return Err(Error::permanent("a repartition topic is written with the journal"));
        }
        Ok(Box::new(KafkaSink::connect(&config, key, RowEncoder::connect(node, context)?)?))
    }

    fn redelivery(&self, table: &Table, context: &Context) -> Result<Box<dyn Redelivery>> {
        Ok(Box::new(KafkaRedelivery::connect(table, context)?))
    }

    fn repartition(&self, sources: &[&Table], sinks: &[&Table]) -> Result<Option<Options>> {
        repartition::options(sources, sinks)
    }

    fn journal(&self, graph: &Graph, context: &Context) -> Result<Option<Box<dyn Journal>>> {
        let Some(bus) = Bus::of(graph, context)? else { return Ok(None) };
        Ok(Some(Box::new(KafkaJournal::connect(bus)?)))
    }
}

/// The options of a table that is written, and what makes its records' keys.
pub(super) fn written(node: &SinkNode, pipeline: &str) -> Result<(Config, Key)> {
    if repartition::is_format(&node.table.options) {
        return Ok((Config::of(&node.table, pipeline)?, Key::default()));
    }
    let config = Config::of(&node.table, pipeline)?;
    let key = Key::of(&config.key, &node.schema).map_err(|what| node.table.options.error("key", &what))?;
    Ok((config, key))
}
