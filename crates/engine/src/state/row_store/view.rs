//! Rows that were looked up: which segments they are in, and those that lie on disk, read.

use arrow::array::{Array, ArrayRef, RecordBatch, new_empty_array, new_null_array};
use arrow::compute::interleave;

use super::segment::Held;
use super::stored::Stored;
use super::{RowRef, RowStore};
use crate::Result;

/// A row that lies on disk, until it is known how many segments there are before what was read.
const READ: usize = usize::MAX - 1;
/// A row that is not there.
const ABSENT: usize = usize::MAX;

/// Rows in the order in which they were asked for, some of them absent.
#[derive(Debug)]
pub struct View<'a> {
    store: &'a RowStore,
    used: Vec<&'a RecordBatch>,
    /// Those that lie on disk, behind `used`.
    read: Option<RecordBatch>,
    /// Number in `used` and row; one past all for an absent row.
    rows: Vec<(usize, usize)>,
    absent: bool,
}

/// Reads rows from disk; those that stand side by side at once.
#[derive(Default)]
struct Reader<'a> {
    /// A segment, and the rows that were asked for last.
    run: Option<(&'a Stored, std::ops::Range<usize>)>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
}

impl<'a> Reader<'a> {
    /// Gives the number of the row among those that are read.
    fn add(&mut self, segment: &'a Stored, row: usize) -> Result<usize> {
        match &mut self.run {
            Some((same, rows)) if std::ptr::eq(*same, segment) && rows.end == row => rows.end += 1,
            _ => {
                self.flush()?;
                self.run = Some((segment, row..row + 1));
            }
        }
        self.count += 1;
        Ok(self.count - 1)
    }

    fn flush(&mut self) -> Result<()> {
        match self.run.take() {
            Some((segment, rows)) => segment.read(rows, &mut self.bytes, &mut self.ends),
            None => Ok(()),
        }
    }
}

impl<'a> View<'a> {
    pub(super) fn new(store: &'a RowStore, refs: impl ExactSizeIterator<Item = Option<RowRef>>) -> Result<Self> {
        let mut number = vec![ABSENT; store.segments.len()];
        let (mut used, mut rows, mut absent) = (Vec::new(), Vec::with_capacity(refs.len()), false);
        let mut reader = Reader::default();
        for row in refs {
            // A reference to a freed row reads as absent rather than as another row.
            let Some((row, segment)) = row.and_then(|row| Some((row, store.segments[row.segment as usize].as_ref()?))) else {
                absent = true;
                rows.push((ABSENT, 0));
                continue;
            };
            match &segment.held {
                Held::Memory { rows: batch, .. } => {
                    let number = &mut number[row.segment as usize];
                    if *number == ABSENT {
                        *number = used.len();
                        used.push(batch);
                    }
                    rows.push((*number, row.row as usize));
                }
                Held::Disk(stored) => rows.push((READ, reader.add(stored, row.row as usize)?)),
            }
        }
        let mut view = Self { store, used, read: None, rows, absent };
        if reader.count > 0 {
            reader.flush()?;
            view.read = store.codec().map(|codec| codec.decode(&reader.bytes, &reader.ends)).transpose()?;
        }
        if absent || view.read.is_some() {
            let read = view.used.len();
            let null = read + usize::from(view.read.is_some());
            for (segment, _) in &mut view.rows {
                match *segment {
                    READ => *segment = read,
                    ABSENT => *segment = null,
                    _ => {}
                }
            }
        }
        Ok(view)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// One column; NULL where there is no row.
    pub fn column(&self, column: usize) -> Result<ArrayRef> {
        if let (Some(read), true, false) = (&self.read, self.used.is_empty(), self.absent) {
            return Ok(read.column(column).clone());
        }
        let data_type = self.store.schema.field(column).data_type();
        let null = self.absent.then(|| new_null_array(data_type, 1));
        let batches = self.used.iter().copied().chain(&self.read);
        let mut arrays: Vec<&dyn Array> = batches.map(|rows| rows.column(column).as_ref()).collect();
        arrays.extend(null.as_deref());
        if arrays.is_empty() {
            return Ok(new_empty_array(data_type));
        }
        Ok(interleave(&arrays, &self.rows)?)
    }

    /// All columns.
    pub fn batch(&self) -> Result<RecordBatch> {
        let columns = (0..self.store.schema.fields().len()).map(|c| self.column(c));
        super::batch(&self.store.schema, columns.collect::<Result<_>>()?, self.rows.len())
    }
}
