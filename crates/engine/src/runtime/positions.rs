//! Which positions of the sources are safe: all before them was taken by every sink.

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
}

impl Positions {
    /// For so many tasks and sinks.
    pub fn new(tasks: usize, sinks: usize) -> Self {
        let acked = (0..sinks).map(|_| (0..tasks).map(|_| AtomicU64::default()).collect()).collect();
        Self { ends: (0..tasks).map(|_| Mutex::default()).collect(), acked }
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
