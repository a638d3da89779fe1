//! What happens to a pipeline: one struct per event, which counts and tells, so that a metric and its log line cannot drift
//! apart.
//!
//! Invariants: an event is always counted; it is told (`warn`, `info`) when it begins and when it ends, not each time it
//! repeats: repetitions are `debug`. Each line carries the field `event`, the event's name.

mod checkpoint;
mod journal;
mod sink;
mod source;

pub use checkpoint::{CheckpointFailed, CheckpointWritten, PositionsKept};
pub use journal::{CommitFailed, Committed};
pub use sink::{Backpressure, SinkFailed, SinkWorks};
pub use source::{BadRecords, Idle, LateRows, SourceFailed, SourceWorks};

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
