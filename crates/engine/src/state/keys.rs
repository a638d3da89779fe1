//! Keys: the values of some columns, each with a small number (its slot).
//!
//! Invariants: slots are given in first-seen order, counting up, unless keys were dropped, whose slots are given again
//! first, the least of them first: which slot comes next depends on the keys that are there, not on how they came. Hashes
//! have a fixed seed: the same input gives the same slots. Keys stand as bytes of arrow's row format in segments
//! ([`segment`]), so a batch of keys is looked up without an allocation per row. New keys go to the open segment; it is
//! sealed when it is full or a snapshot is taken, and then is a part of it that is written once. Segments that are mostly
//! dead, and small ones once they are many, are opened again: their keys move to the open one.
//!
//! The table that finds a key by its hash is in memory, whatever the backend: 10 to 21 bytes a key. On disk the bytes of a key
//! are read when they are compared, which is once a row.

mod segment;
mod segments;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use arrow::array::{ArrayRef, new_empty_array};
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow_row::{RowConverter, RowParser, Rows, SortField};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use twox_hash::XxHash3_64;

use self::segment::{Columns, Segment};
use self::segments::{Key, Segments};
use super::array::Array;
use super::disk::Backend;
use super::live::Live;
use super::parts::{SavedPart, Snapshot};
use super::row_store::{CLASSES, FAN_IN};
use crate::Result;
use crate::operator::StateSize;

/// No slot.
const NONE: u32 = u32::MAX;

/// What the table finds: a slot, and a part of its key's hash. The table goes by that part alone: so it grows without a look
/// at the keys, and two keys of one part are told apart by their bytes.
#[derive(Debug, Clone, Copy)]
struct Place {
    hash: u32,
    slot: u32,
}

/// Finds the slot of a key.
#[derive(Debug)]
pub struct Keys {
    fields: Vec<FieldRef>,
    part: SchemaRef,
    converter: RowConverter,
    parser: RowParser,
    /// Encoded keys of the batch at hand; kept for its memory.
    encoded: Rows,
    /// Their hashes; kept for its memory.
    hashes: Vec<u32>,
    table: HashTable<Place>,
    keys: Array<Key>,
    vacant: BinaryHeap<Reverse<u32>>,
    segments: Segments,
}

impl Keys {
    /// No keys yet, for columns of these types. Without columns there is one key.
    ///
    /// # Errors
    /// A type that arrow's row format does not know.
    pub fn new(fields: Vec<FieldRef>, backend: &Backend) -> Result<Self> {
        let converter = RowConverter::new(fields.iter().map(|f| SortField::new(f.data_type().clone())).collect())?;
        let (parser, encoded) = (converter.parser(), converter.empty_rows(0, 0));
        Ok(Self {
            part: segment::schema(&fields),
            fields,
            converter,
            parser,
            encoded,
            hashes: Vec::new(),
            table: HashTable::new(),
            keys: Array::new(backend),
            vacant: BinaryHeap::new(),
            segments: Segments::new(backend),
        })
    }

    /// Writes the slot of each of the `rows` keys into `slots`; keys that are new get one.
    pub fn insert(&mut self, columns: &[ArrayRef], rows: usize, slots: &mut Vec<u32>) -> Result<()> {
        slots.clear();
        if self.fields.is_empty() {
            let slot = self.slot(hash(&[]), &[])?;
            slots.resize(rows, slot);
            return Ok(());
        }
        let mut encoded = std::mem::replace(&mut self.encoded, self.converter.empty_rows(0, 0));
        encoded.clear();
        self.converter.append(&mut encoded, columns)?;
        // Memory is what a large table waits for. Looking all hashes up first, and comparing keys afterwards, makes the
        // rows of either loop independent of each other, so that the processor waits for many of them at once.
        self.hashes.clear();
        self.hashes.extend(encoded.iter().map(|key| hash(key.data())));
        slots.extend(self.hashes.iter().map(|hash| self.candidate(*hash)));
        for (row, slot) in slots.iter_mut().enumerate() {
            let key = encoded.row(row);
            if *slot == NONE || !self.segments.equals(&self.keys.get(*slot)?, key.data())? {
                *slot = self.slot(self.hashes[row], key.data())?;
            }
        }
        self.encoded = encoded;
        Ok(())
    }

