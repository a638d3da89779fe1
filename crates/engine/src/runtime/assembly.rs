//! Makes the parts of a pipeline, and what ends them in order. Nothing runs yet: [`Pipeline`](super::Pipeline) gives every part
//! a thread, a simulator steps them itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Mutex, PoisonError};

use super::bindings::Bindings;
use super::committer::{Commits, Committer};
use super::feed::{self, Feed};
use super::keeper::Keeper;
use super::open::{OpenSource, Opening, cut_into_tasks, parts_of};
use super::part::{Part, Stage, Work};
use super::positions::{Place, Positions};
use super::queue::{Queue, SinkQueue};
use super::settings::Settings;
use super::stats::PipelineStats;
use super::task::{Shared, Task};
use super::worker::Worker;
use crate::checkpoint::{Checkpoints, Origin, digest};
use crate::graph::{Graph, NodeId};
use crate::journal::{Journal, LocalJournal, Recorded, new_lineage};
use crate::sink::Sink;
use crate::time::Clock;
use crate::{Error, Result};

/// Stops a pipeline in order: epochs end, sinks are flushed, positions kept.
#[derive(Debug, Clone)]
pub struct StopHandle(Arc<AtomicBool>, Arc<PipelineStats>);

impl StopHandle {
    /// Asks it to stop; [`Pipeline::wait`] returns when it has.
    pub fn stop(&self) {
        self.1.stopping.store(true, Relaxed);
        self.0.store(true, Relaxed);
    }

