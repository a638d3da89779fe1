//! One life of the pipeline: the engine's own parts, assembled on the world, and how their steps are taken.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use riverrun_engine::Result;
use riverrun_engine::graph::NodeId;
use riverrun_engine::journal::{Journal, LocalJournal};
use riverrun_engine::runtime::{Assembly, Bindings, Control, Next, Part, Settings, Stage};
use riverrun_engine::source::Source;
use riverrun_engine::state::Disk;
use riverrun_engine::time::{Clock, Micros};

use crate::checkpoints::SimStorage;
use crate::exchange::ExchangeSource;
use crate::journal::{BusJournal, FileJournal};
use crate::member::GroupJournal;
use crate::plan::{Kind, Where};
use crate::script::GRAPHS;
use crate::sink::SimSink;
use crate::source::SimSource;
use crate::world::{Life, World};

/// A part, and when it wants its next step.
pub struct Slot {
    /// The part.
    pub part: Part,
    /// When it wants its next step.
    pub ready: Micros,
    /// It has ended, or failed.
    pub ended: bool,
    /// Steps that it took.
    pub steps: u64,
}

/// A pipeline that runs.
pub struct Running {
    /// Which life it is.
    pub life: Life,
    /// Its parts.
    pub slots: Vec<Slot>,
    /// What they are told.
    pub control: Control,
    /// It was stopped in order before all was done.
    pub stopped_early: bool,
    /// How many stages have ended.
    stage: usize,
}

impl Running {
    /// Starts a life on the world; a journal in files, and state on disk, are kept in `directory`.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn start(world: &Arc<World>, life: Life, directory: &Path) -> Result<Self> {
        let (graph, settings, at, shared) = {
            let state = world.state();
            (&GRAPHS[state.plan.graph], state.plan.settings(), state.plan.journal, state.plan.instances > 1)
        };
        let sinks: Vec<NodeId> = graph.sinks().map(|(id, _)| id).collect();
        let journal: Box<dyn Journal> = match at {
            Where::Bus if shared => Box::new(GroupJournal::new(world.clone(), life, &sinks)),
            Where::Bus => Box::new(BusJournal::new(world.clone(), life, &sinks)),
            Where::Local => {
                let files = LocalJournal::open(&directory.join("journal"))?;
                Box::new(FileJournal { world: world.clone(), life, files })
            }
        };
        let storage = SimStorage { world: world.clone(), life };
        // Every other life keeps its state on disk, and goes on from the checkpoints of one that kept it in memory.
        let disk = (life % 2 == 1).then(|| Disk::open(directory.join(format!("state-{life}")), 1 << 20)).transpose()?;
        let settings = Settings { checkpoints: Some(Arc::new(storage)), disk, ..settings };
        Self::assemble(world, life, journal, settings)
    }

    /// Starts a life with this journal.
    pub fn assemble(world: &Arc<World>, life: Life, journal: Box<dyn Journal>, settings: Settings) -> Result<Self> {
        let (graph, kinds) = {
            let state = world.state();
            (&GRAPHS[state.plan.graph], state.plan.kinds.clone())
        };
        let mut bindings = Bindings { journal: Some(journal), ..Bindings::default() };
        for (id, source) in graph.sources() {
            let source: Arc<dyn Source> = match ExchangeSource::of(world, life, id, &source.schema) {
                Some(exchange) => Arc::new(exchange),
                None => Arc::new(SimSource { world: world.clone(), life, schema: source.schema.clone() }),
            };
            bindings.sources.insert(id, source);
        }
        for (sink, (id, _)) in graph.sinks().enumerate().filter(|(sink, _)| kinds[*sink] != Kind::Taken) {
            bindings.sinks.insert(id, Box::new(SimSink::new(world.clone(), life, sink)));
        }
        let Assembly { parts, control } = Assembly::new(graph, bindings, settings, world.clock.clone())?;
        let ready = world.clock.now();
        let slots = parts.into_iter().map(|part| Slot { part, ready, ended: false, steps: 0 }).collect();
        Ok(Self { life, slots, control, stopped_early: false, stage: 0 })
    }

    /// Takes a step of one part.
    ///
    /// # Errors
    /// The part failed.
    pub fn step(&mut self, slot: usize) -> Result<Next> {
        let slot = &mut self.slots[slot];
        slot.steps += 1;
        let next = slot.part.work.step();
        slot.ended = !matches!(next, Ok(Next::Now | Next::After(_) | Next::Queue(_)));
        self.end_stages();
        next
    }

    /// Tells the parts which stages have ended.
    fn end_stages(&mut self) {
        while let Some(stage) = Stage::ALL.get(self.stage) {
            if self.slots.iter().any(|slot| slot.part.stage == *stage && !slot.ended) {
                return;
            }
            self.control.ended(*stage);
            self.stage += 1;
        }
    }

    /// Whether all parts have ended.
    pub fn ended(&self) -> bool {
        self.stage == Stage::ALL.len()
    }

    /// The parts that have not ended, and how many steps they took.
    pub fn unended(&self) -> String {
        let left = self.slots.iter().filter(|slot| !slot.ended).map(|slot| format!("{} ({} steps)", slot.part.name, slot.steps));
        left.collect::<Vec<_>>().join(", ")
    }

    /// Bytes that wait in its queues.
    pub fn queued_bytes(&self) -> u64 {
        let stats = self.control.stats();
        stats.journal.queue_bytes.load(Relaxed) + stats.sinks.iter().map(|sink| sink.queue_bytes.load(Relaxed)).sum::<u64>()
    }
}

/// The least time until a part wants its next step.
pub fn least_wait(next: Next) -> (Duration, Duration) {
    match next {
        Next::Now | Next::Ended => (Duration::ZERO, Duration::ZERO),
        Next::After(time) => (time, time * 50),
        Next::Queue(time) => (Duration::ZERO, time * 10),
    }
}
