//! Keys: the values of some columns, each with a small number (its slot).
//!
//! Invariants: slots are given in first-seen order, counting up, unless keys were dropped, whose slots are given again
//! first. Hashes have a fixed seed: the same input gives the same slots. Keys stand as bytes of arrow's row format in one
//! arena, so a batch of keys is looked up without an allocation per row.

use arrow::array::{ArrayRef, new_empty_array};
use arrow::datatypes::FieldRef;
use arrow_row::{RowConverter, RowParser, Rows, SortField};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use twox_hash::XxHash3_64;

use crate::Result;

/// An arena of so many bytes is not worth compacting.
const SMALL: usize = 4096;

/// No slot.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Key {
    hash: u64,
    offset: usize,
    length: u32,
}

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
    converter: RowConverter,
    parser: RowParser,
    /// Encoded keys of the batch at hand; kept for its memory.
    encoded: Rows,
    /// Their hashes; kept for its memory.
    hashes: Vec<u64>,
    table: HashTable<Place>,
    keys: Vec<Key>,
    vacant: Vec<u32>,
    arena: Vec<u8>,
    dead_bytes: usize,
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
            fields,
            converter,
            parser,
            encoded,
            hashes: Vec::new(),
            table: HashTable::new(),
            keys: Vec::new(),
            vacant: Vec::new(),
            arena: Vec::new(),
            dead_bytes: 0,
        })
    }

    /// Writes the slot of each of the `rows` keys into `slots`; keys that are new get one.
    pub fn insert(&mut self, columns: &[ArrayRef], rows: usize, slots: &mut Vec<u32>) -> Result<()> {
        slots.clear();
        if self.fields.is_empty() {
            let slot = self.slot(XxHash3_64::oneshot(&[]), &[]);
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
                *slot = self.slot(self.hashes[row], key.data());
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
        let key = &self.keys[slot as usize];
        &self.arena[key.offset..key.offset + key.length as usize]
    }

    fn slot(&mut self, hash: u64, bytes: &[u8]) -> u32 {
        let Self { table, keys, vacant, arena, .. } = self;
        let same = |place: &Place| {
            let key = &keys[place.slot as usize];
            place.high == high(hash) && arena[key.offset..key.offset + key.length as usize] == *bytes
        };
        match table.entry(hash, same, |place| keys[place.slot as usize].hash) {
            Entry::Occupied(found) => found.get().slot,
            Entry::Vacant(place) => {
                let slot = vacant.last().copied().unwrap_or(keys.len() as u32);
                place.insert(Place { high: high(hash), slot });
                let key = Key { hash, offset: arena.len(), length: bytes.len() as u32 };
                arena.extend_from_slice(bytes);
                match vacant.pop() {
                    Some(slot) => keys[slot as usize] = key,
                    None => keys.push(key),
                }
                slot
            }
        }
    }

    /// Forgets the key of `slot`, which must have one. Amortized O(1).
    pub fn remove(&mut self, slot: u32) {
        let key = self.keys[slot as usize];
        let Ok(entry) = self.table.find_entry(key.hash, |place| place.slot == slot) else { return };
        entry.remove();
        self.vacant.push(slot);
        self.dead_bytes += key.length as usize;
        if self.dead_bytes > SMALL && self.dead_bytes * 2 > self.arena.len() {
            self.compact();
        }
    }

    /// Rewrites the arena without dropped keys.
    fn compact(&mut self) {
        let mut arena = Vec::with_capacity(self.arena.len() - self.dead_bytes);
        for place in &self.table {
            let key = &mut self.keys[place.slot as usize];
            let from = key.offset;
            key.offset = arena.len();
            arena.extend_from_slice(&self.arena[from..from + key.length as usize]);
        }
        self.arena = arena;
        self.dead_bytes = 0;
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
        self.arena.capacity() + self.keys.capacity() * size_of::<Key>() + self.table.allocation_size()
    }
}

/// The half of a hash that the table keeps beside a slot; the table itself goes by the rest.
fn high(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, AsArray, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type};

    use super::*;

    fn keys() -> Keys {
        Keys::new(vec![Arc::new(Field::new("s", DataType::Utf8, true)), Arc::new(Field::new("n", DataType::Int64, true))])
            .unwrap()
    }

    fn insert(keys: &mut Keys, rows: &[(Option<&str>, Option<i64>)]) -> Vec<u32> {
        let text = StringArray::from_iter(rows.iter().map(|r| r.0));
        let numbers = Int64Array::from_iter(rows.iter().map(|r| r.1));
        let mut slots = Vec::new();
        keys.insert(&[Arc::new(text), Arc::new(numbers)], rows.len(), &mut slots).unwrap();
        slots
    }

    #[test]
    fn slots_are_given_in_first_seen_order_and_null_is_a_key() {
        let mut keys = keys();
        let slots = insert(&mut keys, &[(Some("a"), Some(1)), (None, Some(1)), (Some("a"), Some(1)), (Some("a"), None)]);
        assert_eq!(slots, [0, 1, 0, 2]);
        assert_eq!(insert(&mut keys, &[(Some("a"), None), (Some("b"), Some(2)), (None, Some(1))]), [2, 3, 1]);
        let columns = keys.columns([3, 1]).unwrap();
        assert_eq!(columns[0].as_string::<i32>().iter().collect::<Vec<_>>(), [Some("b"), None]);
        assert_eq!(columns[1].as_primitive::<Int64Type>().values(), &[2, 1]);
        assert_eq!(keys.columns([]).unwrap()[0].len(), 0);
    }

    #[test]
    fn dropped_keys_give_their_slots_and_their_bytes_back() {
        let mut keys = keys();
        let names: Vec<String> = (0..1000).map(|i| format!("a name of some length, number {i}")).collect();
        let rows: Vec<_> = names.iter().map(|n| (Some(n.as_str()), Some(7))).collect();
        for _ in 0..50 {
            let slots = insert(&mut keys, &rows);
            assert!(slots.iter().all(|s| *s < 1000), "slots are used again");
            let half: Vec<_> = slots[500..].to_vec();
            slots[..500].iter().for_each(|s| keys.remove(*s));
            assert_eq!(insert(&mut keys, &rows[500..]), half, "the other keys stay where they are");
            half.into_iter().for_each(|s| keys.remove(s));
        }
        assert!(keys.is_empty());
        assert!(keys.bytes() < 500_000, "{}", keys.bytes());
    }

    #[test]
    fn without_columns_there_is_one_key() {
        let mut keys = Keys::new(Vec::new()).unwrap();
        let mut slots = Vec::new();
        keys.insert(&[], 3, &mut slots).unwrap();
        assert_eq!(slots, [0, 0, 0]);
        assert!(keys.columns([0]).unwrap().is_empty());
    }
}
