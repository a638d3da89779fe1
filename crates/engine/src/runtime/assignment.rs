//! Obeys the group: takes the tasks that come to this instance, and gives up those that go ([`Membership`]).
//!
//! A task is *taken* in this order: the journal's records of it, once no earlier owner can add to them; the sinks' positions;
//! its checkpoint; then it runs again what lies between, and goes on. So whatever an earlier owner still did is seen, or
//! refused: by the journal, or by a sink, which then says that a position was moved, and the task is taken anew.
//!
//! A task is *given up* in this order: its last epoch ends, a checkpoint is taken, all is committed, the sinks make it safe,
//! the checkpoint is written, or a second later with what they have not; within a deadline, behind which the next owner does what
//! is left. One that was *lost* is dropped at once, with all that is not written.
//!
//! Invariants: what an ended term made is dropped wherever it is found; a task has one reader at a time.

mod giving_up;
mod joining;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Relaxed};
use std::time::Duration;

use self::giving_up::GivingUp;
pub use self::joining::await_genesis;
use super::backoff::Backoff;
use super::open::{Opened, Opening};
use super::part::{Next, Work};
use super::queue::{Request, SinkQueue};
use super::recovery::check_held;
use super::worker::{Order, Orders};
use crate::Result;
use crate::journal::{Genesis, Record};
use crate::membership::{Change, Membership};
use crate::time::Micros;

/// How often it looks while nothing changes.
const CALM: Duration = Duration::from_millis(50);

/// How often it looks while tasks come or go.
const BUSY: Duration = Duration::from_millis(5);

/// How long leaving the group may take.
const LEAVE: Micros = 5_000_000;

/// What this instance does about its tasks.
pub struct Assignment {
    members: Box<dyn Membership>,
    opening: Opening,
    genesis: Genesis,
    workers: Vec<Arc<Orders>>,
    /// Its sinks that have feeds: their places among the graph's sinks.
    fed: Vec<usize>,
    stop: Arc<AtomicBool>,
    /// Set when all other parts have ended.
    over: Arc<AtomicBool>,
    leaving_since: Option<Micros>,
    /// Changes that were told before it began.
    told: Vec<Change>,
    /// Assigned, and waiting to be taken.
    wanted: BTreeSet<u32>,
    taking: Option<Taking>,
    /// How often sinks were asked for positions.
    asked: u64,
    running: BTreeSet<u32>,
    giving_up: BTreeMap<u32, GivingUp>,
    /// Dropped, and maybe still being read.
    dropping: BTreeSet<u32>,
    backoff: Backoff,
}

/// Tasks that are being taken together.
struct Taking {
    tasks: Vec<u32>,
    records: Option<Vec<Vec<Record>>>,
    /// By fed sink: its answer.
    held: Option<Vec<Option<Vec<u64>>>>,
}

impl Assignment {
    /// Over tasks of `opening` that others run: `workers`; `fed`: the sinks that have feeds.
    pub fn new(
        members: Box<dyn Membership>,
        opening: Opening,
        (genesis, told): (Genesis, Vec<Change>),
        workers: Vec<Arc<Orders>>,
        fed: Vec<usize>,
        (stop, over): (Arc<AtomicBool>, Arc<AtomicBool>),
    ) -> Self {
        let backoff = Backoff::seeded(!opening.shared.clock.now() as u64);
        Self {
            members,
            opening,
            genesis,
            workers,
            fed,
            stop,
            over,
            leaving_since: None,
            told,
            wanted: BTreeSet::new(),
            taking: None,
            asked: 0,
            running: BTreeSet::new(),
            giving_up: BTreeMap::new(),
            dropping: BTreeSet::new(),
            backoff,
        }
    }

    fn worker(&self, task: u32) -> &Orders {
        &self.workers[task as usize % self.workers.len()]
    }

    fn queue(&self, sink: usize) -> &SinkQueue {
        &self.opening.shared.queues[sink]
    }

    fn ask(&self, request: impl Fn() -> Request) {
        self.fed.iter().for_each(|sink| self.queue(*sink).ask(request()));
    }

    fn heed(&mut self, change: Change) -> Result<()> {
        let tell = |what: &str, tasks: &[u32]| {
            if !tasks.is_empty() {
                tracing::info!(event = "rebalance", "tasks {tasks:?} {what}");
            }
        };
        let (Change::Assigned(tasks) | Change::Revoked(tasks) | Change::Lost(tasks)) = &change;
        if !tasks.is_empty() {
            for (id, ..) in &self.opening.sources {
                self.opening.shared.stats.nodes[*id].rebalances.fetch_add(1, Relaxed);
            }
        }
        match change {
            Change::Assigned(tasks) => {
                tell("were assigned to this instance", &tasks);
                self.wanted.extend(tasks);
            }
            Change::Revoked(tasks) => {
                tell("are given up", &tasks);
                // Those of a stopped instance are given up when it leaves.
                let stopped = self.stop.load(Relaxed);
                for task in tasks.into_iter().filter(|_| !stopped) {
                    self.give_up(task)?;
                }
            }
            Change::Lost(tasks) => {
                tell("were lost: others may have them", &tasks);
                for task in tasks {
                    self.giving_up.remove(&task);
                    self.drop_task(task);
                }
            }
        }
        Ok(())
    }

