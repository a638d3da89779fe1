//! Rows as records: what a sink's topic gets of a batch, whoever sends it.

use riverrun_engine::Result;
use riverrun_engine::batch::{Batch, Change};

use super::key::{Key, Keys};
use crate::format::{EncodedRows, JsonEncoder, RowEncoder};

/// How a sink's rows become records.
pub(super) struct Writer {
    /// The topic that takes them.
    pub topic: String,
    key: Key,
    keys: JsonEncoder,
    rows: RowEncoder,
}

/// The records of a batch: keys, and values unless the rows are deleted.
pub(super) struct Records<'a> {
    keys: Keys<'a>,
    values: Option<EncodedRows>,
}

impl Writer {
    /// Rows with this key, encoded so, to a topic.
    pub fn new(topic: String, key: Key, rows: RowEncoder) -> Self {
        Self { topic, key, keys: JsonEncoder::default(), rows }
    }

    /// The records of a batch. A delete is a tombstone.
    pub fn records<'a>(&self, batch: &'a Batch) -> Result<Records<'a>> {
        let values = match batch.change {
            Change::Delete => None,
            Change::Insert | Change::Late | Change::Upsert => Some(self.rows.encode(&batch.rows)?),
        };
        Ok(Records { keys: self.key.of_rows(&batch.rows, &self.keys)?, values })
    }
}

impl Records<'_> {
    /// Key and value of a row.
    pub fn row(&self, row: usize) -> (Option<&[u8]>, Option<&[u8]>) {
        (self.keys.row(row), self.values.as_ref().map(|values| values.row(row)))
    }

    /// A row's key and number, for messages.
    pub fn place(&self, row: usize) -> String {
        let key = self.keys.row(row).map(String::from_utf8_lossy).unwrap_or_default();
        format!("row {row}, key '{key}'")
    }
}
