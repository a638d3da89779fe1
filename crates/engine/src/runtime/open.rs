//! The start of a pipeline: finds what an earlier run left, opens the sources where they go on, and makes the tasks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

use super::backoff::Backoff;
use super::dataflow::Dataflow;
use super::input::Input;
use super::layout::Layout;
use super::positions::Place;
use super::recovery::{Found, FoundTask, check_sink};
use super::task::{Shared, Task};
use super::watermark::Watermark;
use crate::checkpoint::{Checkpoint, Checkpoints, Position};
use crate::graph::{Graph, NodeId, SourceNode};
use crate::journal::{Genesis, Journal, Record, Recorded, Stop};
use crate::planted::{Fault, is_planted};
use crate::sink::Sink;
use crate::source::{Source, Start};
use crate::{Error, Result};

/// A source of the graph, connected.
pub type OpenSource = (NodeId, SourceNode, Arc<dyn Source>);

/// What is needed to make the tasks.
pub struct Opening {
    /// What runs.
    pub graph: Arc<Graph>,
    /// Its digest.
    pub digest: String,
    /// Its sources.
    pub sources: Vec<OpenSource>,
    /// How it is cut into tasks.
    pub layout: Layout,
    /// By source: the greatest watermark of any of its partitions.
    pub newest: Vec<Arc<AtomicI64>>,
    /// What the tasks share.
    pub shared: Arc<Shared>,
    /// State of an earlier run.
    pub checkpoints: Option<Arc<Checkpoints>>,
    /// Whether it was told that the script has changed.
    pub told_changed: AtomicBool,
}

/// A task that was made.
pub struct Opened {
    /// The task, at its checkpoint.
    pub task: Task,
    /// The number of the journal's last epoch of it.
    pub end: u64,
    /// What is to be run again.
    pub records: Vec<Record>,
}

impl Opening {
    /// Makes all tasks: with the state of their checkpoints, their inputs open, and what is to be run again. What the journal
    /// holds is in `recorded`; a new one is begun.
    pub fn tasks(
        &self,
        mut journal: Option<&mut Box<dyn Journal>>,
        mut recorded: Recorded,
        sinks: &mut BTreeMap<NodeId, Box<dyn Sink>>,
    ) -> Result<Vec<Task>> {
        let count = self.layout.tasks();
        recorded.records.resize_with(count, Vec::new);
        let mut opened = Vec::with_capacity(count);
        for (number, records) in recorded.records.into_iter().enumerate() {
            self.shared.terms.begin(number as u32);
            opened.push(self.task(number, recorded.genesis.as_ref(), records)?);
        }
        if let (Some(journal), Some(commits)) = (&mut journal, &self.shared.commits) {
            // The life of a script that changed goes on: no record is needed any more, or a task was refused.
            if recorded.genesis.as_ref().is_none_or(|genesis| genesis.graph != self.digest) {
                let starts = opened.iter().flat_map(|opened| opened.task.ends()).collect();
                journal.begin(&self.genesis(commits.lineage(), starts))?;
            }
            let ends: Vec<u64> = opened.iter().map(|opened| opened.end).collect();
            let held = self.held(sinks, &ends)?;
            for (number, Opened { task, records, .. }) in opened.iter_mut().enumerate() {
                task.repeat(std::mem::take(records), held.iter().map(|by_task| by_task[number]).collect())?;
            }
        }
        Ok(opened.into_iter().map(|opened| opened.task).collect())
    }

    /// Makes one task: with the state of its checkpoint and its inputs open.
    pub fn task(&self, number: usize, genesis: Option<&Genesis>, mut records: Vec<Record>) -> Result<Opened> {
        let mut checkpoint = self.checkpoint(number)?;
        let owed = checkpoint.as_mut().map(|checkpoint| self.owed(checkpoint)).transpose()?.unwrap_or_default();
        let known = checkpoint.as_ref().map(|c| (c.epoch, c.lineage.as_deref()));
        let (end, repeat) = self.found(genesis).repeats(FoundTask { task: number, checkpoint: known, records: &records })?;
        let records = records.split_off(records.len() - repeat);
        let open = |place: &Place| self.open(*place, checkpoint.as_ref(), genesis);
        let inputs = self.layout.places[number].iter().map(open).collect::<Result<Vec<_>>>()?;
        let backend = self.shared.settings.backend()?;
        let dataflow = Dataflow::new(&self.graph, &self.layout, number, self.shared.stats.clone(), &backend)?;
        let mut task = Task::new(number as u32, inputs, dataflow, self.shared.clone());
        if let Some(checkpoint) = checkpoint {
            let checkpoint = self.adopted(number, checkpoint)?;
            task.resume(checkpoint, owed).map_err(|e| e.within(format!("task {number}: its checkpoint")))?;
        }
        Ok(Opened { task, end, records })
    }

