//! The dataflow graph of a script: what the planner makes and every task runs.
//!
//! Invariants: nodes stand in topological order (an edge's `from` is smaller than the node that has it as input); each
//! source table is one node however many outputs read it; the same subplan is one node.

use std::fmt::Write as _;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use crate::batch::Port;
use crate::operator::OperatorSpecRef;
use crate::table::{Emit, Table};

/// The place of a node in [`Graph::nodes`].
pub type NodeId = usize;

/// Where an input comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Edge {
    /// The node that gives.
    pub from: NodeId,
    /// Which of its outputs.
    pub port: Port,
}

/// A source, operator or sink.
#[derive(Clone)]
pub struct Node {
    /// Name for people and metrics: the table's or view's name, or the operator's, unique in the graph.
    pub name: String,
    /// What it takes, by input number.
    pub inputs: Vec<Edge>,
    /// What it is.
    pub kind: NodeKind,
    /// Tells what it computes apart, over runs and over changes of the script elsewhere: of its own work and of all that feeds
    /// it. Empty where nobody asks: sinks, and operators that the planner put between steps, which keep no state.
    pub identity: String,
}

/// What a node is.
#[derive(Clone)]
pub enum NodeKind {
    /// Reads a table.
    Source(SourceNode),
    /// Turns batches into batches.
    Operator(OperatorSpecRef),
    /// Writes to a table.
    Sink(SinkNode),
}

/// A table that is read.
#[derive(Debug, Clone)]
pub struct SourceNode {
    /// The table.
    pub table: Table,
    /// Its schema: all columns in order.
    pub schema: SchemaRef,
}

/// A table that is written.
#[derive(Debug, Clone)]
pub struct SinkNode {
    /// The table, its columns filled from the query where the script left them out.
    pub table: Table,
    /// The schema of the rows that arrive: the query's output, columns named and typed as the table's.
    pub schema: SchemaRef,
    /// `update` or `append`.
    pub emit: Emit,
    /// Rounds of output are at least this far apart. Zero: as soon as possible.
    pub trigger: Duration,
    /// Key columns (indices in `schema`), from PRIMARY KEY; empty without.
    pub key: Vec<usize>,
}

/// Whether tasks share nothing, or one task must see all partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parallelism {
    /// One task per partition: every stateful key contains the partition key, or there is no state.
    Partitioned,
    /// Stages of tasks, which hand rows on over repartition topics: a task per partition of the sources, behind them one per
    /// partition of these topics. An operator's tasks are those of one stage.
    Staged(Vec<Exchange>),
    /// One task over all partitions, and why.
    Single(String),
}

/// How rows go from one stage of tasks to the next: by key, over a topic whose partitions are the next stage's tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The operator that cuts rows into records, in the stage that gives.
    pub scatter: NodeId,
    /// The topic as that stage writes it.
    pub sink: NodeId,
    /// The topic as the next stage reads it.
    pub source: NodeId,
    /// The operator that makes rows of records again, in the stage that takes.
    pub gather: NodeId,
    /// Why: the key that is not the source's.
    pub reason: String,
}

impl Exchange {
    /// What the identities of an exchange's nodes, and the name of its table, begin with.
    pub const PREFIX: &'static str = "repartition-";
}

/// A whole script as one graph.
#[derive(Clone)]
pub struct Graph {
    /// In topological order.
    pub nodes: Vec<Node>,
    /// How it is cut into tasks.
    pub parallelism: Parallelism,
    /// Options that were ignored since they belong to another connector: (table, option).
    pub ignored_options: Vec<(String, String)>,
}

impl Graph {
    /// The sources and their places.
    pub fn sources(&self) -> impl Iterator<Item = (NodeId, &SourceNode)> {
        self.nodes.iter().enumerate().filter_map(|(id, n)| match &n.kind {
            NodeKind::Source(s) => Some((id, s)),
            _ => None,
        })
    }

    /// The sinks and their places.
    pub fn sinks(&self) -> impl Iterator<Item = (NodeId, &SinkNode)> {
        self.nodes.iter().enumerate().filter_map(|(id, n)| match &n.kind {
            NodeKind::Sink(s) => Some((id, s)),
            _ => None,
        })
    }

