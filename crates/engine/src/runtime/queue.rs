//! What waits for another thread, in order, bounded in bytes.
//!
//! A push never blocks and never drops: workers ask for room before they begin an epoch, so the bound is passed by one
//! epoch per worker at most (and, in a sink's queue, by what was committed at once).

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::stats::SinkStats;
use crate::sink::EpochOutput;
use crate::time::Micros;

struct Waiting<T> {
    items: VecDeque<T>,
    bytes: usize,
    closed: bool,
}

/// A queue with many writers (workers) and one reader.
pub struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    changed: Condvar,
    bound: usize,
    /// Told how many bytes wait.
    gauge: Arc<AtomicU64>,
}

impl<T> Queue<T> {
    /// An empty queue that is full at `bound` bytes.
    pub fn new(bound: usize, gauge: Arc<AtomicU64>) -> Self {
        let waiting = Waiting { items: VecDeque::new(), bytes: 0, closed: false };
        Self { waiting: Mutex::new(waiting), changed: Condvar::new(), bound, gauge }
    }

    /// Under the lock, so that the count is never behind.
    fn set_bytes(&self, waiting: &mut Waiting<T>, bytes: usize) {
        waiting.bytes = bytes;
        self.gauge.store(bytes as u64, Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item that counts as so many bytes.
    pub fn push(&self, item: T, bytes: usize) {
        let mut waiting = self.lock();
        let bytes = waiting.bytes + bytes;
        self.set_bytes(&mut waiting, bytes);
        waiting.items.push_back(item);
        self.changed.notify_all();
    }

    /// Whether it is below its bound, or closed.
    pub fn has_room(&self) -> bool {
        !self.full(&self.lock())
    }

    fn full(&self, waiting: &Waiting<T>) -> bool {
        waiting.bytes >= self.bound && !waiting.closed
    }

    /// Waits until there is room, at most this long.
    pub fn wait_for_room(&self, at_most: Duration) {
        drop(self.changed.wait_timeout_while(self.lock(), at_most, |waiting| self.full(waiting)));
    }

    /// Takes all that waits; whether more may come.
    pub fn drain(&self, into: &mut Vec<T>) -> bool {
        let mut waiting = self.lock();
        into.extend(waiting.items.drain(..));
        !waiting.closed
    }

    /// Waits until something is there or nothing more can come, at most this long.
    pub fn wait_for_items(&self, at_most: Duration) {
        let empty = |waiting: &mut Waiting<T>| waiting.items.is_empty() && !waiting.closed;
        drop(self.changed.wait_timeout_while(self.lock(), at_most, empty));
    }

    /// `bytes` of what was drained are done with.
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

/// What is handed to a sink's feed.
pub struct Handed {
    /// The epoch's output.
    pub output: EpochOutput,
    /// The newest time that a record of the epoch has of its own.
    pub record_time: Option<Micros>,
}

/// What waits for one sink: outputs of epochs.
pub struct SinkQueue {
    queue: Queue<Handed>,
    stats: Arc<SinkStats>,
}

impl SinkQueue {
    /// An empty queue that is full at the bound of its sink's counts.
    pub fn new(stats: Arc<SinkStats>) -> Self {
        let bound = usize::try_from(stats.queue_bound).unwrap_or(usize::MAX);
        Self { queue: Queue::new(bound, Arc::clone(&stats.queue_bytes)), stats }
    }

    /// The counts of its sink.
    pub fn stats(&self) -> &SinkStats {
        &self.stats
    }

    /// Adds an epoch's output.
    pub fn hand(&self, handed: Handed) {
        let bytes = handed.output.bytes();
        self.queue.push(handed, bytes);
    }
}

impl Deref for SinkQueue {
    type Target = Queue<Handed>;

    fn deref(&self) -> &Queue<Handed> {
        &self.queue
    }
}
