//! What happens to a pipeline: one struct per event, which counts and tells, so that a metric and its log line cannot drift
//! apart.
//!
//! Invariants: an event is always counted; it is told (`warn`, `info`) when it begins and when it ends, not each time it
//! repeats: repetitions are `debug`. Each line carries the field `event`, the event's name.

use tracing::{debug, info, warn};

use super::stats::{CheckpointStats, NodeStats, PartitionStats, SinkStats};
use crate::Error;
use crate::source::{BadRecord, OnBadRecord};
use crate::time::Micros;

/// Something that happened.
pub trait Event: Sized {
    /// Moves the counts.
    fn count(&self);

    /// Writes the log line.
    fn log(&self);

    /// Counts, then tells.
    fn emit(self) {
        self.count();
        self.log();
    }
}

/// A source could not be read, and will be tried again.
pub struct SourceFailed<'a> {
    /// The table.
    pub source: &'a str,
    /// The partition.
    pub stats: &'a PartitionStats,
    /// Why.
    pub error: &'a Error,
    /// Now.
    pub now: Micros,
    /// Whether it worked before.
    pub first: bool,
}

impl Event for SourceFailed<'_> {
    fn count(&self) {
        self.stats.failed(self.now);
    }

    fn log(&self) {
        let Self { source, error, .. } = self;
        if self.first {
            warn!(event = "source_failed", "source {source}: {error}; trying again until it passes");
        } else {
            debug!(event = "source_failed", "source {source}: {error}");
        }
    }
}

/// A source can be read.
pub struct SourceWorks<'a> {
    /// The table.
    pub source: &'a str,
    /// The partition.
    pub stats: &'a PartitionStats,
    /// Whether it failed before.
    pub again: bool,
}

impl Event for SourceWorks<'_> {
    fn count(&self) {
        self.stats.worked();
    }

    fn log(&self) {
        if self.again {
            info!(event = "source_works", "source {}: works again", self.source);
        }
    }
}

/// A sink could not be written or flushed, and will be tried again.
pub struct SinkFailed<'a> {
    /// The sink.
    pub stats: &'a SinkStats,
    /// Why.
    pub error: &'a Error,
    /// Now.
    pub now: Micros,
    /// Whether it worked before.
    pub first: bool,
}

impl Event for SinkFailed<'_> {
    fn count(&self) {
        self.stats.failed(self.now);
    }

    fn log(&self) {
        let (sink, error) = (&self.stats.name, self.error);
        if self.first {
            warn!(event = "sink_failed", "sink {sink}: {error}; trying again until it passes");
        } else {
            debug!(event = "sink_failed", "sink {sink}: {error}");
        }
    }
}

/// A sink was written or flushed.
pub struct SinkWorks<'a> {
    /// The sink.
    pub stats: &'a SinkStats,
    /// Whether it failed before.
    pub again: bool,
}

impl Event for SinkWorks<'_> {
    fn count(&self) {
        self.stats.worked();
    }

    fn log(&self) {
        if self.again {
            info!(event = "sink_works", "sink {}: works again", self.stats.name);
        }
    }
}

/// Rows came behind the watermark of their partition.
pub struct LateRows<'a> {
    /// The source.
    pub node: &'a NodeStats,
    /// The partition.
    pub stats: &'a PartitionStats,
    /// How many.
    pub rows: u64,
    /// Whether none was late in this partition before.
    pub first: bool,
}

impl Event for LateRows<'_> {
    fn count(&self) {
        use std::sync::atomic::Ordering::Relaxed;
        self.node.late.fetch_add(self.rows, Relaxed);
        self.stats.late.fetch_add(self.rows, Relaxed);
    }

    fn log(&self) {
        let (source, partition, rows) = (&self.node.name, self.stats.partition, self.rows);
        if self.first {
            info!(
                event = "late_rows",
                rows, "source {source}, partition {partition}: the first late rows; more are only counted"
            );
        } else {
            debug!(event = "late_rows", rows, "source {source}, partition {partition}: late rows");
        }
    }
}

/// Records could not be decoded.
pub struct BadRecords<'a> {
    /// The source.
    pub node: &'a NodeStats,
    /// The partition.
    pub partition: u32,
    /// The records; at least one.
    pub records: &'a [BadRecord],
    /// What becomes of them.
    pub fate: OnBadRecord,
    /// Whether the source had none before.
    pub first: bool,
}

