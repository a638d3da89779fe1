//! The newest version of a row for each owner, for the sake of checkpoints: what an operator knows of many keys or sessions
//! in structures of its own, written as rows when a snapshot is taken, for those that changed since the one before.
//!
//! Invariants: an owner has at most one live row; work is in proportion to the owners that are written and freed.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::parts::{SavedPart, Snapshot};
use super::row_store::{RowRef, RowStore};
use crate::Result;

const NO_ROW: RowRef = RowRef { segment: u32::MAX, row: u32::MAX };

/// See the module.
#[derive(Debug)]
pub struct Latest {
    store: RowStore,
    /// By owner.
    places: Vec<RowRef>,
}

impl Latest {
    /// No rows yet.
    pub fn new(schema: SchemaRef) -> Self {
        Self { store: RowStore::new(schema), places: Vec::new() }
    }

    /// The schema of the rows.
    pub fn schema(&self) -> &SchemaRef {
        self.store.schema()
    }

    /// Row `i` is the newest of `owners[i]`, which are all different.
    pub fn write(&mut self, owners: &[u32], rows: RecordBatch) -> Result<()> {
        let segment = self.store.append(rows, owners)?;
        for (row, owner) in (0..).zip(owners) {
            if *owner as usize >= self.places.len() {
                self.places.resize(*owner as usize + 1, NO_ROW);
            }
            let old = std::mem::replace(&mut self.places[*owner as usize], RowRef { segment, row });
            self.store.free(old);
        }
        let places = &mut self.places;
        self.store.compact(&mut |owner, _, to| places[owner as usize] = to)
    }

    /// Forgets the row of `owner`, if there is one.
    pub fn free(&mut self, owner: u32) {
        if let Some(place) = self.places.get_mut(owner as usize) {
            self.store.free(std::mem::replace(place, NO_ROW));
        }
    }

    /// Bytes in memory, about.
    pub fn bytes(&self) -> u64 {
        self.store.size().bytes + (self.places.capacity() * size_of::<RowRef>()) as u64
    }

    /// Adds a section to a snapshot.
    pub fn save(&mut self, snapshot: &mut Snapshot<'_>) -> Result<()> {
        self.store.save(snapshot)
    }

    /// Takes up what [`save`](Latest::save) gave, and gives the rows with their owners.
    ///
    /// # Errors
    /// Columns of other types than the schema's.
    pub fn restore(&mut self, saved: Vec<SavedPart>) -> Result<(Vec<u32>, RecordBatch)> {
        self.store.restore(saved)?;
        let (refs, owners) = self.store.live();
        self.places.resize(owners.iter().max().map_or(0, |most| *most as usize + 1), NO_ROW);
        for (place, owner) in refs.iter().zip(&owners) {
            self.places[*owner as usize] = *place;
        }
        Ok((owners, self.store.gather(&refs)?))
    }
}
