//! What waits for another thread, in order, bounded in bytes.
//!
//! A push never blocks and never drops: workers ask for room before they begin an epoch, so the bound is passed by one
//! epoch per worker at most (and, in a sink's queue, by what was committed at once).

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::backlog::{Backlog, Due, Mergeable};
use super::stats::SinkStats;
use super::terms::Terms;
use crate::Result;
use crate::checkpoint::PendingPart;
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
        if bytes == 0 {
            return;
        }
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
    /// The term of its task.
    pub term: u64,
}

/// What a feed is asked to do, behind all that it was handed before.
#[derive(Debug)]
pub enum Request {
    /// Tasks come to this instance: ask the sink for its positions. The answer bears the number.
    Take(u64, Vec<u32>),
    /// A task is not this instance's any more: forget what is not safe.
    Release(u32),
    /// Make all safe now, whether or not it is due.
    Flush,
}

/// What waits for a feed.
pub enum Item {
    /// There is more in the backlog.
    Output,
    /// Something to do.
    Request(Request),
}

/// What a sink says of tasks: the last epoch of each whose rows it holds, if it keeps that.
pub type Answer = Result<Option<Vec<u64>>>;

/// What waits for one sink: outputs of epochs.
pub struct SinkQueue {
    queue: Queue<Item>,
    backlog: Mutex<Backlog>,
    stats: Arc<SinkStats>,
    /// The last answer to a [`Request::Take`], and its number.
    answer: Mutex<Option<(u64, Answer)>>,
    /// Tasks whose position in the sink somebody else has moved.
    moved: Mutex<Vec<u32>>,
}

impl SinkQueue {
    /// An empty queue that is full at the bound of its sink's counts. With `keeps`, for checkpoints, so much again twice of what
    /// the sink has taken and not made safe is kept.
    pub fn new(stats: Arc<SinkStats>, keeps: bool) -> Self {
        let bound = usize::try_from(stats.queue_bound).unwrap_or(usize::MAX);
        let queue = Queue::new(bound, Arc::clone(&stats.queue_bytes));
        let backlog = Mutex::new(Backlog::new(if keeps { bound.saturating_mul(2) } else { 0 }));
        Self { queue, backlog, stats, answer: Mutex::default(), moved: Mutex::default() }
    }

    /// The counts of its sink.
    pub fn stats(&self) -> &SinkStats {
        &self.stats
    }

    /// Adds an epoch's output.
    pub fn hand(&self, handed: Handed) {
        let bytes = handed.output.bytes();
        let mut backlog = lock(&self.backlog);
        let (waits, freed) = backlog.push(handed, bytes);
        if waits {
            // Before the feed can see it: else its bytes might be released first.
            self.queue.push(Item::Output, bytes);
        }
        drop(backlog);
        self.release(freed);
    }

    /// What `change` does to the backlog, and the bytes that wait no more then.
    fn change(&self, change: impl FnOnce(&mut Backlog) -> usize) {
        let freed = change(&mut lock(&self.backlog));
        self.release(freed);
    }

    /// A checkpoint of a task was taken at the end of `epoch`: what comes behind is kept apart from what came before.
    pub fn seal(&self, task: u32, term: u64, epoch: u64) {
        self.change(|backlog| backlog.seal(task, term, epoch));
    }

    /// Nothing more of a task is written in its term.
    pub fn forget(&self, task: u32) {
        self.change(|backlog| backlog.forget(task));
    }

    /// The same, if its term has ended.
    pub fn forget_ended(&self, task: u32, terms: &Terms) {
        self.change(|backlog| backlog.forget_ended(task, terms));
    }

    /// Whether outputs wait that the sink has not taken.
    pub fn is_waiting(&self) -> bool {
        lock(&self.backlog).is_waiting()
    }

    /// The tasks of which some wait, each with its last epoch.
    pub fn waiting_tasks(&self) -> Vec<(u32, u64)> {
        lock(&self.backlog).waiting_tasks()
    }

    /// The next output of a task, or with `keyed` all that wait as one, with rows that are to be merged.
    ///
    /// # Errors
    /// Rows cannot be copied.
    pub fn due(&self, task: u32, keyed: bool) -> Result<Option<Due>> {
        lock(&self.backlog).due(task, keyed)
    }

    /// The sink has taken it, and all before it.
    pub fn took(&self, due: &Due) {
        self.change(|backlog| backlog.took(due.output.task, due.term, due.output.epoch));
    }

    /// The record times of so many epochs of a task, up to `epoch`; once.
    pub fn take_times(&self, task: u32, epoch: u64) -> Vec<(Micros, u64)> {
        lock(&self.backlog).take_times(task, epoch)
    }

    /// The sink has made safe what it took of a task up to `epoch`.
    pub fn acknowledged(&self, task: u32, epoch: u64) {
        lock(&self.backlog).acknowledged(task, epoch);
    }

    /// What waits for a keyed sink and is worth a merge.
    pub fn mergeable(&self) -> Vec<Mergeable> {
        lock(&self.backlog).mergeable()
    }

    /// It was merged.
    pub fn merged(&self, merged: Mergeable) {
        self.change(|backlog| backlog.merged(merged));
    }

    /// What a checkpoint of a task at the end of `epoch` must hold, for the sink has made safe only what came up to
    /// `acknowledged`. `None`: some of it is not here any more.
    pub fn pending(&self, task: u32, term: u64, epoch: u64, acknowledged: u64) -> Option<Vec<PendingPart>> {
        lock(&self.backlog).pending(task, term, epoch, acknowledged)
    }

    /// Asks its feed for something.
    pub fn ask(&self, request: Request) {
        self.queue.push(Item::Request(request), 0);
    }

    /// The feed answers a [`Request::Take`] of this number.
    pub fn answer(&self, number: u64, answer: Answer) {
        *lock(&self.answer) = Some((number, answer));
    }

    /// The answer to the [`Request::Take`] of this number, once.
    pub fn take_answer(&self, number: u64) -> Option<Answer> {
        lock(&self.answer).take_if(|(of, _)| *of == number).map(|(_, answer)| answer)
    }

    /// Somebody else has moved the positions of these tasks in the sink.
    pub fn tell_moved(&self, tasks: Vec<u32>) {
        lock(&self.moved).extend(tasks);
    }

    /// The tasks that this was said of since the last call.
    pub fn take_moved(&self) -> Vec<u32> {
        std::mem::take(&mut lock(&self.moved))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Deref for SinkQueue {
    type Target = Queue<Item>;

    fn deref(&self) -> &Queue<Item> {
        &self.queue
    }
}
