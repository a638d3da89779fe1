//! Makes the parts of a pipeline, and what ends them in order. Nothing runs yet: [`Pipeline`](super::Pipeline) gives every part
//! a thread, a simulator steps them itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::asked::Asked;
use super::assignment::{Assignment, await_genesis};
use super::bindings::Bindings;
use super::changed::change_script;
use super::committer::{Commits, Committer};
use super::feed::{self, Feed};
use super::keeper::Keeper;
use super::layout::Layout;
use super::open::{OpenSource, Opening, parts_of};
use super::part::{Part, Stage, Work};
use super::positions::{Place, Positions};
use super::queue::{Queue, SinkQueue};
use super::settings::Settings;
use super::stats::PipelineStats;
use super::task::{Shared, Task};
use super::terms::Terms;
use super::worker::{Orders, Worker};
use crate::checkpoint::{Checkpoints, Operator, Origin};
use crate::graph::{Graph, Node, NodeId, digest};
use crate::journal::{Journal, LocalJournal, Recorded, new_lineage};
use crate::membership::Membership;
use crate::sink::Sink;
use crate::time::{Clock, MIN_TIME};
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
    /// Nothing is left to do but to leave the group.
    alone: Arc<AtomicBool>,
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
            Stage::Keep => self.alone.store(true, Release),
            Stage::Leave => {}
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
        let sources: Vec<OpenSource> = graph
            .sources()
            .map(|(id, node)| {
                let source = bindings.sources.get(&id).cloned();
                source
                    .map(|s| (id, node.clone(), s))
                    .ok_or_else(|| Error::invalid(format!("source {} is not connected", node.table.name)))
            })
            .collect::<Result<_>>()?;
        let layout = Layout::new(graph, &sources)?;
        let mut journal = journal_of(bindings.journal, &settings)?;
        let mut recorded = journal.as_mut().map(|j| j.recover()).transpose()?.unwrap_or_default();
        let (explained, parts) = (graph.explain(), parts_of(&sources)?);
        let digest = digest(&explained);
        let origin = Origin { graph: digest.clone(), tasks: layout.tasks(), parts };
        let checkpoints = checkpoints_of(graph, origin, &settings).map(Arc::new);
        let (begun, reset) = life(checkpoints.as_deref(), &mut recorded)?;
        check_exchanges(graph, journal.as_deref(), reset || (begun.is_some() && recorded.genesis.is_none()))?;
        let members = join(journal.as_mut(), &layout.places, &settings)?;
        let shared = share(graph, &sources, &layout.places, journal.as_deref(), settings, clock);
        let named = sources.iter().map(|(_, node, source)| (node.table.name.clone(), source.clone())).collect();
        let kept = journal.as_deref().map(Journal::keeps_positions_of).unwrap_or_default();
        let kept_by_journal = sources.iter().map(|(id, ..)| kept.contains(id)).collect();
        let opening = Opening {
            graph: Arc::new(graph.clone()),
            digest,
            newest: sources.iter().map(|_| Arc::new(AtomicI64::new(MIN_TIME))).collect(),
            sources,
            layout,
            shared: shared.clone(),
            checkpoints: checkpoints.clone(),
            told_changed: AtomicBool::new(false),
        };
        opening.found(recorded.genesis.as_ref()).check()?;
        let over = Arc::<AtomicBool>::default();
        let keeper = Keeper { sources: named, checkpoints, kept_by_journal, shared: shared.clone(), over: over.clone() };
        let control = Control { shared, over, stop: Arc::default(), alone: Arc::default(), failure: Arc::default() };
        let (mut assembly, mut sinks) = (Self { parts: Vec::new(), control }, bindings.sinks);
        match (members, journal) {
            (Some(members), Some(journal)) => {
                assembly.add_sharing(opening, journal, (recorded, begun, reset), (members, sinks))?
            }
            (_, mut journal) => {
                assembly.name_life(begun);
                if let (true, Some(journal), Some(genesis)) = (reset, &mut journal, &recorded.genesis) {
                    journal.begin(genesis)?;
                }
                let tasks = opening.tasks(journal.as_mut(), recorded, &mut sinks)?;
                assembly.add_feeds(graph, sinks, false)?;
                assembly.add_committer(journal);
                assembly.add_workers(tasks);
            }
        }
        assembly.add("keeper".into(), Stage::Keep, keeper);
        Ok(assembly)
    }

    /// The parts of an instance that shares the tasks with others.
    fn add_sharing(
        &mut self,
        opening: Opening,
        mut journal: Box<dyn Journal>,
        (recorded, begun, reset): (Recorded, Option<String>, bool),
        (mut members, sinks): (Box<dyn Membership>, BTreeMap<NodeId, Box<dyn Sink>>),
    ) -> Result<()> {
        let (shared, graph) = (self.control.shared.clone(), opening.graph.clone());
        shared.stats.partitions.iter().for_each(|partition| partition.released());
        let began = match recorded.genesis {
            Some(genesis) if !reset => (genesis, Vec::new()),
            life => {
                let lineage = begun.unwrap_or_else(|| new_lineage(&shared.settings.name, shared.clock.now()));
                await_genesis(&opening, (&lineage, life), members.as_mut(), &mut |genesis| journal.begin(genesis))?
            }
        };
        let mut began = began;
        opening.found(Some(&began.0)).check()?;
        if began.0.graph != opening.digest {
            change_script(&opening, &mut began, members.as_mut(), &mut |genesis| journal.begin(genesis))?;
        }
        self.name_life(Some(began.0.lineage.clone()));
        self.add_feeds(&graph, sinks, true)?;
        let takes = journal.takes().to_vec();
        let fed = graph.sinks().enumerate().filter(|(_, (id, _))| !takes.contains(id)).map(|(index, _)| index).collect();
        self.add_committer(Some(journal));
        let workers: Vec<Arc<Orders>> = (0..self.count_workers(opening.layout.tasks())).map(|_| Arc::default()).collect();
        for (i, orders) in workers.iter().enumerate() {
            let worker = Worker::shared(orders.clone(), shared.clone(), self.control.stop.clone());
            self.add(format!("worker-{i}"), Stage::Read, worker);
        }
        let flags = (self.control.stop.clone(), self.control.alone.clone());
        self.add("members".into(), Stage::Leave, Assignment::new(members, opening, began, workers, fed, flags));
        Ok(())
    }

    /// The pipeline's life has this name, or a new one.
    fn name_life(&self, known: Option<String>) {
        let shared = &self.control.shared;
        if let Some(commits) = &shared.commits {
            commits.life.get_or_init(|| known.unwrap_or_else(|| new_lineage(&shared.settings.name, shared.clock.now())));
        }
    }

    fn add(&mut self, name: String, stage: Stage, work: impl Work + 'static) {
        self.parts.push(Part { name, stage, work: Box::new(work) });
    }

    fn add_feeds(&mut self, graph: &Graph, mut sinks: BTreeMap<NodeId, Box<dyn Sink>>, shares: bool) -> Result<()> {
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
                terms: shared.terms.clone(),
                commits: shared.commits.clone(),
                shares,
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

    /// As many as cores, and at most as many as tasks.
    fn count_workers(&self, tasks: usize) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.control.shared.settings.workers.unwrap_or(cores).clamp(1, tasks.max(1))
    }

    fn add_workers(&mut self, tasks: Vec<Task>) {
        let (shared, stop) = (self.control.shared.clone(), self.control.stop.clone());
        let count = self.count_workers(tasks.len());
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

/// What the parts share.
fn share(
    graph: &Graph,
    sources: &[OpenSource],
    places: &[Vec<Place>],
    journal: Option<&dyn Journal>,
    settings: Settings,
    clock: Arc<dyn Clock>,
) -> Arc<Shared> {
    let tasks = places.len();
    let node_of = |&(source, partition): &Place| (sources[source].0, partition);
    let mut partitions: Vec<(NodeId, u32)> = places.iter().flatten().map(node_of).collect();
    partitions.sort_unstable();
    let stats = Arc::new(PipelineStats::new(graph, &partitions, tasks, settings.queue_bytes, clock.now()));
    let keeps = settings.checkpoints.is_some() && !settings.bounded;
    if keeps {
        stats.checkpoints.are_kept(settings.checkpoint_interval);
    }
    let commits = journal.map(|journal| {
        Arc::new(Commits {
            queue: Queue::new(settings.queue_bytes, stats.journal.queue_bytes.clone()),
            life: OnceLock::new(),
            takes: graph.sinks().map(|(id, _)| journal.takes().contains(&id)).collect(),
            unneeded: (0..tasks).map(|_| AtomicU64::default()).collect(),
        })
    });
    Arc::new(Shared {
        queues: stats.sinks.iter().map(|sink| Arc::new(SinkQueue::new(sink.clone(), keeps))).collect(),
        positions: Arc::new(Positions::new(tasks, graph.sinks().count())),
        stats,
        clock,
        checkpoints: (0..tasks).map(|_| Mutex::default()).collect(),
        terms: Arc::new(Terms::new(tasks)),
        asked: Asked::new(tasks),
        commits,
        settings,
    })
}

/// Joins the instances that share the tasks, where the journal can be shared.
fn join(
    journal: Option<&mut Box<dyn Journal>>,
    places: &[Vec<Place>],
    settings: &Settings,
) -> Result<Option<Box<dyn Membership>>> {
    let members = journal.map(|journal| journal.join(places)).transpose()?.flatten();
    match (&settings.instance, members) {
        (Some(name), None) => {
            let what = format!("instance '{name}': this pipeline cannot be shared by instances");
            Err(Error::invalid(what).hint(
                "they share the partitions of a source on Kafka, and a journal there: some sink must be on Kafka too, and the run not be bounded",
            ))
        }
        (_, members) => Ok(members),
    }
}

/// Repartition topics hold rows between two tasks: each record must be committed with the epoch that gave it, and what lies in
/// them belongs to the checkpoints of the life that goes on.
fn check_exchanges(graph: &Graph, journal: Option<&dyn Journal>, reset: bool) -> Result<()> {
    let taken = |sink: &NodeId| journal.is_some_and(|journal| journal.takes().contains(sink));
    if graph.exchanges().iter().any(|exchange| !taken(&exchange.sink)) {
        return Err(Error::invalid("a pipeline with repartition topics needs a journal on the same bus"));
    }
    if reset && !graph.exchanges().is_empty() {
        let what = "the checkpoints do not go with what lies in repartition topics: they were reset to an earlier time, or made \
                    before repartition.partitions was set";
        return Err(Error::invalid(what).hint("SET another pipeline.name, and starting_offsets to read the past again"));
    }
    Ok(())
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
    let operator = |node: &Node| Operator { name: node.name.clone(), identity: node.identity.clone() };
    let nodes = graph.nodes.iter().map(operator).collect();
    Some(Checkpoints::new(storage, settings.checkpoint_keep, origin, nodes).reading_through(settings.disk.clone()))
}

/// The life of the pipeline that goes on, and whether it has to begin: the journal's, or the one that a reset of the
/// checkpoints says. `None`: the first one begins.
fn life(checkpoints: Option<&Checkpoints>, recorded: &mut Recorded) -> Result<(Option<String>, bool)> {
    let recorded_life = recorded.genesis.as_ref().map(|g| g.lineage.clone());
    let reset = checkpoints.map(|c| c.reset_since(recorded_life.as_deref())).transpose()?.flatten();
    let Some(lineage) = reset else { return Ok((recorded_life, false)) };
    if let Some(genesis) = &mut recorded.genesis {
        tracing::info!(
            event = "reset",
            "the checkpoints were reset: {lineage} begins, the records of {} are dropped",
            genesis.lineage
        );
        genesis.lineage.clone_from(&lineage);
        recorded.records.clear();
        return Ok((Some(lineage), true));
    }
    Ok((Some(lineage), false))
}
