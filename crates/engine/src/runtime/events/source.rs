//! What happens to sources.

use std::sync::atomic::Ordering::Relaxed;

use tracing::{debug, info, warn};

use super::Event;
use crate::Error;
use crate::runtime::stats::{NodeStats, PartitionStats};
use crate::source::{BadRecord, OnBadRecord};
use crate::time::Micros;

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
    /// The source, with the topic where it has several, and the partition there.
    pub origin: (&'a str, u32),
    /// The clock of their epoch.
    pub clock: Micros,
    /// The records; at least one.
    pub records: &'a [BadRecord],
    /// What becomes of them.
    pub fate: OnBadRecord,
    /// Whether the source had none before.
    pub first: bool,
}

impl Event for BadRecords<'_> {
    fn count(&self) {
        self.node.add_bad(self.origin, self.clock, self.records);
    }

    fn log(&self) {
        let Some(BadRecord { reason, detail, offset, .. }) = self.records.first() else { return };
        let ((source, partition), records) = (self.origin, self.records.len());
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
