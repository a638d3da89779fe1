//! All that is outside of a pipeline and outlives it: the records, the tables, the journal, time and chance. What a pipeline is
//! given of it are handles (`SimSource`, `SimSink`, …) that bear the number of the life they were opened for.
//!
//! Invariants: one thread uses a world. Every call from a pipeline to the outside passes [`State::enter`] and [`State::leave`],
//! which decide whether it works, fails before or behind its effect, or is the last that this life does. What must hold is
//! checked where it could be broken; the first breach is kept.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use riverrun_engine::time::{ManualClock, Micros};
use riverrun_engine::{Error, Result};

use crate::checkpoints::Files;
use crate::exchange::Exchange;
use crate::history::History;
use crate::journal::BusState;
use crate::plan::{BEGIN, Plan, SECOND};
use crate::random::Random;
use crate::script::GRAPHS;
use crate::sink::Table;
use crate::source::Topic;

/// The life of a pipeline, from 1.
pub type Life = u64;

/// The world of one seed.
pub struct World {
    /// Wall time of everyone.
    pub clock: Arc<ManualClock>,
    state: Mutex<State>,
}

/// What may change.
pub struct State {
    /// The choices to come.
    pub random: Random,
    /// How it all goes.
    pub plan: Plan,
    /// By partition, the records of the one topic.
    pub topic: Topic,
    /// The repartition topics.
    pub exchanges: Vec<Exchange>,
    /// By the graph's sinks.
    pub tables: Vec<Table>,
    /// What was committed, for ever: the journal itself may forget.
    pub history: History,
    /// The journal, where it is on the bus.
    pub bus: BusState,
    /// The checkpoints.
    pub files: Files,
    /// Lives that have ended within a call.
    pub dead: BTreeSet<Life>,
    /// The newest life.
    pub life: Life,
    /// Steps so far.
    pub step: u64,
    /// Nothing goes wrong any more.
    pub calm: bool,
    /// The first thing that must not be.
    pub breach: Option<String>,
    /// What happened, if it is to be told.
    pub trace: Option<Vec<String>>,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It works.
    Works,
    /// It has no effect, and says that it failed.
    Refused,
    /// It has its effect, and says that it failed.
    Unheard,
    /// It has its effect, and the life ends before the answer.
    Dies,
}

impl World {
    /// The world of a plan; it begins at the plan's first moment.
    pub fn new(plan: Plan, topic: Topic, tables: Vec<Table>, random: Random, traced: bool) -> Arc<Self> {
        let history = History::new(plan.tasks);
        let exchanges = GRAPHS[plan.graph].exchanges().iter().map(|_| Exchange::new(plan.exchange_partitions)).collect();
        let state = State {
            random,
            plan,
            topic,
            exchanges,
            tables,
            history,
            bus: BusState::default(),
            files: Files::default(),
            dead: BTreeSet::new(),
            life: 0,
            step: 0,
            calm: false,
            breach: None,
            trace: traced.then(Vec::new),
        };
        Arc::new(Self { clock: Arc::new(ManualClock::at(crate::plan::BEGIN)), state: Mutex::new(state) })
    }

    /// The state, for a moment.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const CRASH: &str = "the process died";

/// Whether an error only says that the simulated process died.
pub fn is_crash(error: &Error) -> bool {
    error.message().ends_with(CRASH)
}

impl State {
    /// A call of `life` begins: whether it dies now, or what will become of it.
    pub fn enter(&mut self, life: Life, call: &str) -> Result<Fate> {
        if self.dead.contains(&life) {
            return Err(Error::permanent(CRASH));
        }
        if self.calm {
            return Ok(Fate::Works);
        }
        let may_die = life == self.life || self.plan.instances > 1;
        if may_die && self.plan.crashes > 0 && self.random.chance(self.plan.crash_per_mille) {
            self.plan.crashes -= 1;
            if self.random.chance(500) {
                return Err(self.die(life, call, "before"));
            }
            return Ok(Fate::Dies);
        }
        if self.random.chance(self.plan.fault_per_mille) {
            return Ok(self.random.one_of(&[Fate::Refused, Fate::Unheard]));
        }
        Ok(Fate::Works)
    }

    /// A call of `life` that has no effect: it may fail.
    pub fn ask(&mut self, life: Life, call: &str) -> Result<()> {
        if self.dead.contains(&life) {
            return Err(Error::permanent(CRASH));
        }
        let fails = !self.calm && self.random.chance(self.plan.fault_per_mille);
        self.leave(life, call, if fails { Fate::Refused } else { Fate::Works })
    }

    /// As [`enter`](Self::enter), for a call to a sink: one that is down answers nothing, and has no effect.
    pub fn enter_sink(&mut self, life: Life, sink: usize, call: &str, now: Micros) -> Result<Fate> {
        let fate = self.enter(life, call)?;
        let outage = self.plan.outages[sink].filter(|outage| !self.calm && (outage.from..outage.to).contains(&now));
        match outage {
            Some(_) if fate == Fate::Dies => Err(self.die(life, call, "before")),
            Some(_) => Ok(Fate::Refused),
            None => Ok(fate),
        }
    }

    /// The call has had its effect: what it answers.
    pub fn leave(&mut self, life: Life, call: &str, fate: Fate) -> Result<()> {
        match fate {
            Fate::Works => Ok(()),
            Fate::Dies => Err(self.die(life, call, "behind")),
            Fate::Refused | Fate::Unheard => {
                self.note(|| format!("life {life}: {call}: {fate:?}"));
                Err(Error::transient(format!("{call}: no answer")))
            }
        }
    }

    fn die(&mut self, life: Life, call: &str, place: &str) -> Error {
        self.note(|| format!("life {life} dies {place} {call}"));
        self.dead.insert(life);
        Error::permanent(CRASH)
    }

    /// Until when the part of this name does nothing, for its sink does not answer.
    pub fn hangs_until(&self, part: &str, now: Micros) -> Option<Micros> {
        let sink = self.tables.iter().position(|table| part.strip_prefix("sink-") == Some(&table.name))?;
        let outage = self.plan.outages[sink].filter(|outage| outage.hangs && !self.calm)?;
        let calm = BEGIN + self.plan.lasts + 5 * SECOND;
        Some(outage.to.min(calm)).filter(|until| (outage.from..*until).contains(&now))
    }

    /// Something must not be.
    pub fn violate(&mut self, what: impl FnOnce() -> String) {
        if self.breach.is_none() {
            let what = what();
            self.note(|| format!("BREACH: {what}"));
            self.breach = Some(what);
        }
    }

    /// Notes what happened, if somebody wants to know.
    pub fn note(&mut self, what: impl FnOnce() -> String) {
        let step = self.step;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{step:6}  {}", what()));
        }
    }
}