    /// The repartition topics between stages of tasks; none where there is one stage.
    pub fn exchanges(&self) -> &[Exchange] {
        match &self.parallelism {
            Parallelism::Staged(exchanges) => exchanges,
            Parallelism::Partitioned | Parallelism::Single(_) => &[],
        }
    }

    /// By node: the stage whose tasks run it, from 0. A sink takes from tasks of all stages.
    pub fn stages(&self) -> Vec<usize> {
        let mut stages = vec![0; self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate() {
            let behind = self.exchanges().iter().find(|exchange| exchange.source == id);
            stages[id] = match behind {
                Some(exchange) => stages[exchange.scatter] + 1,
                None => node.inputs.iter().map(|edge| stages[edge.from]).max().unwrap_or(0),
            };
        }
        stages
    }

    /// The sources that a node's rows come from, within its stage.
    pub fn sources_of(&self, node: NodeId) -> Vec<NodeId> {
        let (mut found, mut open) = (Vec::new(), vec![node]);
        while let Some(id) = open.pop() {
            let node = &self.nodes[id];
            if matches!(node.kind, NodeKind::Source(_)) && !found.contains(&id) {
                found.push(id);
            }
            open.extend(node.inputs.iter().map(|edge| edge.from));
        }
        found
    }

    /// The same graph without repartition topics, for one task over all partitions.
    pub fn joined(&self) -> Self {
        let exchanges = self.exchanges();
        let Some(first) = exchanges.first() else { return self.clone() };
        let gone = |id: NodeId| exchanges.iter().any(|x| [x.scatter, x.sink, x.source, x.gather].contains(&id));
        let (mut nodes, mut places) = (Vec::new(), vec![0; self.nodes.len()]);
        for (id, node) in self.nodes.iter().enumerate() {
            if gone(id) {
                continue;
            }
            let mut node = node.clone();
            for edge in &mut node.inputs {
                while let Some(exchange) = exchanges.iter().find(|exchange| exchange.gather == edge.from) {
                    *edge = self.nodes[exchange.scatter].inputs[0];
                }
                edge.from = places[edge.from];
            }
            places[id] = nodes.len();
            nodes.push(node);
        }
        let parallelism = Parallelism::Single(first.reason.clone());
        Self { nodes, parallelism, ignored_options: self.ignored_options.clone() }
    }

    /// How many nodes take from each node.
    pub fn consumers(&self) -> Vec<usize> {
        let mut counts = vec![0; self.nodes.len()];
        for edge in self.nodes.iter().flat_map(|n| &n.inputs) {
            counts[edge.from] += 1;
        }
        counts
    }

    /// The graph as `explain` prints it.
    pub fn explain(&self) -> String {
        let mut text = String::new();
        match &self.parallelism {
            Parallelism::Partitioned => text.push_str("tasks: one per partition; tasks share nothing\n"),
            Parallelism::Single(why) => {
                let _ = writeln!(text, "tasks: one, over all partitions: {why}");
            }
            Parallelism::Staged(exchanges) => {
                let last = self.stages().into_iter().max().unwrap_or(0);
                text.push_str("tasks: stage 0: one per partition; ");
                (1..=last).for_each(|stage| {
                    let _ = write!(text, "stage {stage}: one per partition of its repartition topics; ");
                });
                text.push_str("tasks share nothing\n");
                for Exchange { sink, reason, .. } in exchanges {
                    let NodeKind::Sink(SinkNode { table, .. }) = &self.nodes[*sink].kind else { continue };
                    let count = table.options.get("partitions").unwrap_or_default();
                    let topic = format!("topic riverrun-<pipeline>-{}, partitions: {count}", table.name);
                    let _ = writeln!(text, "repartitioned at #{sink}, since {}: {topic}", readable(reason));
                }
            }
        }
        let (consumers, stages) = (self.consumers(), self.stages());
        for (id, node) in self.nodes.iter().enumerate() {
            let stage = stages[id];
            if !self.exchanges().is_empty() && (id == 0 || stages[id - 1] != stage) {
                let _ = writeln!(text, "stage {stage}:");
            }
            self.explain_node(&mut text, id, node, consumers[id]);
        }
        for (table, option) in &self.ignored_options {
            let _ = writeln!(text, "ignored: option '{option}' of {table} (it belongs to another connector)");
        }
        text
    }

    /// What is said of a node, one item a line: keys, windows, state and when it is freed.
    pub fn describe(&self, id: NodeId) -> Vec<String> {
        match &self.nodes[id].kind {
            NodeKind::Source(s) => describe_source(s),
            NodeKind::Operator(o) => o.describe(),
            NodeKind::Sink(s) => describe_sink(s),
        }
    }

    fn explain_node(&self, text: &mut String, id: NodeId, node: &Node, consumers: usize) {
        let what = match &node.kind {
            NodeKind::Source(s) => format!("source {} ", connector(&s.table)),
            NodeKind::Operator(_) => String::new(),
            NodeKind::Sink(s) => format!("sink {} ", connector(&s.table)),
        };
        let _ = write!(text, "#{id} {what}{}", node.name);
        for edge in &node.inputs {
            let _ = write!(text, " <- #{}{}", edge.from, port_mark(edge.port));
        }
        if consumers > 1 {
            let _ = write!(text, "   (shared by {consumers})");
        }
        text.push('\n');
        for line in self.describe(id) {
            let _ = writeln!(text, "     {}", readable(&line));
        }
    }
}

/// Tells texts apart: 16 hexadecimal digits, the same in every run.
pub fn digest(text: &str) -> String {
    format!("{:016x}", twox_hash::XxHash3_64::oneshot(text.as_bytes()))
}

/// Intervals in a text as people write them; DataFusion names columns after its own way of printing them.
pub fn readable(line: &str) -> String {
    const OPEN: &str = "IntervalMonthDayNano { months: 0, days: ";
    let line = line.replace("IntervalMonthDayNano(\"IntervalMonthDayNano", "(\"IntervalMonthDayNano");
    let mut parts = line.split(OPEN);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let interval = part.split_once(", nanoseconds: ").and_then(|(days, rest)| {
            let (nanos, rest) = rest.split_once(" }")?;
            let days = Duration::from_secs(days.parse::<u64>().ok()?.checked_mul(86_400)?);
            Some((days.checked_add(Duration::from_nanos(nanos.parse().ok()?))?, rest))
        });
        match interval {
            Some((interval, rest)) if text.ends_with("(\"") && rest.starts_with("\")") => {
                text.truncate(text.len() - 2);
                let _ = write!(text, "{interval:?}{}", &rest[2..]);
            }
            Some((interval, rest)) => {
                let _ = write!(text, "{interval:?}{rest}");
            }
            None => {
                let _ = write!(text, "{OPEN}{part}");
            }
        }
    }
    text
}