    pub(super) fn checkpoint(&self, task: usize) -> Result<Option<Checkpoint>> {
        Ok(self.checkpoints.as_ref().map(|c| c.newest(task)).transpose()?.flatten())
    }

    /// What is found of the pipeline, beside its tasks.
    pub fn found<'a>(&'a self, genesis: Option<&'a Genesis>) -> Found<'a> {
        Found { graph: &self.digest, tasks: self.layout.tasks() as u32, genesis }
    }

    /// How a life of this name begins that reads from there on.
    pub(super) fn genesis(&self, lineage: &str, starts: Vec<Stop>) -> Genesis {
        let sources = self.sources.iter().map(|(_, node, _)| node.table.name.clone()).collect();
        let (lineage, graph, tasks) = (lineage.to_owned(), self.digest.clone(), self.layout.tasks() as u32);
        Genesis { lineage, graph, tasks, starts, sources }
    }

    /// How a life begins now, for all instances: without one before, at what checkpoints without a journal say, else at the
    /// kept positions, else at the tables' starts.
    pub fn begin(&self, lineage: &str) -> Result<Genesis> {
        let mut starts = Vec::new();
        for (number, places) in self.layout.places.iter().enumerate() {
            let checkpoint = self.checkpoint(number)?;
            let known = checkpoint.as_ref().map(|c| (c.epoch, c.lineage.as_deref()));
            self.found(None).repeats(FoundTask { task: number, checkpoint: known, records: &[] })?;
            for place in places {
                let (_, offset) = self.first(*place, checkpoint.as_ref(), None)?;
                starts.push(Stop { source: place.0, partition: place.1, offset });
            }
        }
        Ok(self.genesis(lineage, starts))
    }

    /// By sink and task: the last epoch whose rows it holds.
    fn held(&self, sinks: &mut BTreeMap<NodeId, Box<dyn Sink>>, ends: &[u64]) -> Result<Vec<Vec<u64>>> {
        let Some(commits) = &self.shared.commits else { return Ok(Vec::new()) };
        let mut held = Vec::new();
        for ((id, node), taken) in self.graph.sinks().zip(&commits.takes) {
            let name = &node.table.name;
            held.push(match sinks.get_mut(&id) {
                _ if *taken => ends.to_vec(),
                None => vec![0; ends.len()],
                Some(sink) => {
                    let told =
                        sink.recover(commits.lineage(), ends.len() as u32).map_err(|e| e.within(format!("sink {name}")))?;
                    let mut told = told.filter(|_| !is_planted(Fault::SinkPositionIgnored)).unwrap_or_default();
                    told.resize(ends.len(), 0);
                    check_sink(name, &told, ends)?;
                    told
                }
            });
        }
        Ok(held)
    }

