//! A table as a sink: rows replaced and deleted by PRIMARY KEY, one atomic write per epoch, with its number.

use riverrun_engine::connect::Context;
use riverrun_engine::graph::SinkNode;
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::time::Micros;
use riverrun_engine::{Result, failpoint};

use super::config::Config;
use super::store::{Table, Tables};

pub(super) struct TableSink {
    table: Table,
    /// Its name in the script: several sinks may write to one table.
    name: String,
    /// Under what it keeps its positions, if it does.
    lineage: Option<String>,
}

impl TableSink {
    /// Opens the table; makes it if it is missing.
    pub fn new(node: &SinkNode, context: &Context) -> Result<Self> {
        let config = Config::of(&node.table);
        let tables = Tables::open(&config.directory(&context.data_dir))?;
        let table = tables.create_table(&config.name, &node.schema, &node.key)?;
        Ok(Self { table, name: node.table.name.clone(), lineage: None })
    }
}

impl Sink for TableSink {
    fn recover(&mut self, lineage: &str, tasks: u32) -> Result<Option<Vec<u64>>> {
        self.lineage = Some(lineage.to_owned());
        (0..tasks).map(|task| self.table.position((lineage, &self.name), task)).collect::<Result<_>>().map(Some)
    }

    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        if output.rows() > 0 {
            self.table.write(output, self.lineage.as_deref().map(|lineage| (lineage, self.name.as_str())))?;
            failpoint::reach("table.after-write");
        }
        Ok(())
    }

    fn flush(&mut self, _: Micros, _: bool) -> Result<Flushed> {
        // Every write was safe when it returned.
        Ok(Flushed::All)
    }
}
