//! How a graph is cut into tasks: what each reads, of which stage it is, and its number there.
//!
//! Tasks are numbered through, stage by stage: those of the sources first, then those of the repartition topics.

use std::collections::BTreeMap;

use super::open::OpenSource;
use super::positions::Place;
use crate::Result;
use crate::graph::{Graph, NodeId, Parallelism};
use crate::operator::Seat;

/// How a graph is cut into tasks.
pub struct Layout {
    /// By task: what it reads.
    pub places: Vec<Vec<Place>>,
    /// By task: its stage.
    stages: Vec<usize>,
    /// By the graph's sources: the node.
    sources: Vec<NodeId>,
    /// By repartition topic, by the node that gives to it: its partitions.
    partitions: BTreeMap<NodeId, u32>,
}

impl Layout {
    /// Cuts a graph whose sources are open.
    pub fn new(graph: &Graph, sources: &[OpenSource]) -> Result<Self> {
        let stages = graph.stages();
        let mut by_stage: Vec<Vec<Vec<Place>>> = Vec::new();
        let mut partitions = BTreeMap::new();
        for (index, (id, node, source)) in sources.iter().enumerate() {
            let count = source.partitions().map_err(|e| e.within(format!("source {}", node.table.name)))?;
            let stage = stages[*id];
            if by_stage.len() <= stage {
                by_stage.resize_with(stage + 1, Vec::new);
            }
            let tasks = &mut by_stage[stage];
            for partition in 0..count {
                let number = source.part(partition).map_or(partition, |part| part.partition) as usize;
                let task = if matches!(graph.parallelism, Parallelism::Single(_)) { 0 } else { number };
                if tasks.len() <= task {
                    tasks.resize_with(task + 1, Vec::new);
                }
                tasks[task].push((index, partition));
            }
            if let Some(exchange) = graph.exchanges().iter().find(|exchange| exchange.source == *id) {
                partitions.insert(exchange.scatter, count);
            }
        }
        let stages: Vec<usize> =
            by_stage.iter().enumerate().flat_map(|(stage, tasks)| tasks.iter().map(move |_| stage)).collect();
        let places = by_stage.into_iter().flatten().collect();
        Ok(Self { places, stages, sources: sources.iter().map(|(id, ..)| *id).collect(), partitions })
    }

    /// How many tasks there are.
    pub fn tasks(&self) -> usize {
        self.places.len()
    }

    /// The stage of a task.
    pub fn stage_of(&self, task: usize) -> usize {
        self.stages[task]
    }

    /// Whether a task reads a partition of a source.
    pub fn reads(&self, task: usize, source: NodeId) -> bool {
        self.places[task].iter().any(|(index, _)| self.sources[*index] == source)
    }

    /// Where a task's operator `node` sits.
    pub fn seat(&self, node: NodeId, task: usize) -> Seat {
        let stage = self.stages[task];
        let first = self.stages.partition_point(|of| *of < stage);
        let of = self.stages.iter().filter(|of| **of == stage).count();
        let partitions = self.partitions.get(&node).copied().unwrap_or(0);
        Seat { number: (task - first) as u32, of: of as u32, partitions }
    }
}
