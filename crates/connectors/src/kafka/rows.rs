//! Rows as records: what a sink's topic gets of a batch, whoever sends it.

use riverrun_engine::Result;
use riverrun_engine::batch::{Batch, Change};

use super::key::{Key, Keys};
use super::repartition::Outgoing;
use crate::format::{EncodedRows, JsonEncoder, RowEncoder};

/// How a sink's rows become records.
pub(super) struct Writer {
    /// The topic that takes them.
    pub topic: String,
    key: Key,
    keys: JsonEncoder,
    /// `None`: rows are the records of a repartition topic already.
    rows: Option<RowEncoder>,
}

/// The records of a batch.
pub(super) enum Records<'a> {
    /// Keys, and values unless the rows are deleted.
    Encoded { keys: Keys<'a>, values: Option<EncodedRows> },
    /// Those of a repartition topic.
    Ready(Outgoing<'a>),
}

/// A record to be sent.
pub(super) struct Row<'a> {
    pub key: Option<&'a [u8]>,
    pub payload: Option<&'a [u8]>,
    /// `None`: as the key says.
    pub partition: Option<i32>,
}

impl Writer {
    /// Rows with this key, encoded so, to a topic.
    pub fn new(topic: String, key: Key, rows: RowEncoder) -> Self {
        Self { topic, key, keys: JsonEncoder::default(), rows: Some(rows) }
    }

    /// Records of a repartition topic, as they are.
    pub fn ready(topic: String) -> Self {
        Self { topic, key: Key::default(), keys: JsonEncoder::default(), rows: None }
    }

    /// The records of a batch. A delete is a tombstone.
    pub fn records<'a>(&self, batch: &'a Batch) -> Result<Records<'a>> {
        let Some(rows) = &self.rows else { return Ok(Records::Ready(Outgoing::of(&batch.rows)?)) };
        let values = match batch.change {
            Change::Delete => None,
            Change::Insert | Change::Late | Change::Upsert => Some(rows.encode(&batch.rows)?),
        };
        Ok(Records::Encoded { keys: self.key.of_rows(&batch.rows, &self.keys)?, values })
    }
}

impl Records<'_> {
    /// The record of a row.
    pub fn row(&self, row: usize) -> Row<'_> {
        match self {
            Self::Encoded { keys, values } => {
                Row { key: keys.row(row), payload: values.as_ref().map(|values| values.row(row)), partition: None }
            }
            Self::Ready(records) => {
                let (partition, payload) = records.row(row);
                Row { key: None, payload: Some(payload), partition: Some(partition) }
            }
        }
    }

    /// A row's key and number, for messages.
    pub fn place(&self, row: usize) -> String {
        let record = self.row(row);
        match record.partition {
            Some(partition) => format!("record {row}, for partition {partition}"),
            None => format!("row {row}, key '{}'", record.key.map(String::from_utf8_lossy).unwrap_or_default()),
        }
    }
}
