//! Where the bytes of keys stand: one behind the other, with their slots.
//!
//! Invariants: a sealed segment never changes but for keys that die, so it is a part of a checkpoint as it is, without a copy;
//! a segment ends at a number of keys or bytes, so that offsets fit and opening it again is bounded work.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, UInt32Array};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use super::super::disk::{Extent, Space};
use super::super::live::Live;
use super::super::parts::{self, SavedPart};
use super::super::row_store::{FULL_BYTES, FULL_ROWS, class};
use super::super::unshared::unshared;
use crate::Result;
use crate::operator::{PartRows, StoredRows};

/// Fewer dead keys than this, and of fewer bytes, are not worth a rewrite of the open segment.
const FEW: usize = 64;

/// What the bytes are. Arrow does not promise that its row format stays: a test holds it to what this name stands for.
const FORMAT: &str = "arrow-row 1";

/// The schema of a segment as a part.
pub(super) fn schema(fields: &[FieldRef]) -> SchemaRef {
    let types: Vec<_> = fields.iter().map(|f| f.data_type().to_string()).collect();
    let metadata = HashMap::from([("format".to_owned(), FORMAT.to_owned()), ("of".to_owned(), types.join(", "))]);
    let key = Field::new("key", DataType::Binary, false).with_metadata(metadata);
    Arc::new(Schema::new(vec![Field::new("slot", DataType::UInt32, false), key]))
}

/// The segment that new keys go to.
#[derive(Debug)]
pub(super) struct Open {
    bytes: Vec<u8>,
    /// Ends of the keys; the first is the begin of the first.
    offsets: Vec<i32>,
    slots: Vec<u32>,
    live: Live,
}

impl Default for Open {
    fn default() -> Self {
        Self { bytes: Vec::new(), offsets: vec![0], slots: Vec::new(), live: Live::all(0) }
    }
}

impl Open {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds a key; gives its row and the place of its bytes.
    pub(super) fn push(&mut self, slot: u32, bytes: &[u8]) -> (u32, u32) {
        let place = (self.slots.len() as u32, self.bytes.len() as u32);
        self.bytes.extend_from_slice(bytes);
        self.offsets.push(self.bytes.len() as i32);
        self.slots.push(slot);
        self.live.push();
        place
    }

    pub(super) fn remove(&mut self, row: u32) {
        self.live.clear(row);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.slots.len() >= FULL_ROWS || self.bytes.len() as u64 >= FULL_BYTES
    }

    pub(super) fn is_mostly_dead(&self) -> bool {
        self.slots.len() > FEW && self.live.is_mostly_dead()
    }

    /// `None`: no keys.
    pub(super) fn class(&self) -> Option<usize> {
        (self.live.count() > 0).then(|| class(self.live.count()))
    }

    pub(super) fn size(&self) -> usize {
        self.bytes.capacity() + 4 * (self.offsets.capacity() + self.slots.capacity()) + self.live.bytes()
    }

    /// The same, for good. Its memory is cut to what it needs.
    pub(super) fn seal(mut self, schema: &SchemaRef) -> Result<(Columns, Live)> {
        self.bytes.shrink_to_fit();
        self.offsets.shrink_to_fit();
        self.slots.shrink_to_fit();
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        let keys = BinaryArray::try_new(offsets, Buffer::from_vec(self.bytes), None)?;
        let slots = UInt32Array::new(ScalarBuffer::from(self.slots), None);
        let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(slots), Arc::new(keys)])?;
        Ok((Columns::new(rows), self.live))
    }
}

/// The keys of a segment, in memory.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    pub(super) rows: RecordBatch,
    slots: UInt32Array,
    keys: BinaryArray,
}

impl Columns {
    fn new(rows: RecordBatch) -> Self {
        let (slots, keys) = (rows.column(0).as_primitive().clone(), rows.column(1).as_binary().clone());
        Self { rows, slots, keys }
    }

    /// The bytes of all keys.
    pub(super) fn bytes(&self) -> &[u8] {
        self.keys.value_data()
    }

    /// Slot and bytes of a key.
    pub(super) fn key(&self, row: u32) -> (u32, &[u8]) {
        (self.slots.value(row as usize), self.keys.value(row as usize))
    }

    /// Place of a key among the bytes.
    pub(super) fn offset(&self, row: u32) -> u32 {
        self.keys.value_offsets()[row as usize] as u32
    }
}

/// The keys of a segment in a file: their bytes, then the offsets, then the slots.
#[derive(Debug)]
pub(super) struct Stored {
    schema: SchemaRef,
    extent: Extent,
    rows: usize,
    bytes: usize,
}

