//! One task's copy of the graph, or of its stage of it: its operators, and how batches and watermarks pass among them.
//!
//! Invariant: in one pass every node first takes all that its inputs gave, then the watermark, so a row always reaches an
//! operator before the watermark that it is not late for.

use std::sync::Arc;

use super::layout::Layout;
use crate::Result;
use crate::batch::{Batch, Change, Port};
use crate::graph::{Graph, NodeId, NodeKind};
use crate::operator::{Operator, Output, StatePart};
use crate::runtime::stats::PipelineStats;
use crate::state::Backend;
use crate::time::{MAX_TIME, MIN_TIME, Micros, Stopwatch};

/// Where a node's output goes.
struct Consumer {
    port: Port,
    node: NodeId,
    input: usize,
}

struct Slot {
    operator: Option<Box<dyn Operator>>,
    inputs: Vec<NodeId>,
    consumers: Vec<Consumer>,
    inbox: Vec<(usize, Batch)>,
    watermark: Micros,
}

/// The operators of one task.
pub struct Dataflow {
    slots: Vec<Slot>,
    sinks: Vec<NodeId>,
    /// Sources of the stage that have no partition in this task: they hold nobody back.
    absent: Vec<NodeId>,
    /// Sources that are repartition topics, and what makes rows of their records.
    gathers: Vec<(NodeId, NodeId)>,
    stats: Arc<PipelineStats>,
    task: usize,
    output: Output,
}

