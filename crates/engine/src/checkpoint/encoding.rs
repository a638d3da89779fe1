//! How a part of state looks in a data file: an Arrow IPC stream of one batch, compressed with LZ4 (block format) where that
//! makes it at least a tenth smaller. It is compressed if it is shorter in the file than in memory.

use std::io::Cursor;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use crate::Result;

/// A part's bytes.
pub struct Encoded {
    /// As they are stored.
    pub stored: Vec<u8>,
    /// How many they are when they are not compressed.
    pub length: u64,
}

/// Encodes rows.
pub fn encode(rows: &RecordBatch) -> Result<Encoded> {
    let mut plain = Vec::with_capacity(rows.get_array_memory_size() + 1024);
    let mut writer = StreamWriter::try_new(&mut plain, rows.schema_ref())?;
    writer.write(rows)?;
    writer.finish()?;
    drop(writer);
    let length = plain.len() as u64;
    let compressed = lz4_flex::block::compress(&plain);
    let pays = compressed.len() + plain.len() / 10 < plain.len();
    Ok(Encoded { stored: if pays { compressed } else { plain }, length })
}

/// The rows of stored bytes whose checksum fits, or why there are none.
pub fn decode(stored: &[u8], length: u64) -> Result<RecordBatch, String> {
    let plain;
    let stream = if stored.len() as u64 == length {
        stored
    } else {
        let length = usize::try_from(length).map_err(|_| "a part is too long")?;
        plain = lz4_flex::block::decompress(stored, length).map_err(|e| format!("a part cannot be decompressed: {e}"))?;
        &plain
    };
    let mut batches = StreamReader::try_new(Cursor::new(stream), None).map_err(|e| e.to_string())?;
    let rows = batches.next().ok_or("a part holds no rows")?.map_err(|e| e.to_string())?;
    match batches.next() {
        None => Ok(rows),
        Some(_) => Err("a part holds several batches".into()),
    }
}
