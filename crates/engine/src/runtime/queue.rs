//! What waits for one sink: outputs of epochs in order, bounded in bytes.
//!
//! A push never blocks and never drops: workers ask for room before they begin an epoch, so the bound is passed by one
//! epoch per worker at most.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::sink::EpochOutput;

#[derive(Default)]
struct Waiting {
    outputs: VecDeque<EpochOutput>,
    bytes: usize,
    closed: bool,
}

/// A queue with many writers (workers) and one reader (the sink's feed).
pub struct SinkQueue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    bound: usize,
}

impl SinkQueue {
    /// An empty queue that is full at `bound` bytes.
    pub fn new(bound: usize) -> Self {
        Self { waiting: Mutex::default(), changed: Condvar::new(), bound }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an epoch's output.
    pub fn push(&self, output: EpochOutput) {
        let mut waiting = self.lock();
        waiting.bytes += output.bytes();
        waiting.outputs.push_back(output);
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
    pub fn drain(&self, into: &mut Vec<EpochOutput>, timeout: Duration) -> bool {
        let waiting = self.lock();
        let empty = |w: &mut Waiting| w.outputs.is_empty() && !w.closed;
        let (mut waiting, _) = self.changed.wait_timeout_while(waiting, timeout, empty).unwrap_or_else(PoisonError::into_inner);
        into.extend(waiting.outputs.drain(..));
        !waiting.closed
    }

    /// The sink took `bytes` of what was drained.
    pub fn release(&self, bytes: usize) {
        let mut waiting = self.lock();
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
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