impl Event for BadRecords<'_> {
    fn count(&self) {
        self.node.add_bad(self.records);
    }

    fn log(&self) {
        let Some(BadRecord { reason, detail, offset, .. }) = self.records.first() else { return };
        let (source, partition, records) = (&self.node.name, self.partition, self.records.len());
        let fate = match self.fate {
            OnBadRecord::Fail => return, // The error that stops the pipeline says all.
            OnBadRecord::Drop => "dropped",
            OnBadRecord::DeadLetter => "in the dead letters",
        };
        let place = format!("source {source}: record at partition {partition}, offset {offset}: {reason}: {detail}");
        if self.first {
            warn!(event = "bad_records", records, "{place}; {fate}; more are only counted");
        } else {
            debug!(event = "bad_records", records, "{place}; {fate}");
        }
    }
}

/// A partition has been silent for its idle timeout, or speaks again.
pub struct Idle<'a> {
    /// The table.
    pub source: &'a str,
    /// The partition.
    pub stats: &'a PartitionStats,
    /// Its watermark now.
    pub watermark: Micros,
    /// Whether it is idle.
    pub idle: bool,
}

impl Event for Idle<'_> {
    fn count(&self) {
        self.stats.set_watermark(self.watermark);
        self.stats.set_idle(self.idle);
    }

    fn log(&self) {
        let (source, partition) = (self.source, self.stats.partition);
        if self.idle {
            info!(event = "idle", "source {source}, partition {partition} is idle: its watermark follows the other partitions");
        } else {
            debug!(event = "idle", "source {source}, partition {partition} speaks again");
        }
    }
}

/// Workers wait for room in a sink's queue.
pub struct Backpressure<'a> {
    /// The sink.
    pub stats: &'a SinkStats,
    /// How long since this was last counted, in nanoseconds.
    pub nanos: u64,
    /// Whether the wait has just become long enough to be told.
    pub tell: bool,
}

impl Event for Backpressure<'_> {
    fn count(&self) {
        self.stats.backpressure_nanos.fetch_add(self.nanos, std::sync::atomic::Ordering::Relaxed);
    }

    fn log(&self) {
        if self.tell {
            let (sink, bound) = (&self.stats.name, self.stats.queue_bound);
            info!(event = "backpressure", "sink {sink} is slow: its queue is full ({bound} bytes), and reading waits for it");
        }
    }
}

/// A checkpoint was written.
pub struct CheckpointWritten<'a> {
    /// Counts.
    pub stats: &'a CheckpointStats,
    /// Whose.
    pub task: usize,
    /// Of which epoch.
    pub epoch: u64,
    /// Its size.
    pub bytes: u64,
    /// How long writing took.
    pub nanos: u64,
    /// Now.
    pub now: Micros,
}

impl Event for CheckpointWritten<'_> {
    fn count(&self) {
        self.stats.wrote(self.now, self.bytes, self.nanos);
    }

    fn log(&self) {
        let Self { task, epoch, bytes, nanos, .. } = self;
        debug!(event = "checkpoint_written", task, epoch, bytes, seconds = *nanos as f64 / 1e9, "checkpoint written");
    }
}

/// A checkpoint could not be written.
pub struct CheckpointFailed<'a> {
    /// Counts.
    pub stats: &'a CheckpointStats,
    /// Why.
    pub error: &'a Error,
}

impl Event for CheckpointFailed<'_> {
    fn count(&self) {
        self.stats.failures.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    fn log(&self) {
        warn!(event = "checkpoint_failed", "{}; the next one will be tried", self.error);
    }
}

/// Positions were kept at a source, or could not be.
pub struct PositionsKept<'a> {
    /// Counts.
    pub stats: &'a CheckpointStats,
    /// Why not.
    pub error: Option<&'a Error>,
    /// How long it took.
    pub nanos: u64,
}

impl Event for PositionsKept<'_> {
    fn count(&self) {
        match self.error {
            None => self.stats.commit_duration.observe(self.nanos),
            Some(_) => drop(self.stats.commit_failures.fetch_add(1, std::sync::atomic::Ordering::Relaxed)),
        }
    }

    fn log(&self) {
        if let Some(error) = self.error {
            warn!(event = "positions_not_kept", "positions could not be kept, the next ones will be: {error}");
        }
    }
}
