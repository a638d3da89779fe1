//! Counts of a running pipeline: what metrics, progress and health are made of.
//!
//! Invariants: written once per chunk, epoch or acknowledgement, with atomics (bad records by reason excepted: a lock that
//! only fetches with bad records take; and the [`newest`] rows); read by anyone at any time; reading changes nothing, but for
//! [`EventTimes::take_range`]. Counts are each right by themselves, two of them may be of different moments.

pub mod histogram;
mod journal;
pub mod newest;
mod node;
mod partition;
mod sink;
mod task;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, PoisonError};

pub use histogram::{Histogram, HistogramCounts};
pub use journal::JournalStats;
pub use newest::{Newest, Passed};
pub use node::{BadSample, NodeStats, Role};
pub use partition::{EventTimes, PartitionStats};
pub use sink::{CheckpointStats, SinkStats};
pub use task::{Phase, PhaseTimes, TaskStats, ThreadRole, ThreadState, ThreadStats};

use crate::graph::{Graph, NodeId, NodeKind};
use crate::time::{MIN_TIME, Micros};

/// Counts of a pipeline.
#[derive(Debug)]
pub struct PipelineStats {
    /// When it was started, by its clock.
    pub started: Micros,
    /// By node of the graph.
    pub nodes: Vec<NodeStats>,
    /// By partition of the sources, in the order of the graph's sources.
    pub partitions: Vec<PartitionStats>,
    /// By task.
    pub tasks: Vec<TaskStats>,
    /// By sink, in the order of the graph's sinks.
    pub sinks: Vec<Arc<SinkStats>>,
    /// Checkpoints and kept positions.
    pub checkpoints: CheckpointStats,
    /// The journal.
    pub journal: JournalStats,
    /// Asked to stop, or failed: no more is read.
    pub stopping: AtomicBool,
    /// Asked to pause: nothing is read until it is asked to go on.
    pub paused: AtomicBool,
    failure: OnceLock<String>,
    threads: task::Threads,
}

impl PipelineStats {
    /// All zero, for a run that starts at `started`; `partitions` are those of the graph's sources, and sinks have queues
    /// of `queue_bytes`.
    pub fn new(graph: &Graph, partitions: &[(NodeId, u32)], tasks: usize, queue_bytes: usize, started: Micros) -> Self {
        let role = |kind: &NodeKind| match kind {
            NodeKind::Source(_) => Role::Source,
            NodeKind::Operator(_) => Role::Operator,
            NodeKind::Sink(_) => Role::Sink,
        };
        let sink = |(id, _)| Arc::new(SinkStats::new(id, &graph.nodes[id].name, queue_bytes));
        Self {
            started,
            nodes: graph.nodes.iter().map(|n| NodeStats::new(&n.name, role(&n.kind), tasks)).collect(),
            partitions: partitions.iter().map(|(node, partition)| PartitionStats::new(*node, *partition)).collect(),
            tasks: (0..tasks).map(|_| TaskStats::new()).collect(),
            sinks: graph.sinks().map(sink).collect(),
            checkpoints: CheckpointStats::default(),
            journal: JournalStats::default(),
            stopping: AtomicBool::default(),
            paused: AtomicBool::default(),
            failure: OnceLock::new(),
            threads: task::Threads::default(),
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

    /// A sink by its table's name.
    pub fn sink(&self, name: &str) -> Option<&SinkStats> {
        self.sinks.iter().find(|s| s.name == name).map(Arc::as_ref)
    }

    /// The partitions of a source.
    pub fn partitions_of(&self, node: NodeId) -> impl Iterator<Item = &PartitionStats> {
        self.partitions.iter().filter(move |p| p.node == node)
    }

    /// The least watermark of the tasks that have one.
    pub fn watermark(&self) -> Option<Micros> {
        self.tasks.iter().map(|t| t.watermark.load(Relaxed)).filter(|w| *w != MIN_TIME).min()
    }

    /// Records that wait to be read.
    pub fn lag(&self) -> u64 {
        self.tasks.iter().map(|t| t.lag.load(Relaxed)).sum()
    }

    /// The error that stopped it, if one did.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Keeps the first error.
    pub(super) fn failed(&self, error: &crate::Error) {
        self.failure.get_or_init(|| error.to_string());
        self.stopping.store(true, Relaxed);
    }

    /// A thread of the pipeline begins.
    pub(super) fn add_thread(&self, name: &str, role: ThreadRole, now: Micros) -> Arc<ThreadStats> {
        let thread = Arc::new(ThreadStats::new(name, role, now));
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread.clone());
        thread
    }

    /// Its threads.
    pub fn threads(&self) -> Vec<Arc<ThreadStats>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
