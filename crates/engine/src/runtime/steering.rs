//! Steers a running pipeline from outside: pause, go on, checkpoint now, stop.
//!
//! Invariant: no call waits. What takes a while is asked for, and looked at until it is done.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::asked::Answered;
use super::control::{Control, StopHandle};
use super::queue::Request;
use super::stats::{ThreadRole, ThreadState};
use super::task::Shared;
use crate::{Error, Result};

/// What a pipeline does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It reads, or waits for something to read.
    Running,
    /// It was asked to pause.
    Paused,
    /// It was asked to stop.
    Stopping,
    /// It has failed.
    Failed,
}

impl State {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }
}

/// Steers a pipeline.
#[derive(Clone)]
pub struct Steering {
    shared: Arc<Shared>,
    stop: StopHandle,
}

impl Steering {
    pub(super) fn new(control: &Control) -> Self {
        Self { shared: control.shared.clone(), stop: control.stop_handle() }
    }

    /// What the pipeline does.
    pub fn state(&self) -> State {
        let stats = &self.shared.stats;
        if stats.failure().is_some() {
            State::Failed
        } else if stats.stopping.load(Relaxed) {
            State::Stopping
        } else if stats.paused.load(Relaxed) {
            State::Paused
        } else {
            State::Running
        }
    }

    /// No task begins another epoch until [`resume`](Steering::resume). What was read goes on to the sinks; watermarks stand still.
    pub fn pause(&self) {
        if !self.shared.stats.paused.swap(true, Relaxed) {
            tracing::info!(event = "paused", "paused: nothing is read until it is resumed");
        }
    }

    /// Whether every worker has come to a halt.
    pub fn stands_still(&self) -> bool {
        let threads = self.shared.stats.threads();
        let running = threads.iter().filter(|t| t.role == ThreadRole::Worker && t.state() == ThreadState::Running).count();
        self.shared.asked.standing() >= running
    }

    /// Goes on.
    pub fn resume(&self) {
        if self.shared.stats.paused.swap(false, Relaxed) {
            tracing::info!(event = "resumed", "resumed");
        }
    }

    /// Stops it in order: epochs end, sinks are flushed, positions kept.
    pub fn stop(&self) {
        self.stop.stop();
    }

    /// Whether this run keeps checkpoints.
    pub fn keeps_checkpoints(&self) -> bool {
        self.shared.settings.checkpoints.is_some() && !self.shared.settings.bounded
    }

    /// Asks for a checkpoint of every task of this instance.
    ///
    /// # Errors
    /// This run keeps none; or it stops, and keeps one by itself.
    pub fn checkpoint(&self) -> Result<CheckpointRequest> {
        if !self.keeps_checkpoints() {
            return Err(Error::invalid("this run keeps no checkpoints: it is bounded"));
        }
        if matches!(self.state(), State::Stopping | State::Failed) {
            return Err(Error::transient("the pipeline is stopping; it keeps a last checkpoint by itself"));
        }
        let number = self.shared.asked.checkpoint();
        let of = |task: usize| self.shared.terms.of(task as u32);
        // Without a group no term begins: all tasks are this instance's, for good, and so are all partitions.
        let alone = self.shared.terms.held() == 0 && self.shared.stats.partitions.iter().all(|p| p.owned.load(Relaxed));
        let tasks = (0..self.shared.checkpoints.len()).filter(|task| alone || of(*task) % 2 == 1);
        let tasks = tasks.map(|task| (task, of(task))).collect();
        Ok(CheckpointRequest { shared: self.shared.clone(), number, tasks, flushed: false })
    }
}

/// Checkpoints that were asked for.
pub struct CheckpointRequest {
    shared: Arc<Shared>,
    number: u64,
    /// The tasks, and the terms that they were in.
    tasks: Vec<(usize, u64)>,
    flushed: bool,
}

impl CheckpointRequest {
    /// How many tasks were asked.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    fn those(&self, answered: Answered) -> Vec<usize> {
        let held = self.tasks.iter().filter(|(task, term)| self.shared.terms.holds(*task as u32, *term));
        held.map(|(task, _)| *task).filter(|task| self.shared.asked.answered(*task, self.number) == answered).collect()
    }

    /// Whether all of them are written; tasks that went to another instance meanwhile have written theirs. To be called again
    /// and again: once all are taken, the sinks are asked to make safe what waits for a rhythm of theirs.
    pub fn is_written(&mut self) -> bool {
        if !self.those(Answered::Not).is_empty() {
            return false;
        }
        if self.those(Answered::Taken).is_empty() {
            return true;
        }
        let committed = self.shared.commits.as_ref().is_none_or(|commits| commits.queue.bytes() == 0);
        if committed && !self.flushed {
            self.flushed = true;
            let takes = |sink: usize| self.shared.commits.as_ref().is_some_and(|commits| commits.takes[sink]);
            let fed = self.shared.queues.iter().enumerate().filter(|(sink, _)| !takes(*sink));
            fed.for_each(|(_, queue)| queue.ask(Request::Flush));
        }
        false
    }

    /// What is waited for, for people.
    pub fn waits_for(&self) -> String {
        let list = |tasks: Vec<usize>| tasks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let (not, taken) = (self.those(Answered::Not), self.those(Answered::Taken));
        if !not.is_empty() {
            return format!("tasks {} have not come to the end of an epoch", list(not));
        }
        let failing = self.shared.stats.sinks.iter().filter(|sink| sink.failing_since().is_some());
        let failing: Vec<_> = failing.map(|sink| sink.name.as_str()).collect();
        match failing.is_empty() {
            true => {
                format!("the checkpoints of tasks {} are taken and not written: a sink has not made its rows safe", list(taken))
            }
            false => {
                format!("the checkpoints of tasks {} wait for sinks that cannot be written: {}", list(taken), failing.join(", "))
            }
        }
    }
}
