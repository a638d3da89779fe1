//! Counts of one sink, and of checkpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::histogram::Histogram;
use super::newest::Newest;
use crate::graph::NodeId;
use crate::time::Micros;

/// Stands for "never" in a time.
const NEVER: Micros = i64::MIN;

/// Counts of one sink. Its feed writes them; workers only the queue's bytes and the time that they waited for it.
#[derive(Debug)]
pub struct SinkStats {
    /// The sink's node.
    pub node: NodeId,
    /// The table's name.
    pub name: String,
    /// Rows that the sink took (after coalescing; a row that is written again counts again).
    pub rows_written: AtomicU64,
    /// Bytes of those rows in memory, about.
    pub bytes_written: AtomicU64,
    /// Batches that the sink took.
    pub batches_written: AtomicU64,
    /// Rows that the sink has made safe.
    pub rows_safe: AtomicU64,
    /// Bytes of those rows in memory, about.
    pub bytes_safe: AtomicU64,
    /// Bytes that wait for the sink: handed over by tasks and not yet taken by it.
    pub queue_bytes: Arc<AtomicU64>,
    /// The bound of the queue, in bytes.
    pub queue_bound: u64,
    /// Nanoseconds that workers waited for room in the queue, all workers together.
    pub backpressure_nanos: AtomicU64,
    /// Times the sink was tried again.
    pub retries: AtomicU64,
    /// Nanoseconds within [`Sink::write`](crate::sink::Sink::write).
    pub write_nanos: AtomicU64,
    /// Nanoseconds within [`Sink::flush`](crate::sink::Sink::flush).
    pub flush_nanos: AtomicU64,
    /// How long a flush took that made something safe.
    pub flush_duration: Histogram,
    /// From the time of an epoch's newest record to the sink's acknowledgement of that epoch; one observation an epoch that
    /// read records with a time, whether or not it gave this sink rows.
    pub latency: Histogram,
    /// The newest rows that were committed for it.
    pub newest: Newest,
    last_acknowledged: AtomicI64,
    failing_since: AtomicI64,
}

impl SinkStats {
    pub(super) fn new(node: NodeId, name: &str, queue_bound: usize) -> Self {
        Self {
            node,
            name: name.to_owned(),
            rows_written: AtomicU64::default(),
            bytes_written: AtomicU64::default(),
            batches_written: AtomicU64::default(),
            rows_safe: AtomicU64::default(),
            bytes_safe: AtomicU64::default(),
            queue_bytes: Arc::default(),
            queue_bound: queue_bound as u64,
            backpressure_nanos: AtomicU64::default(),
            retries: AtomicU64::default(),
            write_nanos: AtomicU64::default(),
            flush_nanos: AtomicU64::default(),
            flush_duration: Histogram::default(),
            latency: Histogram::default(),
            newest: Newest::default(),
            last_acknowledged: AtomicI64::new(NEVER),
            failing_since: AtomicI64::new(NEVER),
        }
    }

    /// When it last made everything safe that it had taken. `None`: never in this run.
    pub fn last_acknowledged(&self) -> Option<Micros> {
        known(&self.last_acknowledged)
    }

    /// Since when every attempt failed with what may pass. `None`: it works.
    pub fn failing_since(&self) -> Option<Micros> {
        known(&self.failing_since)
    }

    pub(in crate::runtime) fn acknowledged(&self, now: Micros) {
        self.last_acknowledged.store(now, Relaxed);
    }

    /// An attempt failed at `now`.
    pub(in crate::runtime) fn failed(&self, now: Micros) {
        self.retries.fetch_add(1, Relaxed);
        let _ = self.failing_since.compare_exchange(NEVER, now, Relaxed, Relaxed);
    }

    /// An attempt worked.
    pub(in crate::runtime) fn worked(&self) {
        if self.failing_since.load(Relaxed) != NEVER {
            self.failing_since.store(NEVER, Relaxed);
        }
    }
}

/// Counts of checkpoints and kept positions, over all tasks.
#[derive(Debug)]
pub struct CheckpointStats {
    /// Checkpoints written.
    pub written: AtomicU64,
    /// Checkpoints that could not be written; the next one is tried.
    pub failures: AtomicU64,
    /// Bytes of checkpoints written.
    pub bytes: AtomicU64,
    /// Bytes of the last one written, of one task.
    pub last_bytes: AtomicU64,
    /// How long writing one took.
    pub write_duration: Histogram,
    /// How long it took to keep positions at the sources: one call of [`Source::commit`](crate::source::Source::commit).
    pub commit_duration: Histogram,
    /// Times that positions could not be kept; the next ones are.
    pub commit_failures: AtomicU64,
    last_success: AtomicI64,
    interval: AtomicI64,
}

impl Default for CheckpointStats {
    fn default() -> Self {
        Self {
            written: AtomicU64::default(),
            failures: AtomicU64::default(),
            bytes: AtomicU64::default(),
            last_bytes: AtomicU64::default(),
            write_duration: Histogram::default(),
            commit_duration: Histogram::default(),
            commit_failures: AtomicU64::default(),
            last_success: AtomicI64::new(NEVER),
            interval: AtomicI64::new(NEVER),
        }
    }
}

impl CheckpointStats {
    /// When the last one was written. `None`: none in this run.
    pub fn last_success(&self) -> Option<Micros> {
        known(&self.last_success)
    }

    /// How often a task takes one at most. `None`: this run keeps none.
    pub fn interval(&self) -> Option<Micros> {
        known(&self.interval)
    }

    pub(in crate::runtime) fn are_kept(&self, every: Duration) {
        self.interval.store(i64::try_from(every.as_micros()).unwrap_or(i64::MAX), Relaxed);
    }

    pub(in crate::runtime) fn wrote(&self, now: Micros, bytes: u64, nanos: u64) {
        self.written.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        self.last_bytes.store(bytes, Relaxed);
        self.write_duration.observe(nanos);
        self.last_success.store(now, Relaxed);
    }
}

fn known(time: &AtomicI64) -> Option<Micros> {
    Some(time.load(Relaxed)).filter(|t| *t != NEVER)
}
