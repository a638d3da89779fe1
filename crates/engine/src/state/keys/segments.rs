//! The segments of a table of keys: sealed ones, and the open one.
//!
//! Invariant: the open segment's number is known before it is sealed, so its keys need not be told when it is.

use arrow::datatypes::SchemaRef;

use super::segment::{Open, Segment};
use crate::Result;

/// A key: its hash, and where its bytes are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) hash: u64,
    /// Where its bytes are: the segment, its row there, and the place among the segment's bytes.
    pub(super) segment: u32,
    pub(super) row: u32,
    pub(super) offset: u32,
    pub(super) length: u32,
}

/// Where the bytes of keys are.
#[derive(Debug, Default)]
pub(super) struct Segments {
    pub(super) sealed: Vec<Option<Segment>>,
    vacant: Vec<u32>,
    pub(super) open: Open,
    /// Number that the open segment will have among the sealed ones; its place there is empty.
    open_id: u32,
    /// Memory of the sealed ones, in bytes, about.
    pub(super) size: usize,
}

impl Segments {
    /// One that is open and empty.
    pub(super) fn new() -> Self {
        Self { sealed: vec![None], ..Self::default() }
    }

    /// The bytes of a key.
    pub(super) fn bytes_of(&self, key: &Key) -> &[u8] {
        let range = key.offset as usize..(key.offset + key.length) as usize;
        match self.sealed.get(key.segment as usize) {
            Some(Some(segment)) => &segment.bytes()[range],
            _ => &self.open.bytes()[range],
        }
    }

    /// Adds a key to the open segment, which must not be full.
    pub(super) fn push(&mut self, slot: u32, hash: u64, bytes: &[u8]) -> Key {
        let (row, offset) = self.open.push(slot, bytes);
        Key { hash, segment: self.open_id, row, offset, length: bytes.len() as u32 }
    }

    /// Puts a segment among the sealed ones; gives its number.
    pub(super) fn add(&mut self, segment: Segment) -> u32 {
        let id = self.vacancy();
        self.size += segment.size();
        self.sealed[id as usize] = Some(segment);
        id
    }

    fn vacancy(&mut self) -> u32 {
        self.vacant.pop().unwrap_or_else(|| {
            self.sealed.push(None);
            self.sealed.len() as u32 - 1
        })
    }

    /// Seals the open segment, and opens an empty one.
    pub(super) fn seal(&mut self, part: &SchemaRef) -> Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        let segment = std::mem::take(&mut self.open).seal(part)?;
        if segment.live.count() > 0 {
            self.size += segment.size();
            self.sealed[self.open_id as usize] = Some(segment);
            self.open_id = self.vacancy();
        }
        Ok(())
    }

    /// Takes a sealed segment out.
    pub(super) fn take(&mut self, id: u32) -> Option<Segment> {
        let segment = self.sealed.get_mut(id as usize)?.take()?;
        self.vacant.push(id);
        self.size -= segment.size();
        Some(segment)
    }
}
