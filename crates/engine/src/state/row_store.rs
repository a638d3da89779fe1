//! Rows in columns: segments of arrow batches, each row with a reference and an owner.
//!
//! Invariants: a [`RowRef`] stays valid until its row is freed or [`RowStore::compact`] says where it moved; a row belongs to
//! one owner (a key's slot, a group) for its whole life; a segment without live rows is dropped at once and its number is
//! used again. Compaction merges segments of a similar number of live rows, so a row is rewritten O(log n) times, plus once
//! for each time that half of its segment died; the number of segments below the full size stays logarithmic. The rows of a
//! segment and their owners never change: a segment is a part of a checkpoint, written once, with the bits of its live rows
//! told each time.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array, new_empty_array, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};

use super::live::Live;
use super::parts::{self, SavedPart, Snapshot};
use super::unshared::unshared;
use crate::operator::StateSize;
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

#[derive(Debug)]
struct Segment {
    /// Given by the first snapshot that holds it.
    number: Option<u64>,
    rows: RecordBatch,
    owners: UInt32Array,
    live: Live,
    bytes: u64,
}

impl Segment {
    fn new(rows: RecordBatch, owners: UInt32Array, live: Live) -> Self {
        let bytes = (rows.get_array_memory_size() + 4 * owners.len() + live.bytes()) as u64;
        Self { number: None, rows, owners, live, bytes }
    }

    fn is_full(&self) -> bool {
        self.live.count() >= FULL_ROWS || self.bytes >= FULL_BYTES
    }

    fn class(&self) -> usize {
        class(self.live.count())
    }
}

/// The size class of so many live rows.
pub(super) fn class(rows: usize) -> usize {
    (rows.max(1).ilog2() as usize / 2).min(CLASSES - 1)
}

/// Where rows are among the segments that they are in.
struct Places<'a> {
    used: Vec<&'a RecordBatch>,
    /// Number in `used` and row; one past `used` for an absent row.
    rows: Vec<(usize, usize)>,
    absent: bool,
}

/// Rows of one schema.
#[derive(Debug)]
pub struct RowStore {
    schema: SchemaRef,
    /// The owner, then the columns of `schema`.
    part: SchemaRef,
    segments: Vec<Option<Segment>>,
    vacant: Vec<u32>,
    size: StateSize,
}

impl RowStore {
    /// No rows yet.
    pub fn new(schema: SchemaRef) -> Self {
        let owner = std::iter::once(Arc::new(Field::new("owner", DataType::UInt32, false)));
        let part = Arc::new(Schema::new(owner.chain(schema.fields().iter().cloned()).collect::<Vec<_>>()));
        Self { schema, part, segments: Vec::new(), vacant: Vec::new(), size: StateSize::default() }
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
        let columns: Vec<_> = rows.columns().iter().map(unshared).collect::<Result<_>>()?;
        let rows = batch(&self.schema, columns, owners.len())?;
        Ok(self.add(Segment::new(rows, UInt32Array::from(owners.to_vec()), Live::all(owners.len()))))
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
        self.size.rows += segment.live.count() as u64;
        self.size.bytes += segment.bytes;
        self.segments[id as usize] = Some(segment);
        id
    }

    fn remove(&mut self, id: u32) -> Option<Segment> {
        let segment = self.segments[id as usize].take()?;
        self.size.rows -= segment.live.count() as u64;
        self.size.bytes -= segment.bytes;
        self.vacant.push(id);
        Some(segment)
    }

    /// The rows in the order of `refs`.
    pub fn gather(&self, refs: &[RowRef]) -> Result<RecordBatch> {
        let places = self.places(refs.iter().map(Some));
        let columns = (0..self.schema.fields().len()).map(|c| self.interleave(c, &places));
        batch(&self.schema, columns.collect::<Result<_>>()?, refs.len())
    }

    /// One column of the rows in the order of `refs`.
    pub fn gather_column(&self, column: usize, refs: &[RowRef]) -> Result<ArrayRef> {
        self.interleave(column, &self.places(refs.iter().map(Some)))
    }

    /// One column of the rows in the order of `refs`; NULL where there is no row.
    pub fn gather_optional(&self, column: usize, refs: &[Option<RowRef>]) -> Result<ArrayRef> {
        self.interleave(column, &self.places(refs.iter().map(Option::as_ref)))
    }

