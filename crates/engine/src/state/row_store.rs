//! Rows in columns: segments of arrow batches, each row with a reference and an owner.
//!
//! Invariants: a [`RowRef`] stays valid until its row is freed or [`RowStore::compact`] says where it moved; a row belongs to
//! one owner (a key's slot, a group) for its whole life; a segment without live rows is dropped at once and its number is
//! used again. Compaction merges segments of a similar number of live rows, so a row is rewritten O(log n) times, plus once
//! for each time that half of its segment died; the number of segments below the full size stays logarithmic. The rows of a
//! segment and their owners never change: a segment is a part of a checkpoint, written once, with the bits of its live rows
//! told each time. On disk ([`Backend::Disk`]) a segment of more than a few rows lies in a file ([`stored`]); rows are read
//! from there as they are asked for ([`view`]).

mod segment;
mod stored;
mod view;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};

use self::segment::{Held, Segment};
use self::stored::{Codec, Stored};
pub use self::view::View;
use super::array::Record;
use super::disk::{Backend, Space};
use super::live::Live;
use super::parts::{self, SavedPart, Snapshot};
use super::unshared::unshared;
use crate::operator::{PartRows, StateSize};
use crate::{Error, Result};

/// A segment of so many live rows is not merged with others any more: a merge is written anew by the next checkpoint.
pub(super) const FULL_ROWS: usize = 16 * 1024;
/// Nor is one of so many bytes: offsets of strings and lists stay far from 32 bits.
pub(super) const FULL_BYTES: u64 = 32 * 1024 * 1024;
/// So many segments of one size class become one.
pub(super) const FAN_IN: usize = 4;
/// Size classes: powers of 4 of live rows below [`FULL_ROWS`].
pub(super) const CLASSES: usize = 8;

/// Where a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRef {
    /// Number of the segment.
    pub segment: u32,
    /// Row in the segment.
    pub row: u32,
}

impl Record for RowRef {
    type Words = [u32; 2];

    fn words(&self) -> Self::Words {
        [self.segment, self.row]
    }

    fn of([segment, row]: Self::Words) -> Self {
        Self { segment, row }
    }
}

/// The size class of so many live rows.
pub(super) fn class(rows: usize) -> usize {
    (rows.max(1).ilog2() as usize / 2).min(CLASSES - 1)
}

/// Is told rows and their owners.
type TellLive<'a> = dyn FnMut(&[RowRef], &[u32]) -> Result<()> + 'a;

/// Rows of one schema.
#[derive(Debug)]
pub struct RowStore {
    schema: SchemaRef,
    /// The owner, then the columns of `schema`.
    part: SchemaRef,
    segments: Vec<Option<Segment>>,
    vacant: Vec<u32>,
    size: StateSize,
    /// Where segments are written to; `None`: all are in memory.
    disk: Option<(Arc<Space>, Arc<Codec>)>,
}

impl RowStore {
    /// No rows yet.
    ///
    /// # Errors
    /// Rows of a type that cannot be kept on disk.
    pub fn new(schema: SchemaRef, backend: &Backend) -> Result<Self> {
        let owner = std::iter::once(Arc::new(Field::new("owner", DataType::UInt32, false)));
        let part = Arc::new(Schema::new(owner.chain(schema.fields().iter().cloned()).collect::<Vec<_>>()));
        let disk = match backend {
            // Rows without columns are nothing but their owners.
            Backend::Disk(space) if !schema.fields().is_empty() => {
                Some((space.clone(), Arc::new(Codec::new(schema.clone(), part.clone())?)))
            }
            _ => None,
        };
        Ok(Self { schema, part, segments: Vec::new(), vacant: Vec::new(), size: StateSize::default(), disk })
    }

    fn codec(&self) -> Option<&Codec> {
        self.disk.as_ref().map(|(_, codec)| codec.as_ref())
    }

