//! The log as a connector: what tables it can serve.

use std::sync::Arc;

use riverrun_engine::Result;
use riverrun_engine::connect::Context;
use riverrun_engine::graph::{SinkNode, SourceNode};
use riverrun_engine::sink::Sink;
use riverrun_engine::source::Source;
use riverrun_engine::table::{Capabilities, Table};

use super::config::Config;
use super::redelivery::LogRedelivery;
use super::sink::{LogSink, key_column};
use super::source::LogSource;
use super::store::Log;
use crate::connector::{Connector, starting_at};
use crate::embedded::check_alone;
use crate::format;
use crate::redelivery::Redelivery;

pub(super) struct LogConnector;

impl Connector for LogConnector {
    fn check(&self, table: &Table) -> Result<Capabilities> {
        let config = Config::of(table)?;
        format::check_sink(table)?;
        if let Some(key) = config.key.as_ref().filter(|_| !table.columns.is_empty()) {
            key_column(key, &table.schema(), &table.options)?;
        }
        // A tombstone takes back what its record key names: that must be the row's own key.
        let own_key = config.key.as_ref().is_none_or(|key| table.primary_key == [key.as_str()]);
        let keyed = !table.primary_key.is_empty();
        Ok(Capabilities { source: true, sink: true, upsert: keyed, delete: keyed && own_key, ignored: Vec::new() })
    }

    fn is_there(&self, table: &Table, context: &Context) -> Result<bool> {
        let config = Config::of(table)?;
        let directory = config.directory(&context.data_dir);
        Ok(Log::exists(&directory) && Log::open(&directory)?.topic(&config.topic).is_some())
    }

    fn starting(&self, table: &Table, start: &str) -> Result<Table> {
        let at = starting_at(table, start);
        Config::of(&at)?;
        Ok(at)
    }

    fn source(&self, node: &SourceNode, context: &Context) -> Result<Arc<dyn Source>> {
        check_alone(context, "the embedded log")?;
        Ok(Arc::new(LogSource::new(node, context)?))
    }

    fn sink(&self, node: &SinkNode, context: &Context) -> Result<Box<dyn Sink>> {
        check_alone(context, "the embedded log")?;
        Ok(Box::new(LogSink::new(node, context)?))
    }

    fn redelivery(&self, table: &Table, context: &Context) -> Result<Box<dyn Redelivery>> {
        check_alone(context, "the embedded log")?;
        Ok(Box::new(LogRedelivery::open(table, context)?))
    }
}
