//! Tables and the sinks that write to them, of every kind that the design knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use riverrun_engine::batch::Batch;
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::time::{Clock, Micros};
use riverrun_engine::{Error, Result};

use crate::plan::Kind;
use crate::world::{Fate, Life, State, World};

/// What has become visible at once.
#[derive(Debug, Clone)]
pub struct Landed {
    /// At which step.
    pub step: u64,
    /// By whom.
    pub life: Life,
    /// The task.
    pub task: u32,
    /// The last epoch of it.
    pub epoch: u64,
    /// Its clock.
    pub clock: Micros,
    /// Its rows.
    pub batches: Vec<Batch>,
}

/// A table: what outlives the pipelines that write to it.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// How it keeps what it is given.
    pub kind: Kind,
    /// Whether its feed keeps the newest rows by key only.
    pub coalesced: bool,
    /// All that landed, in order.
    pub landed: Vec<Landed>,
    /// By task: the position that it keeps.
    pub positions: BTreeMap<u32, u64>,
    /// The life of the pipeline that the positions are of.
    lineage: Option<String>,
    /// By task: the last epoch that landed, whether it is kept as a position or not.
    to: BTreeMap<u32, u64>,
}

impl Table {
    /// An empty table.
    pub fn new(name: String, kind: Kind, coalesced: bool) -> Self {
        let (landed, positions, to) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { name, kind, coalesced, landed, positions, lineage: None, to }
    }

    /// The last epoch of a task that landed.
    pub fn landed_to(&self, task: u32) -> u64 {
        self.to.get(&task).copied().unwrap_or(0)
    }
}

impl State {
    /// Rows become visible in a table.
    pub fn land(&mut self, sink: usize, life: Life, output: &EpochOutput) {
        let EpochOutput { task, epoch, clock, ref batches } = *output;
        let step = self.step;
        if let Some(exchange) = self.exchange_of(sink) {
            self.sent(exchange, output);
        }
        let table = &mut self.tables[sink];
        let before = table.landed_to(task);
        table.to.insert(task, epoch.max(before));
        table.landed.push(Landed { step, life, task, epoch, clock, batches: batches.clone() });
        let (name, rows) = (table.name.clone(), output.rows());
        self.note(|| format!("life {life}: {name} has epoch {epoch} of task {task}: {rows} rows"));
        if matches!(self.tables[sink].kind, Kind::Taken | Kind::Positioned | Kind::Files) && epoch <= before {
            self.violate(|| format!("{name} has epoch {epoch} of task {task} behind epoch {before}"));
        }
    }
}

/// A sink of one life.
pub struct SimSink {
    /// Where it is.
    pub world: Arc<World>,
    /// Whose it is.
    pub life: Life,
    /// Which of the tables.
    pub sink: usize,
    /// Taken and not landed.
    pub open: Vec<EpochOutput>,
    /// By task: the last epoch that it was given.
    pub given: BTreeMap<u32, u64>,
    /// By task: the table's position as this life left it.
    pub known: BTreeMap<u32, u64>,
    /// Where instances share the tasks: those that it has.
    taken: Option<BTreeSet<u32>>,
    /// Tasks whose position another has moved.
    moved: Vec<u32>,
}

impl SimSink {
    /// A sink on a table of the world.
    pub fn new(world: Arc<World>, life: Life, sink: usize) -> Self {
        let taken = (world.state().plan.instances > 1).then(BTreeSet::new);
        Self { world, life, sink, open: Vec::new(), given: BTreeMap::new(), known: BTreeMap::new(), taken, moved: Vec::new() }
    }

    /// Lands all that is open, as the table's kind does.
    fn land(&mut self, state: &mut State) -> Result<()> {
        match state.tables[self.sink].kind {
            Kind::Positioned | Kind::Files if self.taken.is_some() => {
                self.land_by_task(state);
                Ok(())
            }
            Kind::Positioned => self.land_together(state),
            Kind::Files => {
                self.land_files(state);
                Ok(())
            }
            Kind::Versioned | Kind::Shown | Kind::Taken => {
                self.open.drain(..).for_each(|output| state.land(self.sink, self.life, &output));
                Ok(())
            }
        }
    }

    /// One commit, onto the positions that it knows.
    fn land_together(&mut self, state: &mut State) -> Result<()> {
        if state.tables[self.sink].positions != self.known {
            return Err(Error::permanent(format!("{CONFLICT} ({})", state.tables[self.sink].name)));
        }
        for output in self.open.drain(..) {
            state.tables[self.sink].positions.insert(output.task, output.epoch);
            state.land(self.sink, self.life, &output);
        }
        self.known.clone_from(&state.tables[self.sink].positions);
        Ok(())
    }

    /// Where instances share the tasks: those of a task land if nobody else has moved its position.
    fn land_by_task(&mut self, state: &mut State) {
        for output in std::mem::take(&mut self.open) {
            let task = output.task;
            if self.taken.as_ref().is_some_and(|taken| !taken.contains(&task)) {
                continue;
            }
            if state.tables[self.sink].positions.get(&task) != self.known.get(&task) {
                let (life, name) = (self.life, state.tables[self.sink].name.clone());
                state.note(|| format!("life {life}: another has moved the position of task {task} in {name}"));
                self.forget(task);
                self.moved.push(task);
                continue;
            }
            state.tables[self.sink].positions.insert(task, output.epoch);
            self.known.insert(task, output.epoch);
            state.land(self.sink, self.life, &output);
        }
    }

