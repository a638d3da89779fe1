//! What workers are asked for while they run, and what became of it: to pause, to take checkpoints now.
//!
//! Invariant: nobody waits here for anybody. Workers look between rounds and answer by numbers; whoever asked looks at those.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};

/// What was asked and answered.
pub struct Asked {
    /// The number of the newest request for checkpoints.
    checkpoints: AtomicU64,
    /// Workers that are paused.
    standing: AtomicUsize,
    tasks: Vec<Answer>,
}

/// What a task says of its checkpoints.
#[derive(Default)]
struct Answer {
    /// The last request that it has answered, and the epoch of the checkpoint that it answered with.
    request: AtomicU64,
    epoch: AtomicU64,
    /// The epoch of its last checkpoint that is written.
    written: AtomicU64,
}

/// How far a task is with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// It has not taken the checkpoint yet.
    Not,
    /// It has taken it; it is not written yet.
    Taken,
    /// It is written.
    Written,
}

impl Asked {
    /// Nothing was asked of so many tasks.
    pub fn new(tasks: usize) -> Self {
        let tasks = (0..tasks).map(|_| Answer::default()).collect();
        Self { checkpoints: AtomicU64::default(), standing: AtomicUsize::default(), tasks }
    }

    /// Asks all tasks for a checkpoint; gives the number of the request.
    pub fn checkpoint(&self) -> u64 {
        self.checkpoints.fetch_add(1, AcqRel) + 1
    }

    /// The number of the newest request for checkpoints; 0 before the first.
    pub fn checkpoints(&self) -> u64 {
        self.checkpoints.load(Acquire)
    }

    /// A task has answered a request with its checkpoint of `epoch`.
    pub fn taken(&self, task: u32, request: u64, epoch: u64) {
        let answer = &self.tasks[task as usize];
        answer.epoch.store(epoch, Release);
        answer.request.store(request, Release);
    }

    /// The newest checkpoint of a task that is written is that of `epoch`.
    pub fn written(&self, task: u32, epoch: u64) {
        self.tasks[task as usize].written.store(epoch, Release);
    }

    /// How far a task is with a request.
    pub fn answered(&self, task: usize, request: u64) -> Answered {
        let answer = &self.tasks[task];
        if answer.request.load(Acquire) < request {
            Answered::Not
        } else if answer.written.load(Acquire) < answer.epoch.load(Acquire) {
            Answered::Taken
        } else {
            Answered::Written
        }
    }

    /// A worker begins to stand still, or goes on.
    pub fn stands(&self, still: bool) {
        match still {
            true => self.standing.fetch_add(1, AcqRel),
            false => self.standing.fetch_sub(1, AcqRel),
        };
    }

    /// How many workers stand still.
    pub fn standing(&self) -> usize {
        self.standing.load(Acquire)
    }
}