    /// The schema of the rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Appends rows; row `i` belongs to `owners[i]`. Returns the segment: row `i` is `RowRef { segment, row: i }`.
    /// Columns that are a small part of the buffers that they hold on to are copied.
    ///
    /// # Errors
    /// Columns of other types than the schema's.
    pub fn append(&mut self, rows: RecordBatch, owners: &[u32]) -> Result<u32> {
        if owners.len() != rows.num_rows() {
            return Err(Error::permanent(format!("{} rows for {} owners", rows.num_rows(), owners.len())));
        }
        let held = self.hold(rows.columns(), owners)?;
        Ok(self.add(Segment::new(held, Live::all(owners.len()))))
    }

    /// Rows as a segment holds them.
    fn hold(&self, columns: &[ArrayRef], owners: &[u32]) -> Result<Held> {
        if let Some((space, codec)) = self.disk.as_ref().filter(|(space, _)| space.takes(owners.len())) {
            return Ok(Held::Disk(Arc::new(Stored::write(space, codec, columns, owners)?)));
        }
        let columns = columns.iter().map(unshared).collect::<Result<_>>()?;
        Ok(Held::Memory { rows: batch(&self.schema, columns, owners.len())?, owners: UInt32Array::from(owners.to_vec()) })
    }

    fn add(&mut self, segment: Segment) -> u32 {
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.segments.push(None);
            self.segments.len() as u32 - 1
        });
        if segment.live.count() == 0 {
            self.vacant.push(id);
            return id;
        }
        self.size = self.size + segment.size();
        self.segments[id as usize] = Some(segment);
        id
    }

    fn remove(&mut self, id: u32) -> Option<Segment> {
        let segment = self.segments[id as usize].take()?;
        self.size = self.size - segment.size();
        self.vacant.push(id);
        Some(segment)
    }

    /// The rows in the order of `refs`.
    pub fn gather(&self, refs: &[RowRef]) -> Result<RecordBatch> {
        self.view(refs.iter().copied().map(Some))?.batch()
    }

    /// Looks rows up, some of them absent, so that columns can be made of them.
    pub fn view(&self, refs: impl ExactSizeIterator<Item = Option<RowRef>>) -> Result<View<'_>> {
        View::new(self, refs)
    }

    /// Frees a row. Freeing it again does nothing until its segment's number is used again.
    pub fn free(&mut self, row: RowRef) {
        let Some(segment) = self.segments.get_mut(row.segment as usize).and_then(Option::as_mut) else { return };
        if !segment.live.clear(row.row) {
            return;
        }
        self.size.rows -= 1;
        if segment.live.count() == 0 {
            self.remove(row.segment);
        }
    }

    /// Rewrites segments that are mostly dead or small into larger ones; tells `moved(owner, from, to)` for each row that
    /// moved. Costs O(log n) per row ever appended, and a look at each segment's header.
    pub fn compact(&mut self, moved: &mut dyn FnMut(u32, RowRef, RowRef) -> Result<()>) -> Result<()> {
        let mut classes: [Vec<u32>; CLASSES] = Default::default();
        let mut dead = Vec::new();
        for (id, segment) in self.segments.iter().enumerate() {
            match segment {
                Some(s) if !s.is_full() => classes[s.class()].push(id as u32),
                Some(s) if s.live.is_mostly_dead() => dead.push(id as u32),
                _ => {}
            }
        }
        for id in dead {
            self.merge(&[id], moved)?;
        }
        for class in 0..CLASSES {
            let ids = std::mem::take(&mut classes[class]);
            if ids.len() >= FAN_IN {
                for group in self.groups(&ids) {
                    let merged = self.merge(group, moved)?;
                    if let Some(s) = self.segments[merged as usize].as_ref().filter(|s| !s.is_full() && s.class() > class) {
                        classes[s.class()].push(merged);
                    }
                }
            } else {
                for id in ids {
                    if self.segments[id as usize].as_ref().is_some_and(|s| s.live.is_mostly_dead()) {
                        self.merge(&[id], moved)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Cuts segments into runs that are full together.
    fn groups<'a>(&self, ids: &'a [u32]) -> Vec<&'a [u32]> {
        let mut groups = Vec::new();
        let (mut start, mut rows, mut bytes) = (0, 0, 0);
        for (i, segment) in ids.iter().map(|id| self.segments[*id as usize].as_ref()).enumerate() {
            rows += segment.map_or(0, |s| s.live.count());
            bytes += segment.map_or(0, |s| s.data);
            if rows >= FULL_ROWS || bytes >= FULL_BYTES || i + 1 == ids.len() {
                groups.push(&ids[start..=i]);
                (start, rows, bytes) = (i + 1, 0, 0);
            }
        }
        groups
    }

    fn merge(&mut self, ids: &[u32], moved: &mut dyn FnMut(u32, RowRef, RowRef) -> Result<()>) -> Result<u32> {
        let (mut refs, mut owners) = (Vec::new(), Vec::new());
        for id in ids {
            self.live_of(*id, &mut refs, &mut owners)?;
        }
        let rows = self.gather(&refs)?;
        for id in ids {
            self.remove(*id);
        }
        let segment = self.append(rows, &owners)?;
        let to = (0..).map(|row| RowRef { segment, row });
        let mut moves: Vec<_> = owners.into_iter().zip(refs).zip(to).collect();
        if self.disk.is_some() {
            // What is known of owners lies on disk too, side by side.
            moves.sort_unstable_by_key(|((owner, _), _)| *owner);
        }
        moves.into_iter().try_for_each(|((owner, from), to)| moved(owner, from, to))?;
        Ok(segment)
    }

    fn live_of(&self, id: u32, refs: &mut Vec<RowRef>, owners: &mut Vec<u32>) -> Result<()> {
        let Some(segment) = &self.segments[id as usize] else { return Ok(()) };
        let of = segment.owners()?;
        refs.extend(segment.live.iter().map(|row| RowRef { segment: id, row }));
        owners.extend(segment.live.iter().map(|row| of.value(row as usize)));
        Ok(())
    }

    /// What is held: live rows, and the bytes of all segments with their dead rows.
    pub fn size(&self) -> StateSize {
        self.size
    }

    /// Tells all live rows and their owners, segment by segment.
    pub fn for_each_live(&self, tell: &mut TellLive<'_>) -> Result<()> {
        let (mut refs, mut owners) = (Vec::new(), Vec::new());
        for id in 0..self.segments.len() as u32 {
            refs.clear();
            owners.clear();
            self.live_of(id, &mut refs, &mut owners)?;
            tell(&refs, &owners)?;
        }
        Ok(())
    }

    /// Adds a section to a snapshot: a part per segment. Costs a bit per row.
    pub fn save(&mut self, snapshot: &mut Snapshot<'_>) -> Result<()> {
        snapshot.section();
        for segment in self.segments.iter_mut().flatten() {
            let rows = match &segment.held {
                Held::Memory { rows, owners } => {
                    let of: ArrayRef = Arc::new(owners.clone());
                    let columns = std::iter::once(of).chain(rows.columns().iter().cloned()).collect();
                    PartRows::Here(batch(&self.part, columns, owners.len())?)
                }
                Held::Disk(stored) => PartRows::Stored(stored.clone()),
            };
            snapshot.part(&mut segment.number, rows, &segment.live);
        }
        Ok(())
    }

    /// Takes up the parts that [`save`](RowStore::save) gave, into a store without rows, one after the other. References are
    /// others than before: [`for_each_live`](RowStore::for_each_live) tells them by owner.
    ///
    /// # Errors
    /// Columns of other types than the schema's.
    pub fn restore(&mut self, saved: Vec<SavedPart>) -> Result<()> {
        for part in saved {
            let (rows, live) = part.load()?;
            parts::expect(&rows, &self.part)?;
            let owners = rows.column(0).as_primitive::<UInt32Type>();
            let mut segment = Segment::new(self.hold(&rows.columns()[1..], owners.values())?, live);
            segment.number = Some(part.number);
            self.add(segment);
        }
        Ok(())
    }
}

pub(super) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

#[cfg(test)]
mod tests;
