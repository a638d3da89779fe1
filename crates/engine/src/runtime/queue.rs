//! What waits for one sink: outputs of epochs in order, bounded in bytes.
//!
//! A push never blocks and never drops: workers ask for room before they begin an epoch, so the bound is passed by one
//! epoch per worker at most.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::stats::SinkStats;
use crate::sink::EpochOutput;
use crate::time::Micros;

/// What a task hands to a sink's feed.
pub struct Handed {
    /// The epoch's output.
    pub output: EpochOutput,
    /// The newest time that a record of the epoch has of its own.
    pub record_time: Option<Micros>,
}

#[derive(Default)]
struct Waiting {
    outputs: VecDeque<Handed>,
    bytes: usize,
    closed: bool,
}

/// A queue with many writers (workers) and one reader (the sink's feed).
pub struct SinkQueue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    bound: usize,
    stats: Arc<SinkStats>,
}

impl SinkQueue {
    /// An empty queue that is full at the bound of its sink's counts.
    pub fn new(stats: Arc<SinkStats>) -> Self {
        let bound = usize::try_from(stats.queue_bound).unwrap_or(usize::MAX);
        Self { waiting: Mutex::default(), changed: Condvar::new(), bound, stats }
    }

    /// The counts of its sink.
    pub fn stats(&self) -> &SinkStats {
        &self.stats
    }

    /// Under the lock, so that the count is never behind.
    fn set_bytes(&self, waiting: &mut Waiting, bytes: usize) {
        waiting.bytes = bytes;
        self.stats.queue_bytes.store(bytes as u64, Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an epoch's output.
    pub fn push(&self, handed: Handed) {
        let bytes = handed.output.bytes();
        let mut waiting = self.lock();
        let bytes = waiting.bytes + bytes;
        self.set_bytes(&mut waiting, bytes);
        waiting.outputs.push_back(handed);
        self.changed.notify_all();
    }

    /// Waits for at most `timeout` until the queue is below its bound; whether it is.
    pub fn wait_for_room(&self, timeout: Duration) -> bool {
        let waiting = self.lock();
        let full = |w: &mut Waiting| w.bytes >= self.bound && !w.closed;
        let (waiting, _) = self.changed.wait_timeout_while(waiting, timeout, full).unwrap_or_else(PoisonError::into_inner);
        waiting.bytes < self.bound || waiting.closed
    }

    /// Takes all that waits, waiting for at most `timeout` until there is something; whether more may come.
    pub fn drain(&self, into: &mut Vec<Handed>, timeout: Duration) -> bool {
        let waiting = self.lock();
        let empty = |w: &mut Waiting| w.outputs.is_empty() && !w.closed;
        let (mut waiting, _) = self.changed.wait_timeout_while(waiting, timeout, empty).unwrap_or_else(PoisonError::into_inner);
        into.extend(waiting.outputs.drain(..));
        !waiting.closed
    }

    /// The sink took `bytes` of what was drained.
    pub fn release(&self, bytes: usize) {
        let mut waiting = self.lock();
        let bytes = waiting.bytes.saturating_sub(bytes);
        self.set_bytes(&mut waiting, bytes);
        self.changed.notify_all();
    }

    /// No more comes; wakes everybody.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Whether it is at its bound.
    pub fn is_full(&self) -> bool {
        self.bytes() >= self.bound
    }

    /// Bytes pushed and not yet released.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }
}