fn connector(table: &Table) -> String {
    table.connector().unwrap_or_default()
}

fn port_mark(port: Port) -> &'static str {
    match port {
        Port::Rows => "",
        Port::Update => " (updates)",
        Port::Late => " (late rows)",
        Port::DeadLetters => " (dead letters)",
    }
}

fn describe_source(source: &SourceNode) -> Vec<String> {
    let table = &source.table;
    let mut lines = Vec::new();
    if !table.partitioned_by.is_empty() {
        let names: Vec<_> = table.partitioned_by.iter().map(|i| source.schema.field(*i).name().as_str()).collect();
        lines.push(format!("partitioned by {}", names.join(", ")));
    }
    if let Some(w) = &table.watermark {
        lines.push(format!("watermark: {} - {:?}", source.schema.field(w.column).name(), w.delay));
    }
    lines
}

fn describe_sink(sink: &SinkNode) -> Vec<String> {
    let mut line = format!("emit {}", if sink.emit == Emit::Update { "update" } else { "append" });
    if !sink.key.is_empty() {
        let names: Vec<_> = sink.key.iter().map(|i| sink.schema.field(*i).name().as_str()).collect();
        let _ = write!(line, ", by key {}", names.join(", "));
    }
    if !sink.trigger.is_zero() {
        let _ = write!(line, ", at most every {:?}", sink.trigger);
    }
    vec![line]
}
