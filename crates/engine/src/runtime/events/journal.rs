//! What happens to the journal.

use tracing::{debug, info, warn};

use super::Event;
use crate::Error;
use crate::runtime::stats::JournalStats;
use crate::time::Micros;

/// Epochs were committed.
pub struct Committed<'a> {
    /// Counts.
    pub stats: &'a JournalStats,
    /// How many.
    pub epochs: usize,
    /// How long it took.
    pub nanos: u64,
    /// Whether it failed before.
    pub again: bool,
}

impl Event for Committed<'_> {
    fn count(&self) {
        self.stats.committed(self.epochs as u64, self.nanos);
    }

    fn log(&self) {
        if self.again {
            info!(event = "journal_works", "the journal works again");
        }
    }
}

/// A commit failed, and will be tried again.
pub struct CommitFailed<'a> {
    /// Counts.
    pub stats: &'a JournalStats,
    /// Why.
    pub error: &'a Error,
    /// Now.
    pub now: Micros,
    /// Whether it worked before.
    pub first: bool,
}

impl Event for CommitFailed<'_> {
    fn count(&self) {
        self.stats.failed(self.now);
    }

    fn log(&self) {
        if self.first {
            warn!(event = "commit_failed", "{}; trying again until it passes", self.error);
        } else {
            debug!(event = "commit_failed", "{}", self.error);
        }
    }
}
