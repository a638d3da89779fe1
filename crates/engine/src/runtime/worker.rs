//! A worker: runs its tasks in turn, one epoch at a time.

use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::events::{Backpressure, Event};
use super::part::{Next, Work};
use super::task::{Progress, Shared, Task};
use crate::Result;
use crate::time::Micros;

/// Rests while nothing comes double from the shortest to the longest, which bounds both the latency of the first record after
/// a pause and the idle cost.
const SHORTEST_REST: Duration = Duration::from_micros(100);
const LONGEST_REST: Duration = Duration::from_millis(2);

/// The shortest round of all tasks. What comes meanwhile goes into one epoch instead of many small ones, each of which costs a
/// commit and a look at every operator and sink: at light load this is most of the work.
const SHORTEST_ROUND: Duration = Duration::from_millis(4);

/// How long it waits for room before it looks at the time again.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(20);

/// How often a paused worker looks whether it may go on.
const PAUSED_LOOK: Duration = Duration::from_millis(20);

/// A wait for room is told once it has lasted this long.
const LONG_WAIT: Micros = 1_000_000;

/// Tasks that are run by one thread.
pub struct Worker {
    tasks: Vec<Task>,
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    waiting: Option<Waiting>,
    /// How long it rested when nothing came.
    rest: Duration,
    /// With a trigger interval: when the last round began, and when the next one is due, if it has to wait.
    round_began: Micros,
    due: Option<Micros>,
    /// Where tasks come and go.
    orders: Option<Arc<Orders>>,
    /// Since when it is paused.
    paused_since: Option<Micros>,
    /// The last request for checkpoints that all its tasks have answered.
    answered: u64,
}

/// What becomes of a worker's tasks, where instances share them.
pub enum Order {
    /// Run this task.
    Run(Box<Task>),
    /// Give this task up in order: its last epoch was handed over, its last checkpoint taken.
    GiveUp(u32),
    /// Drop this task.
    Drop(u32),
}

/// Orders for a worker, and what it says of them.
#[derive(Default)]
pub struct Orders {
    /// Whether there are some: looked at every round.
    waiting: AtomicBool,
    orders: Mutex<Vec<Order>>,
    /// Tasks that it let go, and their last epochs.
    gone: Mutex<Vec<(u32, u64)>>,
}