    /// Whether it was asked to, or failed.
    pub fn stopped(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// What the parts of a pipeline are told: that it stops, that a stage has ended, that it has failed.
#[derive(Clone)]
pub struct Control {
    pub(super) shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    /// Nothing more can become safe.
    pub(super) over: Arc<AtomicBool>,
    failure: Arc<Mutex<Option<Error>>>,
}

impl Control {
    /// The counts.
    pub fn stats(&self) -> Arc<PipelineStats> {
        self.shared.stats.clone()
    }

    /// What stops it.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(self.stop.clone(), self.shared.stats.clone())
    }

    /// All parts of `stage` have ended, and all stages before it: nothing more comes to the next one.
    pub fn ended(&self, stage: Stage) {
        match stage {
            Stage::Read => self.shared.commits.iter().for_each(|commits| commits.queue.close()),
            Stage::Commit => self.shared.close_queues(),
            Stage::Feed => self.over.store(true, Release),
            Stage::Keep => {}
        }
    }

    /// A part has failed. The first failure stops the pipeline.
    pub fn failed(&self, error: Error) {
        self.shared.stats.failed(&error);
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop.store(true, Relaxed);
        self.shared.close_queues();
    }

    /// What stopped it, if it has failed; told once.
    pub fn take_failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The parts of a pipeline, and its control.
pub struct Assembly {
    /// In the order in which they are to be started: who takes comes before who gives.
    pub parts: Vec<Part>,
    /// What they are told.
    pub control: Control,
}

impl Assembly {
    /// Makes the parts of `graph`: takes the journal over, restores what was kept, opens the sources.
    ///
    /// # Errors
    /// Something is not connected, cannot be reached, or what was kept does not fit and must not be gone on from.
    pub fn new(graph: &Graph, bindings: Bindings, settings: Settings, clock: Arc<dyn Clock>) -> Result<Self> {
        let sources: Vec<OpenSource<'_>> = graph
            .sources()
            .map(|(id, node)| {
                let source = bindings.sources.get(&id).cloned();
                source
                    .map(|s| (id, node, s))
                    .ok_or_else(|| Error::invalid(format!("source {} is not connected", node.table.name)))
            })
            .collect::<Result<_>>()?;
        let places = cut_into_tasks(graph, &sources)?;
        let tasks = places.len();
        let node_of = |&(source, partition): &Place| (sources[source].0, partition);
        let mut partitions: Vec<(NodeId, u32)> = places.iter().flatten().map(node_of).collect();
        partitions.sort_unstable();
        let stats = Arc::new(PipelineStats::new(graph, &partitions, tasks, settings.queue_bytes, clock.now()));
        let mut journal = journal_of(bindings.journal, &settings)?;
        let mut recorded = journal.as_mut().map(|j| j.recover()).transpose()?.unwrap_or_default();
        let (explained, parts) = (graph.explain(), parts_of(&sources)?);
        let digest = digest(&explained);
        let origin = Origin { graph: digest.clone(), tasks, parts };
        let checkpoints = checkpoints_of(graph, origin, &settings);
        let begun = life(checkpoints.as_ref(), journal.as_mut(), &mut recorded)?;
        let commits = journal.as_ref().map(|journal| {
            Arc::new(Commits {
                queue: Queue::new(settings.queue_bytes, stats.journal.queue_bytes.clone()),
                lineage: begun.unwrap_or_else(|| new_lineage(&settings.name, clock.now())),
                takes: graph.sinks().map(|(id, _)| journal.takes().contains(&id)).collect(),
                unneeded: (0..tasks).map(|_| AtomicU64::default()).collect(),
            })
        });
        let shared = Arc::new(Shared {
            queues: stats.sinks.iter().map(|sink| Arc::new(SinkQueue::new(sink.clone()))).collect(),
            positions: Arc::new(Positions::new(tasks, graph.sinks().count())),
            stats,
            clock,
            checkpoints: (0..tasks).map(|_| Mutex::default()).collect(),
            commits,
            settings,
        });
        let mut sinks = bindings.sinks;
        let opening =
            Opening { graph, digest: &digest, sources: &sources, places, shared: &shared, checkpoints: checkpoints.as_ref() };
        let tasks = opening.tasks(journal.as_mut(), recorded, &mut sinks)?;
        let over = Arc::<AtomicBool>::default();
        let sources = sources.into_iter().map(|(_, node, source)| (node.table.name.clone(), source)).collect();
        let keeper = Keeper { sources, checkpoints, shared: shared.clone(), over: over.clone() };
        let control = Control { shared, over, stop: Arc::default(), failure: Arc::default() };
        let mut assembly = Self { parts: Vec::new(), control };
        assembly.add_feeds(graph, sinks)?;
        assembly.add_committer(journal);
        assembly.add_workers(tasks);
        assembly.add("keeper".into(), Stage::Keep, keeper);
        Ok(assembly)
    }

    fn add(&mut self, name: String, stage: Stage, work: impl Work + 'static) {
        self.parts.push(Part { name, stage, work: Box::new(work) });
    }

    fn add_feeds(&mut self, graph: &Graph, mut sinks: BTreeMap<NodeId, Box<dyn Sink>>) -> Result<()> {
        let shared = self.control.shared.clone();
        for (index, (id, plan)) in graph.sinks().enumerate() {
            if shared.commits.as_ref().is_some_and(|commits| commits.takes[index]) {
                continue;
            }
            let sink = sinks.remove(&id).ok_or_else(|| Error::invalid(format!("sink {} is not connected", plan.table.name)))?;
            let shared = feed::Shared {
                queue: shared.queues[index].clone(),
                positions: shared.positions.clone(),
                stats: shared.stats.clone(),
                clock: shared.clock.clone(),
                stop_deadline: shared.settings.stop_deadline,
            };
            self.add(format!("sink-{}", plan.table.name), Stage::Feed, Feed::new(index, id, plan, sink, shared)?);
        }
        Ok(())
    }

    fn add_committer(&mut self, journal: Option<Box<dyn Journal>>) {
        let shared = self.control.shared.clone();
        if let (Some(journal), Some(commits)) = (journal, shared.commits.clone()) {
            self.add("journal".into(), Stage::Commit, Committer::new(journal, commits, shared));
        }
    }

    fn add_workers(&mut self, tasks: Vec<Task>) {
        let (shared, stop) = (self.control.shared.clone(), self.control.stop.clone());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = shared.settings.workers.unwrap_or(cores).clamp(1, tasks.len().max(1));
        let mut shares: Vec<Vec<Task>> = (0..count).map(|_| Vec::new()).collect();
        for (i, task) in tasks.into_iter().enumerate() {
            shares[i % count].push(task);
        }
        for (i, share) in shares.into_iter().enumerate() {
            self.add(format!("worker-{i}"), Stage::Read, Worker::new(share, shared.clone(), stop.clone()));
        }
    }
}

impl Shared {
    /// No more comes to any sink.
    fn close_queues(&self) {
        self.commits.iter().for_each(|commits| commits.queue.close());
        self.queues.iter().for_each(|queue| queue.close());
    }
}

/// The journal that a run keeps: the bus's, else one beside the checkpoints; none where no state is kept.
fn journal_of(on_bus: Option<Box<dyn Journal>>, settings: &Settings) -> Result<Option<Box<dyn Journal>>> {
    if settings.checkpoints.is_none() || settings.bounded {
        return Ok(None);
    }
    Ok(Some(match (on_bus, &settings.journal_dir) {
        (Some(journal), _) => journal,
        (None, Some(dir)) => Box::new(LocalJournal::open(dir)?),
        (None, None) => return Err(Error::invalid("checkpoints are kept, and there is no place for the journal")),
    }))
}

/// Where state is kept, if it is.
fn checkpoints_of(graph: &Graph, origin: Origin, settings: &Settings) -> Option<Checkpoints> {
    let storage = settings.checkpoints.clone().filter(|_| !settings.bounded)?;
    let nodes = graph.nodes.iter().map(|node| node.name.clone()).collect();
    Some(Checkpoints::new(storage, settings.checkpoint_keep, origin, nodes))
}

/// The life of the pipeline that goes on: the journal's, or the one that a reset of the checkpoints begins; the journal is
/// then begun anew. `None`: the first one begins.
fn life(
    checkpoints: Option<&Checkpoints>,
    journal: Option<&mut Box<dyn Journal>>,
    recorded: &mut Recorded,
) -> Result<Option<String>> {
    let recorded_life = recorded.genesis.as_ref().map(|g| g.lineage.clone());
    let reset = checkpoints.map(|c| c.reset_since(recorded_life.as_deref())).transpose()?.flatten();
    let Some(lineage) = reset else { return Ok(recorded_life) };
    if let (Some(journal), Some(genesis)) = (journal, &mut recorded.genesis) {
        tracing::info!(
            event = "reset",
            "the checkpoints were reset: {lineage} begins, the records of {} are dropped",
            genesis.lineage
        );
        genesis.lineage.clone_from(&lineage);
        journal.begin(genesis)?;
        recorded.records.clear();
    }
    Ok(Some(lineage))
}
