//! The contract of a source: partitions of records, read from a position on.

use arrow::array::{ArrayRef, RecordBatch};
use bytes::Bytes;

use crate::time::Micros;
use crate::{Error, Result};

/// Where to start reading a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first record that is still there.
    Earliest,
    /// Behind the last record.
    Latest,
    /// At this offset.
    Offset(i64),
    /// At the first record whose own time is at or past this.
    Time(Micros),
}

/// The most that one poll gives.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Rows.
    pub rows: usize,
    /// Bytes of raw records, about.
    pub bytes: usize,
    /// No record at or behind this offset: where an epoch that is repeated ended. The reader goes on behind it later.
    pub until: i64,
}

impl Limit {
    /// So many rows and bytes, wherever they end.
    pub const fn new(rows: usize, bytes: usize) -> Self {
        Self { rows, bytes, until: i64::MAX }
    }
}

/// The reasons of [`BadRecord`]s, as metrics and dead letters name them.
pub const BAD_RECORD_REASONS: [&str; 7] =
    ["malformed", "missing_field", "wrong_type", "event_time", "too_large", "empty", "schema"];

/// A header of a record: name and value.
pub type Header = (String, Option<Bytes>);

/// A record that could not become a row: its position, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct BadRecord {
    /// One of [`BAD_RECORD_REASONS`].
    pub reason: &'static str,
    /// What was wrong, for a person.
    pub detail: String,
    /// Offset of the record in its partition.
    pub offset: i64,
    /// The record's own time.
    pub timestamp: Option<Micros>,
    /// The record's key.
    pub key: Option<Bytes>,
    /// The record as it was.
    pub payload: Bytes,
    /// Whether it had no value at all; the payload is empty then.
    pub tombstone: bool,
    /// Its headers, where they are kept: with `bad_records = 'dead_letter'`.
    pub headers: Vec<Header>,
}

/// What one poll of a partition gave.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// Decoded rows: the columns of the table, in order.
    pub rows: RecordBatch,
    /// Records that could not be decoded.
    pub bad: Vec<BadRecord>,
    /// The position to read from next: all before it is in this fetch or in earlier ones.
    pub next_offset: i64,
    /// Bytes of raw records, about.
    pub bytes: usize,
    /// The newest record's own time, for end-to-end latency and `now()`.
    pub newest_record_time: Option<Micros>,
}

/// The answer of a partition to a poll.
#[derive(Debug)]
pub enum Poll {
    /// Records were there.
    Ready(Fetch),
    /// Nothing now; there may be more later. Returned at once or after a few milliseconds at most.
    Pending,
    /// All up to the stop offset was given. Every further poll says so too.
    End,
}

/// What a partition number stands for where a source reads several topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The topic.
    pub topic: String,
    /// The partition in it.
    pub partition: u32,
}

/// Reads one partition, in order. Decoding happens in [`poll`](PartitionReader::poll), on the worker's thread.
pub trait PartitionReader: Send {
    /// Reads on. `clock` is the epoch's clock: the value of the metadata column `processing_time`.
    fn poll(&mut self, limit: Limit, clock: Micros) -> Result<Poll>;

    /// Whether it holds a record that it cannot give yet, such as one whose schema nobody can be asked for now. However long
    /// that takes, its partition is not silent.
    fn holds(&self) -> bool {
        false
    }

    /// How many records are there behind the position, where known.
    fn lag(&self) -> Option<u64> {
        None
    }
}

/// A table to read from, resolved: connected, checked, its options parsed.
pub trait Source: Send + Sync {
    /// How many partitions there are. Fixed for the life of a pipeline; numbered from 0.
    fn partitions(&self) -> Result<u32>;

    /// The part of the source behind a partition number, where it has several topics. Parts with equal partition numbers
    /// hold equal keys and are read by one task. `None`: the number says it all.
    fn part(&self, partition: u32) -> Option<Part> {
        let _ = partition;
        None
    }

    /// Where this pipeline starts when it has no position of its own (the table's `starting_offsets`).
    fn start(&self, partition: u32) -> Start {
        let _ = partition;
        Start::Earliest
    }

    /// The offset that a start resolves to now.
    fn resolve(&self, partition: u32, start: Start) -> Result<i64>;

    /// The offset behind the last record now: where a bounded run stops. `None`: the source ends by itself, or never.
    fn end_offset(&self, partition: u32) -> Result<Option<i64>>;

    /// Opens a partition at an offset; `stop` = give [`Poll::End`] once all records before that offset were given.
    fn open(&self, partition: u32, offset: i64, stop: Option<i64>) -> Result<Box<dyn PartitionReader>>;

    /// The position that [`commit`](Source::commit) last kept, where the source keeps one.
    fn committed(&self, partition: u32) -> Result<Option<i64>> {
        let _ = partition;
        Ok(None)
    }

    /// Every sink has taken all before these offsets (partition, offset).
    fn commit(&self, positions: &[(u32, i64)]) -> Result<()> {
        let _ = positions;
        Ok(())
    }

    /// The columns (by their places in the table) that rows can be found by without reading all: a store that sorts its rows by
    /// key. Empty: there are none.
    fn key(&self) -> Vec<usize> {
        Vec::new()
    }

    /// Reads the rows whose first [`key`](Source::key) columns have these values, each an array of one value of the column's
    /// type, and ends.
    fn find(&self, values: &[ArrayRef]) -> Result<Box<dyn PartitionReader>> {
        let _ = values;
        Err(Error::permanent("this source finds nothing by key"))
    }

    /// What a bad record does to the pipeline.
    fn bad_records(&self) -> OnBadRecord {
        OnBadRecord::Fail
    }
}

/// What a bad record does (the option `bad_records`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnBadRecord {
    /// Stops the pipeline with the reason and the position.
    #[default]
    Fail,
    /// Is counted and dropped.
    Drop,
    /// Is counted and goes to the dead-letter sink.
    DeadLetter,
}
