//! A table as a sink: rows replaced and deleted by PRIMARY KEY, one atomic write per epoch.

use riverrun_engine::Result;
use riverrun_engine::connect::Context;
use riverrun_engine::graph::SinkNode;
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::time::Micros;

use super::config::Config;
use super::store::{Table, Tables};

pub(super) struct TableSink {
    table: Table,
}

impl TableSink {
    /// Opens the table; makes it if it is missing.
    pub fn new(node: &SinkNode, context: &Context) -> Result<Self> {
        let config = Config::of(&node.table);
        let tables = Tables::open(&config.directory(&context.data_dir))?;
        Ok(Self { table: tables.create_table(&config.name, &node.schema, &node.key)? })
    }
}

impl Sink for TableSink {
    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        match output.rows() {
            0 => Ok(()),
            _ => self.table.write(output),
        }
    }

    fn flush(&mut self, _: Micros, _: bool) -> Result<Flushed> {
        // Every write was safe when it returned.
        Ok(Flushed::All)
    }
}
