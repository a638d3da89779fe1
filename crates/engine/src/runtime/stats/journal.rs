//! Counts of the journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use super::histogram::Histogram;
use crate::time::Micros;

/// Stands for "never" in a time.
const NEVER: Micros = i64::MIN;

/// Counts of the journal; all zero where a run keeps none.
#[derive(Debug)]
pub struct JournalStats {
    /// Commits; one takes all epochs that wait.
    pub commits: AtomicU64,
    /// Epochs committed.
    pub epochs: AtomicU64,
    /// Epochs that were run again from their records when the run began.
    pub repeated: AtomicU64,
    /// Commits that failed and were tried again.
    pub retries: AtomicU64,
    /// Bytes of outputs that wait for a commit.
    pub queue_bytes: Arc<AtomicU64>,
    /// How long a commit took, with the rows of the sinks that live on the bus.
    pub commit_duration: Histogram,
    failing_since: AtomicI64,
}

impl Default for JournalStats {
    fn default() -> Self {
        Self {
            commits: AtomicU64::default(),
            epochs: AtomicU64::default(),
            repeated: AtomicU64::default(),
            retries: AtomicU64::default(),
            queue_bytes: Arc::default(),
            commit_duration: Histogram::default(),
            failing_since: AtomicI64::new(NEVER),
        }
    }
}

impl JournalStats {
    /// Since when every attempt failed with what may pass. `None`: it works.
    pub fn failing_since(&self) -> Option<Micros> {
        Some(self.failing_since.load(Relaxed)).filter(|t| *t != NEVER)
    }

    /// An attempt failed at `now`.
    pub(in crate::runtime) fn failed(&self, now: Micros) {
        self.retries.fetch_add(1, Relaxed);
        let _ = self.failing_since.compare_exchange(NEVER, now, Relaxed, Relaxed);
    }

    /// So many epochs were committed, in so many nanoseconds.
    pub(in crate::runtime) fn committed(&self, epochs: u64, nanos: u64) {
        self.commits.fetch_add(1, Relaxed);
        self.epochs.fetch_add(epochs, Relaxed);
        self.commit_duration.observe(nanos);
        self.failing_since.store(NEVER, Relaxed);
    }
}
