//! A running pipeline: its threads, how they are started, stopped and joined.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::committer::{Commits, Committer};
use super::feed::{self, Feed};
use super::keeper::Keeper;
use super::open::{OpenSource, Opening, cut_into_tasks, parts_of};
use super::positions::{Place, Positions};
use super::queue::{Queue, SinkQueue};
use super::settings::Settings;
use super::stats::{PipelineStats, ThreadRole, ThreadStats};
use super::task::{Shared, Task};
use super::worker::Worker;
use crate::checkpoint::{Checkpoints, Origin, digest};
use crate::connect::{Connectors, Context};
use crate::graph::{Graph, NodeId};
use crate::journal::{Journal, LocalJournal, Recorded, new_lineage};
use crate::progress::{Identity, Recent, Reporter};
use crate::sink::Sink;
use crate::source::Source;
use crate::time::Clock;
use crate::{Error, Result};

/// How often a waiting caller looks whether the workers are done.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How often the reporter looks whether something is due.
const REPORTER_INTERVAL: Duration = Duration::from_millis(50);

/// The sources and sinks that a graph's nodes stand for, connected.
#[derive(Default)]
pub struct Bindings {
    /// By node.
    pub sources: BTreeMap<NodeId, Arc<dyn Source>>,
    /// By node; but those that the journal takes.
    pub sinks: BTreeMap<NodeId, Box<dyn Sink>>,
    /// The journal, where it lives on the bus.
    pub journal: Option<Box<dyn Journal>>,
}

impl Bindings {
    /// Connects all of them; a program's `own` sinks stand for the tables of their names. `journaled`: whether the run keeps a
    /// journal.
    pub fn open(
        graph: &Graph,
        connectors: &dyn Connectors,
        context: &Context,
        own: &mut BTreeMap<String, Box<dyn Sink>>,
        journaled: bool,
    ) -> Result<Self> {
        let mut bindings = Self::default();
        if journaled {
            bindings.journal = connectors.journal(graph, context)?;
        }
        let taken: Vec<NodeId> = bindings.journal.iter().flat_map(|journal| journal.takes().to_vec()).collect();
        for (id, sink) in graph.sinks().filter(|(id, _)| !taken.contains(id)) {
            let opened = match own.remove(&sink.table.name) {
                Some(own) => own,
                None => connectors.sink(sink, context)?,
            };
            bindings.sinks.insert(id, opened);
        }
        for (id, source) in graph.sources() {
            let opened = connectors.source(source, context)?;
            bindings.sources.insert(id, opened);
        }
        Ok(bindings)
    }
}

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

/// A pipeline that runs.
pub struct Pipeline {
    stats: Arc<PipelineStats>,
    stop: Arc<AtomicBool>,
    failure: Arc<Mutex<Option<Error>>>,
    workers: Vec<JoinHandle<()>>,
    committing: Option<JoinHandle<()>>,
    feeds: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
    keeper: Arc<Keeper>,
    keeping: Option<JoinHandle<()>>,
    over: Arc<AtomicBool>,
    reporter: Arc<Mutex<Reporter>>,
    recent: Arc<Recent>,
    reporting: Option<JoinHandle<()>>,
    clock: Arc<dyn Clock>,
}

