//! A worker: a thread that runs its tasks in turn, one epoch at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::task::{Progress, Shared, Task};
use crate::Result;
use crate::time::{Micros, Stopwatch};

/// The longest sleep while nothing comes: bounds both the latency of the first record after a pause and the idle cost.
const LONGEST_SLEEP: Duration = Duration::from_millis(2);

/// Tasks of one thread.
pub struct Worker {
    tasks: Vec<Task>,
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    /// A worker over `tasks`; it ends when all of them have, or `stop` is set.
    pub fn new(tasks: Vec<Task>, shared: Arc<Shared>, stop: Arc<AtomicBool>) -> Self {
        Self { tasks, shared, stop }
    }

    /// Runs.
    ///
    /// # Errors
    /// A permanent error of a source or an operator.
    pub fn run(mut self) -> Result<()> {
        let mut sleep = Duration::ZERO;
        let mut round_began = self.shared.clock.now();
        while !self.stop.load(Relaxed) {
            if !self.wait_for_room() {
                continue;
            }
            let mut worked = false;
            for task in &mut self.tasks {
                worked |= task.run_epoch()? == Progress::Worked;
            }
            if self.tasks.iter().all(Task::ended) {
                break;
            }
            if worked {
                sleep = Duration::ZERO;
                self.wait_for_round(&mut round_began);
            } else {
                sleep = (sleep * 2).clamp(Duration::from_micros(100), LONGEST_SLEEP);
                self.shared.clock.sleep(sleep);
            }
        }
        self.tasks.iter_mut().try_for_each(|task| task.checkpoint(true))
    }

    /// Waits a moment for every sink to have room; whether they have.
    fn wait_for_room(&self) -> bool {
        let stopwatch = Stopwatch::start();
        let mut waited = false;
        for queue in &self.shared.queues {
            if !queue.wait_for_room(Duration::ZERO) {
                waited = true;
                if !queue.wait_for_room(Duration::from_millis(20)) {
                    self.count_backpressure(&stopwatch);
                    return false;
                }
            }
        }
        if waited {
            self.count_backpressure(&stopwatch);
        }
        true
    }

    fn count_backpressure(&self, stopwatch: &Stopwatch) {
        for task in &self.tasks {
            task.count_backpressure(stopwatch.nanos());
        }
    }

    /// With a trigger interval: sleeps until the next round is due.
    fn wait_for_round(&self, began: &mut Micros) {
        let interval = self.shared.settings.trigger_interval.as_micros() as Micros;
        if interval == 0 {
            return;
        }
        let due = began.saturating_add(interval);
        loop {
            let now = self.shared.clock.now();
            if now >= due || self.stop.load(Relaxed) {
                *began = now;
                return;
            }
            self.shared.clock.sleep(Duration::from_micros((due - now).min(50_000) as u64));
        }
    }
}
