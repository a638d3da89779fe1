//! A worker: a thread that runs its tasks in turn, one epoch at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::events::{Backpressure, Event};
use super::stats::ThreadStats;
use super::task::{Progress, Shared, Task};
use crate::Result;
use crate::time::{Micros, Stopwatch};

/// The longest sleep while nothing comes: bounds both the latency of the first record after a pause and the idle cost.
const LONGEST_SLEEP: Duration = Duration::from_millis(2);

/// The shortest round of all tasks. What comes meanwhile goes into one epoch instead of many small ones, each of which costs a
/// commit and a look at every operator and sink: at light load this is most of the work.
const SHORTEST_ROUND: Duration = Duration::from_millis(4);

/// A wait for room is told once it has lasted this long.
const LONG_WAIT: Micros = 1_000_000;

/// Tasks of one thread.
pub struct Worker {
    tasks: Vec<Task>,
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    waiting: Option<Waiting>,
}

/// The wait for room in a queue that a worker is in.
#[derive(Clone, Copy)]
struct Waiting {
    sink: usize,
    since: Micros,
    counted: Micros,
}

impl Worker {
    /// A worker over `tasks`; it ends when all of them have, or `stop` is set.
    pub fn new(tasks: Vec<Task>, shared: Arc<Shared>, stop: Arc<AtomicBool>) -> Self {
        Self { tasks, shared, stop, waiting: None }
    }

    /// Runs.
    ///
    /// # Errors
    /// A permanent error of a source or an operator.
    pub fn run(mut self, thread: &ThreadStats) -> Result<()> {
        let mut sleep = Duration::ZERO;
        let mut round_began = self.shared.clock.now();
        while !self.stop.load(Relaxed) {
            thread.beat(self.shared.clock.now());
            if !self.wait_for_room() {
                continue;
            }
            let stopwatch = Stopwatch::start();
            let (mut worked, mut behind) = (false, false);
            for task in &mut self.tasks {
                let progress = task.run_epoch()?;
                worked |= matches!(progress, Progress::Worked | Progress::Behind);
                behind |= progress == Progress::Behind;
            }
            if self.tasks.iter().all(Task::ended) {
                break;
            }
            if worked {
                sleep = Duration::ZERO;
                if !behind {
                    let took = Duration::from_nanos(stopwatch.nanos());
                    self.shared.clock.sleep(SHORTEST_ROUND.saturating_sub(took));
                }
                self.wait_for_round(&mut round_began, thread);
            } else {
                sleep = (sleep * 2).clamp(Duration::from_micros(100), LONGEST_SLEEP);
                self.shared.clock.sleep(sleep);
            }
        }
        self.tasks.iter_mut().try_for_each(|task| task.checkpoint(true))
    }

    /// Waits a moment for the journal and every sink to have room; whether they have.
    fn wait_for_room(&mut self) -> bool {
        if let Some(commits) = self.shared.commits.clone()
            && !commits.queue.wait_for_room(Duration::ZERO)
        {
            let stopwatch = Stopwatch::start();
            let room = commits.queue.wait_for_room(Duration::from_millis(20));
            self.tasks.iter().for_each(|task| task.count_backpressure(stopwatch.nanos()));
            if !room {
                return false;
            }
        }
        for (sink, queue) in self.shared.queues.iter().enumerate() {
            let waits_for_it = self.waiting.is_some_and(|w| w.sink == sink);
            if queue.wait_for_room(Duration::ZERO) && !waits_for_it {
                continue;
            }
            let before = self.waiting.filter(|_| waits_for_it);
            let now = self.shared.clock.now();
            let mut waiting = before.unwrap_or(Waiting { sink, since: now, counted: now });
            let room = queue.wait_for_room(Duration::from_millis(20));
            self.count_backpressure(&mut waiting);
            self.waiting = (!room).then_some(waiting);
            if !room {
                return false;
            }
        }
        true
    }

    /// Counts what has passed of a wait since it was last counted.
    fn count_backpressure(&self, waiting: &mut Waiting) {
        let now = self.shared.clock.now();
        let nanos = now.saturating_sub(waiting.counted).max(0).unsigned_abs() * 1000;
        let long = |until: Micros| until.saturating_sub(waiting.since) >= LONG_WAIT;
        let tell = long(now) && !long(waiting.counted);
        Backpressure { stats: self.shared.queues[waiting.sink].stats(), nanos, tell }.emit();
        self.tasks.iter().for_each(|task| task.count_backpressure(nanos));
        waiting.counted = now;
    }

    /// With a trigger interval: sleeps until the next round is due.
    fn wait_for_round(&self, began: &mut Micros, thread: &ThreadStats) {
        let interval = self.shared.settings.trigger_interval.as_micros() as Micros;
        if interval == 0 {
            return;
        }
        let due = began.saturating_add(interval);
        loop {
            let now = self.shared.clock.now();
            thread.beat(now);
            if now >= due || self.stop.load(Relaxed) {
                *began = now;
                return;
            }
            self.shared.clock.sleep(Duration::from_micros((due - now).min(50_000) as u64));
        }
    }
}