impl Pipeline {
    /// Makes tasks and threads, and starts them.
    pub fn start(graph: &Graph, bindings: Bindings, settings: Settings, clock: Arc<dyn Clock>) -> Result<Self> {
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
            stats: stats.clone(),
            clock: clock.clone(),
            checkpoints: (0..tasks).map(|_| Mutex::default()).collect(),
            commits,
            settings,
        });
        let mut sinks = bindings.sinks;
        let opening =
            Opening { graph, digest: &digest, sources: &sources, places, shared: &shared, checkpoints: checkpoints.as_ref() };
        let made = opening.tasks(journal.as_mut(), recorded, &mut sinks)?;
        let settings = &shared.settings;
        let location = settings.checkpoints.as_ref().map(ToString::to_string);
        let identity = Identity::new(&settings.name, location.as_deref(), clock.now());
        let told = (settings.progress_interval, settings.listeners.clone());
        let reporter = Reporter::new(identity, graph, stats.clone(), told, clock.now())?;
        let mut pipeline = Self {
            stats,
            stop: Arc::default(),
            failure: Arc::default(),
            workers: Vec::new(),
            committing: None,
            feeds: Vec::new(),
            shared: shared.clone(),
            keeper: Arc::new(Keeper {
                sources: sources.into_iter().map(|(_, node, s)| (node.table.name.clone(), s)).collect(),
                checkpoints,
                shared: shared.clone(),
            }),
            keeping: None,
            over: Arc::default(),
            recent: reporter.recent(),
            reporter: Arc::new(Mutex::new(reporter)),
            reporting: None,
            clock,
        };
        pipeline.start_feeds(graph, sinks, &shared)?;
        pipeline.start_committer(journal, &shared)?;
        pipeline.start_workers(made, &shared)?;
        let (keeper, over) = (pipeline.keeper.clone(), pipeline.over.clone());
        pipeline.keeping = Some(pipeline.spawn("keeper", ThreadRole::Keeper, move |thread| keeper.run(&over, thread))?);
        pipeline.start_reporting()?;
        Ok(pipeline)
    }

    /// A thread that reports progress. Nothing depends on it, so its end would not end the pipeline.
    fn start_reporting(&mut self) -> Result<()> {
        let (reporter, over, clock) = (self.reporter.clone(), self.over.clone(), self.clock.clone());
        reporter.lock().unwrap_or_else(PoisonError::into_inner).started();
        let body = move || {
            while !over.load(Relaxed) {
                reporter.lock().unwrap_or_else(PoisonError::into_inner).tick(clock.now());
                clock.sleep(REPORTER_INTERVAL);
            }
        };
        let thread = std::thread::Builder::new().name("reporter".into()).spawn(body);
        self.reporting = Some(thread.map_err(|e| Error::permanent(format!("no thread could be started: {e}")))?);
        Ok(())
    }

    fn start_feeds(&mut self, graph: &Graph, mut sinks: BTreeMap<NodeId, Box<dyn Sink>>, shared: &Arc<Shared>) -> Result<()> {
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
            let feed = Feed::new(index, id, plan, sink, shared)?;
            let thread = self.spawn(&format!("sink-{}", plan.table.name), ThreadRole::Feed, move |thread| feed.run(thread))?;
            self.feeds.push(thread);
        }
        Ok(())
    }

    fn start_committer(&mut self, journal: Option<Box<dyn Journal>>, shared: &Arc<Shared>) -> Result<()> {
        if let (Some(journal), Some(commits)) = (journal, &shared.commits) {
            let committer = Committer::new(journal, commits.clone(), shared.clone());
            self.committing = Some(self.spawn("journal", ThreadRole::Feed, move |thread| committer.run(thread))?);
        }
        Ok(())
    }

    fn start_workers(&mut self, tasks: Vec<Task>, shared: &Arc<Shared>) -> Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = shared.settings.workers.unwrap_or(cores).clamp(1, tasks.len().max(1));
        let mut shares: Vec<Vec<Task>> = (0..count).map(|_| Vec::new()).collect();
        for (i, task) in tasks.into_iter().enumerate() {
            shares[i % count].push(task);
        }
        for (i, share) in shares.into_iter().enumerate() {
            let worker = Worker::new(share, shared.clone(), self.stop.clone());
            let thread = self.spawn(&format!("worker-{i}"), ThreadRole::Worker, move |thread| worker.run(thread))?;
            self.workers.push(thread);
        }
        Ok(())
    }

    /// A thread whose first error stops the pipeline.
    fn spawn(
        &self,
        name: &str,
        role: ThreadRole,
        run: impl FnOnce(&ThreadStats) -> Result<()> + Send + 'static,
    ) -> Result<JoinHandle<()>> {
        let (stop, failure, name) = (self.stop.clone(), self.failure.clone(), name.to_owned());
        let (stats, thread) = (self.stats.clone(), self.stats.add_thread(&name, role, self.clock.now()));
        let shared = self.shared.clone();
        let thread_name = name.clone();
        let body = move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&thread)));
            thread.end(!matches!(outcome, Ok(Ok(()))));
            let error = match outcome {
                Ok(Ok(())) => return,
                Ok(Err(e)) => e,
                Err(_) => {
                    Error::permanent(format!("{name} panicked; this is a fault of riverrun, please report the message above"))
                }
            };
            stats.failed(&error);
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            stop.store(true, Relaxed);
            shared.close_queues();
        };
        std::thread::Builder::new()
            .name(thread_name)
            .spawn(body)
            .map_err(|e| Error::permanent(format!("no thread could be started: {e}")))
    }

    /// The counts.
    pub fn stats(&self) -> Arc<PipelineStats> {
        self.stats.clone()
    }

    /// The newest reports of progress, and what it does right now.
    pub fn progress(&self) -> Arc<Recent> {
        self.recent.clone()
    }

    /// What stops it.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(self.stop.clone(), self.stats.clone())
    }

    /// Waits until it ends: a bounded input is done, it was asked to stop, or it failed.
    ///
    /// # Errors
    /// The first error that stopped it.
    pub fn wait(mut self) -> Result<()> {
        while self.workers.iter().any(|w| !w.is_finished()) {
            self.clock.sleep(LOOK_INTERVAL);
        }
        self.workers.drain(..).for_each(|w| drop(w.join()));
        self.shared.commits.iter().for_each(|commits| commits.queue.close());
        while self.committing.as_ref().is_some_and(|c| !c.is_finished()) {
            self.clock.sleep(Duration::from_millis(5));
        }
        self.committing.take().into_iter().for_each(|c| drop(c.join()));
        self.shared.close_queues();
        while self.feeds.iter().any(|f| !f.is_finished()) {
            self.clock.sleep(Duration::from_millis(5));
        }
        self.feeds.drain(..).for_each(|f| drop(f.join()));
        self.over.store(true, Relaxed);
        self.keeping.take().into_iter().for_each(|k| drop(k.join()));
        let kept = self.keeper.keep();
        let outcome = match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => kept,
        };
        self.reporting.take().into_iter().for_each(|r| drop(r.join()));
        let mut reporter = self.reporter.lock().unwrap_or_else(PoisonError::into_inner);
        reporter.finish(self.clock.now(), outcome.as_ref().err().cloned());
        outcome
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