    /// Nothing more of a task lands.
    fn forget(&mut self, task: u32) {
        self.open.retain(|output| output.task != task);
        self.known.remove(&task);
        self.given.remove(&task);
        self.taken.iter_mut().for_each(|taken| taken.retain(|taken| *taken != task));
    }

    /// A file per epoch, if there is none of its name; what another life has written is adopted.
    fn land_files(&mut self, state: &mut State) {
        for output in self.open.drain(..) {
            let held = state.tables[self.sink].positions.get(&output.task).copied().unwrap_or(0);
            if output.epoch > held {
                state.tables[self.sink].positions.insert(output.task, output.epoch);
                state.land(self.sink, self.life, &output);
            }
        }
    }
}

const CONFLICT: &str = "another run of this pipeline writes to it";

/// Whether an error says that another life has written to the table.
pub fn is_conflict(error: &Error) -> bool {
    error.message().contains(CONFLICT)
}

impl Sink for SimSink {
    fn recover(&mut self, lineage: &str, tasks: u32) -> Result<Option<Vec<u64>>> {
        let mut state = self.world.state();
        state.ask(self.life, "positions of a sink")?;
        let table = &mut state.tables[self.sink];
        let known = table.lineage.get_or_insert_with(|| lineage.to_owned());
        if known != lineage {
            let message = format!("{} is of lineage {known}, and asked for {lineage}", table.name);
            state.violate(|| message);
            return Ok(None);
        }
        if !matches!(table.kind, Kind::Positioned | Kind::Files) {
            return Ok(None);
        }
        self.known.clone_from(&table.positions);
        self.given.clone_from(&table.positions);
        Ok(Some((0..tasks).map(|task| table.positions.get(&task).copied().unwrap_or(0)).collect()))
    }

    fn take(&mut self, lineage: &str, tasks: &[u32]) -> Result<Option<Vec<u64>>> {
        tasks.iter().for_each(|task| self.forget(*task));
        let mut state = self.world.state();
        state.ask(self.life, "positions of a sink")?;
        let table = &mut state.tables[self.sink];
        table.lineage.get_or_insert_with(|| lineage.to_owned());
        self.taken.iter_mut().for_each(|taken| taken.extend(tasks));
        if !matches!(table.kind, Kind::Positioned | Kind::Files) {
            return Ok(None);
        }
        let held = tasks.iter().filter_map(|task| Some((*task, *table.positions.get(task)?)));
        let held: BTreeMap<u32, u64> = held.collect();
        self.known.extend(&held);
        self.given.extend(&held);
        Ok(Some(tasks.iter().map(|task| held.get(task).copied().unwrap_or(0)).collect()))
    }

    fn release(&mut self, task: u32) {
        self.forget(task);
    }

    fn take_moved(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.moved)
    }

    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        let world = self.world.clone();
        let mut state = world.state();
        let fate = state.enter_sink(self.life, self.sink, "write", world.clock.now())?;
        let EpochOutput { task, epoch, .. } = *output;
        if fate == Fate::Refused {
            return state.leave(self.life, "write", fate);
        }
        let taken = self.open.iter().any(|open| (open.task, open.epoch) == (task, epoch));
        if !taken {
            state.check_given(self.sink, task, epoch);
            if self.given.get(&task).is_some_and(|last| *last >= epoch) {
                let name = state.tables[self.sink].name.clone();
                state.violate(|| format!("{name} is given epoch {epoch} of task {task} again"));
            }
            self.open.push(output.clone());
        }
        if fate == Fate::Works {
            self.given.insert(task, epoch);
            if state.tables[self.sink].kind == Kind::Shown {
                self.land(&mut state)?;
            }
        }
        state.leave(self.life, "write", fate)
    }

    fn flush(&mut self, now: Micros, force: bool) -> Result<Flushed> {
        let world = self.world.clone();
        let mut state = world.state();
        if self.open.iter().all(|output| output.rows() == 0) {
            // Positions alone make no commit: they go with the next rows.
            return Ok(Flushed::All);
        }
        if !force && !state.calm && state.random.chance(300) {
            return Ok(Flushed::Pending);
        }
        let fate = state.enter_sink(self.life, self.sink, "flush", now)?;
        if fate == Fate::Dies && state.tables[self.sink].kind == Kind::Versioned {
            // Rows land one by one: some are left behind.
            let landed = state.random.place(self.open.len() + 1);
            self.open.truncate(landed);
        }
        if fate != Fate::Refused {
            self.land(&mut state)?;
        }
        state.leave(self.life, "flush", fate)?;
        Ok(Flushed::All)
    }

    fn close(&mut self) -> Result<()> {
        if self.open.iter().any(|output| output.rows() > 0) {
            let mut state = self.world.state();
            let name = state.tables[self.sink].name.clone();
            state.violate(|| format!("{name} is closed with rows that are not safe"));
        }
        Ok(())
    }
}
