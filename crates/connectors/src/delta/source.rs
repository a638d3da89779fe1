//! The source: a table at rest. One partition; the offset of a row is its ordinal in the version that was the newest when the
//! source was opened (files in the order that [`super::reader`] gives them).
//!
//! A declared column is matched by name. Metadata columns: `offset` (the ordinal), `partition` (0), `topic` (the path),
//! `processing_time`. The others (`key`, `timestamp`, `headers`) are things that a row of a table does not have.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use deltalake_core::logstore::LogStoreRef;
use riverrun_engine::graph::SourceNode;
use riverrun_engine::source::{Fetch, Limit, PartitionReader, Poll, Source, Start};
use riverrun_engine::table::Metadata;
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

use super::config::Config;
use super::reader::{FileReader, Snapshot};
use super::table::log_at;
use super::types::unlike;

/// A Delta table to read from.
pub struct DeltaSource {
    snapshot: Arc<Snapshot>,
    columns: Arc<Columns>,
}

/// The columns of the declaration.
struct Columns {
    /// All of them, in order.
    schema: SchemaRef,
    /// What each is if the table does not hold it.
    metadata: Vec<Option<Metadata>>,
    /// Those that the table holds.
    stored: SchemaRef,
    path: String,
}

impl DeltaSource {
    /// Opens the newest version of a node's table.
    pub(super) fn open(node: &SourceNode) -> Result<Self> {
        let config = Config::parse(&node.table.options)?;
        Self::open_at(log_at(&config.location, &config.path)?, node, config.path)
    }

    /// The same on any storage.
    pub(super) fn open_at(log: LogStoreRef, node: &SourceNode, path: String) -> Result<Self> {
        let snapshot = Snapshot::newest(log, &path)?;
        let declared = |name: &str| node.table.columns.iter().find(|c| c.field.name() == name).and_then(|c| c.metadata);
        let metadata: Vec<_> = node.schema.fields().iter().map(|f| declared(f.name())).collect();
        let fields = node.schema.fields().iter().zip(&metadata);
        let stored = Schema::new(fields.filter(|(_, m)| m.is_none()).map(|(f, _)| Arc::clone(f)).collect::<Vec<_>>());
        let unlike = unlike(&stored, &snapshot.schema);
        if !unlike.is_empty() {
            let text = format!("the declaration does not fit the Delta table at {path}:\n  {}", unlike.join("\n  "));
            return Err(Error::invalid(text));
        }
        let columns = Columns { schema: Arc::clone(&node.schema), metadata, stored: Arc::new(stored), path };
        Ok(Self { snapshot: Arc::new(snapshot), columns: Arc::new(columns) })
    }

    fn rows(&self) -> i64 {
        i64::try_from(self.snapshot.rows()).unwrap_or(i64::MAX)
    }
}

/// Whether a table at rest has this metadata.
pub(super) fn has_metadata(metadata: Metadata) -> bool {
    !matches!(metadata, Metadata::Key | Metadata::Timestamp | Metadata::Headers)
}

impl Source for DeltaSource {
    fn partitions(&self) -> Result<u32> {
        Ok(1)
    }

    fn resolve(&self, _partition: u32, start: Start) -> Result<i64> {
        match start {
            Start::Earliest => Ok(0),
            Start::Latest => Ok(self.rows()),
            Start::Offset(offset) => Ok(offset),
            Start::Time(_) => Err(Error::invalid(format!("the Delta table at {} has no record times", self.columns.path))
                .hint("start at 'earliest', and filter by a column")),
        }
    }

    fn end_offset(&self, _partition: u32) -> Result<Option<i64>> {
        Ok(Some(self.rows()))
    }

    fn open(&self, _partition: u32, offset: i64, stop: Option<i64>) -> Result<Box<dyn PartitionReader>> {
        let stop = stop.unwrap_or(i64::MAX).min(self.rows());
        if offset < 0 || offset > self.rows() {
            let text = format!("the Delta table at {} has {} rows, none at offset {offset}", self.columns.path, self.rows());
            return Err(Error::permanent(text).hint("the table was rewritten: start this pipeline anew"));
        }
        let mut skip = offset as u64;
        let mut file = 0;
        while let Some(rows) = self.snapshot.files.get(file).map(|f| f.rows).filter(|rows| *rows <= skip) {
            skip -= rows;
            file += 1;
        }
        let (snapshot, columns) = (Arc::clone(&self.snapshot), Arc::clone(&self.columns));
        Ok(Box::new(Reader { snapshot, columns, file, skip, open: None, rest: None, offset, stop }))
    }
}