    /// A slot whose key has this hash, as far as the table knows it.
    fn candidate(&self, hash: u32) -> u32 {
        self.table.find(spread(hash), |place| place.hash == hash).map_or(NONE, |place| place.slot)
    }

    fn slot(&mut self, hash: u32, bytes: &[u8]) -> Result<u32> {
        let Self { table, keys, vacant, segments, .. } = self;
        let mut failed = None;
        let mut equals = |slot| match keys.get(slot).and_then(|key| segments.equals(&key, bytes)) {
            Ok(equal) => equal,
            Err(e) => {
                failed = Some(e);
                false
            }
        };
        let same = |place: &Place| place.hash == hash && equals(place.slot);
        let entry = table.entry(spread(hash), same, |place| spread(place.hash));
        if let Some(failed) = failed {
            return Err(failed);
        }
        let slot = match entry {
            Entry::Occupied(found) => return Ok(found.get().slot),
            Entry::Vacant(place) => {
                let slot = vacant.pop().map_or(keys.len() as u32, |Reverse(slot)| slot);
                place.insert(Place { hash, slot });
                let key = segments.push(slot, hash, bytes);
                if (slot as usize) < keys.len() {
                    keys.set(slot, key)?
                } else {
                    keys.push(key)?
                }
                slot
            }
        };
        if self.segments.open.is_full() {
            self.segments.seal(&self.part)?;
        }
        Ok(slot)
    }

    /// Forgets the key of `slot`, which must have one. Amortized O(log n).
    pub fn remove(&mut self, slot: u32) -> Result<()> {
        let key = self.keys.get(slot)?;
        let Ok(entry) = self.table.find_entry(spread(key.hash), |place| place.slot == slot) else { return Ok(()) };
        entry.remove();
        self.vacant.push(Reverse(slot));
        match self.segments.sealed.get_mut(key.segment as usize) {
            Some(Some(segment)) => {
                segment.live.clear(key.row);
                if segment.live.is_mostly_dead() {
                    self.reopen(key.segment)?;
                }
            }
            _ => {
                self.segments.open.remove(key.row);
                if self.segments.open.is_mostly_dead() {
                    let (columns, live) = self.segments.take_open(&self.part)?;
                    self.rewrite(&columns, &live)?;
                }
            }
        }
        Ok(())
    }

    /// Moves the keys of a sealed segment to the open one.
    fn reopen(&mut self, id: u32) -> Result<()> {
        match self.segments.take(id) {
            Some(segment) => self.rewrite(&segment.columns()?, &segment.live),
            None => Ok(()),
        }
    }

    fn rewrite(&mut self, columns: &Columns, live: &Live) -> Result<()> {
        for row in live.iter() {
            let (slot, bytes) = columns.key(row);
            let Self { keys, segments, .. } = self;
            keys.update(slot, |key| *key = segments.push(slot, key.hash, bytes))?;
            if self.segments.open.is_full() {
                self.segments.seal(&self.part)?;
            }
        }
        Ok(())
    }

