//! What happens to sinks.

use std::sync::atomic::Ordering::Relaxed;

use tracing::{debug, info, warn};

use super::Event;
use crate::Error;
use crate::runtime::stats::SinkStats;
use crate::time::Micros;

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
        self.stats.backpressure_nanos.fetch_add(self.nanos, Relaxed);
    }

    fn log(&self) {
        if self.tell {
            let (sink, bound) = (&self.stats.name, self.stats.queue_bound);
            info!(event = "backpressure", "sink {sink} is slow: its queue is full ({bound} bytes), and reading waits for it");
        }
    }
}
