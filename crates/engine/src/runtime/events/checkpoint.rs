//! What happens to checkpoints and positions.

use std::sync::atomic::Ordering::Relaxed;

use tracing::{debug, warn};

use super::Event;
use crate::Error;
use crate::runtime::stats::CheckpointStats;
use crate::time::Micros;

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
    /// The sinks that have not made all before it safe: it holds what they lack.
    pub behind: &'a [&'a str],
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
        let Self { task, epoch, bytes, behind, nanos, .. } = self;
        let seconds = *nanos as f64 / 1e9;
        match behind {
            [] => debug!(event = "checkpoint_written", task, epoch, bytes, seconds, "checkpoint written"),
            _ => {
                let behind = behind.join(", ");
                debug!(
                    event = "checkpoint_written",
                    task, epoch, bytes, seconds, behind, "checkpoint written, with outputs for {behind}"
                );
            }
        }
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
        self.stats.failures.fetch_add(1, Relaxed);
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
            Some(_) => drop(self.stats.commit_failures.fetch_add(1, Relaxed)),
        }
    }

    fn log(&self) {
        if let Some(error) = self.error {
            warn!(event = "positions_not_kept", "positions could not be kept, the next ones will be: {error}");
        }
    }
}
