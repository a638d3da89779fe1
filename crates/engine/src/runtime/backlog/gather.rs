//! Small outputs that wait for a sink become one: under light load each epoch gives a row or two, and a batch costs kilobytes
//! beside its rows. So the queue's bound is one of rows, and a sink that is away for a while does not hold up the others.
//!
//! Invariants: rows stay in order, under the change that they came with; what a feed was given and has not taken yet stays what
//! it is, since a sink that failed is called again with the same; epochs on both sides of a checkpoint that waits stay apart.
//! What is gathered has the clock of its last epoch: so rows that are written by key, each with its epoch's clock, are not.

use arrow::compute::concat_batches;

use super::{Backlog, Entry, Mergeable, OfTask, ROUGH};
use crate::Result;
use crate::batch::Batch;

/// So many outputs come before they are gathered.
pub(super) const LOOSE: usize = 8;

impl Backlog {
    /// Small outputs of a task that wait are gathered from now on: for a sink of rows without a key.
    pub fn gather(&mut self) {
        self.gathers = true;
    }

    /// Gathers what has come of a task, and before it what is not much larger: so each row is moved a few times at most. Gives the
    /// bytes that wait no more.
    pub(super) fn gather_of(&mut self, task: u32) -> usize {
        let Some(of) = self.tasks.get_mut(&task) else { return 0 };
        of.loose = 0;
        let Some(gathered) = of.gathered(task) else { return 0 };
        self.merged(gathered)
    }
}

impl OfTask {
    /// The newest outputs as one, if there are some that can be.
    fn gathered(&self, task: u32) -> Option<Mergeable> {
        let (mut begin, mut rows) = (self.entries.len(), 0);
        let waiting = self.entries.iter().enumerate().skip(self.taken).rev();
        let may = |entry: &Entry| entry.first > self.seal.max(self.given) && entry.segment.is_none();
        for (at, entry) in waiting.take_while(|(_, entry)| may(entry)) {
            let is_larger = self.entries.len() - at > LOOSE && entry.rows > 2 * rows;
            if is_larger || rows + entry.rows > ROUGH {
                break;
            }
            (begin, rows) = (at, rows + entry.rows);
        }
        if self.entries.len() - begin < 2 {
            return None;
        }
        let group = || self.entries.range(begin..);
        let (first, last) = (group().next()?, group().next_back()?);
        let batches: Vec<&Batch> = group().flat_map(|entry| &entry.output.batches).collect();
        // Batches that do not fit together stay as they are.
        let batches = joined(&batches).ok()?;
        let (epochs, clock) = ((first.first, last.output.epoch), last.output.clock);
        Some(Mergeable { of: (task, self.term), epochs, clock, batches })
    }
}

/// Neighbours of one change as one batch.
fn joined(batches: &[&Batch]) -> Result<Vec<Batch>> {
    let run = |run: &[&Batch]| {
        let rows = concat_batches(&run[0].rows.schema(), run.iter().map(|batch| &batch.rows))?;
        Ok(Batch { rows, change: run[0].change })
    };
    batches.chunk_by(|a, b| a.change == b.change).map(run).collect()
}