    /// The key columns of some slots, in their order.
    pub fn columns(&self, slots: impl IntoIterator<Item = u32>) -> Result<Vec<ArrayRef>> {
        let keys = slots.into_iter().map(|slot| self.keys.get(slot)).collect::<Result<Vec<_>>>()?;
        if keys.is_empty() {
            return Ok(self.fields.iter().map(|f| new_empty_array(f.data_type())).collect());
        }
        let here: Option<Vec<_>> = keys.iter().map(|key| Some(self.parser.parse(self.segments.bytes_of(key)?))).collect();
        if let Some(here) = here {
            return Ok(self.converter.convert_rows(here)?);
        }
        let mut bytes = vec![0; keys.iter().map(|key| key.length as usize).sum()];
        let mut rest = &mut bytes[..];
        for key in &keys {
            let (of_key, behind) = rest.split_at_mut(key.length as usize);
            self.segments.read(key, of_key)?;
            rest = behind;
        }
        let mut rest = &bytes[..];
        let read = keys.iter().map(|key| {
            let (of_key, behind) = rest.split_at(key.length as usize);
            rest = behind;
            self.parser.parse(of_key)
        });
        Ok(self.converter.convert_rows(read)?)
    }

    /// All slots are below this.
    pub fn slots(&self) -> u32 {
        self.keys.len() as u32
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Bytes in memory, about.
    fn bytes(&self) -> usize {
        let vacant = self.vacant.capacity() * size_of::<u32>();
        self.segments.size + self.segments.open.size() + vacant + self.keys.bytes() + self.table.allocation_size()
    }

    /// What is held.
    pub fn size(&self) -> StateSize {
        StateSize { rows: self.len() as u64, bytes: self.bytes() as u64, disk: self.segments.disk + self.keys.disk_bytes() }
    }

    /// Adds a section to a snapshot: a part per segment. Costs what came since the last snapshot, and a bit per key.
    pub fn save(&mut self, snapshot: &mut Snapshot<'_>) -> Result<()> {
        self.merge_small()?;
        self.segments.seal(&self.part)?;
        snapshot.section();
        for segment in self.segments.sealed.iter_mut().flatten() {
            let rows = segment.rows();
            snapshot.part(&mut segment.number, rows, &segment.live);
        }
        Ok(())
    }

    /// Opens small segments again once they are many of a size, so that there are few, and each key moves O(log n) times.
    fn merge_small(&mut self) -> Result<()> {
        let mut classes: [Vec<u32>; CLASSES] = Default::default();
        for (id, segment) in self.segments.sealed.iter().enumerate() {
            if let Some(class) = segment.as_ref().and_then(Segment::class) {
                classes[class].push(id as u32);
            }
        }
        for (class, ids) in classes.iter().enumerate() {
            let open = usize::from(self.segments.open.class() == Some(class));
            if ids.len() + open >= FAN_IN {
                ids.iter().try_for_each(|id| self.reopen(*id))?;
            }
        }
        Ok(())
    }

    /// Takes up the parts that [`save`](Keys::save) gave, where there are no keys yet: each key with its slot.
    ///
    /// # Errors
    /// Keys of other columns.
    pub fn restore(&mut self, saved: Vec<SavedPart>) -> Result<()> {
        let absent = Key { hash: 0, segment: NONE, row: 0, offset: 0, length: 0 };
        for part in saved {
            let (segment, columns) = Segment::restore(part, &self.part, self.segments.space())?;
            let live = segment.live.clone();
            let id = self.segments.add(segment);
            self.table.reserve(live.count(), |place| spread(place.hash));
            for row in live.iter() {
                let (slot, bytes) = columns.key(row);
                let hash = hash(bytes);
                self.keys.grow(slot as usize + 1, absent)?;
                let key = Key { hash, segment: id, row, offset: columns.offset(row), length: bytes.len() as u32 };
                self.keys.set(slot, key)?;
                self.table.insert_unique(spread(hash), Place { hash, slot }, |place| spread(place.hash));
            }
        }
        for slot in 0..self.keys.len() as u32 {
            if self.keys.get(slot)?.segment == NONE {
                self.vacant.push(Reverse(slot));
            }
        }
        Ok(())
    }
}

/// What of a key's hash is kept.
fn hash(key: &[u8]) -> u32 {
    (XxHash3_64::oneshot(key) >> 32) as u32
}

/// The same for the table, which goes by the first and the last bits of 64.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests;