impl Dataflow {
    /// Makes the operators of task number `task`, those of its stage, whose state lies in `backend`.
    pub fn new(graph: &Graph, layout: &Layout, task: usize, stats: Arc<PipelineStats>, backend: &Backend) -> Result<Self> {
        let (stages, stage) = (graph.stages(), layout.stage_of(task));
        let mut slots: Vec<Slot> = Vec::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            slots.push(Slot {
                operator: None,
                inputs: node.inputs.iter().map(|e| e.from).collect(),
                consumers: Vec::new(),
                inbox: Vec::new(),
                watermark: MIN_TIME,
            });
        }
        for (id, node) in graph.nodes.iter().enumerate() {
            for (input, edge) in node.inputs.iter().enumerate() {
                slots[edge.from].consumers.push(Consumer { port: edge.port, node: id, input });
            }
        }
        for (id, node) in graph.nodes.iter().enumerate() {
            if let NodeKind::Operator(spec) = &node.kind
                && stages[id] == stage
            {
                let mut ports: Vec<Port> = slots[id].consumers.iter().map(|c| c.port).collect();
                ports.sort();
                ports.dedup();
                let mut operator = spec.create(&ports, backend)?;
                operator.begin(layout.seat(id, task))?;
                slots[id].operator = Some(operator);
            }
        }
        let sinks = graph.sinks().map(|(id, _)| id).collect();
        let absent = |id: &NodeId| stages[*id] == stage && !layout.reads(task, *id);
        let absent = graph.sources().map(|(id, _)| id).filter(absent).collect();
        let gathers = graph.exchanges().iter().map(|exchange| (exchange.source, exchange.gather)).collect();
        let mut dataflow = Self { slots, sinks, absent, gathers, stats, task, output: Output::default() };
        dataflow.forget_watermarks();
        Ok(dataflow)
    }

    /// Gives a batch to whoever takes `port` of `node`.
    pub fn push(&mut self, node: NodeId, port: Port, batch: Batch) {
        if batch.rows.num_rows() == 0 {
            return;
        }
        self.stats.nodes[node].add_output(&batch);
        let consumers = std::mem::take(&mut self.slots[node].consumers);
        if let Some((last, others)) = split_last(&consumers, port) {
            for consumer in others {
                self.slots[consumer.node].inbox.push((consumer.input, batch.clone()));
            }
            self.slots[last.node].inbox.push((last.input, batch));
        }
        self.slots[node].consumers = consumers;
    }

    /// Sets the watermark of a source; the next [`pass`](Dataflow::pass) carries it on.
    pub fn set_watermark(&mut self, source: NodeId, watermark: Micros) {
        self.slots[source].watermark = self.slots[source].watermark.max(watermark);
    }

    /// Watermarks are as at the start of a run, where they follow from those of the inputs.
    pub fn forget_watermarks(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.watermark = MIN_TIME);
        self.absent.iter().for_each(|source| self.slots[*source].watermark = MAX_TIME);
    }

    /// The watermark of a source that tells it with its records, and the greatest of any task that it comes from; for others there
    /// is none.
    pub fn gathered(&self, source: NodeId) -> (Micros, Micros) {
        let gather = self.gathers.iter().find(|(of, _)| *of == source).map(|(_, gather)| *gather);
        let operator = gather.and_then(|gather| self.slots[gather].operator.as_ref());
        operator.map_or((MIN_TIME, MIN_TIME), |operator| (operator.watermark(MIN_TIME), operator.greatest_told()))
    }

    /// Whether an operator has something to give at this clock, whatever comes.
    pub fn is_due(&self, clock: Micros) -> bool {
        let operators = self.slots.iter().filter_map(|slot| slot.operator.as_ref());
        operators.filter_map(|operator| operator.due()).any(|due| due <= clock)
    }

    /// Tells the operators the clock of the epoch that ends now.
    pub fn set_clock(&mut self, clock: Micros) {
        let operators = self.slots.iter_mut().filter_map(|slot| slot.operator.as_mut());
        operators.for_each(|operator| operator.on_clock(clock));
    }

    /// Carries everything through the graph, in topological order; at the `end` of an epoch also what it changed.
    pub fn pass(&mut self, end: bool) -> Result<()> {
        for node in 0..self.slots.len() {
            let Some(mut operator) = self.slots[node].operator.take() else {
                continue;
            };
            let result = self.run(node, operator.as_mut(), end);
            self.slots[node].operator = Some(operator);
            result.map_err(|e| e.within(&self.stats.nodes[node].name))?;
        }
        Ok(())
    }

    fn run(&mut self, node: NodeId, operator: &mut dyn Operator, end: bool) -> Result<()> {
        let inputs = self.slots[node].inputs.iter().map(|i| self.slots[*i].watermark).min().unwrap_or(MIN_TIME);
        let advanced = operator.watermark(inputs) > self.slots[node].watermark;
        let mut inbox = std::mem::take(&mut self.slots[node].inbox);
        if inbox.is_empty() && !advanced && !end {
            return Ok(());
        }
        let stopwatch = Stopwatch::start();
        let mut output = std::mem::take(&mut self.output);
        for (input, batch) in inbox.drain(..) {
            self.stats.nodes[node].add_input(&batch);
            operator.on_batch(input, batch, &mut output)?;
        }
        self.slots[node].inbox = inbox;
        let watermark = operator.watermark(inputs);
        if watermark > self.slots[node].watermark {
            operator.on_watermark(watermark, &mut output)?;
            self.slots[node].watermark = watermark;
        }
        if end {
            operator.on_epoch_end(&mut output)?;
            self.stats.nodes[node].set_state(self.task, operator.state_size(), operator.current_window());
        }
        let (batches, late) = output.take();
        self.output = output;
        self.stats.nodes[node].add_work(stopwatch.nanos(), late);
        for (port, batch) in batches {
            self.push(node, port, batch);
        }
        Ok(())
    }

    /// What the epoch gave to each sink, in the order of [`Graph::sinks`].
    pub fn take_outputs(&mut self) -> Vec<Vec<Batch>> {
        let sinks = std::mem::take(&mut self.sinks);
        let outputs = sinks
            .iter()
            .map(|id| {
                let inbox = std::mem::take(&mut self.slots[*id].inbox);
                inbox.into_iter().map(|(_, batch)| self.taken_by_sink(*id, batch)).collect()
            })
            .collect();
        self.sinks = sinks;
        outputs
    }

    fn taken_by_sink(&self, sink: NodeId, mut batch: Batch) -> Batch {
        self.stats.nodes[sink].add_input(&batch);
        if batch.change == Change::Late {
            batch.change = Change::Insert;
        }
        batch
    }
}

/// State of operators, by node.
type States = Vec<(NodeId, Vec<StatePart>)>;

impl Dataflow {
    /// The state of every operator that has any.
    pub fn snapshot(&mut self) -> Result<States> {
        let mut states = Vec::new();
        for (id, slot) in self.slots.iter_mut().enumerate() {
            if let Some(operator) = &mut slot.operator {
                let state = operator.snapshot()?;
                if !state.is_empty() {
                    states.push((id, state));
                }
            }
        }
        Ok(states)
    }

    /// Gives operators the state that [`snapshot`](Dataflow::snapshot) took from them.
    pub fn restore(&mut self, states: States) -> Result<()> {
        for (node, state) in states {
            match self.slots.get_mut(node).and_then(|s| s.operator.as_mut()) {
                Some(operator) => operator.restore(state).map_err(|e| e.within(&self.stats.nodes[node].name))?,
                None => return Err(crate::Error::permanent(format!("state for node #{node}, which is no operator"))),
            }
        }
        Ok(())
    }
}

/// The consumers of a port: the last, which may have the batch itself, and those before it, which get a clone.
fn split_last(consumers: &[Consumer], port: Port) -> Option<(&Consumer, impl Iterator<Item = &Consumer>)> {
    let last = consumers.iter().rposition(|c| c.port == port)?;
    Some((&consumers[last], consumers[..last].iter().filter(move |c| c.port == port)))
}
