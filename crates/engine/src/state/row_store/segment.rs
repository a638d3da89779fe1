//! A segment: rows that never change, their owners, and which of them live.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};

use super::super::live::Live;
use super::stored::Stored;
use super::{FULL_BYTES, FULL_ROWS, class};
use crate::Result;
use crate::operator::StateSize;

/// Where the rows of a segment are.
#[derive(Debug)]
pub(super) enum Held {
    Memory { rows: RecordBatch, owners: UInt32Array },
    Disk(Arc<Stored>),
}

#[derive(Debug)]
pub(super) struct Segment {
    /// Given by the first snapshot that holds it.
    pub(super) number: Option<u64>,
    pub(super) held: Held,
    pub(super) live: Live,
    /// Bytes of its rows, wherever they are.
    pub(super) data: u64,
    /// What it is of the store.
    size: StateSize,
}

impl Segment {
    pub(super) fn new(held: Held, live: Live) -> Self {
        let (data, memory, disk) = match &held {
            Held::Memory { rows, owners } => {
                let bytes = (rows.get_array_memory_size() + 4 * owners.len()) as u64;
                (bytes, bytes, 0)
            }
            Held::Disk(stored) => (stored.data(), stored.memory(), stored.disk()),
        };
        let bytes = memory + live.bytes() as u64;
        Self { number: None, held, data, size: StateSize { rows: 0, bytes, disk }, live }
    }

    pub(super) fn size(&self) -> StateSize {
        StateSize { rows: self.live.count() as u64, ..self.size }
    }

    pub(super) fn owners(&self) -> Result<UInt32Array> {
        match &self.held {
            Held::Memory { owners, .. } => Ok(owners.clone()),
            Held::Disk(stored) => stored.owners(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.live.count() >= FULL_ROWS || self.data >= FULL_BYTES
    }

    pub(super) fn class(&self) -> usize {
        class(self.live.count())
    }
}
