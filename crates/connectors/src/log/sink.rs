//! The log as a sink: one atomic append per epoch.
//!
//! Where epochs can be repeated, the number of an epoch goes into the append of its rows, as an entry of the log's journal:
//! hence each is there once. Rows are records with a JSON object or an Avro record as their value; the record's own time is the epoch's
//! clock. A row that is taken back is a tombstone: a record of its key without a value.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Schema};
use riverrun_engine::batch::{Batch as Rows, Change};
use riverrun_engine::connect::Context;
use riverrun_engine::graph::SinkNode;
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::table::Options;
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result, failpoint};

use super::batch::{Batch, NewRecord};
use super::config::Config;
use super::keys;
use super::store::Log;
use super::topic::Topic;
use crate::embedded::parse_epoch;
use crate::format::{JsonEncoder, RowEncoder};

/// A topic that is written.
pub(super) struct LogSink {
    log: Arc<Log>,
    topic: Arc<Topic>,
    /// The table's name in the script.
    name: String,
    /// Under what it keeps its positions, if it does.
    lineage: Option<String>,
    key: RecordKey,
    keys: JsonEncoder,
    rows: RowEncoder,
    batch: Batch,
    /// The epoch (task, number) that the batch holds: encoded, but its append failed. A repeated write appends the same batch.
    encoded: Option<(u32, u64)>,
}

/// What becomes the key of a record.
#[derive(Debug, Clone, PartialEq)]
enum RecordKey {
    /// Nothing: records spread over partitions.
    None,
    /// The text of a column (the option `key`, or a PRIMARY KEY of one column).
    Column(usize),
    /// A JSON object of several columns (a PRIMARY KEY of several).
    Columns(Vec<usize>),
}

impl LogSink {
    /// Opens the log; makes the topic if it is missing.
    pub fn new(node: &SinkNode, context: &Context) -> Result<Self> {
        let config = Config::of(&node.table)?;
        let key = RecordKey::of(&config, node)?;
        let log = Log::open(&config.directory(&context.data_dir))?;
        let topic = log.create_topic(&config.topic, config.partitions, config.retention)?;
        let batch = Batch::new(config.durability);
        let name = node.table.name.clone();
        let rows = RowEncoder::connect(node, context)?;
        Ok(Self { log, topic, name, lineage: None, key, keys: JsonEncoder::default(), rows, batch, encoded: None })
    }

    fn encode(&mut self, output: &EpochOutput) -> Result<()> {
        self.batch.clear();
        for Rows { rows, change } in &output.batches {
            let keys = self.key.keys(rows, &self.keys)?;
            let values = match change {
                Change::Delete => None,
                Change::Insert | Change::Late | Change::Upsert => Some(self.rows.encode(rows)?),
            };
            for row in 0..rows.num_rows() {
                let key = keys.as_ref().filter(|keys| keys.is_valid(row)).map(|keys| keys.value(row).as_bytes());
                let value = values.as_ref().map(|values| values.row(row));
                if value.is_none() && key.is_none() {
                    return Err(Error::permanent("a row without a key cannot be taken back").hint("name the key: key = 'column'"));
                }
                self.batch.push(&self.topic, NewRecord { key, value, timestamp: output.clock, ..NewRecord::default() })?;
            }
        }
        if let Some(lineage) = &self.lineage {
            let key = keys::epoch(lineage, &self.name, output.task);
            self.batch.journal(key, Some(output.epoch.to_be_bytes().to_vec()));
        }
        Ok(())
    }
}

impl Sink for LogSink {
    fn recover(&mut self, lineage: &str, tasks: u32) -> Result<Option<Vec<u64>>> {
        self.lineage = Some(lineage.to_owned());
        let last = |task| parse_epoch(self.log.journal(&keys::epoch(lineage, &self.name, task))?.as_deref());
        (0..tasks).map(last).collect::<Result<_>>().map(Some)
    }

    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        if output.rows() == 0 {
            return Ok(());
        }
        let epoch = (output.task, output.epoch);
        if self.encoded != Some(epoch) {
            self.encoded = None;
            self.encode(output)?;
            self.encoded = Some(epoch);
        }
        self.log.append(&mut self.batch, output.clock)?;
        failpoint::reach("log.after-append");
        self.encoded = None;
        Ok(())
    }

    fn flush(&mut self, _: Micros, _: bool) -> Result<Flushed> {
        // Every write was one append, and safe when it returned.
        Ok(Flushed::All)
    }
}

impl RecordKey {
    fn of(config: &Config, node: &SinkNode) -> Result<Self> {
        let Some(name) = &config.key else {
            return Ok(match node.key.as_slice() {
                [] => Self::None,
                [column] => Self::Column(*column),
                columns => Self::Columns(columns.to_vec()),
            });
        };
        let column = key_column(name, &node.schema, &node.table.options)?;
        Ok(Self::Column(column))
    }

    /// The keys of the rows. `None`: they have none.
    fn keys(&self, rows: &RecordBatch, encoder: &JsonEncoder) -> Result<Option<StringArray>> {
        match self {
            Self::None => Ok(None),
            Self::Column(column) => {
                let column = rows.column(*column);
                let text = match column.data_type() {
                    DataType::Utf8 => Arc::clone(column),
                    _ => arrow::compute::cast(column, &DataType::Utf8)?,
                };
                Ok(Some(text.as_string::<i32>().clone()))
            }
            Self::Columns(columns) => {
                let encoded = encoder.encode(&rows.project(columns)?)?;
                let text = |row: &[u8]| String::from_utf8_lossy(row).into_owned();
                Ok(Some(StringArray::from_iter_values(encoded.iter().map(text))))
            }
        }
    }
}

/// The column that the option `key` names: it must be there and have a text.
pub(super) fn key_column(name: &str, schema: &Schema, options: &Options) -> Result<usize> {
    let column = schema.index_of(name).map_err(|_| {
        let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        options.error("key", &format!("there is no column '{name}'")).hint(format!("there are {}", names.join(", ")))
    })?;
    let data_type = schema.field(column).data_type();
    if data_type.is_nested() || !arrow::compute::can_cast_types(data_type, &DataType::Utf8) {
        return Err(options.error("key", &format!("the column '{name}' has no text")).hint("name a column of text or numbers"));
    }
    Ok(column)
}
