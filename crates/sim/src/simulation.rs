//! A seed, run: lives of the pipeline are started, stepped in the order that the seed gives, and ended by crashes, by newer
//! lives, or in order, until all records are done with.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use riverrun_engine::planted::{self, Fault};
use riverrun_engine::time::{Clock, Micros};

use crate::check;
use crate::checkpoints;
use crate::journal::is_fenced;
use crate::life::{Running, least_wait};
use crate::plan::{BEGIN, Plan, SECOND};
use crate::random::Random;
use crate::script::GRAPHS;
use crate::sharing::Sharing;
use crate::sink::{Table, is_conflict};
use crate::source::Topic;
use crate::world::{World, is_crash};

/// A run that takes more steps than this does not come to its end.
const MOST_STEPS: u64 = 120_000;

/// What became of a seed.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Steps that were taken.
    pub steps: u64,
    /// Lives of the pipeline.
    pub lives: u64,
    /// Epochs that were committed.
    pub epochs: u64,
    /// What must not have been, if anything.
    pub breach: Option<String>,
    /// What happened, if it was to be told.
    pub trace: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, steps, lives, epochs, .. } = self;
        write!(f, "seed {seed}: {steps} steps, {lives} lives, {epochs} epochs: ")?;
        match &self.breach {
            None => write!(f, "clean"),
            Some(breach) => write!(f, "{breach}"),
        }
    }
}

/// Runs a seed, with a fault planted in the engine or without.
pub fn run(seed: u64, fault: Option<Fault>, traced: bool) -> Outcome {
    let directory = checkpoints::directory();
    let mut random = Random::of(seed);
    let plan = Plan::of(&mut random);
    let topic = Topic::of(&plan, &mut random);
    let sinks = GRAPHS[plan.graph].sinks();
    let table = |((_, sink), kind): ((_, &riverrun_engine::graph::SinkNode), &_)| {
        Table::new(sink.table.name.clone(), *kind, check::coalesces(sink))
    };
    let tables = sinks.zip(&plan.kinds).map(table).collect();
    let world = World::new(plan, topic, tables, Random::of(random.seed()), traced);
    {
        let mut state = world.state();
        let plan = state.plan.clone();
        state.note(|| format!("{plan:?}"));
    }
    planted::plant(fault);
    let (directory, instances) = (directory.path(), world.state().plan.instances);
    if instances > 1 {
        Sharing { world: world.clone(), random, directory, running: Vec::new() }.run();
    } else {
        let (world, zombies) = (world.clone(), Vec::new());
        Simulation { world, random, directory, now: None, zombies, ends: 0, torn: 0 }.run();
    }
    planted::plant(None);
    world.state().check_orphans();
    if world.state().breach.is_none() {
        check::at_the_end(&world);
    }
    let mut state = world.state();
    let epochs = state.history.records.iter().map(|records| records.len() as u64).sum();
    let trace = state.trace.take().unwrap_or_default();
    Outcome { seed, steps: state.step, lives: state.life, epochs, breach: state.breach.take(), trace }
}

/// Begins the next step; `false`: something must not be.
pub fn begin_step(world: &World) -> bool {
    let mut state = world.state();
    if state.step > MOST_STEPS {
        let lacking = state.lacking();
        state.violate(|| format!("it does not come to its end: {lacking}"));
    }
    if state.breach.is_some() {
        return false;
    }
    state.step += 1;
    // The last faults pass some time after the last record came.
    let quiet = BEGIN + state.plan.lasts + 5 * SECOND;
    if !state.calm && world.clock.now() >= quiet {
        state.note(|| "nothing goes wrong any more".to_owned());
        state.calm = true;
    }
    true
}

struct Simulation<'a> {
    world: Arc<World>,
    /// Which step is next, and how lives end: apart from the choices of calls.
    random: Random,
    directory: &'a Path,
    /// The newest life.
    now: Option<Running>,
    /// Lives that were given up and are still about.
    zombies: Vec<Running>,
    /// How often the pipeline came to its end in order.
    ends: u32,
    /// The length of a journal in files behind its last torn end.
    torn: u64,
}

