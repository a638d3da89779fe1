//! The source: a table at rest, or one that is followed. One partition; the offset of a row names a version of the table and the
//! row in it ([`super::position`]), so that it stays what it was while others append, compact and vacuum.
//!
//! At rest all rows of the version are read that was the newest when the source was opened. Following, first those, then what
//! newer versions add; versions that only write rows anew (compaction) add nothing.
//!
//! A declared column is matched by name. Metadata columns: `offset`, `partition` (0), `topic` (the path), `processing_time`. The
//! others (`key`, `timestamp`, `headers`) are things that a row of a table does not have.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use crossbeam_channel::RecvTimeoutError;
use deltalake_core::logstore::LogStoreRef;
use riverrun_engine::graph::SourceNode;
use riverrun_engine::source::{Fetch, Limit, PartitionReader, Poll, Source, Start};
use riverrun_engine::table::Metadata;
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

use super::ahead::{Ahead, Job, Piece};
use super::config::{Config, Reading, StartingVersion};
use super::position::Position;
use super::reader::Snapshot;
use super::types::unlike;

/// How long a poll waits for the thread that reads.
const PATIENCE: Duration = Duration::from_millis(5);

/// A Delta table to read from.
pub struct DeltaSource {
    log: LogStoreRef,
    /// The version that was the newest when the source was opened.
    newest: Arc<Snapshot>,
    columns: Arc<Columns>,
    reading: Reading,
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
    /// Opens a node's table.
    pub(super) fn open(node: &SourceNode) -> Result<Self> {
        let config = Config::parse(&node.table.options)?;
        Self::open_at(config.place.log()?, node, config)
    }

    /// The same on any storage.
    pub(super) fn open_at(log: LogStoreRef, node: &SourceNode, config: Config) -> Result<Self> {
        let path = config.path;
        let newest = Snapshot::newest(Arc::clone(&log), &path)?;
        let declared = |name: &str| node.table.columns.iter().find(|c| c.field.name() == name).and_then(|c| c.metadata);
        let metadata: Vec<_> = node.schema.fields().iter().map(|f| declared(f.name())).collect();
        let fields = node.schema.fields().iter().zip(&metadata);
        let stored = Schema::new(fields.filter(|(_, m)| m.is_none()).map(|(f, _)| Arc::clone(f)).collect::<Vec<_>>());
        let unlike = unlike(&stored, &newest.schema);
        if !unlike.is_empty() {
            let text = format!("the declaration does not fit the Delta table at {path}:\n  {}", unlike.join("\n  "));
            return Err(Error::invalid(text));
        }
        let columns = Columns { schema: Arc::clone(&node.schema), metadata, stored: Arc::new(stored), path };
        Ok(Self { log, newest: Arc::new(newest), columns: Arc::new(columns), reading: config.reading })
    }

    /// Where reading starts.
    fn first(&self) -> Result<Position> {
        let newest = Position::snapshot(self.newest.version);
        match self.reading.start {
            StartingVersion::Snapshot => Ok(newest),
            StartingVersion::Latest => Ok(newest.behind()),
            StartingVersion::Changes(version) if version <= newest.behind().version => Ok(Position::changes(version)),
            StartingVersion::Changes(version) => {
                let text =
                    format!("starting_version {version}: the Delta table at {} is at {}", self.columns.path, newest.version);
                Err(Error::invalid(text).hint("name a version that is there, or 'latest'"))
            }
        }
    }
}

/// Whether a row of a table has this metadata.
pub(super) fn has_metadata(metadata: Metadata) -> bool {
    !matches!(metadata, Metadata::Key | Metadata::Timestamp | Metadata::Headers)
}

impl Source for DeltaSource {
    fn partitions(&self) -> Result<u32> {
        Ok(1)
    }

    fn resolve(&self, _partition: u32, start: Start) -> Result<i64> {
        match start {
            Start::Earliest => self.first()?.offset(),
            Start::Latest => Position::snapshot(self.newest.version).behind().offset(),
            Start::Offset(offset) => Ok(offset),
            Start::Time(_) => Err(Error::invalid(format!("the Delta table at {} has no record times", self.columns.path))
                .hint("start at 'earliest', and filter by a column")),
        }
    }

    fn end_offset(&self, _partition: u32) -> Result<Option<i64>> {
        Position::snapshot(self.newest.version).behind().offset().map(Some)
    }

    fn open(&self, _partition: u32, offset: i64, stop: Option<i64>) -> Result<Box<dyn PartitionReader>> {
        let position = Position::of(offset).filter(|position| position.version <= self.newest.version + 1).ok_or_else(|| {
            let text = format!("the Delta table at {} has no rows at offset {offset}", self.columns.path);
            Error::permanent(text).hint("it was made anew since: start this pipeline anew, under another pipeline.name")
        })?;
        let behind = Arc::new(AtomicU64::new(0));
        let ahead = Ahead::start(Job {
            log: Arc::clone(&self.log),
            storage: self.newest.storage.clone(),
            reading: self.reading.clone(),
            columns: Arc::clone(&self.columns.stored),
            position,
            stop: stop.unwrap_or(i64::MAX),
            newest: Arc::clone(&self.newest),
            behind: Arc::clone(&behind),
        })?;
        Ok(Box::new(Reader { columns: Arc::clone(&self.columns), ahead, piece: None, offset, behind }))
    }
}

/// Gives what the thread has read.
struct Reader {
    columns: Arc<Columns>,
    ahead: Ahead,
    /// What the last poll's limit left.
    piece: Option<Piece>,
    offset: i64,
    behind: Arc<AtomicU64>,
}

impl Reader {
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
        let done = self.offset >= limit.until;
        let mut piece = match self.piece.take() {
            Some(piece) => piece,
            None => match self.ahead.pieces.recv_timeout(if done { Duration::ZERO } else { PATIENCE }) {
                Ok(piece) => piece?,
                Err(RecvTimeoutError::Timeout) => return Ok(Poll::Pending),
                Err(RecvTimeoutError::Disconnected) => return Ok(Poll::End),
            },
        };
        // Versions without rows lie between what was read and this.
        self.offset = self.offset.max(piece.at);
        if self.offset >= limit.until {
            self.piece = Some(piece);
            return Ok(Poll::Pending);
        }
        let left = usize::try_from(limit.until - self.offset).unwrap_or(usize::MAX);
        let count = piece.rows.num_rows();
        let taken = count.min(left).min(limit.rows.max(1));
        let rows = self.declared(&piece.rows.slice(0, taken), clock)?;
        let bytes = piece.rows.get_array_memory_size() * taken / count;
        self.behind.fetch_sub(taken as u64, Relaxed);
        if taken == count {
            self.offset = piece.end;
        } else {
            self.offset += taken as i64;
            piece.rows = piece.rows.slice(taken, count - taken);
            piece.at = self.offset;
            self.piece = Some(piece);
        }
        Ok(Poll::Ready(Fetch { rows, bad: Vec::new(), next_offset: self.offset, bytes, newest_record_time: None }))
    }

    fn lag(&self) -> Option<u64> {
        Some(self.behind.load(Relaxed))
    }
}