    fn places<'a>(&self, refs: impl ExactSizeIterator<Item = Option<&'a RowRef>>) -> Places<'_> {
        let mut number = vec![usize::MAX; self.segments.len()];
        let mut places = Places { used: Vec::new(), rows: Vec::with_capacity(refs.len()), absent: false };
        for row in refs {
            // A reference to a freed row reads as absent rather than as another row.
            let Some((row, segment)) = row.and_then(|row| Some((row, self.segments[row.segment as usize].as_ref()?))) else {
                places.absent = true;
                places.rows.push((usize::MAX, 0));
                continue;
            };
            let number = &mut number[row.segment as usize];
            if *number == usize::MAX {
                *number = places.used.len();
                places.used.push(&segment.rows);
            }
            places.rows.push((*number, row.row as usize));
        }
        let null = places.used.len();
        if places.absent {
            places.rows.iter_mut().filter(|(segment, _)| *segment == usize::MAX).for_each(|(segment, _)| *segment = null);
        }
        places
    }

    fn interleave(&self, column: usize, places: &Places<'_>) -> Result<ArrayRef> {
        let null = places.absent.then(|| new_null_array(self.schema.field(column).data_type(), 1));
        let mut arrays: Vec<&dyn Array> = places.used.iter().map(|rows| rows.column(column).as_ref()).collect();
        arrays.extend(null.as_deref());
        if arrays.is_empty() {
            return Ok(new_empty_array(self.schema.field(column).data_type()));
        }
        Ok(interleave(&arrays, &places.rows)?)
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
    pub fn compact(&mut self, moved: &mut dyn FnMut(u32, RowRef, RowRef)) -> Result<()> {
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
            bytes += segment.map_or(0, |s| s.bytes);
            if rows >= FULL_ROWS || bytes >= FULL_BYTES || i + 1 == ids.len() {
                groups.push(&ids[start..=i]);
                (start, rows, bytes) = (i + 1, 0, 0);
            }
        }
        groups
    }

    fn merge(&mut self, ids: &[u32], moved: &mut dyn FnMut(u32, RowRef, RowRef)) -> Result<u32> {
        let (refs, owners) = self.live_refs(ids.iter().copied());
        let rows = self.gather(&refs)?;
        for id in ids {
            self.remove(*id);
        }
        let segment = self.append(rows, &owners)?;
        for (row, (from, owner)) in refs.into_iter().zip(owners).enumerate() {
            moved(owner, from, RowRef { segment, row: row as u32 });
        }
        Ok(segment)
    }

    fn live_refs(&self, ids: impl Iterator<Item = u32>) -> (Vec<RowRef>, Vec<u32>) {
        let segments = ids.filter_map(|id| Some((id, self.segments[id as usize].as_ref()?)));
        segments
            .flat_map(|(segment, s)| s.live.iter().map(move |row| (RowRef { segment, row }, s.owners.value(row as usize))))
            .unzip()
    }

    /// What is held: live rows, and the bytes of all segments with their dead rows.
    pub fn size(&self) -> StateSize {
        self.size
    }

    /// All live rows, and their owners.
    pub fn live(&self) -> (Vec<RowRef>, Vec<u32>) {
        self.live_refs(0..self.segments.len() as u32)
    }

    /// Adds a section to a snapshot: a part per segment. Costs a bit per row.
    pub fn save(&mut self, snapshot: &mut Snapshot<'_>) -> Result<()> {
        snapshot.section();
        for segment in self.segments.iter_mut().flatten() {
            let owners: ArrayRef = Arc::new(segment.owners.clone());
            let columns = std::iter::once(owners).chain(segment.rows.columns().iter().cloned()).collect();
            snapshot.part(&mut segment.number, batch(&self.part, columns, segment.owners.len())?, &segment.live);
        }
        Ok(())
    }

    /// Takes up the parts that [`save`](RowStore::save) gave, into a store without rows. References are others than before:
    /// [`live`](RowStore::live) tells them by owner.
    ///
    /// # Errors
    /// Columns of other types than the schema's.
    pub fn restore(&mut self, saved: Vec<SavedPart>) -> Result<()> {
        for SavedPart { number, rows, live } in saved {
            parts::expect(&rows, &self.part)?;
            let owners = unshared(rows.column(0))?.as_primitive::<UInt32Type>().clone();
            let columns = rows.columns()[1..].iter().map(unshared).collect::<Result<_>>()?;
            let mut segment = Segment::new(batch(&self.schema, columns, owners.len())?, owners, live);
            segment.number = Some(number);
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