impl Simulation<'_> {
    fn run(&mut self) {
        while begin_step(&self.world) {
            if self.is_over() {
                return;
            }
            match &self.now {
                None => self.start(),
                Some(_) => self.step(),
            }
        }
    }

    /// Whether the last life has come to its end in order, with all done.
    fn is_over(&mut self) -> bool {
        let calm = self.world.state().calm;
        if self.now.is_none() && self.ends > 0 {
            // One more start finds nothing to do, now and then.
            self.ends -= 1;
            return !self.random.chance(150);
        }
        if calm && self.random.chance(100) {
            self.zombies.clear();
        }
        false
    }

    fn start(&mut self) {
        let pause = Duration::from_micros(self.random.within(0..2 * SECOND) as u64);
        self.world.clock.advance(pause);
        // A process that lives goes on with what it wrote, and could not know of damage to it.
        if self.zombies.is_empty() {
            self.world.state().damage(&mut self.random);
        }
        checkpoints::tear_journal(&self.world, self.directory, &mut self.random, &mut self.torn);
        let life = {
            let mut state = self.world.state();
            state.life += 1;
            state.life
        };
        self.world.state().note(|| format!("life {life} begins"));
        match Running::start(&self.world, life, self.directory) {
            Ok(running) => self.now = Some(running),
            Err(error) if error.is_transient() || is_crash(&error) => {
                self.world.state().note(|| format!("life {life} cannot begin: {error}"));
            }
            Err(error) => self.world.state().violate(|| format!("life {life} cannot begin: {error}")),
        }
    }

    /// Takes a step of some part that is ready, or lets time pass until one is.
    fn step(&mut self) {
        if self.is_ended_from_outside() {
            return;
        }
        let now = self.world.clock.now();
        let lives = self.now.iter().chain(&self.zombies);
        let slots =
            lives.enumerate().flat_map(|(life, running)| running.slots.iter().enumerate().map(move |(slot, s)| (life, slot, s)));
        let (mut ready, mut next) = (Vec::new(), Micros::MAX);
        for (life, slot, s) in slots.filter(|(_, _, s)| !s.ended) {
            if s.ready <= now {
                ready.push((life, slot));
            }
            next = next.min(s.ready);
        }
        if ready.is_empty() {
            self.world.clock.advance(Duration::from_micros(next.saturating_sub(now).max(0) as u64));
            return;
        }
        let (life, slot) = self.random.one_of(&ready);
        self.step_of(life, slot);
    }

    /// A step of part `slot` of the newest life (0) or of a zombie.
    fn step_of(&mut self, life: usize, slot: usize) {
        let running = match life {
            0 => self.now.as_mut(),
            zombie => self.zombies.get_mut(zombie - 1),
        };
        let Some(running) = running else { return };
        self.world.clock.advance(Duration::from_micros(self.random.within(0..300) as u64));
        let next = running.step(slot);
        let (number, ended) = (running.life, running.ended());
        let part = &mut running.slots[slot];
        let name = part.part.name.clone();
        match next {
            Ok(next) => {
                let (least, most) = least_wait(next);
                let mut wait = self.random.within(least.as_micros() as Micros..most.as_micros() as Micros + 1);
                if self.random.chance(self.world.state().plan.pause_per_mille) {
                    wait += self.random.within(0..4 * SECOND);
                }
                part.ready = self.world.clock.now() + wait;
                if let Some(until) = self.world.state().hangs_until(&name, part.ready) {
                    part.ready = until;
                }
            }
            Err(error) if is_crash(&error) => return self.drop_life(life),
            Err(error) if is_conflict(&error) || is_fenced(&error) && life > 0 => {
                self.world.state().note(|| format!("life {number}: {name} fails: {error}"));
                running.control.failed(error);
            }
            Err(error) => return self.world.state().violate(|| format!("life {number}: {name} fails: {error}")),
        }
        if ended {
            self.ended(life);
        }
    }

    fn drop_life(&mut self, life: usize) {
        match life {
            0 => self.now = None,
            zombie => drop(self.zombies.remove(zombie - 1)),
        }
    }

    /// A life has come to its end by itself.
    fn ended(&mut self, life: usize) {
        let running = match life {
            0 => self.now.take(),
            zombie => Some(self.zombies.remove(zombie - 1)),
        };
        let Some(running) = running else { return };
        let mut state = self.world.state();
        let (number, failure) = (running.life, running.control.take_failure());
        state.note(|| format!("life {number} has ended: {failure:?}"));
        let queued = running.queued_bytes();
        if failure.is_none() && queued > 0 {
            state.violate(|| format!("life {number} has ended in order, and {queued} bytes wait in its queues"));
        }
        if failure.is_none() && life == 0 && !running.stopped_early {
            self.ends += 1;
        }
    }

    /// A kill, a newer life, or an orderly stop, as the seed gives it.
    fn is_ended_from_outside(&mut self) -> bool {
        let (plan, calm, step) = {
            let state = self.world.state();
            (state.plan.clone(), state.calm, state.step)
        };
        let Some(running) = &mut self.now else { return true };
        let life = running.life;
        if calm {
            // A topic that does not end: the pipeline is stopped once all is read and written.
            if !plan.ends && self.world.state().is_done() {
                running.control.stop_handle().stop();
            }
            return false;
        }
        if plan.crashes > 0 && self.random.chance(plan.kill_per_mille) {
            self.world.state().plan.crashes -= 1;
            let zombie = self.random.chance(plan.zombie_per_mille) && self.zombies.len() < 2;
            self.world.state().note(|| format!("life {life} is {}", if zombie { "given up, and goes on" } else { "killed" }));
            self.zombies.extend(self.now.take().filter(|_| zombie));
            return true;
        }
        if self.random.chance(plan.stop_per_mille) {
            self.world.state().note(|| format!("life {life} is stopped, at step {step}"));
            running.control.stop_handle().stop();
            running.stopped_early = true;
        }
        if !self.zombies.is_empty() && self.random.chance(5) {
            self.zombies.remove(0);
        }
        false
    }
}
