//! The contract of a sink: takes the outputs of epochs, and says when they are safe.

use crate::Result;
use crate::batch::Batch;
use crate::time::Micros;

/// What one epoch of one task gave to one sink, in order. An epoch without output is still told: its position moves.
#[derive(Debug, Clone)]
pub struct EpochOutput {
    /// The task: the partition number of the pipeline's sources.
    pub task: u32,
    /// The epoch's number in that task, from 1.
    pub epoch: u64,
    /// The epoch's clock: processing time, read once when it began.
    pub clock: Micros,
    /// The rows.
    pub batches: Vec<Batch>,
}

impl EpochOutput {
    /// Rows in all batches.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(|b| b.rows.num_rows()).sum()
    }

    /// Bytes in memory, about.
    pub fn bytes(&self) -> usize {
        self.batches.iter().map(|b| b.rows.get_array_memory_size()).sum()
    }
}

/// What a call of [`Sink::flush`] made safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// Everything that [`Sink::write`] took: survives `kill -9` of this process.
    All,
    /// Not everything yet; call again.
    Pending,
    /// As pending; and it failed before, and whether it works now is not known yet.
    Trying,
}

/// A table to write to, resolved. One per sink of a pipeline, used by one thread at a time.
///
/// A [transient](crate::error::Kind::Transient) error of either call means: call again with the same arguments later; a sink
/// keeps its own state such that this repeats nothing that it had taken. After a permanent error it is not called again.
pub trait Sink: Send {
    /// How far the sink is in a lineage of epochs: for each of the `tasks` the last epoch whose rows it holds (0: none), as it
    /// keeps it atomically with those rows. Told once, before the first [`write`](Sink::write), and only where epochs can be
    /// repeated; a sink that is never asked keeps no positions. Epochs up to the answer are not written again; those behind
    /// it are, and what an unfinished write of theirs left is removed or replaced.
    ///
    /// `lineage` names the pipeline and this life of it: safe in file names, never used by another.
    ///
    /// `None`: the sink keeps no position. After a crash it gets the epochs since the newest checkpoint again, and those before
    /// that it had not made safe when that was written.
    fn recover(&mut self, lineage: &str, tasks: u32) -> Result<Option<Vec<u64>>> {
        let _ = (lineage, tasks);
        Ok(None)
    }

    /// As [`recover`](Sink::recover), where instances share the tasks, for those that come to this one, again and again and
    /// between writes; what is held of these tasks and is not safe is forgotten. By default `recover` is asked each time: right
    /// for a sink that holds nothing back.
    fn take(&mut self, lineage: &str, tasks: &[u32]) -> Result<Option<Vec<u64>>> {
        let count = tasks.iter().max().map_or(0, |last| last + 1);
        let all = self.recover(lineage, count)?;
        Ok(all.map(|all| tasks.iter().map(|task| all.get(*task as usize).copied().unwrap_or(0)).collect()))
    }

    /// A task is another instance's from now on: what is held of it and is not safe is forgotten.
    fn release(&mut self, task: u32) {
        let _ = task;
    }

    /// Tasks whose position somebody else has moved, since the last call: what was held of them and not safe was forgotten, and
    /// nothing more is taken of them until they are [taken](Sink::take) again.
    fn take_moved(&mut self) -> Vec<u32> {
        Vec::new()
    }

    /// Whether it takes more now. While it does not, its feed holds what comes, and of a keyed sink that is updated only the
    /// newest row of each key.
    fn is_ready(&self) -> bool {
        true
    }

    /// Takes the outputs of one epoch. May buffer; must not wait for long.
    fn write(&mut self, output: &EpochOutput) -> Result<()>;

    /// Makes safe what is due at wall time `now`; with `force` everything, waiting as long as it takes.
    fn flush(&mut self, now: Micros, force: bool) -> Result<Flushed>;

    /// The last call: the pipeline ended in order, everything was flushed.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
