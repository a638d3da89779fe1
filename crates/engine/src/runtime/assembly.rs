//! Makes the parts of a pipeline, and what ends them in order. Nothing runs yet: [`Pipeline`](super::Pipeline) gives every part
//! a thread, a simulator steps them itself.

mod begin;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

use self::begin::{check_exchanges, checkpoints_of, join, journal_of, life, share};
use super::assignment::{Assignment, await_genesis};
use super::bindings::Bindings;
use super::changed::change_script;
use super::committer::Committer;
use super::control::Control;
use super::feed::{self, Feed};
use super::keeper::Keeper;
use super::layout::Layout;
use super::open::{OpenSource, Opening, parts_of};
use super::part::{Part, Stage, Work};
use super::settings::Settings;
use super::task::Task;
use super::worker::{Orders, Worker};
use crate::checkpoint::Origin;
use crate::graph::{Graph, NodeId, digest};
use crate::journal::{Journal, Recorded, new_lineage};
use crate::membership::Membership;
use crate::sink::Sink;
use crate::time::{Clock, MIN_TIME};
use crate::{Error, Result};

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
