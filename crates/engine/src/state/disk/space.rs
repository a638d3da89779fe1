//! A file that is cut into parts, each of which is written once and read at random.
//!
//! Invariants: parts do not overlap, and begin at multiples of [`BLOCK`]; the room of a part that is dropped is used again,
//! joined with free room around it. A part may be read by any thread for as long as it is held.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use super::Disk;
use crate::{Error, Result};

/// Parts begin and end at multiples of so many bytes.
const BLOCK: u64 = 4096;

/// A file.
#[derive(Debug)]
pub struct Space {
    disk: Arc<Disk>,
    file: File,
    room: Mutex<Room>,
}

/// What of a file is free.
#[derive(Debug, Default)]
struct Room {
    end: u64,
    /// Length by offset.
    free: BTreeMap<u64, u64>,
    /// (Length, offset).
    by_length: BTreeSet<(u64, u64)>,
    used: u64,
}

impl Space {
    pub(super) fn new(disk: Arc<Disk>, file: File) -> Self {
        Self { disk, file, room: Mutex::default() }
    }

    /// The directory that it is of.
    pub(super) fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// Whether a segment of so many rows is worth a part of its own.
    pub(in super::super) fn takes(&self, rows: usize) -> bool {
        rows >= self.disk.rows
    }

    /// Bytes of the file that are in use.
    pub fn bytes(&self) -> u64 {
        self.room().used
    }

    /// Writes a part.
    ///
    /// # Errors
    /// The disk is full, or broken.
    pub(crate) fn put(self: &Arc<Self>, bytes: &[u8]) -> Result<Extent> {
        let length = (bytes.len() as u64).div_ceil(BLOCK).max(1) * BLOCK;
        let extent = Extent { offset: self.room().take(length), length, space: self.clone() };
        self.file.write_all_at(bytes, extent.offset).map_err(|e| self.disk.failed("written", &e))?;
        Ok(extent)
    }

    fn room(&self) -> std::sync::MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// The smallest free room that is long enough, else the end.
    fn take(&mut self, length: u64) -> u64 {
        self.used += length;
        let Some((free, offset)) = self.by_length.range((length, 0)..).next().copied() else {
            self.end += length;
            return self.end - length;
        };
        self.remove(offset, free);
        if free > length {
            self.insert(offset + length, free - length);
        }
        offset
    }

    fn give_back(&mut self, mut offset: u64, mut length: u64) {
        self.used -= length;
        if let Some((before, free)) = self.free.range(..offset).next_back().map(|(o, l)| (*o, *l))
            && before + free == offset
        {
            self.remove(before, free);
            (offset, length) = (before, length + free);
        }
        if let Some(free) = self.free.get(&(offset + length)).copied() {
            self.remove(offset + length, free);
            length += free;
        }
        if offset + length == self.end { self.end = offset } else { self.insert(offset, length) }
    }

    fn insert(&mut self, offset: u64, length: u64) {
        self.free.insert(offset, length);
        self.by_length.insert((length, offset));
    }

    fn remove(&mut self, offset: u64, length: u64) {
        self.free.remove(&offset);
        self.by_length.remove(&(length, offset));
    }
}

/// A part of a file. Its room is free when it is dropped.
#[derive(Debug)]
pub(crate) struct Extent {
    space: Arc<Space>,
    offset: u64,
    length: u64,
}

impl Extent {
    /// Fills `bytes` with what stands from `at` on.
    ///
    /// # Errors
    /// The disk is broken.
    pub(crate) fn read(&self, at: u64, bytes: &mut [u8]) -> Result<()> {
        if at + bytes.len() as u64 > self.length {
            return Err(Error::permanent(format!("state of {} bytes is read at {at} + {}", self.length, bytes.len())));
        }
        self.space.file.read_exact_at(bytes, self.offset + at).map_err(|e| self.space.disk.failed("read", &e))
    }

    /// The same as a new buffer.
    pub(crate) fn bytes(&self, at: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }

    /// Bytes that it takes of the file.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        self.space.room().give_back(self.offset, self.length);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_never_overlap_and_free_room_is_joined(steps in prop::collection::vec((any::<bool>(), 1u64..20, 0usize..50), 1..200)) {
            let (mut room, mut held) = (Room::default(), BTreeMap::<u64, u64>::new());
            for (take, length, which) in steps {
                if take || held.is_empty() {
                    let offset = room.take(length);
                    let overlaps = held.iter().any(|(o, l)| *o < offset + length && offset < o + l);
                    prop_assert!(!overlaps, "{offset} + {length} in {held:?}");
                    held.insert(offset, length);
                } else {
                    let offset = *held.keys().nth(which % held.len()).unwrap();
                    room.give_back(offset, held.remove(&offset).unwrap());
                }
                prop_assert_eq!(room.used, held.values().sum::<u64>());
                prop_assert_eq!(room.used + room.free.values().sum::<u64>(), room.end);
                prop_assert!(room.free.iter().all(|(o, l)| !room.free.contains_key(&(o + l)) && o + l < room.end));
            }
        }
    }
}
