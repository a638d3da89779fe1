//! Rows in columns: segments of arrow batches, each row with a reference and an owner.
//!
//! Invariants: a [`RowRef`] stays valid until its row is freed or [`RowStore::compact`] says where it moved; a row belongs to
//! one owner (a key's slot, a group) for its whole life; a segment without live rows is dropped at once and its number is
//! used again. Compaction merges segments of a similar number of live rows, so a row is rewritten O(log n) times, plus once
//! for each time that half of its segment died; the number of segments below the full size stays logarithmic.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, MutableArrayData, RecordBatch, RecordBatchOptions, make_array, new_empty_array, new_null_array,
};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, SchemaRef};

use crate::operator::StateSize;
use crate::{Error, Result};

/// A segment of so many live rows is not merged with others any more.
const FULL_ROWS: usize = 64 * 1024;
/// Nor is one of so many bytes: offsets of strings and lists stay far from 32 bits.
const FULL_BYTES: u64 = 32 * 1024 * 1024;
/// So many segments of one size class become one.
const FAN_IN: usize = 4;
/// Size classes: powers of 4 of live rows below [`FULL_ROWS`].
const CLASSES: usize = 8;
/// A column may hold so many bytes more than its rows need before it is copied.
const SLACK: usize = 1024;

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
    rows: RecordBatch,
    owners: Vec<u32>,
    /// One bit per row.
    live: Vec<u64>,
    live_count: usize,
    bytes: u64,
}

impl Segment {
    fn new(rows: RecordBatch, owners: Vec<u32>) -> Self {
        let count = rows.num_rows();
        let mut live = vec![u64::MAX; count.div_ceil(64)];
        if let (Some(last), rest @ 1..) = (live.last_mut(), count % 64) {
            *last = (1 << rest) - 1;
        }
        let bytes = (rows.get_array_memory_size() + 4 * count + 8 * live.len()) as u64;
        Self { rows, owners, live, live_count: count, bytes }
    }

    fn is_full(&self) -> bool {
        self.live_count >= FULL_ROWS || self.bytes >= FULL_BYTES
    }

    fn is_mostly_dead(&self) -> bool {
        self.live_count * 2 <= self.rows.num_rows()
    }

    fn class(&self) -> usize {
        (self.live_count.max(1).ilog2() as usize / 2).min(CLASSES - 1)
    }

    fn live_rows(&self) -> impl Iterator<Item = u32> {
        self.live.iter().enumerate().flat_map(|(word, bits)| {
            let mut bits = *bits;
            std::iter::from_fn(move || {
                let bit = bits.trailing_zeros();
                bits &= bits.wrapping_sub(1);
                (bit < 64).then(|| word as u32 * 64 + bit)
            })
        })
    }
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
    segments: Vec<Option<Segment>>,
    vacant: Vec<u32>,
    size: StateSize,
}

impl RowStore {
    /// No rows yet.
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema, segments: Vec::new(), vacant: Vec::new(), size: StateSize::default() }
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
        let segment = Segment::new(batch(&self.schema, columns, owners.len())?, owners.to_vec());
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.segments.push(None);
            self.segments.len() as u32 - 1
        });
        if owners.is_empty() {
            self.vacant.push(id);
            return Ok(id);
        }
        self.size.rows += segment.live_count as u64;
        self.size.bytes += segment.bytes;
        self.segments[id as usize] = Some(segment);
        Ok(id)
    }

    fn remove(&mut self, id: u32) -> Option<Segment> {
        let segment = self.segments[id as usize].take()?;
        self.size.rows -= segment.live_count as u64;
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
        let (word, bit) = (row.row as usize / 64, 1u64 << (row.row % 64));
        if segment.live.get(word).is_none_or(|bits| bits & bit == 0) {
            return;
        }
        segment.live[word] &= !bit;
        segment.live_count -= 1;
        self.size.rows -= 1;
        if segment.live_count == 0 {
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
                Some(s) if s.is_mostly_dead() => dead.push(id as u32),
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
                    if self.segments[id as usize].as_ref().is_some_and(Segment::is_mostly_dead) {
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
            rows += segment.map_or(0, |s| s.live_count);
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
        segments.flat_map(|(segment, s)| s.live_rows().map(move |row| (RowRef { segment, row }, s.owners[row as usize]))).unzip()
    }

    /// What is held: live rows, and the bytes of all segments with their dead rows.
    pub fn size(&self) -> StateSize {
        self.size
    }

    /// All live rows with their owners.
    pub fn live(&self) -> Result<(RecordBatch, Vec<u32>)> {
        let (refs, owners) = self.live_refs(0..self.segments.len() as u32);
        Ok((self.gather(&refs)?, owners))
    }
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// The array, copied where it would hold on to much more memory than its rows need: a slice of a large batch, strings in a
/// decoder's buffer. (Views within lists keep their buffers.)
fn unshared(array: &ArrayRef) -> Result<ArrayRef> {
    if array.get_array_memory_size() <= 2 * needed(array) + SLACK {
        return Ok(array.clone());
    }
    Ok(match array.data_type() {
        DataType::Utf8View => Arc::new(array.as_string_view().gc()),
        DataType::BinaryView => Arc::new(array.as_binary_view().gc()),
        _ => {
            let data = array.to_data();
            let mut copy = MutableArrayData::new(vec![&data], false, data.len());
            copy.try_extend(0, 0, data.len())?;
            make_array(copy.freeze())
        }
    })
}

/// Bytes that the rows of `array` need, without what lies before and behind them in its buffers.
fn needed(array: &ArrayRef) -> usize {
    match array.data_type() {
        DataType::Utf8View => array.as_string_view().total_buffer_bytes_used() + 16 * array.len(),
        DataType::BinaryView => array.as_binary_view().total_buffer_bytes_used() + 16 * array.len(),
        DataType::Struct(_) => array.as_struct().columns().iter().map(needed).sum(),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (from, to) = (list.value_offsets()[0] as usize, list.value_offsets()[list.len()] as usize);
            needed(&list.values().slice(from, to - from)) + 4 * list.len()
        }
        _ => array.to_data().get_slice_memory_size().unwrap_or(usize::MAX / 4),
    }
}

#[cfg(test)]
mod tests;