    /// Takes anew what somebody else has written to.
    fn heed_moved(&mut self) {
        let moved: BTreeSet<u32> = self.fed.iter().flat_map(|sink| self.queue(*sink).take_moved()).collect();
        for task in moved.into_iter().filter(|task| self.running.contains(task)).collect::<Vec<_>>() {
            tracing::warn!("task {task}: an earlier owner's rows came into a sink late; the task is taken anew");
            self.drop_task(task);
            self.wanted.insert(task);
        }
    }

    /// Goes on with taking tasks, as far as it goes.
    fn take(&mut self) -> Result<()> {
        if self.taking.is_none() {
            // One that comes back while it is given up waits for that: its end would end the new term.
            let is_free = |task: &u32| !self.dropping.contains(task) && !self.giving_up.contains_key(task);
            let tasks: Vec<u32> = self.wanted.iter().copied().filter(is_free).collect();
            if tasks.is_empty() {
                return Ok(());
            }
            for task in &tasks {
                self.wanted.remove(task);
                self.opening.shared.terms.begin(*task);
            }
            self.taking = Some(Taking { tasks, records: None, held: None });
        }
        let Some(mut taking) = self.taking.take() else { return Ok(()) };
        match self.go_on(&mut taking) {
            Ok(true) => {
                self.backoff.worked();
                let (held, all) = (self.opening.shared.terms.held(), self.opening.layout.tasks());
                tracing::info!(event = "tasks_taken", "this instance runs {held} of {all} tasks");
            }
            Ok(false) => self.taking = Some(taking),
            // A task that is another's by now is told of next.
            Err(error) if error.is_transient() => {
                if self.backoff.failed(self.opening.shared.clock.now()) {
                    tracing::info!("tasks {:?} cannot be taken yet: {error}", taking.tasks);
                }
                (taking.records, taking.held) = (None, None);
                self.taking = Some(taking);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Goes on with taking; whether the tasks run.
    fn go_on(&mut self, taking: &mut Taking) -> Result<bool> {
        if taking.records.is_none() {
            taking.records = Some(self.members.take(&taking.tasks, &self.genesis)?);
        }
        let held = match &mut taking.held {
            Some(held) => held,
            None => {
                self.asked += 1;
                self.ask(|| Request::Take(self.asked, taking.tasks.clone()));
                taking.held.insert(Vec::new())
            }
        };
        while let Some(sink) = self.fed.get(held.len()) {
            match self.opening.shared.queues[*sink].take_answer(self.asked) {
                None => return Ok(false),
                Some(answer) => held.push(answer?),
            }
        }
        let (mut records, held) = (taking.records.take().unwrap_or_default(), taking.held.take().unwrap_or_default());
        while let (Some(task), Some(records)) = (taking.tasks.last().copied(), records.pop()) {
            let place = taking.tasks.len() - 1;
            let of_task = |told: &Option<Vec<u64>>| told.as_ref().and_then(|all| all.get(place)).copied().unwrap_or(0);
            self.run(task, records, held.iter().map(of_task).collect())?;
            taking.tasks.pop();
        }
        Ok(true)
    }

    /// Makes a task and gives it to a worker; `held` by fed sink: the last epoch whose rows it holds.
    fn run(&mut self, task: u32, records: Vec<Record>, held: Vec<u64>) -> Result<()> {
        let Opened { task: mut made, end, records } = self.opening.task(task as usize, Some(&self.genesis), records)?;
        let mut by_sink = vec![end; self.opening.shared.queues.len()];
        for (sink, held) in self.fed.iter().zip(held) {
            check_held(&self.queue(*sink).stats().name, task, held, end)?;
            by_sink[*sink] = held;
        }
        made.repeat(records, by_sink)?;
        self.running.insert(task);
        self.worker(task).give(Order::Run(Box::new(made)));
        Ok(())
    }

    /// Leaves the group, if there is time.
    fn leave(&mut self) -> Result<Next> {
        let now = self.opening.shared.clock.now();
        let since = *self.leaving_since.get_or_insert(now);
        match self.members.leave() {
            Ok(false) if now - since < LEAVE => return Ok(Next::After(CALM)),
            Ok(left) if !left => tracing::warn!("leaving the group took too long: others will find out by themselves"),
            Ok(_) => {}
            Err(error) => tracing::warn!("the group could not be left: {error}"),
        }
        Ok(Next::Ended)
    }
}

impl Work for Assignment {
    /// Hears what changed, and goes on with what it is at. It leaves once all other parts have ended.
    ///
    /// # Errors
    /// This instance is no member any more; or what is found of a task does not fit and must not be gone on from.
    fn step(&mut self) -> Result<Next> {
        if self.over.load(Acquire) {
            return self.leave();
        }
        let mut changes = std::mem::take(&mut self.told);
        match self.members.poll() {
            Ok(more) => changes.extend(more),
            Err(error) if error.is_transient() => tracing::debug!(%error, "the group"),
            Err(error) => return Err(error),
        }
        changes.into_iter().try_for_each(|change| self.heed(change))?;
        self.finish_giving_up()?;
        if !self.stop.load(Relaxed) {
            self.heed_moved();
            if self.backoff.ready(self.opening.shared.clock.now()) {
                self.take()?;
            }
        }
        let busy = self.taking.is_some() || !self.giving_up.is_empty() || !self.dropping.is_empty();
        Ok(Next::After(if busy { BUSY } else { CALM }))
    }
}
