//! How far everyone is: which epochs have happened, which each sink has made safe, which are in a checkpoint; and which positions
//! of the sources are safe where there are no checkpoints.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

/// A partition of a source: (index of the source among the graph's sources, partition).
pub type Place = (usize, u32);

/// Where an epoch left its sources: each place and the offset to read from next.
type EpochEnd = (u64, Vec<(Place, i64)>);

/// Positions of all tasks, and how far each sink is.
pub struct Positions {
    ends: Vec<Mutex<VecDeque<EpochEnd>>>,
    acked: Vec<Vec<AtomicU64>>,
    handed: Vec<AtomicU64>,
    kept: Vec<AtomicU64>,
}

impl Positions {
    /// For so many tasks and sinks.
    pub fn new(tasks: usize, sinks: usize) -> Self {
        let by_task = || (0..tasks).map(|_| AtomicU64::default()).collect::<Vec<_>>();
        let acked = (0..sinks).map(|_| by_task()).collect();
        Self { ends: (0..tasks).map(|_| Mutex::default()).collect(), acked, handed: by_task(), kept: by_task() }
    }

    /// Epoch `epoch` of `task` ended at `end`. Said before its outputs are handed over.
    pub fn ended(&self, task: u32, epoch: u64, end: Vec<(Place, i64)>) {
        let mut ends = self.ends[task as usize].lock().unwrap_or_else(PoisonError::into_inner);
        ends.push_back((epoch, end));
    }

    /// A sink has made safe all outputs of `task` up to `epoch`.
    pub fn acknowledged(&self, sink: usize, task: u32, epoch: u64) {
        self.acked[sink][task as usize].fetch_max(epoch, SeqCst);
    }

    /// The last epoch of `task` that a sink has made safe.
    pub fn acked(&self, sink: usize, task: usize) -> u64 {
        self.acked[sink][task].load(SeqCst)
    }

    /// An epoch of `task` has happened, and its outputs were handed over.
    pub fn handed(&self, task: u32, epoch: u64) {
        self.handed[task as usize].fetch_max(epoch, SeqCst);
    }

    /// The last epoch of `task` that this was said of.
    pub fn last_handed(&self, task: usize) -> u64 {
        self.handed[task].load(SeqCst)
    }

    /// A checkpoint of `task` at the end of `epoch` is kept: it holds what is needed of all before.
    pub fn kept(&self, task: usize, epoch: u64) {
        self.kept[task].fetch_max(epoch, SeqCst);
        let mut ends = self.ends[task].lock().unwrap_or_else(PoisonError::into_inner);
        let gone = ends.iter().take_while(|(e, _)| *e <= epoch).count();
        ends.drain(..gone);
    }

    /// Whether nothing of `task` up to `epoch` can be lost: a checkpoint holds it.
    pub fn is_kept(&self, task: usize, epoch: u64) -> bool {
        self.kept[task].load(SeqCst) >= epoch
    }

    /// The last epoch of `task` that every sink has made safe.
    pub fn safe_epoch(&self, task: usize) -> u64 {
        self.acked.iter().map(|sink| sink[task].load(SeqCst)).min().unwrap_or(u64::MAX)
    }

    /// Positions that became safe since the last call.
    pub fn take_safe(&self) -> Vec<(Place, i64)> {
        let mut safe = Vec::new();
        for (task, ends) in self.ends.iter().enumerate() {
            let epoch = self.safe_epoch(task);
            let mut ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
            let mut newest = None;
            while ends.front().is_some_and(|(e, _)| *e <= epoch) {
                newest = ends.pop_front();
            }
            safe.extend(newest.into_iter().flat_map(|(_, end)| end));
        }
        safe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_safe_once_the_slowest_sink_has_it() {
        let positions = Positions::new(1, 2);
        for epoch in 1..=3 {
            positions.ended(0, epoch, vec![((0, 0), 10 * epoch as i64)]);
        }
        positions.acknowledged(0, 0, 3);
        assert_eq!(positions.take_safe(), []);
        positions.acknowledged(1, 0, 2);
        assert_eq!(positions.take_safe(), [((0, 0), 20)]);
        assert_eq!(positions.take_safe(), []);
    }
}
