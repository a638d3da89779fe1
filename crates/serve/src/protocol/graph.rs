//! The graph with its counts: what `explain` prints, and what flows through it now.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use riverrun_engine::batch::Port;
use riverrun_engine::graph::{Graph, Node, NodeKind, Parallelism, readable};
use riverrun_engine::progress::{Latency, Progress, Timestamp};
use riverrun_engine::runtime::stats::{NodeStats, PartitionStats, PipelineStats};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The graph of the pipeline.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, ToSchema)]
pub struct GraphInfo {
    /// `partitioned`, `staged` or `single`.
    pub parallelism: String,
    /// Why rows are repartitioned, or one task must see all partitions, where that is so.
    pub reason: Option<String>,
    /// Tasks over all instances.
    pub tasks: usize,
    /// Sources, operators and sinks, in the order in which rows go.
    pub nodes: Vec<NodeInfo>,
    /// What goes where.
    pub edges: Vec<EdgeInfo>,
}

/// What one node gives another.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, ToSchema)]
pub struct EdgeInfo {
    /// The node that gives.
    pub from: usize,
    /// The node that takes.
    pub to: usize,
    /// Which of its inputs.
    pub input: usize,
    /// `rows`, `update`, `late` or `dead_letters`.
    pub port: String,
}

/// A source, operator or sink, and its counts.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, ToSchema)]
pub struct NodeInfo {
    /// Its number in the graph.
    pub id: usize,
    /// Its name, unique in the graph: a table's, or view and operator.
    pub name: String,
    /// `source`, `operator` or `sink`.
    pub role: String,
    /// A table's connector, or what the operator does.
    pub kind: String,
    /// What `explain` says of it.
    pub description: Vec<String>,
    /// Rows taken in this run; by a source with bad records.
    pub rows_in: u64,
    /// Rows given in this run; by a sink: written.
    pub rows_out: u64,
    /// Rows taken per second, over the last two.
    pub rows_in_per_second: f64,
    /// Rows given per second, over the last two.
    pub rows_out_per_second: f64,
    /// Share of one thread's time, over the last two seconds: 1 is all of it.
    pub busy: f64,
    /// Rows of state.
    pub state_rows: u64,
    /// Bytes of state in memory, about.
    pub state_bytes: u64,
    /// Late rows: of a source those behind its watermark, of an operator those that it dropped.
    pub late: u64,
    /// Bad records by reason.
    pub bad: BTreeMap<String, u64>,
    /// Source: records that wait to be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_records: Option<u64>,
    /// Source: the least watermark of its partitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub watermark: Option<Timestamp>,
    /// Source: its partitions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<PartitionInfo>,
    /// Sink: bytes that wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_bytes: Option<u64>,
    /// Sink: at so many bytes reading waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_limit_bytes: Option<u64>,
    /// Sink: end-to-end latency in milliseconds over the last two seconds: `p50`, `p95`, `p99`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub latency_ms: Option<Latency>,
    /// Sink: times that it was tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u64>,
    /// Source or sink: whether it is in trouble now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<bool>,
}

/// A partition of a source.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, ToSchema)]
pub struct PartitionInfo {
    /// Its number.
    pub partition: u32,
    /// Offset to be read next.
    pub offset: Option<i64>,
    /// Offset behind the last record that is there.
    pub end_offset: Option<i64>,
    /// Records that wait to be read.
    pub lag_records: Option<u64>,
    /// Its watermark.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub watermark: Option<Timestamp>,
    /// Whether it has been silent for its idle timeout.
    pub idle: bool,
    /// Whether reading fails and is tried again.
    pub failing: bool,
    /// Whether a task of this instance reads it.
    pub assigned: bool,
}

impl GraphInfo {
    /// The graph with counts of now; rates are those of `live`.
    pub fn of(graph: &Graph, stats: &PipelineStats, live: &Progress) -> Self {
        let (parallelism, reason) = match &graph.parallelism {
            Parallelism::Partitioned => ("partitioned", None),
            Parallelism::Single(why) => ("single", Some(readable(why))),
            Parallelism::Staged(exchanges) => {
                let reasons: Vec<_> = exchanges.iter().map(|exchange| readable(&exchange.reason)).collect();
                ("staged", Some(reasons.join("; ")))
            }
        };
        let nodes = graph.nodes.iter().zip(&stats.nodes).enumerate();
        let nodes = nodes.map(|(id, (node, counts))| NodeInfo::of(id, (node, graph), counts, (stats, live))).collect();
        let edges = graph.nodes.iter().enumerate().flat_map(|(to, node)| {
            let edge = move |(input, edge): (usize, &riverrun_engine::graph::Edge)| EdgeInfo {
                from: edge.from,
                to,
                input,
                port: port(edge.port).to_owned(),
            };
            node.inputs.iter().enumerate().map(edge)
        });
        Self { parallelism: parallelism.to_owned(), reason, tasks: stats.tasks.len(), nodes, edges: edges.collect() }
    }
}

