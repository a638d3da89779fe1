//! What a pipeline begins with: its journal, where its state is kept, which of its lives goes on, and what its parts share.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};

use crate::checkpoint::{Checkpoints, Operator, Origin};
use crate::graph::{Graph, Node, NodeId};
use crate::journal::{Journal, LocalJournal, Recorded};
use crate::membership::Membership;
use crate::runtime::asked::Asked;
use crate::runtime::committer::Commits;
use crate::runtime::open::OpenSource;
use crate::runtime::positions::{Place, Positions};
use crate::runtime::queue::{Queue, SinkQueue};
use crate::runtime::settings::Settings;
use crate::runtime::stats::PipelineStats;
use crate::runtime::task::Shared;
use crate::runtime::terms::Terms;
use crate::time::Clock;
use crate::{Error, Result};

/// What the parts share.
pub fn share(
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
pub fn join(
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
pub fn check_exchanges(graph: &Graph, journal: Option<&dyn Journal>, reset: bool) -> Result<()> {
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
pub fn journal_of(on_bus: Option<Box<dyn Journal>>, settings: &Settings) -> Result<Option<Box<dyn Journal>>> {
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
pub fn checkpoints_of(graph: &Graph, origin: Origin, settings: &Settings) -> Option<Checkpoints> {
    let storage = settings.checkpoints.clone().filter(|_| !settings.bounded)?;
    let operator = |node: &Node| Operator { name: node.name.clone(), identity: node.identity.clone() };
    let nodes = graph.nodes.iter().map(operator).collect();
    Some(Checkpoints::new(storage, settings.checkpoint_keep, origin, nodes).reading_through(settings.disk.clone()))
}

/// The life of the pipeline that goes on, and whether it has to begin: the journal's, or the one that a reset of the
/// checkpoints says. `None`: the first one begins.
pub fn life(checkpoints: Option<&Checkpoints>, recorded: &mut Recorded) -> Result<(Option<String>, bool)> {
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