impl Orders {
    /// Gives an order.
    pub fn give(&self, order: Order) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).push(order);
        self.waiting.store(true, Release);
    }

    /// Tasks that were let go since the last call, and their last epochs.
    pub fn take_gone(&self) -> Vec<(u32, u64)> {
        std::mem::take(&mut self.gone.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self) -> Vec<Order> {
        if !self.waiting.swap(false, AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut self.orders.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The wait for room in a queue that a worker is in.
#[derive(Clone, Copy)]
struct Waiting {
    /// The sink whose queue is full; `None`: epochs wait for their commit.
    sink: Option<usize>,
    since: Micros,
    counted: Micros,
}

impl Worker {
    /// A worker over `tasks`; it ends when all of them have, or `stop` is set.
    pub fn new(tasks: Vec<Task>, shared: Arc<Shared>, stop: Arc<AtomicBool>) -> Self {
        let round_began = shared.clock.now();
        Self {
            tasks,
            shared,
            stop,
            waiting: None,
            rest: Duration::ZERO,
            round_began,
            due: None,
            orders: None,
            paused_since: None,
            answered: 0,
        }
    }

    /// A worker whose tasks come and go by orders; it ends when `stop` is set.
    pub fn shared(orders: Arc<Orders>, shared: Arc<Shared>, stop: Arc<AtomicBool>) -> Self {
        Self { orders: Some(orders), ..Self::new(Vec::new(), shared, stop) }
    }

    fn obey(&mut self) -> Result<()> {
        let Some(orders) = self.orders.clone() else { return Ok(()) };
        for order in orders.take() {
            match order {
                Order::Run(task) => self.tasks.push(*task),
                Order::GiveUp(number) | Order::Drop(number) => {
                    let mut last = 0;
                    for mut task in self.tasks.extract_if(.., |task| task.number() == number) {
                        if matches!(order, Order::GiveUp(_)) {
                            task.checkpoint(true)?;
                        }
                        task.count_gone();
                        last = task.epoch();
                    }
                    orders.gone.lock().unwrap_or_else(PoisonError::into_inner).push((number, last));
                }
            }
        }
        Ok(())
    }

    /// Takes the checkpoints that were asked for.
    fn answer(&mut self) -> Result<()> {
        let request = self.shared.asked.checkpoints();
        if request == self.answered {
            return Ok(());
        }
        let mut all = true;
        for task in &mut self.tasks {
            all &= task.answer(request)?;
        }
        if all {
            self.answered = request;
        }
        Ok(())
    }

    /// Whether it is paused. Tasks are told how long they stood still once they go on.
    fn pauses(&mut self) -> bool {
        let (paused, now) = (self.shared.stats.paused.load(Relaxed), self.shared.clock.now());
        match (paused, self.paused_since) {
            (true, None) => {
                self.paused_since = Some(now);
                self.waiting = None;
                self.shared.asked.stands(true);
            }
            (false, Some(since)) => {
                self.paused_since = None;
                self.shared.asked.stands(false);
                self.tasks.iter_mut().for_each(|task| task.stood_still(now.saturating_sub(since)));
            }
            _ => {}
        }
        paused
    }

    /// An epoch of each task, where there is something to do.
    fn round(&mut self) -> Result<Next> {
        let clock = self.shared.clock.clone();
        let began = clock.now();
        let (mut worked, mut behind) = (false, false);
        for task in &mut self.tasks {
            let progress = task.run_epoch()?;
            worked |= matches!(progress, Progress::Worked | Progress::Behind);
            behind |= progress == Progress::Behind;
        }
        if self.orders.is_none() && self.tasks.iter().all(Task::ended) {
            return self.end();
        }
        if !worked {
            self.rest = (self.rest * 2).clamp(SHORTEST_REST, LONGEST_REST);
            return Ok(Next::After(self.rest));
        }
        self.rest = Duration::ZERO;
        let interval = self.shared.settings.trigger_interval.as_micros() as Micros;
        self.due = (interval > 0).then(|| self.round_began.saturating_add(interval));
        if behind {
            return Ok(Next::Now);
        }
        let took = Duration::from_micros(clock.now().saturating_sub(began).max(0).unsigned_abs());
        Ok(Next::After(SHORTEST_ROUND.saturating_sub(took)))
    }

    /// The last step: what was done since the last checkpoints is kept.
    fn end(&mut self) -> Result<Next> {
        self.tasks.iter_mut().try_for_each(|task| task.checkpoint(true))?;
        Ok(Next::Ended)
    }

    /// Whether the journal and every sink have room; else what is waited for is noted.
    fn has_room(&mut self) -> bool {
        let now = self.shared.clock.now();
        if let Some(mut waiting) = self.waiting {
            self.count_backpressure(&mut waiting, now);
            self.waiting = Some(waiting);
        }
        let full = |sink: &Option<usize>| match (sink, &self.shared.commits) {
            (Some(sink), _) => !self.shared.queues[*sink].has_room(),
            (None, commits) => commits.as_ref().is_some_and(|commits| !commits.queue.has_room()),
        };
        let places = std::iter::once(None).chain((0..self.shared.queues.len()).map(Some));
        let Some(sink) = places.into_iter().find(full) else {
            self.waiting = None;
            return true;
        };
        let before = self.waiting.filter(|waiting| waiting.sink == sink);
        self.waiting = before.or(Some(Waiting { sink, since: now, counted: now }));
        false
    }

    /// Counts what has passed of a wait since it was last counted.
    fn count_backpressure(&self, waiting: &mut Waiting, now: Micros) {
        let nanos = now.saturating_sub(waiting.counted).max(0).unsigned_abs() * 1000;
        let long = |until: Micros| until.saturating_sub(waiting.since) >= LONG_WAIT;
        let tell = long(now) && !long(waiting.counted);
        if let Some(sink) = waiting.sink {
            Backpressure { stats: self.shared.queues[sink].stats(), nanos, tell }.emit();
        }
        self.tasks.iter().for_each(|task| task.count_backpressure(nanos));
        waiting.counted = now;
    }

    /// With a trigger interval: how long the next round must wait, at most for the look at a stop.
    fn until_due(&mut self) -> Option<Duration> {
        let due = self.due?;
        let now = self.shared.clock.now();
        if now < due {
            return Some(Duration::from_micros((due - now).min(50_000).unsigned_abs()));
        }
        (self.round_began, self.due) = (now, None);
        None
    }
}

impl Work for Worker {
    /// A round over its tasks, if it is due and there is room for what it gives.
    ///
    /// # Errors
    /// A permanent error of a source or an operator.
    fn step(&mut self) -> Result<Next> {
        if self.stop.load(Relaxed) {
            return self.end();
        }
        self.obey()?;
        self.answer()?;
        if self.pauses() {
            return Ok(Next::After(PAUSED_LOOK));
        }
        if let Some(wait) = self.until_due() {
            return Ok(Next::After(wait));
        }
        if !self.has_room() {
            // However long that lasts: what was done is kept in time.
            self.tasks.iter_mut().try_for_each(|task| task.checkpoint(false))?;
            return Ok(Next::Queue(LOOK_FOR_ROOM));
        }
        self.round()
    }

    fn wait(&self, at_most: Duration) {
        match (self.waiting, &self.shared.commits) {
            (Some(Waiting { sink: Some(sink), .. }), _) => self.shared.queues[sink].wait_for_room(at_most),
            (Some(_), Some(commits)) => commits.queue.wait_for_room(at_most),
            _ => {}
        }
    }
}
