//! The counts at one moment, and what lies between two: every number of a [`Progress`] is made here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::parts::{Durations, EventTime, Latency, OperatorProgress, SinkProgress, SourceProgress, StateOperator};
use super::{Identity, Progress, Timestamp};
use crate::graph::{Graph, NodeId, NodeKind};
use crate::operator::StateSize;
use crate::runtime::stats::{HistogramCounts, Phase, PipelineStats, Role, ThreadRole};
use crate::time::Micros;

/// The least and the greatest event time.
pub type Range = Option<(Micros, Micros)>;

/// The range of both.
pub fn widen(one: Range, other: Range) -> Range {
    match (one, other) {
        (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
        (one, other) => one.or(other),
    }
}

/// Counts at one moment, as plain numbers.
pub struct Sample {
    /// When.
    pub at: Micros,
    /// Event times since the sample before.
    pub range: Range,
    event_times: (u64, f64),
    epoch: u64,
    watermark: Option<Micros>,
    workers: usize,
    phases: [u64; Phase::ALL.len()],
    commit_nanos: [u64; 2],
    nodes: Vec<Node>,
    partitions: Vec<Partition>,
    sinks: Vec<Sink>,
}

struct Node {
    rows_in: u64,
    rows_out: u64,
    bytes: u64,
    late: u64,
    busy_nanos: u64,
    state: StateSize,
    bad: BTreeMap<&'static str, u64>,
}

struct Partition {
    offset: Option<i64>,
    end: Option<i64>,
    lag: u64,
    watermark: Option<Micros>,
}

impl Partition {
    /// Both were read one after the other while a task moved them.
    fn latest(&self) -> Option<i64> {
        self.end.map(|end| end.max(self.offset.unwrap_or(end)))
    }
}

struct Sink {
    rows_safe: u64,
    busy_nanos: u64,
    backpressure_nanos: u64,
    queue_bytes: u64,
    retries: u64,
    latency: HistogramCounts,
}

impl Sample {
    /// The counts of now. Begins the range of event times anew: for the one reporter of a run.
    pub fn take(stats: &PipelineStats, at: Micros) -> Self {
        let mut sample = Self {
            at,
            range: None,
            event_times: (0, 0.0),
            epoch: stats.tasks.iter().map(|t| t.epoch.load(Relaxed)).max().unwrap_or_default(),
            watermark: stats.watermark(),
            workers: stats.threads().iter().filter(|t| t.role == ThreadRole::Worker).count(),
            phases: Phase::ALL.map(|phase| stats.tasks.iter().map(|t| t.phase_nanos(phase)).sum()),
            commit_nanos: [&stats.checkpoints.write_duration, &stats.checkpoints.commit_duration].map(|h| h.counts().sum_nanos),
            nodes: Vec::with_capacity(stats.nodes.len()),
            partitions: Vec::with_capacity(stats.partitions.len()),
            sinks: Vec::with_capacity(stats.sinks.len()),
        };
        let of = |count: &AtomicU64| count.load(Relaxed);
        sample.nodes.extend(stats.nodes.iter().map(|n| Node {
            rows_in: of(&n.rows_in),
            rows_out: of(&n.rows_out),
            bytes: of(&n.bytes),
            late: of(&n.late),
            busy_nanos: of(&n.busy_nanos),
            state: n.state(),
            bad: if n.role == Role::Source { n.bad() } else { BTreeMap::new() },
        }));
        for p in &stats.partitions {
            sample.range = widen(sample.range, p.event_times.take_range());
            let (count, sum) = p.event_times.count_and_sum();
            sample.event_times = (sample.event_times.0 + count, sample.event_times.1 + sum);
            let (offset, end, lag) = (p.offset(), p.end_offset(), p.lag().unwrap_or_default());
            sample.partitions.push(Partition { offset, end, lag, watermark: p.watermark() });
        }
        sample.sinks.extend(stats.sinks.iter().map(|s| Sink {
            rows_safe: of(&s.rows_safe),
            busy_nanos: of(&s.write_nanos) + of(&s.flush_nanos),
            backpressure_nanos: of(&s.backpressure_nanos),
            queue_bytes: of(&s.queue_bytes),
            retries: of(&s.retries),
            latency: s.latency.counts(),
        }));
        sample
    }

    fn rows_read(&self, facts: &Facts) -> u64 {
        facts.of(Role::Source).map(|(id, _)| self.nodes[id].rows_in).sum()
    }

    fn rows_safe(&self) -> u64 {
        self.sinks.iter().map(|s| s.rows_safe).sum()
    }

    /// Whether anything was read or made safe since `from`.
    pub fn moved_since(&self, from: &Self, facts: &Facts) -> bool {
        self.rows_read(facts) != from.rows_read(facts) || self.rows_safe() != from.rows_safe()
    }

    /// Nanoseconds that tasks worked or waited for sinks.
    fn execution_nanos(&self) -> u64 {
        self.phases.iter().sum::<u64>() + self.sinks.iter().map(|s| s.backpressure_nanos).sum::<u64>()
    }
}

/// What does not change while a pipeline runs.
pub struct Facts {
    /// Who reports.
    pub identity: Identity,
    nodes: Vec<Described>,
    /// Of each partition: its source's node and its number.
    partitions: Vec<(NodeId, u32)>,
    /// Of each sink: its node.
    sinks: Vec<NodeId>,
}

struct Described {
    name: String,
    role: Role,
    description: String,
}

impl Facts {
    /// Of a run.
    pub fn new(identity: Identity, graph: &Graph, stats: &PipelineStats) -> Self {
        let described = graph.nodes.iter().zip(&stats.nodes).map(|(node, counts)| {
            let table = match &node.kind {
                NodeKind::Source(source) => Some(&source.table),
                NodeKind::Sink(sink) => Some(&sink.table),
                NodeKind::Operator(_) => None,
            };
            let connector = table.and_then(|t| t.connector().ok());
            let description = connector.map_or_else(|| node.name.clone(), |c| format!("{c}[{}]", node.name));
            Described { name: node.name.clone(), role: counts.role, description }
        });
        Self {
            identity,
            nodes: described.collect(),
            partitions: stats.partitions.iter().map(|p| (p.node, p.partition)).collect(),
            sinks: stats.sinks.iter().map(|s| s.node).collect(),
        }
    }

    fn of(&self, role: Role) -> impl Iterator<Item = (NodeId, &Described)> {
        self.nodes.iter().enumerate().filter(move |(_, n)| n.role == role)
    }

    /// What happened from one sample to a later one, event times between them in `range`.
    pub fn between(&self, from: &Sample, to: &Sample, range: Range) -> Progress {
        let span = Span {
            from,
            to,
            seconds: (to.at - from.at).max(0) as f64 / 1e6,
            working: to.execution_nanos().saturating_sub(from.execution_nanos()) as f64 / 1e9 / to.workers.max(1) as f64,
        };
        let rows = to.rows_read(self) - from.rows_read(self);
        Progress {
            identity: self.identity.clone(),
            timestamp: Timestamp(from.at),
            batch_id: to.epoch,
            batch_duration: (to.at - from.at).max(0).unsigned_abs() / 1000,
            num_input_rows: rows,
            input_rows_per_second: rate(rows, span.seconds),
            processed_rows_per_second: rate(rows, span.working),
            duration_ms: span.durations(),
            event_time: span.event_time(range),
            state_operators: self.of(Role::Operator).filter_map(|(id, node)| span.state_operator(id, node)).collect(),
            operators: self.of(Role::Operator).map(|(id, node)| span.operator(id, node)).collect(),
            sources: self.of(Role::Source).map(|(id, node)| span.source(id, node, &self.partitions)).collect(),
            sinks: self.sinks.iter().enumerate().map(|(i, id)| span.sink(i, &self.nodes[*id])).collect(),
        }
    }
}

/// Per second; 0 where no time passed.
fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// Two samples, and the seconds between them: as they passed, and as each worker worked or waited for sinks.
struct Span<'a> {
    from: &'a Sample,
    to: &'a Sample,
    seconds: f64,
    working: f64,
}

