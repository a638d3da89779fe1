//! Counts of one task, and of the threads that run tasks and feeds.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};

use super::histogram::Histogram;
use crate::time::{MIN_TIME, Micros};

/// What a task spends an epoch's time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Polling sources and decoding.
    Read,
    /// Operators.
    Operators,
    /// Handing outputs to the queues of the sinks.
    HandOver,
    /// Taking a checkpoint's state.
    Checkpoint,
}

impl Phase {
    /// All, in the order in which an epoch goes through them.
    pub const ALL: [Phase; 4] = [Phase::Read, Phase::Operators, Phase::HandOver, Phase::Checkpoint];

    /// A word for labels and fields.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Read => "read",
            Phase::Operators => "operators",
            Phase::HandOver => "hand_over",
            Phase::Checkpoint => "checkpoint",
        }
    }
}

/// Nanoseconds of one epoch by phase, before they are counted.
#[derive(Debug, Default, Clone, Copy)]
pub struct PhaseTimes([u64; Phase::ALL.len()]);

impl PhaseTimes {
    pub(in crate::runtime) fn add(&mut self, phase: Phase, nanos: u64) {
        self.0[phase as usize] += nanos;
    }

    pub(in crate::runtime) fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Counts of one task.
#[derive(Debug)]
pub struct TaskStats {
    /// The last epoch that was handed to the sinks. It goes on from the checkpoint that the run began with.
    pub epoch: AtomicU64,
    /// Epochs that this run has handed over.
    pub epochs: AtomicU64,
    /// The clock of the last epoch: wall time when it began. [`MIN_TIME`] before the first.
    pub clock: AtomicI64,
    /// The minimum over its sources.
    pub watermark: AtomicI64,
    /// Records behind the readers' positions, where known.
    pub lag: AtomicU64,
    /// Nanoseconds spent waiting for sinks.
    pub backpressure_nanos: AtomicU64,
    /// Nanoseconds of the last epoch, waiting not counted.
    pub last_epoch_nanos: AtomicU64,
    /// How long epochs took, waiting not counted.
    pub epoch_duration: Histogram,
    phases: [AtomicU64; Phase::ALL.len()],
}

impl TaskStats {
    pub(super) fn new() -> Self {
        Self {
            epoch: AtomicU64::default(),
            epochs: AtomicU64::default(),
            clock: AtomicI64::new(MIN_TIME),
            watermark: AtomicI64::new(MIN_TIME),
            lag: AtomicU64::default(),
            backpressure_nanos: AtomicU64::default(),
            last_epoch_nanos: AtomicU64::default(),
            epoch_duration: Histogram::default(),
            phases: Default::default(),
        }
    }

    pub(in crate::runtime) fn ended_epoch(&self, clock: Micros, times: &PhaseTimes) {
        self.epochs.fetch_add(1, Relaxed);
        self.clock.store(clock, Relaxed);
        self.last_epoch_nanos.store(times.total(), Relaxed);
        self.epoch_duration.observe(times.total());
        for (counted, nanos) in self.phases.iter().zip(times.0) {
            counted.fetch_add(nanos, Relaxed);
        }
    }

    /// Nanoseconds that all epochs spent on `phase`.
    pub fn phase_nanos(&self, phase: Phase) -> u64 {
        self.phases[phase as usize].load(Relaxed)
    }
}

/// What a thread is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadRole {
    /// Runs tasks.
    Worker,
    /// Feeds a sink, or commits to the journal.
    Feed,
    /// Keeps checkpoints and positions.
    Keeper,
}

/// Whether a thread runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadState {
    /// It does.
    Running,
    /// It came to its end in order.
    Ended,
    /// It ended with an error, or panicked.
    Failed,
}

/// A sign of life of one thread: it beats each time it comes round.
#[derive(Debug)]
pub struct ThreadStats {
    /// Its name: `worker-0`, `sink-alerts`, `keeper`.
    pub name: String,
    /// What for.
    pub role: ThreadRole,
    beat: AtomicI64,
    state: AtomicU8,
}

impl ThreadStats {
    pub(super) fn new(name: &str, role: ThreadRole, now: Micros) -> Self {
        Self { name: name.to_owned(), role, beat: AtomicI64::new(now), state: AtomicU8::new(0) }
    }

    /// It came round at `now`.
    pub fn beat(&self, now: Micros) {
        self.beat.store(now, Relaxed);
    }

    /// When it last came round.
    pub fn last_beat(&self) -> Micros {
        self.beat.load(Relaxed)
    }

    pub(in crate::runtime) fn end(&self, failed: bool) {
        self.state.store(if failed { 2 } else { 1 }, Relaxed);
    }

    /// Whether it runs.
    pub fn state(&self) -> ThreadState {
        match self.state.load(Relaxed) {
            0 => ThreadState::Running,
            1 => ThreadState::Ended,
            _ => ThreadState::Failed,
        }
    }
}

/// The threads of a pipeline, in the order in which they were started.
pub(super) type Threads = Mutex<Vec<std::sync::Arc<ThreadStats>>>;
