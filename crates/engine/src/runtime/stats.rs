//! Counts of a running pipeline: what `explain`-minded users ask first. Written once per chunk or epoch, read by anyone.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use crate::batch::Batch;
use crate::graph::{Graph, NodeKind};
use crate::operator::StateSize;
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
    /// Rows given.
    pub rows_out: AtomicU64,
    /// Bytes: of a source's raw records.
    pub bytes: AtomicU64,
    /// Batches taken.
    pub batches: AtomicU64,
    /// Rows that were late: at a source those behind its watermark, at an operator those that it dropped for it.
    pub late: AtomicU64,
    /// Nanoseconds of a worker's (of a sink: its own thread's) time.
    pub busy_nanos: AtomicU64,
    /// Rows that a sink has made safe.
    pub rows_safe: AtomicU64,
    /// Bytes that wait for a sink.
    pub queue_bytes: AtomicU64,
    /// Times a sink was tried again.
    pub retries: AtomicU64,
    bad: Mutex<BTreeMap<&'static str, u64>>,
    state: Vec<[AtomicU64; 2]>,
}

impl NodeStats {
    fn new(name: &str, role: Role, tasks: usize) -> Self {
        Self {
            name: name.to_owned(),
            role,
            rows_in: AtomicU64::default(),
            rows_out: AtomicU64::default(),
            bytes: AtomicU64::default(),
            batches: AtomicU64::default(),
            late: AtomicU64::default(),
            busy_nanos: AtomicU64::default(),
            rows_safe: AtomicU64::default(),
            queue_bytes: AtomicU64::default(),
            retries: AtomicU64::default(),
            bad: Mutex::default(),
            state: (0..tasks).map(|_| Default::default()).collect(),
        }
    }

    pub(super) fn add_input(&self, batch: &Batch) {
        self.rows_in.fetch_add(batch.rows.num_rows() as u64, Relaxed);
        self.batches.fetch_add(1, Relaxed);
    }

    pub(super) fn add_output(&self, batch: &Batch) {
        self.rows_out.fetch_add(batch.rows.num_rows() as u64, Relaxed);
    }

    pub(super) fn add_work(&self, nanos: u64, late: u64) {
        self.busy_nanos.fetch_add(nanos, Relaxed);
        if late > 0 {
            self.late.fetch_add(late, Relaxed);
        }
    }

    pub(super) fn set_state(&self, task: usize, size: StateSize) {
        self.state[task][0].store(size.rows, Relaxed);
        self.state[task][1].store(size.bytes, Relaxed);
    }

    pub(super) fn add_bad(&self, reason: &'static str) {
        if let Ok(mut bad) = self.bad.lock() {
            *bad.entry(reason).or_default() += 1;
        }
    }

    /// Rows and bytes of state over all tasks.
    pub fn state(&self) -> StateSize {
        let sum = |i: usize| self.state.iter().map(|s| s[i].load(Relaxed)).sum();
        StateSize { rows: sum(0), bytes: sum(1) }
    }

    /// Bad records by reason.
    pub fn bad(&self) -> BTreeMap<&'static str, u64> {
        self.bad.lock().map(|b| b.clone()).unwrap_or_default()
    }
}

/// Counts of one task.
#[derive(Debug)]
pub struct TaskStats {
    /// The last epoch that was handed to the sinks.
    pub epoch: AtomicU64,
    /// The minimum over its sources.
    pub watermark: AtomicI64,
    /// Records behind the readers' positions, where known.
    pub lag: AtomicU64,
    /// Nanoseconds spent waiting for sinks.
    pub backpressure_nanos: AtomicU64,
}

/// Counts of a pipeline.
#[derive(Debug)]
pub struct PipelineStats {
    /// By node of the graph.
    pub nodes: Vec<NodeStats>,
    /// By task.
    pub tasks: Vec<TaskStats>,
}

impl PipelineStats {
    /// All zero.
    pub fn new(graph: &Graph, tasks: usize) -> Self {
        let role = |kind: &NodeKind| match kind {
            NodeKind::Source(_) => Role::Source,
            NodeKind::Operator(_) => Role::Operator,
            NodeKind::Sink(_) => Role::Sink,
        };
        let task = || TaskStats {
            epoch: AtomicU64::default(),
            watermark: AtomicI64::new(MIN_TIME),
            lag: AtomicU64::default(),
            backpressure_nanos: AtomicU64::default(),
        };
        Self {
            nodes: graph.nodes.iter().map(|n| NodeStats::new(&n.name, role(&n.kind), tasks)).collect(),
            tasks: (0..tasks).map(|_| task()).collect(),
        }
    }

    /// The nodes of one role.
    pub fn role(&self, role: Role) -> impl Iterator<Item = &NodeStats> {
        self.nodes.iter().filter(move |n| n.role == role)
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Option<&NodeStats> {
        self.nodes.iter().find(|n| n.name == name)
    }

    /// The least watermark of the tasks that have one.
    pub fn watermark(&self) -> Option<Micros> {
        self.tasks.iter().map(|t| t.watermark.load(Relaxed)).filter(|w| *w != MIN_TIME).min()
    }

    /// Records that wait to be read.
    pub fn lag(&self) -> u64 {
        self.tasks.iter().map(|t| t.lag.load(Relaxed)).sum()
    }
}
