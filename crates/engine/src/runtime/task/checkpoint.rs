//! Checkpoints of a task: when one is taken, what it holds, and how a task goes on from one.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use super::Task;
use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::failpoint;
use crate::runtime::input::Input;
use crate::runtime::pending::Owed;
use crate::runtime::stats::Phase;
use crate::time::{Micros, Stopwatch};

/// A checkpoint that is not written yet.
pub struct Taken {
    /// The term of its task.
    pub term: u64,
    /// What is to be written.
    pub checkpoint: Checkpoint,
    /// When it was taken.
    pub at: Micros,
    /// Whether somebody waits for it: the task is given up, or the run ends.
    pub is_urgent: bool,
}

impl Task {
    /// Takes up the state of a checkpoint; the inputs stand at its positions already. `owed` by sink: the outputs in it.
    pub fn resume(&mut self, checkpoint: Checkpoint, owed: Owed) -> Result<()> {
        failpoint::reach("restore");
        self.owed = owed;
        self.shared.positions.kept(self.number as usize, checkpoint.epoch);
        (self.epoch, self.clock) = (checkpoint.epoch, checkpoint.clock);
        self.checkpointed.0 = checkpoint.epoch;
        self.shared.asked.written(self.number, checkpoint.epoch);
        self.shared.stats.tasks[self.number as usize].epoch.store(checkpoint.epoch, Relaxed);
        self.dataflow.restore(checkpoint.states)
    }

    /// Takes a checkpoint if one is due, or with `force` if anything happened since the last.
    ///
    /// It costs what changed, and now and then a merge of what is kept: so that this does not take all the time, the next one
    /// is due no sooner than ten times what this one took.
    pub fn checkpoint(&mut self, force: bool) -> Result<()> {
        let settings = &self.shared.settings;
        let (epoch, at, took) = self.checkpointed;
        let now = self.shared.clock.now();
        let due = now - at >= (settings.checkpoint_interval.as_micros() as Micros).max(10 * took);
        let slot = &self.shared.checkpoints[self.number as usize];
        if force && let Some(taken) = &mut *slot.lock().unwrap_or_else(PoisonError::into_inner) {
            taken.is_urgent = true;
        }
        // Between two epochs only: the first of those to be run again may be half done.
        if settings.checkpoints.is_none() || epoch == self.epoch || !(due || force) || self.repeat.is_due() {
            return Ok(());
        }
        let waits = |slot: &Option<Taken>| slot.as_ref().is_some_and(|taken| taken.term == self.term);
        if !force && waits(&slot.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(());
        }
        let stopwatch = Stopwatch::start();
        let states = self.dataflow.snapshot()?;
        self.times.add(Phase::Checkpoint, stopwatch.nanos());
        let positions = self.inputs.iter().map(Input::position).collect();
        let lineage = self.shared.commits.as_ref().map(|commits| commits.lineage().to_owned());
        let (epoch, clock, pending) = (self.epoch, self.clock, Vec::new());
        self.shared.queues.iter().for_each(|queue| queue.seal(self.number, self.term, epoch));
        let checkpoint = Checkpoint { epoch, clock, lineage, positions, states, pending, made_by: None };
        let taken = Taken { term: self.term, checkpoint, at: now, is_urgent: force };
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
        self.checkpointed = (self.epoch, now, self.shared.clock.now() - now);
        Ok(())
    }

    /// Takes the checkpoint that [`Asked::checkpoint`] wants, unless nothing happened since the last one. `false`: not yet, for
    /// what was recorded is being run again.
    pub fn answer(&mut self, request: u64) -> Result<bool> {
        if self.repeat.is_due() {
            return Ok(false);
        }
        self.checkpoint(true)?;
        self.shared.asked.taken(self.number, request, self.checkpointed.0);
        Ok(true)
    }
}