impl Span<'_> {
    fn nodes(&self, id: NodeId, of: fn(&Node) -> u64) -> u64 {
        of(&self.to.nodes[id]).saturating_sub(of(&self.from.nodes[id]))
    }

    fn millis(&self, of: impl Fn(&Sample) -> u64) -> u64 {
        of(self.to).saturating_sub(of(self.from)) / 1_000_000
    }

    fn durations(&self) -> Durations {
        let phase = |phase: Phase| self.millis(|s| s.phases[phase as usize]);
        Durations {
            trigger_execution: self.millis(Sample::execution_nanos),
            get_batch: phase(Phase::Read),
            add_batch: phase(Phase::Operators),
            hand_over: phase(Phase::HandOver),
            state_snapshot: phase(Phase::Checkpoint),
            backpressure: self.millis(|s| s.sinks.iter().map(|k| k.backpressure_nanos).sum()),
            write_sinks: self.millis(|s| s.sinks.iter().map(|k| k.busy_nanos).sum()),
            write_checkpoint: self.millis(|s| s.commit_nanos[0]),
            commit_offsets: self.millis(|s| s.commit_nanos[1]),
        }
    }

    fn event_time(&self, range: Range) -> EventTime {
        let count = self.to.event_times.0.saturating_sub(self.from.event_times.0);
        let mean = (self.to.event_times.1 - self.from.event_times.1) / count.max(1) as f64;
        EventTime {
            min: range.map(|r| Timestamp(r.0)),
            max: range.map(|r| Timestamp(r.1)),
            // Summed as floating seconds: no finer than a millisecond.
            avg: (count > 0).then(|| Timestamp((mean * 1e3).round() as Micros * 1000)),
            watermark: self.to.watermark.map(Timestamp),
        }
    }

    /// `None` for operators that never held state.
    fn state_operator(&self, id: NodeId, node: &Described) -> Option<StateOperator> {
        let now = &self.to.nodes[id];
        let stateful = now.state != StateSize::default() || now.late > 0;
        stateful.then(|| StateOperator {
            operator_name: node.name.clone(),
            num_rows_total: now.state.rows,
            memory_used_bytes: now.state.bytes,
            num_rows_dropped_by_watermark: self.nodes(id, |n| n.late),
            num_rows_dropped_by_watermark_total: now.late,
        })
    }

    fn operator(&self, id: NodeId, node: &Described) -> OperatorProgress {
        OperatorProgress {
            operator_name: node.name.clone(),
            num_input_rows: self.nodes(id, |n| n.rows_in),
            num_input_rows_total: self.to.nodes[id].rows_in,
            num_output_rows: self.nodes(id, |n| n.rows_out),
            num_output_rows_total: self.to.nodes[id].rows_out,
            busy_ms: self.nodes(id, |n| n.busy_nanos) / 1_000_000,
        }
    }

    fn source(&self, id: NodeId, node: &Described, partitions: &[(NodeId, u32)]) -> SourceProgress {
        let places = || partitions.iter().enumerate().filter(|(_, p)| p.0 == id).map(|(i, p)| (p.1, i));
        let (rows, now) = (self.nodes(id, |n| n.rows_in), &self.to.nodes[id]);
        SourceProgress {
            description: node.description.clone(),
            name: node.name.clone(),
            start_offset: places().filter_map(|(p, i)| Some((p, self.from.partitions[i].offset?))).collect(),
            end_offset: places().filter_map(|(p, i)| Some((p, self.to.partitions[i].offset?))).collect(),
            latest_offset: places().filter_map(|(p, i)| Some((p, self.to.partitions[i].latest()?))).collect(),
            watermark: places().filter_map(|(p, i)| Some((p, Timestamp(self.to.partitions[i].watermark?)))).collect(),
            lag: places().map(|(_, i)| self.to.partitions[i].lag).sum(),
            num_input_rows: rows,
            num_input_rows_total: now.rows_in,
            input_rows_per_second: rate(rows, self.seconds),
            processed_rows_per_second: rate(rows, self.working),
            num_input_bytes: self.nodes(id, |n| n.bytes),
            num_input_bytes_total: now.bytes,
            num_late_rows: self.nodes(id, |n| n.late),
            num_late_rows_total: now.late,
            busy_ms: self.nodes(id, |n| n.busy_nanos) / 1_000_000,
            bad_records_total: now.bad.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
        }
    }

    fn sink(&self, index: usize, node: &Described) -> SinkProgress {
        let (from, to) = (&self.from.sinks[index], &self.to.sinks[index]);
        let rows = to.rows_safe - from.rows_safe;
        SinkProgress {
            description: node.description.clone(),
            name: node.name.clone(),
            num_output_rows: rows,
            num_output_rows_total: to.rows_safe,
            output_rows_per_second: rate(rows, self.seconds),
            latency_ms: Latency::of(&to.latency.since(&from.latency)),
            busy_ms: (to.busy_nanos - from.busy_nanos) / 1_000_000,
            queue_bytes: to.queue_bytes,
            retries_total: to.retries,
        }
    }
}
