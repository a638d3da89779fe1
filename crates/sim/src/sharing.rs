//! A seed whose pipeline is shared by several instances, run: they come and die, tasks move in order or behind their owners'
//! backs, until all records are done with.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use riverrun_engine::time::{Clock, Micros};

use crate::life::{Running, least_wait};
use crate::plan::SECOND;
use crate::random::Random;
use crate::simulation::begin_step;
use crate::world::{Life, World, is_crash};

/// The instances of one seed.
pub struct Sharing<'a> {
    /// Where they are.
    pub world: Arc<World>,
    /// What happens next, apart from the choices of calls.
    pub random: Random,
    /// Not used: the journal is on the bus.
    pub directory: &'a Path,
    /// Those that run.
    pub running: Vec<Running>,
}

impl Sharing<'_> {
    /// Runs until all is done with, or something must not be.
    pub fn run(&mut self) {
        while begin_step(&self.world) {
            let (calm, done) = {
                let state = self.world.state();
                (state.calm, state.calm && state.is_done())
            };
            if done && self.running.is_empty() {
                return;
            }
            if done {
                self.running.iter_mut().for_each(|running| running.control.stop_handle().stop());
            } else {
                self.come_and_go(calm);
            }
            self.step();
        }
        for running in &self.running {
            let (life, parts) = (running.life, running.unended());
            self.world.state().note(|| format!("life {life} has not ended: {parts}"));
        }
    }

    fn live(&self) -> BTreeSet<Life> {
        self.running.iter().map(|running| running.life).collect()
    }

    fn come_and_go(&mut self, calm: bool) {
        let plan = self.world.state().plan.clone();
        let is_lacking = self.running.len() < plan.instances;
        if self.running.is_empty() || (is_lacking && self.random.chance(if calm { 200 } else { 10 })) {
            self.start();
        }
        if self.random.chance(if calm { 200 } else { 20 }) {
            let live = self.live();
            self.world.state().find_dead(&live);
        }
        if calm || self.running.is_empty() {
            return;
        }
        let one = self.random.place(self.running.len());
        if plan.crashes > 0 && self.random.chance(plan.kill_per_mille) {
            self.world.state().plan.crashes -= 1;
            let life = self.running.remove(one).life;
            return self.world.state().note(|| format!("life {life} is killed"));
        }
        if self.random.chance(plan.stop_per_mille) {
            let life = self.running[one].life;
            self.world.state().note(|| format!("life {life} is stopped"));
            self.running[one].control.stop_handle().stop();
        }
        let is_critical = self.world.state().is_critical();
        if self.random.chance(if is_critical { plan.rebalance_per_mille.max(30) } else { plan.rebalance_per_mille }) {
            let live = self.live();
            self.world.state().rebalance(&live);
        }
    }

    fn start(&mut self) {
        self.world.clock.advance(Duration::from_micros(self.random.within(0..SECOND) as u64));
        if self.running.is_empty() {
            self.world.state().damage(&mut self.random);
        }
        let life = {
            let mut state = self.world.state();
            state.life += 1;
            state.life
        };
        self.world.state().note(|| format!("life {life} begins"));
        match Running::start(&self.world, life, self.directory) {
            Ok(running) => self.running.push(running),
            Err(error) if error.is_transient() || is_crash(&error) => {
                self.world.state().note(|| format!("life {life} cannot begin: {error}"));
            }
            Err(error) => self.world.state().violate(|| format!("life {life} cannot begin: {error}")),
        }
    }

    /// Takes a step of some part that is ready, or lets time pass until one is.
    fn step(&mut self) {
        let now = self.world.clock.now();
        let (mut ready, mut next) = (Vec::new(), Micros::MAX);
        for (at, running) in self.running.iter().enumerate() {
            for (slot, s) in running.slots.iter().enumerate().filter(|(_, slot)| !slot.ended) {
                if s.ready <= now {
                    ready.push((at, slot));
                }
                next = next.min(s.ready);
            }
        }
        if ready.is_empty() {
            return self.world.clock.advance(Duration::from_micros(next.saturating_sub(now).clamp(0, SECOND) as u64));
        }
        let (at, slot) = self.random.one_of(&ready);
        self.world.clock.advance(Duration::from_micros(self.random.within(0..300) as u64));
        let running = &mut self.running[at];
        let next = running.step(slot);
        let (life, ended) = (running.life, running.ended());
        let part = &mut running.slots[slot];
        match next {
            Ok(next) => {
                let (least, most) = least_wait(next);
                let mut wait = self.random.within(least.as_micros() as Micros..most.as_micros() as Micros + 1);
                if self.random.chance(self.world.state().plan.pause_per_mille) {
                    wait += self.random.within(0..4 * SECOND);
                }
                // Whoever sent what is not decided may be slow to ask, so that others are before it.
                let state = self.world.state();
                let is_slow = part.part.name == "journal" && !state.calm && state.is_in_doubt(life);
                drop(state);
                if is_slow {
                    wait += self.random.within(0..6 * SECOND);
                }
                part.ready = self.world.clock.now() + wait;
                if let Some(until) = self.world.state().hangs_until(&part.part.name, part.ready) {
                    part.ready = until;
                }
            }
            Err(error) if is_crash(&error) => drop(self.running.remove(at)),
            Err(error) => {
                let name = part.part.name.clone();
                return self.world.state().violate(|| format!("life {life}: {name} fails: {error}"));
            }
        }
        if ended {
            self.ended(at);
        }
    }

    /// An instance has come to its end in order.
    fn ended(&mut self, at: usize) {
        let running = self.running.remove(at);
        let (life, failure, queued) = (running.life, running.control.take_failure(), running.queued_bytes());
        let mut state = self.world.state();
        state.note(|| format!("life {life} has ended: {failure:?}"));
        if failure.is_none() && queued > 0 {
            state.violate(|| format!("life {life} has ended in order, and {queued} bytes wait in its queues"));
        }
    }
}
