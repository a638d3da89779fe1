//! A segment of rows in a file: each row by itself, in arrow's row format, so that one can be read alone; then their owners.
//!
//! Only this process reads it: checkpoints hold the same rows as columns.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow_row::{RowConverter, RowParser, SortField};

use super::super::disk::{Extent, Space};
use super::batch;
use crate::operator::StoredRows;
use crate::{Error, Result};

/// How rows of a schema become bytes.
#[derive(Debug)]
pub(super) struct Codec {
    schema: SchemaRef,
    /// The owner, then the columns of `schema`.
    part: SchemaRef,
    converter: RowConverter,
    parser: RowParser,
}

impl Codec {
    /// # Errors
    /// A type that arrow's row format does not know.
    pub(super) fn new(schema: SchemaRef, part: SchemaRef) -> Result<Self> {
        let fields = schema.fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
        let converter = RowConverter::new(fields).map_err(|e| {
            Error::invalid(format!("this state cannot be kept on disk: {e}"))
                .hint("SET state.backend = 'memory' keeps it in memory")
        })?;
        Ok(Self { schema, part, parser: converter.parser(), converter })
    }

    /// The columns of rows, one behind the other in `bytes`, that end there.
    pub(super) fn decode(&self, bytes: &[u8], ends: &[usize]) -> Result<RecordBatch> {
        let starts = std::iter::once(&0).chain(ends);
        let rows = starts.zip(ends).map(|(start, end)| self.parser.parse(&bytes[*start..*end]));
        let columns = if ends.is_empty() { self.empty() } else { self.converter.convert_rows(rows)? };
        let typed = columns.into_iter().zip(self.schema.fields()).map(|(column, field)| {
            if column.data_type() == field.data_type() { Ok(column) } else { Ok(cast(&column, field.data_type())?) }
        });
        batch(&self.schema, typed.collect::<Result<_>>()?, ends.len())
    }

    fn empty(&self) -> Vec<ArrayRef> {
        RecordBatch::new_empty(self.schema.clone()).columns().to_vec()
    }
}

/// Where the rows of a segment begin and end.
#[derive(Debug)]
enum Bounds {
    /// All are of this length.
    Width(u32),
    /// Row `i` ends at number `i`.
    Ends(Vec<u32>),
}

/// A segment in a file.
#[derive(Debug)]
pub(super) struct Stored {
    codec: Arc<Codec>,
    extent: Extent,
    rows: usize,
    bounds: Bounds,
}

impl Stored {
    /// Writes rows and their owners.
    ///
    /// # Errors
    /// The disk is full; a row of 4 GiB.
    pub(super) fn write(space: &Arc<Space>, codec: &Arc<Codec>, columns: &[ArrayRef], owners: &[u32]) -> Result<Self> {
        let encoded = codec.converter.convert_columns(columns)?;
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(owners.len()));
        for row in &encoded {
            bytes.extend_from_slice(row.data());
            ends.push(u32::try_from(bytes.len()).map_err(|_| Error::permanent("a segment of state has more than 4 GiB"))?);
        }
        drop(encoded);
        let width = ends.first().copied().unwrap_or(0);
        let same = (1..).zip(&ends).all(|(row, end)| u64::from(width) * row == u64::from(*end));
        let bounds = if same { Bounds::Width(width) } else { Bounds::Ends(ends) };
        bytes.extend(owners.iter().flat_map(|owner| owner.to_le_bytes()));
        Ok(Self { codec: codec.clone(), extent: space.put(&bytes)?, rows: owners.len(), bounds })
    }

    fn end(&self, row: usize) -> usize {
        match &self.bounds {
            Bounds::Width(width) => *width as usize * (row + 1),
            Bounds::Ends(ends) => ends[row] as usize,
        }
    }

    fn start(&self, row: usize) -> usize {
        row.checked_sub(1).map_or(0, |before| self.end(before))
    }

    /// Reads rows that stand side by side, and puts them behind those that are in `bytes`.
    pub(super) fn read(&self, rows: Range<usize>, bytes: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<()> {
        let (from, at) = (self.start(rows.start), bytes.len());
        bytes.resize(at + self.end(rows.end - 1) - from, 0);
        self.extent.read(from as u64, &mut bytes[at..])?;
        ends.extend(rows.map(|row| at + self.end(row) - from));
        Ok(())
    }

    /// Their owners.
    pub(super) fn owners(&self) -> Result<UInt32Array> {
        let bytes = self.extent.bytes(self.data(), 4 * self.rows)?;
        Ok(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect::<Vec<_>>().into())
    }

    /// Bytes of the rows.
    pub(super) fn data(&self) -> u64 {
        self.start(self.rows) as u64
    }

    /// Bytes in memory.
    pub(super) fn memory(&self) -> u64 {
        match &self.bounds {
            Bounds::Width(_) => size_of::<Self>() as u64,
            Bounds::Ends(ends) => (size_of::<Self>() + 4 * ends.capacity()) as u64,
        }
    }

    /// Bytes on disk.
    pub(super) fn disk(&self) -> u64 {
        self.extent.length()
    }
}

impl StoredRows for Stored {
    fn load(&self) -> Result<RecordBatch> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        self.read(0..self.rows, &mut bytes, &mut ends)?;
        let rows = self.codec.decode(&bytes, &ends)?;
        let owners: ArrayRef = Arc::new(self.owners()?);
        batch(&self.codec.part, std::iter::once(owners).chain(rows.columns().iter().cloned()).collect(), self.rows)
    }
}