fn port(port: Port) -> &'static str {
    match port {
        Port::Rows => "rows",
        Port::Update => "update",
        Port::Late => "late",
        Port::DeadLetters => "dead_letters",
    }
}

/// What a node did in the last seconds: rows in, rows out, milliseconds of work.
fn rates(name: &str, kind: &NodeKind, live: &Progress) -> (u64, u64, u64) {
    let found = match kind {
        NodeKind::Source(_) => {
            let source = live.sources.iter().find(|s| s.name == name);
            source.map(|s| (s.num_input_rows, s.num_input_rows, s.busy_ms))
        }
        NodeKind::Operator(_) => {
            let operator = live.operators.iter().find(|o| o.operator_name == name);
            operator.map(|o| (o.num_input_rows, o.num_output_rows, o.busy_ms))
        }
        NodeKind::Sink(_) => {
            let sink = live.sinks.iter().find(|s| s.name == name);
            sink.map(|s| (s.num_output_rows, s.num_output_rows, s.busy_ms))
        }
    };
    found.unwrap_or_default()
}

impl NodeInfo {
    fn of(id: usize, (node, graph): (&Node, &Graph), counts: &NodeStats, (stats, live): (&PipelineStats, &Progress)) -> Self {
        let (role, kind) = match &node.kind {
            NodeKind::Source(s) => ("source", s.table.connector().unwrap_or_default()),
            NodeKind::Operator(o) => ("operator", o.name().to_owned()),
            NodeKind::Sink(s) => ("sink", s.table.connector().unwrap_or_default()),
        };
        let (rows_in, rows_out, busy_ms) = rates(&node.name, &node.kind, live);
        let millis = (live.batch_duration as f64).max(1.0);
        let per_second = |rows: u64| rows as f64 * 1e3 / millis;
        let state = counts.state();
        let mut info = Self {
            id,
            name: node.name.clone(),
            role: role.to_owned(),
            kind,
            description: graph.describe(id).iter().map(|line| readable(line)).collect(),
            rows_in: counts.rows_in.load(Relaxed),
            rows_out: counts.rows_out.load(Relaxed),
            rows_in_per_second: per_second(rows_in),
            rows_out_per_second: per_second(rows_out),
            busy: busy_ms as f64 / millis,
            state_rows: state.rows,
            state_bytes: state.bytes,
            late: counts.late.load(Relaxed),
            bad: counts.bad().into_iter().map(|(reason, n)| (reason.to_owned(), n)).collect(),
            lag_records: None,
            watermark: None,
            partitions: Vec::new(),
            queue_bytes: None,
            queue_limit_bytes: None,
            latency_ms: None,
            retries: None,
            failing: None,
        };
        match &node.kind {
            NodeKind::Source(_) => info.add_partitions(stats.partitions_of(id)),
            NodeKind::Operator(_) => {}
            NodeKind::Sink(_) => info.add_sink(stats, live),
        }
        info
    }

    fn add_partitions<'a>(&mut self, partitions: impl Iterator<Item = &'a PartitionStats>) {
        self.partitions = partitions.map(PartitionInfo::of).collect();
        let lags: Vec<u64> = self.partitions.iter().filter_map(|p| p.lag_records).collect();
        self.lag_records = (!lags.is_empty()).then(|| lags.iter().sum());
        self.watermark = self.partitions.iter().filter(|p| p.assigned).filter_map(|p| p.watermark).min();
        self.failing = Some(self.partitions.iter().any(|p| p.failing));
        // A source gives what it read, but for bad records.
        self.rows_out = self.rows_in.saturating_sub(self.bad.values().sum());
    }

    fn add_sink(&mut self, stats: &PipelineStats, live: &Progress) {
        let Some(sink) = stats.sink(&self.name) else { return };
        self.queue_bytes = Some(sink.queue_bytes.load(Relaxed));
        self.queue_limit_bytes = Some(sink.queue_bound);
        self.latency_ms = live.sinks.iter().find(|s| s.name == self.name).and_then(|s| s.latency_ms);
        self.retries = Some(sink.retries.load(Relaxed));
        self.failing = Some(sink.failing_since().is_some());
    }
}

impl PartitionInfo {
    fn of(partition: &PartitionStats) -> Self {
        Self {
            partition: partition.partition,
            offset: partition.offset(),
            end_offset: partition.end_offset(),
            lag_records: partition.lag(),
            watermark: partition.watermark().map(Timestamp),
            idle: partition.idle.load(Relaxed),
            failing: partition.failing_since().is_some(),
            assigned: partition.owned.load(Relaxed),
        }
    }
}
