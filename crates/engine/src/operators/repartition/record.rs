//! The records of a repartition topic.
//!
//! ```text
//! version (1 byte) | task of the stage | tasks of the stage (4 bytes each) | watermark (8 bytes) | rows, or nothing
//! ```
//! Numbers are little-endian. Rows are the record batch of an Arrow IPC stream, without the schema before it: that is the same
//! for all records of a topic, and part of the topic's name.

use std::io::{Cursor, Read};
use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::MetadataVersion;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};

use crate::time::Micros;
use crate::{Error, Result};

const VERSION: u8 = 1;
const HEAD: usize = 17;

/// The schema of records on their way to a topic: `partition, payload`.
pub fn record_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let partition = Field::new("partition", DataType::Int32, false);
        Arc::new(Schema::new(vec![partition, Field::new("payload", DataType::Binary, false)]))
    });
    SCHEMA.clone()
}

/// What a record says besides its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The task that gave it, among those of its stage.
    pub number: u32,
    /// How many tasks these are.
    pub of: u32,
    /// Behind its rows this task gives none that are older.
    pub watermark: Micros,
}

/// Writes and reads records of one schema.
#[derive(Debug, Clone)]
pub struct Codec {
    schema: SchemaRef,
    /// What an Arrow IPC stream of the schema begins with.
    opening: Vec<u8>,
}

impl Codec {
    /// Of rows of this schema.
    pub fn new(schema: SchemaRef) -> Result<Self> {
        let opening = std::mem::take(writer(&schema)?.get_mut());
        Ok(Self { schema, opening })
    }

    /// The schema of the rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// A record.
    pub fn encode(&self, head: Head, rows: Option<&RecordBatch>) -> Result<Vec<u8>> {
        let mut record = Vec::with_capacity(HEAD);
        record.push(VERSION);
        record.extend(head.number.to_le_bytes());
        record.extend(head.of.to_le_bytes());
        record.extend(head.watermark.to_le_bytes());
        if let Some(rows) = rows {
            let mut writer = writer(&self.schema)?;
            writer.write(rows)?;
            // Without the mark of the stream's end.
            record.extend_from_slice(&writer.get_ref()[self.opening.len()..]);
        }
        Ok(record)
    }

    /// What a record holds.
    pub fn decode(&self, record: &[u8]) -> Result<(Head, Option<RecordBatch>)> {
        let wrong = || {
            let what = "a record of a repartition topic is not as it was written";
            Error::permanent(what).hint("nobody but Riverrun, of this version, may write to this topic")
        };
        let (head, rows) = record.split_at_checked(HEAD).filter(|(head, _)| head[0] == VERSION).ok_or_else(wrong)?;
        let word = |at: usize| <[u8; 4]>::try_from(&head[at..at + 4]).map(u32::from_le_bytes).map_err(|_| wrong());
        let watermark = <[u8; 8]>::try_from(&head[9..HEAD]).map(Micros::from_le_bytes).map_err(|_| wrong())?;
        let head = Head { number: word(1)?, of: word(5)?, watermark };
        if head.number >= head.of {
            return Err(wrong());
        }
        if rows.is_empty() {
            return Ok((head, None));
        }
        let stream = Cursor::new(&self.opening).chain(Cursor::new(rows));
        let mut batches = StreamReader::try_new(stream, None).map_err(|_| wrong())?;
        let rows = batches.next().ok_or_else(wrong)?.map_err(|_| wrong())?;
        Ok((head, Some(rows)))
    }
}

/// A stream that has begun.
fn writer(schema: &SchemaRef) -> Result<StreamWriter<Vec<u8>>> {
    let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?;
    Ok(StreamWriter::try_new_with_options(Vec::new(), schema, options)?)
}
