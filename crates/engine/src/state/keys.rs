//! Keys: the values of some columns, each with a small number (its slot).
//!
//! Invariants: slots are given in first-seen order, counting up, unless keys were dropped, whose slots are given again
//! first, the least of them first: which slot comes next depends on the keys that are there, not on how they came. Hashes
//! have a fixed seed: the same input gives the same slots. Keys stand as bytes of arrow's row format in segments
//! ([`segment`]), so a batch of keys is looked up without an allocation per row. New keys go to the open segment; it is
//! sealed when it is full or a snapshot is taken, and then is a part of it that is written once. Segments that are mostly
//! dead, and small ones once they are many, are opened again: their keys move to the open one.

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

use self::segment::Segment;
use self::segments::{Key, Segments};
use super::parts::{SavedPart, Snapshot};
use super::row_store::{CLASSES, FAN_IN};
use crate::Result;

/// No slot.
const NONE: u32 = u32::MAX;

/// What the table finds: a slot, and enough of its key's hash to tell it from others without a look at the key.
#[derive(Debug, Clone, Copy)]
struct Place {
    high: u32,
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
    hashes: Vec<u64>,
    table: HashTable<Place>,
    keys: Vec<Key>,
    vacant: BinaryHeap<Reverse<u32>>,
    segments: Segments,
}

impl Keys {
    /// No keys yet, for columns of these types. Without columns there is one key.
    ///
    /// # Errors
    /// A type that arrow's row format does not know.
    pub fn new(fields: Vec<FieldRef>) -> Result<Self> {
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
            keys: Vec::new(),
            vacant: BinaryHeap::new(),
            segments: Segments::new(),
        })
    }

    /// Writes the slot of each of the `rows` keys into `slots`; keys that are new get one.
    pub fn insert(&mut self, columns: &[ArrayRef], rows: usize, slots: &mut Vec<u32>) -> Result<()> {
        slots.clear();
        if self.fields.is_empty() {
            let slot = self.slot(XxHash3_64::oneshot(&[]), &[])?;
            slots.resize(rows, slot);
            return Ok(());
        }
        let mut encoded = std::mem::replace(&mut self.encoded, self.converter.empty_rows(0, 0));
        encoded.clear();
        self.converter.append(&mut encoded, columns)?;
        // Memory is what a large table waits for. Looking all hashes up first, and comparing keys afterwards, makes the
        // rows of either loop independent of each other, so that the processor waits for many of them at once.
        self.hashes.clear();
        self.hashes.extend(encoded.iter().map(|key| XxHash3_64::oneshot(key.data())));
        slots.extend(self.hashes.iter().map(|hash| self.candidate(*hash)));
        for (row, slot) in slots.iter_mut().enumerate() {
            let key = encoded.row(row);
            if *slot == NONE || self.bytes_of(*slot) != key.data() {
                *slot = self.slot(self.hashes[row], key.data())?;
            }
        }
        self.encoded = encoded;
        Ok(())
    }

    /// A slot whose key has this hash, as far as the table knows it.
    fn candidate(&self, hash: u64) -> u32 {
        self.table.find(hash, |place| place.high == high(hash)).map_or(NONE, |place| place.slot)
    }

    fn bytes_of(&self, slot: u32) -> &[u8] {
        self.segments.bytes_of(&self.keys[slot as usize])
    }

    fn slot(&mut self, hash: u64, bytes: &[u8]) -> Result<u32> {
        let Self { table, keys, vacant, segments, .. } = self;
        let same = |place: &Place| place.high == high(hash) && segments.bytes_of(&keys[place.slot as usize]) == bytes;
        let slot = match table.entry(hash, same, |place| keys[place.slot as usize].hash) {
            Entry::Occupied(found) => return Ok(found.get().slot),
            Entry::Vacant(place) => {
                let slot = vacant.pop().map_or(keys.len() as u32, |Reverse(slot)| slot);
                place.insert(Place { high: high(hash), slot });
                let key = segments.push(slot, hash, bytes);
                match keys.get_mut(slot as usize) {
                    Some(vacant) => *vacant = key,
                    None => keys.push(key),
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
        let key = self.keys[slot as usize];
        let Ok(entry) = self.table.find_entry(key.hash, |place| place.slot == slot) else { return Ok(()) };
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
                    let open = std::mem::take(&mut self.segments.open).seal(&self.part)?;
                    self.rewrite(&open)?;
                }
            }
        }
        Ok(())
    }

    /// Moves the keys of a sealed segment to the open one.
    fn reopen(&mut self, id: u32) -> Result<()> {
        match self.segments.take(id) {
            Some(segment) => self.rewrite(&segment),
            None => Ok(()),
        }
    }

    fn rewrite(&mut self, segment: &Segment) -> Result<()> {
        for row in segment.live.iter() {
            let (slot, bytes) = segment.key(row);
            let hash = self.keys[slot as usize].hash;
            self.keys[slot as usize] = self.segments.push(slot, hash, bytes);
            if self.segments.open.is_full() {
                self.segments.seal(&self.part)?;
            }
        }
        Ok(())
    }

    /// The key columns of some slots, in their order.
    pub fn columns(&self, slots: impl IntoIterator<Item = u32>) -> Result<Vec<ArrayRef>> {
        let mut keys = slots.into_iter().map(|slot| self.parser.parse(self.bytes_of(slot))).peekable();
        if keys.peek().is_none() {
            return Ok(self.fields.iter().map(|f| new_empty_array(f.data_type())).collect());
        }
        Ok(self.converter.convert_rows(keys)?)
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
    pub fn bytes(&self) -> usize {
        let vacant = self.vacant.capacity() * size_of::<u32>();
        self.segments.size
            + self.segments.open.size()
            + vacant
            + self.keys.capacity() * size_of::<Key>()
            + self.table.allocation_size()
    }

    /// Adds a section to a snapshot: a part per segment. Costs what came since the last snapshot, and a bit per key.
    pub fn save(&mut self, snapshot: &mut Snapshot<'_>) -> Result<()> {
        self.merge_small()?;
        self.segments.seal(&self.part)?;
        snapshot.section();
        for segment in self.segments.sealed.iter_mut().flatten() {
            snapshot.part(&mut segment.number, segment.rows.clone(), &segment.live);
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
        let segments = saved.into_iter().map(|part| Segment::restore(part, &self.part)).collect::<Result<Vec<_>>>()?;
        let slots = || segments.iter().flat_map(|s| s.live.iter().map(|row| s.key(row).0));
        let count = slots().max().map_or(0, |most| most as usize + 1);
        let absent = Key { hash: 0, segment: NONE, row: 0, offset: 0, length: 0 };
        self.keys = vec![absent; count];
        self.table.reserve(slots().count(), |_| 0);
        for segment in segments {
            let id = self.segments.add(segment);
            let Some(Some(segment)) = self.segments.sealed.get(id as usize) else { continue };
            for row in segment.live.iter() {
                let (slot, bytes) = segment.key(row);
                let hash = XxHash3_64::oneshot(bytes);
                let key = Key { hash, segment: id, row, offset: segment.offset(row), length: bytes.len() as u32 };
                self.keys[slot as usize] = key;
                let keys = &self.keys;
                self.table.insert_unique(hash, Place { high: high(hash), slot }, |place| keys[place.slot as usize].hash);
            }
        }
        let vacant = (0u32..).zip(&self.keys).filter(|(_, key)| key.segment == NONE).map(|(slot, _)| Reverse(slot));
        self.vacant = vacant.collect();
        Ok(())
    }
}

/// The half of a hash that the table keeps beside a slot; the table itself goes by the rest.
fn high(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests;
