//! The parts of a pipeline that run by themselves: workers, committer, feeds, keeper. Each is a sequence of steps. A running
//! pipeline gives every part a thread; a simulator takes their steps one by one, in an order of its own.
//!
//! Invariant: a step never sleeps and never waits for another part. It says what the part waits for, and whoever runs the part
//! waits.

use std::time::Duration;

use super::stats::{ThreadRole, ThreadStats};
use crate::Result;
use crate::time::Clock;

/// When a part wants its next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// At once.
    Now,
    /// When this much time has passed.
    After(Duration),
    /// As soon as a queue has what it lacks, at the latest when this much time has passed.
    Queue(Duration),
    /// Never: it has ended.
    Ended,
}

/// What a part does.
pub trait Work: Send {
    /// Does what there is to do now.
    ///
    /// # Errors
    /// One that stops the pipeline; no step is taken after it.
    fn step(&mut self) -> Result<Next>;

    /// After [`Next::Queue`]: waits until the queue has what was lacking, at most this long.
    fn wait(&self, at_most: Duration) {
        let _ = at_most;
    }
}

/// Parts that end together. A stage ends once the stage before it has: nothing more comes to it then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Workers: read, and run the operators.
    Read,
    /// The committer.
    Commit,
    /// The feeds of the sinks.
    Feed,
    /// The keeper.
    Keep,
    /// What obeys the group, where instances share the tasks.
    Leave,
}

impl Stage {
    /// All of them, in the order in which they end.
    pub const ALL: [Self; 5] = [Self::Read, Self::Commit, Self::Feed, Self::Keep, Self::Leave];
}

/// A part of a pipeline.
pub struct Part {
    /// Its thread's name.
    pub name: String,
    /// What it ends with.
    pub stage: Stage,
    /// What it does.
    pub work: Box<dyn Work>,
}

impl Part {
    /// What its thread counts as. A committer waits for another system, as feeds do.
    pub(super) fn role(&self) -> ThreadRole {
        match self.stage {
            Stage::Read => ThreadRole::Worker,
            Stage::Commit | Stage::Feed | Stage::Leave => ThreadRole::Feed,
            Stage::Keep => ThreadRole::Keeper,
        }
    }

    /// Takes steps until it has ended, on the thread that is its own.
    pub(super) fn run(&mut self, clock: &dyn Clock, thread: &ThreadStats) -> Result<()> {
        loop {
            thread.beat(clock.now());
            match self.work.step()? {
                Next::Now => {}
                Next::After(time) => clock.sleep(time),
                Next::Queue(at_most) => self.work.wait(at_most),
                Next::Ended => return Ok(()),
            }
        }
    }
}
