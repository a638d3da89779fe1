//! Counts that sources, operators and sinks have alike.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::newest::Newest;
use crate::batch::Batch;
use crate::operator::{CurrentWindow, StateSize};
use crate::source::BadRecord;
use crate::time::{MIN_TIME, Micros};

/// What a node is, for people who read counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reads.
    Source,
    /// Computes.
    Operator,
    /// Writes.
    Sink,
}

/// Counts of one node over all tasks.
#[derive(Debug)]
pub struct NodeStats {
    /// The node's name, unique in the graph.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Rows taken: by a source from outside (bad ones included), by others from their inputs.
    pub rows_in: AtomicU64,
    /// Rows given. A source gives late rows and dead letters to sinks of their own, too.
    pub rows_out: AtomicU64,
    /// Bytes: of a source's raw records.
    pub bytes: AtomicU64,
    /// Batches taken.
    pub batches: AtomicU64,
    /// Rows that were late: at a source those behind its watermark, at an operator those that it dropped for it.
    pub late: AtomicU64,
    /// Nanoseconds of a worker's (of a sink: its own thread's) time.
    pub busy_nanos: AtomicU64,
    /// Times that partitions of a source came or went. No source of today moves partitions while it runs.
    pub rebalances: AtomicU64,
    /// The newest late rows of a source.
    pub late_rows: Newest,
    bad: Mutex<Bad>,
    tasks: Vec<TaskPart>,
}

/// How many bad records of a source are kept as samples, and how much of each.
const BAD_SAMPLES: usize = 100;
const BAD_SAMPLE_BYTES: usize = 4096;

/// A bad record, kept to be looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct BadSample {
    /// When it was read, by the clock of its epoch.
    pub seen: Micros,
    /// The source, with the topic where it has several.
    pub source: String,
    /// The partition there.
    pub partition: u32,
    /// The record, its key and payload cut at 4096 bytes.
    pub record: BadRecord,
}

/// Bad records of a source: how many by reason, and the newest.
#[derive(Debug, Default)]
struct Bad {
    counts: BTreeMap<&'static str, u64>,
    newest: VecDeque<BadSample>,
}

/// What one task holds of a node.
#[derive(Debug)]
struct TaskPart {
    state_rows: AtomicU64,
    state_bytes: AtomicU64,
    state_disk: AtomicU64,
    windowed: AtomicBool,
    window: [AtomicI64; 2],
    groups: AtomicU64,
}

impl TaskPart {
    fn new() -> Self {
        Self {
            state_rows: AtomicU64::default(),
            state_bytes: AtomicU64::default(),
            state_disk: AtomicU64::default(),
            windowed: AtomicBool::default(),
            window: [AtomicI64::new(MIN_TIME), AtomicI64::new(MIN_TIME)],
            groups: AtomicU64::default(),
        }
    }

    fn window(&self) -> (Micros, Micros) {
        (self.window[0].load(Relaxed), self.window[1].load(Relaxed))
    }
}

impl NodeStats {
    pub(super) fn new(name: &str, role: Role, tasks: usize) -> Self {
        Self {
            name: name.to_owned(),
            role,
            rows_in: AtomicU64::default(),
            rows_out: AtomicU64::default(),
            bytes: AtomicU64::default(),
            batches: AtomicU64::default(),
            late: AtomicU64::default(),
            busy_nanos: AtomicU64::default(),
            rebalances: AtomicU64::default(),
            late_rows: Newest::default(),
            bad: Mutex::default(),
            tasks: (0..tasks).map(|_| TaskPart::new()).collect(),
        }
    }

    pub(in crate::runtime) fn add_input(&self, batch: &Batch) {
        self.rows_in.fetch_add(batch.rows.num_rows() as u64, Relaxed);
        self.batches.fetch_add(1, Relaxed);
    }

    pub(in crate::runtime) fn add_output(&self, batch: &Batch) {
        self.rows_out.fetch_add(batch.rows.num_rows() as u64, Relaxed);
    }

    pub(in crate::runtime) fn add_work(&self, nanos: u64, late: u64) {
        self.busy_nanos.fetch_add(nanos, Relaxed);
        if late > 0 {
            self.late.fetch_add(late, Relaxed);
        }
    }