impl Stored {
    fn write(space: &Arc<Space>, columns: &Columns) -> Result<Self> {
        let (rows, bytes) = (columns.slots.len(), columns.bytes().len());
        let mut all = Vec::with_capacity(bytes + 8 * rows + 4);
        all.extend_from_slice(columns.bytes());
        all.extend(columns.keys.value_offsets().iter().flat_map(|offset| offset.to_le_bytes()));
        all.extend(columns.slots.values().iter().flat_map(|slot| slot.to_le_bytes()));
        Ok(Self { schema: columns.rows.schema(), extent: space.put(&all)?, rows, bytes })
    }

    /// Reads the bytes of a key.
    pub(super) fn read(&self, offset: u32, into: &mut [u8]) -> Result<()> {
        self.extent.read(offset.into(), into)
    }

    fn columns(&self) -> Result<Columns> {
        let mut bytes = self.extent.bytes(0, self.bytes + 8 * self.rows + 4)?;
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        let slots: Vec<u32> = bytes[self.bytes + 4 * (self.rows + 1)..].chunks_exact(4).map(word).collect();
        let offsets = bytes[self.bytes..][..4 * (self.rows + 1)].chunks_exact(4).map(|b| word(b) as i32);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets.collect::<Vec<_>>()));
        bytes.truncate(self.bytes);
        let keys = BinaryArray::try_new(offsets, Buffer::from_vec(bytes), None)?;
        let slots = UInt32Array::new(ScalarBuffer::from(slots), None);
        Ok(Columns::new(RecordBatch::try_new(self.schema.clone(), vec![Arc::new(slots), Arc::new(keys)])?))
    }
}

impl StoredRows for Stored {
    fn load(&self) -> Result<RecordBatch> {
        Ok(self.columns()?.rows)
    }
}

/// Where the keys of a segment are.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "one for thousands of keys, and most are in memory")]
pub(super) enum Held {
    Memory(Columns),
    Disk(Arc<Stored>),
}

/// A segment that is full, or was in a snapshot.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// Given by the first snapshot that holds it.
    pub(super) number: Option<u64>,
    pub(super) held: Held,
    pub(super) live: Live,
}

impl Segment {
    /// Of keys that are written to `space`, if there is one and they are more than a few.
    pub(super) fn new(columns: Columns, live: Live, space: Option<&Arc<Space>>) -> Result<Self> {
        let held = match space.filter(|space| space.takes(columns.slots.len())) {
            Some(space) => Held::Disk(Arc::new(Stored::write(space, &columns)?)),
            None => Held::Memory(columns),
        };
        Ok(Self { number: None, held, live })
    }

    /// Its keys, in memory.
    pub(super) fn columns(&self) -> Result<Columns> {
        match &self.held {
            Held::Memory(columns) => Ok(columns.clone()),
            Held::Disk(stored) => stored.columns(),
        }
    }

    /// Its keys, for a checkpoint.
    pub(super) fn rows(&self) -> PartRows {
        match &self.held {
            Held::Memory(columns) => PartRows::Here(columns.rows.clone()),
            Held::Disk(stored) => PartRows::Stored(stored.clone()),
        }
    }

    /// The size class; `None`: it is full.
    pub(super) fn class(&self) -> Option<usize> {
        let bytes = match &self.held {
            Held::Memory(columns) => columns.bytes().len(),
            Held::Disk(stored) => stored.bytes,
        };
        let full = self.live.count() >= FULL_ROWS || bytes as u64 >= FULL_BYTES;
        (!full).then(|| class(self.live.count()))
    }

    /// Bytes in memory, and on disk.
    pub(super) fn size(&self) -> (usize, u64) {
        match &self.held {
            Held::Memory(columns) => (columns.bytes().len() + 8 * columns.slots.len() + self.live.bytes(), 0),
            Held::Disk(stored) => (size_of::<Stored>() + self.live.bytes(), stored.extent.length()),
        }
    }

    /// # Errors
    /// Keys of other columns than this schema's.
    pub(super) fn restore(part: SavedPart, schema: &SchemaRef, space: Option<&Arc<Space>>) -> Result<(Self, Columns)> {
        let (rows, live) = part.load()?;
        parts::expect(&rows, schema)?;
        let columns: Vec<ArrayRef> = rows.columns().iter().map(unshared).collect::<Result<_>>()?;
        let columns = Columns::new(RecordBatch::try_new(schema.clone(), columns)?);
        let segment = Self::new(columns.clone(), live, space)?;
        Ok((Self { number: Some(part.number), ..segment }, columns))
    }
}
