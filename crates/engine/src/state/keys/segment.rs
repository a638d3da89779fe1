//! Where the bytes of keys stand: one behind the other, with their slots.
//!
//! Invariants: a sealed segment never changes but for keys that die, so it is a part of a checkpoint as it is, without a copy;
//! a segment ends at a number of keys or bytes, so that offsets fit and opening it again is bounded work.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, UInt32Array};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use super::super::live::Live;
use super::super::parts::{self, SavedPart};
use super::super::row_store::{FULL_BYTES, FULL_ROWS, class};
use super::super::unshared::unshared;
use crate::Result;

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
    pub(super) fn seal(mut self, schema: &SchemaRef) -> Result<Segment> {
        self.bytes.shrink_to_fit();
        self.offsets.shrink_to_fit();
        self.slots.shrink_to_fit();
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        let keys = BinaryArray::try_new(offsets, Buffer::from_vec(self.bytes), None)?;
        let slots = UInt32Array::new(ScalarBuffer::from(self.slots), None);
        let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(slots), Arc::new(keys)])?;
        Ok(Segment::new(None, rows, self.live))
    }
}

/// A segment that is full, or was in a snapshot.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// Given by the first snapshot that holds it.
    pub(super) number: Option<u64>,
    pub(super) rows: RecordBatch,
    pub(super) live: Live,
    slots: UInt32Array,
    keys: BinaryArray,
}

impl Segment {
    fn new(number: Option<u64>, rows: RecordBatch, live: Live) -> Self {
        let (slots, keys) = (rows.column(0).as_primitive().clone(), rows.column(1).as_binary().clone());
        Self { number, rows, live, slots, keys }
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

    /// The size class; `None`: it is full.
    pub(super) fn class(&self) -> Option<usize> {
        let full = self.live.count() >= FULL_ROWS || self.bytes().len() as u64 >= FULL_BYTES;
        (!full).then(|| class(self.live.count()))
    }

    pub(super) fn size(&self) -> usize {
        self.bytes().len() + 8 * self.slots.len() + self.live.bytes()
    }

    /// # Errors
    /// Keys of other columns than this schema's.
    pub(super) fn restore(part: SavedPart, schema: &SchemaRef) -> Result<Self> {
        let SavedPart { number, rows, live } = part;
        parts::expect(&rows, schema)?;
        let columns: Vec<ArrayRef> = rows.columns().iter().map(unshared).collect::<Result<_>>()?;
        Ok(Self::new(Some(number), RecordBatch::try_new(schema.clone(), columns)?, live))
    }
}