    /// What `task` holds at the end of an epoch.
    pub(in crate::runtime) fn set_state(&self, task: usize, size: StateSize, window: Option<CurrentWindow>) {
        let part = &self.tasks[task];
        part.state_rows.store(size.rows, Relaxed);
        part.state_bytes.store(size.bytes, Relaxed);
        part.state_disk.store(size.disk, Relaxed);
        let Some(CurrentWindow { start, end, groups }) = window else { return };
        part.windowed.store(true, Relaxed);
        part.window[0].store(start, Relaxed);
        part.window[1].store(end, Relaxed);
        part.groups.store(groups, Relaxed);
    }

    /// Counts bad records by their reasons and keeps the newest; a lock, taken only for fetches that hold some.
    pub(in crate::runtime) fn add_bad(&self, (source, partition): (&str, u32), seen: Micros, records: &[BadRecord]) {
        let mut bad = self.lock_bad();
        for record in records {
            *bad.counts.entry(record.reason).or_default() += 1;
        }
        for record in &records[records.len().saturating_sub(BAD_SAMPLES)..] {
            if bad.newest.len() == BAD_SAMPLES {
                bad.newest.pop_front();
            }
            // Copied: a part of a fetch would keep all of it in memory.
            let cut = |bytes: &Bytes| Bytes::copy_from_slice(&bytes[..bytes.len().min(BAD_SAMPLE_BYTES)]);
            let (key, payload) = (record.key.as_ref().map(cut), cut(&record.payload));
            let record = BadRecord { key, payload, headers: Vec::new(), ..record.clone() };
            bad.newest.push_back(BadSample { seen, source: source.to_owned(), partition, record });
        }
    }

    fn lock_bad(&self) -> MutexGuard<'_, Bad> {
        self.bad.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows and bytes of state over all tasks.
    pub fn state(&self) -> StateSize {
        let sum = |of: fn(&TaskPart) -> &AtomicU64| self.tasks.iter().map(|t| of(t).load(Relaxed)).sum();
        StateSize { rows: sum(|t| &t.state_rows), bytes: sum(|t| &t.state_bytes), disk: sum(|t| &t.state_disk) }
    }

    /// Groups in the current window, over the tasks whose current window overlaps the newest one: a task that has not yet
    /// come there (or is silent) holds none of it. `None` for what has no windows.
    pub fn window_groups(&self) -> Option<u64> {
        let windowed = || self.tasks.iter().filter(|t| t.windowed.load(Relaxed));
        let newest = windowed().map(TaskPart::window).max()?;
        let overlaps = |t: &&TaskPart| t.window() == newest || t.window().1 > newest.0;
        Some(windowed().filter(overlaps).map(|t| t.groups.load(Relaxed)).sum())
    }

    /// Bad records by reason.
    pub fn bad(&self) -> BTreeMap<&'static str, u64> {
        self.lock_bad().counts.clone()
    }

    /// The newest bad records, oldest first; 100 are kept.
    pub fn bad_samples(&self) -> Vec<BadSample> {
        self.lock_bad().newest.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_summed_over_the_tasks_that_have_come_to_the_newest_window() {
        let node = NodeStats::new("busy", Role::Operator, 4);
        assert_eq!(node.window_groups(), None, "no windows");
        let size = StateSize { rows: 1, bytes: 2, disk: 3 };
        let set = |task, start, end, groups| node.set_state(task, size, Some(CurrentWindow { start, end, groups }));
        set(0, MIN_TIME, MIN_TIME, 0);
        assert_eq!(node.window_groups(), Some(0), "windows, but no rows");
        set(0, 30, 90, 5);
        set(1, 0, 60, 7);
        assert_eq!(node.window_groups(), Some(12), "0 to 60 overlaps 30 to 90");
        set(2, 60, 120, 1);
        assert_eq!(node.window_groups(), Some(6), "0 to 60 does not overlap 60 to 120");
        assert_eq!(node.state(), StateSize { rows: 3, bytes: 6, disk: 9 });
    }
}
