//! The newest version of a row for each owner, for the sake of checkpoints: what an operator knows of many keys or sessions
//! in structures of its own, written as rows when a snapshot is taken, for those that changed since the one before.
//!
//! Invariants: an owner has at most one live row; work is in proportion to the owners that are written and freed.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::array::Array;
use super::disk::Backend;
use super::parts::{SavedPart, Snapshot};
use super::row_store::{RowRef, RowStore};
use crate::Result;
use crate::operator::StateSize;

const NO_ROW: RowRef = RowRef { segment: u32::MAX, row: u32::MAX };

/// See the module.
#[derive(Debug)]
pub struct Latest {
    store: RowStore,
    /// By owner.
    places: Array<RowRef>,
}

impl Latest {
    /// No rows yet.
    ///
    /// # Errors
    /// Rows of a type that cannot be kept on disk.
    pub fn new(schema: SchemaRef, backend: &Backend) -> Result<Self> {
        Ok(Self { store: RowStore::new(schema, backend)?, places: Array::new(backend) })
    }

    /// The schema of the rows.
    pub fn schema(&self) -> &SchemaRef {
        self.store.schema()
    }

    /// Row `i` is the newest of `owners[i]`, which are all different.
    pub fn write(&mut self, owners: &[u32], rows: RecordBatch) -> Result<()> {
        let segment = self.store.append(rows, owners)?;
        for (row, owner) in (0..).zip(owners) {
            self.places.grow(*owner as usize + 1, NO_ROW)?;
            let old = self.places.update(*owner, |place| std::mem::replace(place, RowRef { segment, row }))?;
            self.store.free(old);
        }
        let places = &mut self.places;
        self.store.compact(&mut |owner, _, to| places.set(owner, to))
    }

    /// Forgets the row of `owner`, if there is one.
    pub fn free(&mut self, owner: u32) -> Result<()> {
        if (owner as usize) < self.places.len() {
            self.store.free(self.places.update(owner, |place| std::mem::replace(place, NO_ROW))?);
        }
        Ok(())
    }

    /// What is held.
    pub fn size(&self) -> StateSize {
        self.store.size() + self.places.size()
    }

    /// Adds a section to a snapshot.
    pub fn save(&mut self, snapshot: &mut Snapshot<'_>) -> Result<()> {
        self.store.save(snapshot)
    }

    /// Takes up what [`save`](Latest::save) gave, and tells the rows with their owners, some at a time.
    ///
    /// # Errors
    /// Columns of other types than the schema's.
    pub fn restore(&mut self, saved: Vec<SavedPart>, tell: &mut dyn FnMut(&[u32], RecordBatch) -> Result<()>) -> Result<()> {
        self.store.restore(saved)?;
        let Self { store, places } = self;
        store.for_each_live(&mut |refs, owners| {
            places.grow(owners.iter().max().map_or(0, |most| *most as usize + 1), NO_ROW)?;
            for (place, owner) in refs.iter().zip(owners) {
                places.set(*owner, *place)?;
            }
            tell(owners, store.gather(refs)?)
        })
    }
}
