//! A table as a source: its rows as they are when it is opened, by key, then the end. The offset is the row's number.

use arrow::array::{Array, ArrayRef, RecordBatch};
use riverrun_engine::connect::Context;
use riverrun_engine::graph::SourceNode;
use riverrun_engine::source::{Fetch, Limit, PartitionReader, Poll, Source, Start};
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

use super::config::Config;
use super::store::{Scan, Table, Tables};
use crate::format::sql_type;

pub(super) struct TableSource {
    table: Table,
    /// The columns that the script declares, by their place in the table.
    columns: Vec<usize>,
    node: SourceNode,
}

impl TableSource {
    /// Opens a table that is there.
    pub fn new(node: &SourceNode, context: &Context) -> Result<Self> {
        let config = Config::of(&node.table);
        let table = Tables::open(&config.directory(&context.data_dir))?.table(&config.name)?;
        let columns = node.schema.fields().iter().map(|field| {
            let kept = table.schema().index_of(field.name());
            let Some(kept) = kept.ok() else {
                let names: Vec<_> = table.schema().fields().iter().map(|f| f.name().as_str()).collect();
                return Err(Error::invalid(format!("table {} has no column {}", config.name, field.name()))
                    .hint(format!("it has {}", names.join(", "))));
            };
            let data_type = table.schema().field(kept).data_type();
            if data_type != field.data_type() {
                let (have, want) = (sql_type(data_type), sql_type(field.data_type()));
                return Err(Error::invalid(format!(
                    "column {} of table {} is a {have}, not a {want}",
                    field.name(),
                    config.name
                )));
            }
            Ok(kept)
        });
        Ok(Self { columns: columns.collect::<Result<_>>()?, table, node: node.clone() })
    }
}

impl Source for TableSource {
    fn partitions(&self) -> Result<u32> {
        Ok(1)
    }

    fn resolve(&self, _: u32, start: Start) -> Result<i64> {
        match start {
            Start::Offset(offset) => Ok(offset),
            // At rest there is no newest row to start behind: a table is read whole.
            Start::Earliest | Start::Latest | Start::Time(_) => Ok(0),
        }
    }

    fn end_offset(&self, _: u32) -> Result<Option<i64>> {
        Ok(None)
    }

    fn open(&self, _: u32, offset: i64, stop: Option<i64>) -> Result<Box<dyn PartitionReader>> {
        Ok(Box::new(self.reader(self.table.scan()?, offset, stop)))
    }

    fn key(&self) -> Vec<usize> {
        // The first columns of the key, up to one that the script does not declare.
        let place = |name: &String| self.node.schema.index_of(name).ok();
        self.table.primary_key().iter().map_while(place).collect()
    }

    fn find(&self, values: &[ArrayRef]) -> Result<Box<dyn PartitionReader>> {
        Ok(Box::new(self.reader(self.table.find(values)?, 0, None)))
    }
}

impl TableSource {
    fn reader(&self, scan: Scan, skip: i64, stop: Option<i64>) -> TableReader {
        let rest = RecordBatch::new_empty(self.node.schema.clone());
        TableReader { scan, columns: self.columns.clone(), rest, skip, next: 0, stop: stop.unwrap_or(i64::MAX) }
    }
}

struct TableReader {
    scan: Scan,
    columns: Vec<usize>,
    /// Rows that were read and not given yet.
    rest: RecordBatch,
    /// Rows before this one were given in an earlier run.
    skip: i64,
    /// The number of the first row of `rest`.
    next: i64,
    stop: i64,
}

impl PartitionReader for TableReader {
    fn poll(&mut self, limit: Limit, _: Micros) -> Result<Poll> {
        loop {
            let held = self.rest.num_rows() as i64;
            let skipped = (self.skip - self.next).clamp(0, held);
            self.rest = self.rest.slice(skipped as usize, (held - skipped) as usize);
            self.next += skipped;
            if self.rest.num_rows() > 0 || self.next >= self.stop {
                break;
            }
            let Some(rows) = self.scan.next().transpose()? else { return Ok(Poll::End) };
            let columns = rows.project(&self.columns)?.columns().to_vec();
            self.rest = RecordBatch::try_new(self.rest.schema(), columns)?;
        }
        if self.next >= self.stop {
            return Ok(Poll::End);
        }
        let left = usize::try_from(self.stop.min(limit.until) - self.next).unwrap_or(0);
        let taken = limit.rows.max(1).min(self.rest.num_rows()).min(left);
        if taken == 0 {
            return Ok(Poll::Pending);
        }
        let rows = self.rest.slice(0, taken);
        self.rest = self.rest.slice(taken, self.rest.num_rows() - taken);
        self.next += taken as i64;
        let bytes = rows.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum();
        Ok(Poll::Ready(Fetch { rows, bad: Vec::new(), next_offset: self.next, bytes, newest_record_time: None }))
    }
}