    /// Where a partition must go on: where the checkpoint was, else where the journal began, else at the kept position, else at
    /// the table's start; that of a source that the script did not have before at the table's start. Gives the checkpoint's
    /// position and the offset.
    pub(super) fn first<'a>(
        &self,
        place: Place,
        checkpoint: Option<&'a Checkpoint>,
        genesis: Option<&Genesis>,
    ) -> Result<(Option<&'a Position>, i64)> {
        let (_, node, source) = &self.sources[place.0];
        let name = node.table.name.as_str();
        let resumed = checkpoint.and_then(|c| c.positions.iter().find(|p| p.source == name && p.partition == place.1));
        let (is_new, begun) = match (checkpoint, genesis) {
            // The journal's beginning tells of the sources that the script has, once it goes on with it.
            (Some(checkpoint), genesis) => {
                let genesis = genesis.filter(|genesis| !genesis.sources.is_empty() || genesis.graph == self.digest);
                (checkpoint.positions.iter().all(|p| p.source != name), genesis)
            }
            (None, Some(genesis)) => (!genesis.sources.is_empty() && !genesis.has_source(name), Some(genesis)),
            (None, None) => (false, None),
        };
        let begun = begun.filter(|_| checkpoint.is_none() || is_new).and_then(|g| g.start_of((place.0, name), place.1));
        let offset = match (resumed, begun) {
            // Resolved: an offset that is gone is told before anything runs.
            (Some(position), _) => source.resolve(place.1, Start::Offset(position.offset)),
            (None, Some(offset)) => source.resolve(place.1, Start::Offset(offset)),
            (None, None) if is_new => source.resolve(place.1, source.start(place.1)),
            // The state is that of all records before: a partition that came since then has all its records before it.
            (None, None) if checkpoint.is_some() || genesis.is_some() => source.resolve(place.1, Start::Earliest),
            (None, None) => self.first_offset(place),
        };
        Ok((resumed, offset.map_err(|e| e.within(format!("source {name}")))?))
    }

    /// Opens one partition where it must go on.
    fn open(&self, place: Place, checkpoint: Option<&Checkpoint>, genesis: Option<&Genesis>) -> Result<Input> {
        let (id, node, source) = &self.sources[place.0];
        let shared = &self.shared;
        let (resumed, offset) = self.first(place, checkpoint, genesis)?;
        let open = || {
            let stop = if shared.settings.bounded { source.end_offset(place.1)? } else { None };
            source.open(place.1, offset, stop)
        };
        let index = shared.stats.partitions.iter().position(|p| (p.node, p.partition) == (*id, place.1)).unwrap_or_default();
        let reader = open().map_err(|e: Error| e.within(format!("source {}", node.table.name)))?;
        let per_trigger = node.table.options.parse::<usize>("max_offsets_per_trigger", "a number of records")?;
        let partitions = source.partitions()?.max(1) as usize;
        let idle = node.table.options.duration("idle_timeout")?.unwrap_or(shared.settings.idle_timeout);
        let mut watermark = node.table.watermark.as_ref().map(|w| Watermark::new(w.column, w.delay));
        if let (Some(watermark), Some(position)) = (&mut watermark, resumed.filter(|_| !is_planted(Fault::WatermarkNotRestored)))
        {
            watermark.resume((position.newest, position.floor));
        }
        shared.stats.partitions[index].opened(offset);
        Ok(Input {
            node: *id,
            index,
            place,
            name: node.table.name.clone(),
            part: source.part(place.1),
            reader,
            offset,
            watermark,
            on_bad: source.bad_records(),
            newest: self.newest[place.0].clone(),
            behind: self.behind(*id),
            round_rows: per_trigger.map_or(usize::MAX, |n| n.div_ceil(partitions).max(1)),
            idle: idle.as_micros() as i64,
            last_data: shared.clock.now(),
            ended: false,
            backoff: Backoff::seeded(shared.clock.now() as u64 ^ (index as u64) << 32),
        })
    }

    /// The greatest watermarks of the sources that come to this one over a repartition topic.
    fn behind(&self, node: NodeId) -> Vec<Arc<AtomicI64>> {
        let exchange = self.graph.exchanges().iter().find(|exchange| exchange.source == node);
        let of = exchange.map(|exchange| self.graph.sources_of(exchange.scatter)).unwrap_or_default();
        let newest = self.sources.iter().zip(&self.newest).filter(|((id, ..), _)| of.contains(id));
        newest.map(|(_, newest)| newest.clone()).collect()
    }

    /// Where a pipeline without any past begins: at the position that the source keeps for it, else at the table's start.
    fn first_offset(&self, (source, partition): Place) -> Result<i64> {
        let (_, node, source) = &self.sources[source];
        if !self.shared.settings.bounded
            && let Some(offset) = source.committed(partition)?
        {
            if self.shared.settings.checkpoints.is_some() {
                let name = &node.table.name;
                tracing::warn!(
                    "source {name}, partition {partition}: goes on at offset {offset} with empty state: its checkpoint is missing"
                );
            }
            return Ok(offset);
        }
        match source.start(partition) {
            Start::Latest if self.shared.settings.bounded => source.resolve(partition, Start::Earliest),
            start => source.resolve(partition, start),
        }
    }
}

/// What the partition numbers of sources with several topics stand for, topic by topic.
pub fn parts_of(sources: &[OpenSource]) -> Result<Vec<String>> {
    let mut counts: BTreeMap<(&str, String), u32> = BTreeMap::new();
    for (_, node, source) in sources {
        for part in (0..source.partitions()?).filter_map(|partition| source.part(partition)) {
            *counts.entry((&node.table.name, part.topic)).or_default() += 1;
        }
    }
    Ok(counts.into_iter().map(|((table, topic), count)| format!("{table}: {topic} ({count} partitions)")).collect())
}
