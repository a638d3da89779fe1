//! What a seed decides before anything runs: the pipeline, its tables, how much goes wrong and how fast everyone is.

use std::time::Duration;

use riverrun_engine::graph::{Graph, NodeId, Parallelism, SinkNode};
use riverrun_engine::runtime::Settings;
use riverrun_engine::table::Emit;
use riverrun_engine::time::Micros;

use crate::random::Random;
use crate::script::GRAPHS;

/// When every world begins.
pub const BEGIN: Micros = 1_700_000_000_000_000;

/// A second.
pub const SECOND: Micros = 1_000_000;

/// How a table keeps what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its rows are committed with the journal.
    Taken,
    /// Keeps rows and positions in one commit, which goes onto the positions that it knew (Delta, the embedded table).
    Positioned,
    /// Files named by task and first epoch, put if absent; one that is there is adopted.
    Files,
    /// Keeps the newest version of each row by its clock, no position; written again it is the same (Cassandra).
    Versioned,
    /// Keeps no position and shows at once what it is given (a console).
    Shown,
}

/// Where the journal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// On the bus.
    Bus,
    /// In files.
    Local,
}

/// A time in which a sink is down.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// Its first moment.
    pub from: Micros,
    /// The first moment behind it.
    pub to: Micros,
    /// Whether calls do not return before it is over; else they fail.
    pub hangs: bool,
}

/// How a seed goes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which of [`GRAPHS`].
    pub graph: usize,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Partitions of each repartition topic.
    pub exchange_partitions: u32,
    /// Tasks.
    pub tasks: u32,
    /// By the graph's sinks.
    pub kinds: Vec<Kind>,
    /// Where the journal is.
    pub journal: Where,
    /// How many instances share the tasks; 1: they are not shared.
    pub instances: usize,
    /// How likely a task moves from one to another.
    pub rebalance_per_mille: u32,
    /// How likely the answer to a commit of one of several instances is lost, more often than not before it is decided.
    pub doubt_per_mille: u32,
    /// How many lives end by a crash, at most.
    pub crashes: u32,
    /// How likely a call is the last of a life.
    pub crash_per_mille: u32,
    /// How likely a life ends between two steps.
    pub kill_per_mille: u32,
    /// How likely a life that is given up goes on for a while.
    pub zombie_per_mille: u32,
    /// How likely a life is stopped in order.
    pub stop_per_mille: u32,
    /// How likely a call fails.
    pub fault_per_mille: u32,
    /// How likely a part does nothing for long.
    pub pause_per_mille: u32,
    /// By the graph's sinks: when it cannot be reached, if ever.
    pub outages: Vec<Option<Outage>>,
    /// Records of all partitions.
    pub records: usize,
    /// For how long they come, in microseconds.
    pub lasts: Micros,
    /// Whether the topic ends; else the pipeline is stopped at the end.
    pub ends: bool,
    /// Rows of an epoch and of a chunk, at most.
    pub rows: (usize, usize),
    /// The bound of each queue.
    pub queue_bytes: usize,
    /// How often checkpoints are due.
    pub checkpoint_interval: Duration,
    /// Threads that run tasks.
    pub workers: usize,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(random: &mut Random) -> Self {
        let graph = random.place(GRAPHS.len());
        let partitions = random.within(1..4) as u32;
        let (exchange_partitions, exchanges) = (random.within(1..4) as u32, GRAPHS[graph].exchanges().len() as u32);
        let single = matches!(GRAPHS[graph].parallelism, Parallelism::Single(_));
        let tasks = if single { 1 } else { partitions + exchanges * exchange_partitions };
        let journal = if exchanges > 0 || random.chance(700) { Where::Bus } else { Where::Local };
        let instances = if journal == Where::Bus && random.chance(350) { random.within(2..4) as usize } else { 1 };
        let rough = random.chance(800);
        let chunk = random.within(1..12) as usize;
        let kinds = kinds(&GRAPHS[graph], journal, random);
        let lasts = random.within(1..40) * SECOND;
        let outages = kinds.iter().map(|kind| outage(*kind, lasts, random)).collect();
        Self {
            graph,
            partitions,
            exchange_partitions,
            tasks,
            kinds,
            outages,
            journal,
            instances,
            rebalance_per_mille: random.one_of(&[1, 4, 15]),
            doubt_per_mille: if instances > 1 { random.one_of(&[0, 50, 300]) } else { 0 },
            crashes: random.within(0..6) as u32,
            crash_per_mille: random.one_of(&[0, 5, 20, 60]),
            kill_per_mille: random.one_of(&[0, 2, 10]),
            zombie_per_mille: if journal == Where::Bus { random.one_of(&[0, 400, 800]) } else { 0 },
            stop_per_mille: random.one_of(&[0, 0, 2]),
            fault_per_mille: if rough { random.one_of(&[0, 20, 100, 300]) } else { 0 },
            pause_per_mille: random.one_of(&[0, 5, 40]),
            records: random.within(0..120) as usize,
            lasts,
            // Instances that share tasks run until they are stopped; whether a repartition topic has ended nobody can tell.
            ends: instances == 1 && random.chance(700) && exchanges == 0,
            rows: (chunk * random.within(1..5) as usize, chunk),
            queue_bytes: random.one_of(&[1, 5_000, 64 << 20]),
            checkpoint_interval: Duration::from_millis(random.one_of(&[0, 300, 1_500, 6_000])),
            workers: random.within(1..3) as usize,
        }
    }

    /// The first task of the stage that reads a repartition topic: each stage has one here.
    pub fn first_task_of(&self, exchange: usize) -> u32 {
        self.partitions + exchange as u32 * self.exchange_partitions
    }

    /// What a pipeline is started with.
    pub fn settings(&self) -> Settings {
        Settings {
            name: "simulated".into(),
            epoch_rows: self.rows.0,
            epoch_interval: Duration::from_millis(5),
            chunk_rows: self.rows.1,
            queue_bytes: self.queue_bytes,
            workers: Some(self.workers),
            checkpoint_interval: self.checkpoint_interval,
            // A stop waits for whatever comes back some time: faults pass.
            stop_deadline: Duration::from_secs(86_400),
            ..Settings::default()
        }
    }
}

/// Some sinks are down for long: from some time on, or from the beginning.
fn outage(kind: Kind, lasts: Micros, random: &mut Random) -> Option<Outage> {
    if kind == Kind::Taken || !random.chance(250) {
        return None;
    }
    let from = if random.chance(300) { BEGIN } else { BEGIN + random.within(0..lasts) };
    Some(Outage { from, to: from + random.within(1..60) * SECOND, hangs: random.chance(300) })
}

fn kinds(graph: &Graph, journal: Where, random: &mut Random) -> Vec<Kind> {
    let kind = |random: &mut Random, keyed: bool| match (random.place(4), keyed) {
        (0, _) if journal == Where::Bus => Kind::Taken,
        (1, true) => Kind::Versioned,
        (1, false) => Kind::Files,
        (2, _) => Kind::Shown,
        _ => Kind::Positioned,
    };
    let is_exchange = |id: NodeId| graph.exchanges().iter().any(|exchange| exchange.sink == id);
    let kind = |(id, sink): (NodeId, &SinkNode)| match kind(random, sink.emit == Emit::Update && !sink.key.is_empty()) {
        _ if is_exchange(id) => Kind::Taken,
        kind => kind,
    };
    graph.sinks().map(kind).collect()
}