/// Reads rows `offset..stop`.
struct Reader {
    snapshot: Arc<Snapshot>,
    columns: Arc<Columns>,
    /// The next file to open, and how many of its rows to leave out.
    file: usize,
    skip: u64,
    open: Option<FileReader>,
    /// What the last poll's limit left of a batch.
    rest: Option<RecordBatch>,
    offset: i64,
    stop: i64,
}

impl Reader {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        if let Some(rest) = self.rest.take() {
            return Ok(Some(rest));
        }
        loop {
            if let Some(reader) = &mut self.open {
                match reader.next()? {
                    Some(batch) if batch.num_rows() > 0 => return Ok(Some(batch)),
                    Some(_) => continue,
                    None => self.open = None,
                }
            }
            let Some(file) = self.snapshot.files.get(self.file) else { return Ok(None) };
            self.open = Some(self.snapshot.open(file, &self.columns.stored, self.skip)?);
            self.file += 1;
            self.skip = 0;
        }
    }

    /// All declared columns, those that are not stored made from what is known of the rows.
    fn declared(&self, stored: &RecordBatch, clock: Micros) -> Result<RecordBatch> {
        if self.columns.metadata.iter().all(Option::is_none) {
            return Ok(stored.clone());
        }
        let count = stored.num_rows();
        let mut held = stored.columns().iter();
        let column = |(field, metadata): (&FieldRef, &Option<Metadata>)| -> Result<ArrayRef> {
            let array: ArrayRef = match metadata {
                None => {
                    return held.next().cloned().ok_or_else(|| Error::permanent(format!("column {} is missing", field.name())));
                }
                Some(Metadata::Offset) => Arc::new(Int64Array::from_iter_values(self.offset..self.offset + count as i64)),
                Some(Metadata::Partition) => Arc::new(Int64Array::from_value(0, count)),
                Some(Metadata::Topic) => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&self.columns.path, count))),
                Some(Metadata::ProcessingTime) => {
                    Arc::new(TimestampMicrosecondArray::from_value(clock, count).with_timezone("UTC"))
                }
                Some(Metadata::Key | Metadata::Timestamp | Metadata::Headers) => {
                    return Err(Error::invalid(format!("column {}: rows of a Delta table have no such metadata", field.name())));
                }
            };
            Ok(if array.data_type() == field.data_type() { array } else { cast(&array, field.data_type())? })
        };
        let arrays = self.columns.schema.fields().iter().zip(&self.columns.metadata).map(column).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.columns.schema), arrays, &options)?)
    }
}

impl PartitionReader for Reader {
    fn poll(&mut self, limit: Limit, clock: Micros) -> Result<Poll> {
        if self.offset >= self.stop {
            return Ok(Poll::End);
        }
        if self.offset >= limit.until {
            return Ok(Poll::Pending);
        }
        let left = self.stop.min(limit.until) - self.offset;
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(limit.rows.max(1));
        let Some(batch) = self.next_batch()? else {
            let text = format!("the Delta table at {} has fewer rows than its log says", self.columns.path);
            return Err(Error::permanent(text));
        };
        let taken = batch.num_rows().min(most);
        if taken < batch.num_rows() {
            self.rest = Some(batch.slice(taken, batch.num_rows() - taken));
        }
        let stored = batch.slice(0, taken);
        let bytes = batch.get_array_memory_size() * taken / batch.num_rows();
        let rows = self.declared(&stored, clock)?;
        self.offset += taken as i64;
        Ok(Poll::Ready(Fetch { rows, bad: Vec::new(), next_offset: self.offset, bytes, newest_record_time: None }))
    }

    fn lag(&self) -> Option<u64> {
        u64::try_from(self.stop - self.offset).ok()
    }
}
