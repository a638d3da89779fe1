//! The segments of a table of keys: sealed ones, and the open one.
//!
//! Invariant: the open segment's number is known before it is sealed, so its keys need not be told when it is.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::super::array::Record;
use super::super::disk::{Backend, Space};
use super::segment::{Columns, Held, Open, Segment};
use crate::Result;

/// A key of fewer bytes is compared without an allocation.
const SHORT: usize = 128;

/// A key: what of its hash the table goes by, and where its bytes are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) hash: u32,
    /// Where its bytes are: the segment, its row there, and the place among the segment's bytes.
    pub(super) segment: u32,
    pub(super) row: u32,
    pub(super) offset: u32,
    pub(super) length: u32,
}

impl Record for Key {
    type Words = [u32; 5];

    fn words(&self) -> Self::Words {
        [self.hash, self.segment, self.row, self.offset, self.length]
    }

    fn of([hash, segment, row, offset, length]: Self::Words) -> Self {
        Self { hash, segment, row, offset, length }
    }
}

/// Where the bytes of keys are.
#[derive(Debug)]
pub(super) struct Segments {
    pub(super) sealed: Vec<Option<Segment>>,
    vacant: Vec<u32>,
    pub(super) open: Open,
    /// Number that the open segment will have among the sealed ones; its place there is empty.
    open_id: u32,
    /// Memory of the sealed ones, in bytes, about.
    pub(super) size: usize,
    /// What they take of a disk, in bytes.
    pub(super) disk: u64,
    space: Option<Arc<Space>>,
}

impl Segments {
    /// One that is open and empty.
    pub(super) fn new(backend: &Backend) -> Self {
        let space = match backend {
            Backend::Memory => None,
            Backend::Disk(space) => Some(space.clone()),
        };
        Self { sealed: vec![None], vacant: Vec::new(), open: Open::default(), open_id: 0, size: 0, disk: 0, space }
    }

    /// Where sealed segments are written to.
    pub(super) fn space(&self) -> Option<&Arc<Space>> {
        self.space.as_ref()
    }

    /// The bytes of a key; `None`: they lie on disk.
    pub(super) fn bytes_of(&self, key: &Key) -> Option<&[u8]> {
        let range = key.offset as usize..(key.offset + key.length) as usize;
        match self.sealed.get(key.segment as usize) {
            Some(Some(Segment { held: Held::Memory(columns), .. })) => Some(&columns.bytes()[range]),
            Some(Some(Segment { held: Held::Disk(_), .. })) => None,
            _ => Some(&self.open.bytes()[range]),
        }
    }

    /// Fills `bytes` with the bytes of a key, which are so many.
    pub(super) fn read(&self, key: &Key, bytes: &mut [u8]) -> Result<()> {
        match self.sealed.get(key.segment as usize) {
            Some(Some(Segment { held: Held::Disk(stored), .. })) => stored.read(key.offset, bytes)?,
            _ => bytes.copy_from_slice(self.bytes_of(key).unwrap_or_default()),
        }
        Ok(())
    }

    /// Whether a key's bytes are these.
    pub(super) fn equals(&self, key: &Key, bytes: &[u8]) -> Result<bool> {
        if let Some(known) = self.bytes_of(key) {
            return Ok(known == bytes);
        }
        if key.length as usize != bytes.len() {
            return Ok(false);
        }
        let mut short = [0; SHORT];
        if let Some(known) = short.get_mut(..bytes.len()) {
            self.read(key, known)?;
            return Ok(known == bytes);
        }
        let mut known = vec![0; bytes.len()];
        self.read(key, &mut known)?;
        Ok(known == bytes)
    }

    /// Adds a key to the open segment, which must not be full.
    pub(super) fn push(&mut self, slot: u32, hash: u32, bytes: &[u8]) -> Key {
        let (row, offset) = self.open.push(slot, bytes);
        Key { hash, segment: self.open_id, row, offset, length: bytes.len() as u32 }
    }

    /// Puts a segment among the sealed ones; gives its number.
    pub(super) fn add(&mut self, segment: Segment) -> u32 {
        let id = self.vacancy();
        self.put(id, segment);
        id
    }

    fn put(&mut self, id: u32, segment: Segment) {
        let (memory, disk) = segment.size();
        (self.size, self.disk) = (self.size + memory, self.disk + disk);
        self.sealed[id as usize] = Some(segment);
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
        let (columns, live) = std::mem::take(&mut self.open).seal(part)?;
        if live.count() > 0 {
            let segment = Segment::new(columns, live, self.space.as_ref())?;
            self.put(self.open_id, segment);
            self.open_id = self.vacancy();
        }
        Ok(())
    }

    /// Takes the open segment's keys out, and opens an empty one in its place.
    pub(super) fn take_open(&mut self, part: &SchemaRef) -> Result<(Columns, super::Live)> {
        std::mem::take(&mut self.open).seal(part)
    }

    /// Takes a sealed segment out.
    pub(super) fn take(&mut self, id: u32) -> Option<Segment> {
        let segment = self.sealed.get_mut(id as usize)?.take()?;
        self.vacant.push(id);
        let (memory, disk) = segment.size();
        (self.size, self.disk) = (self.size - memory, self.disk - disk);
        Some(segment)
    }
}
