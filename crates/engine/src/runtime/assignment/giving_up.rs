//! Giving tasks up: in order while others wait for them, or at once where they are lost.

use std::sync::PoisonError;

use super::Assignment;
use crate::Result;
use crate::runtime::queue::Request;
use crate::runtime::worker::Order;
use crate::time::Micros;

/// Others wait for a task that is given up: this long at most.
const GIVE_UP: Micros = 10_000_000;

/// How often the sinks are asked to make safe what is given up.
const FLUSH: Micros = 300_000;

/// A task that is being given up.
pub(super) struct GivingUp {
    since: Micros,
    /// Its last epoch, once the worker has let it go.
    last: Option<u64>,
    /// When the sinks are next asked to make it safe: that may be before they have all of it.
    flush: Micros,
}

impl Assignment {
    /// Nothing more of this task is written here.
    pub(super) fn drop_task(&mut self, task: u32) {
        self.opening.shared.terms.end(task);
        self.stop_taking(task);
        if self.running.remove(&task) {
            self.dropping.insert(task);
            self.worker(task).give(Order::Drop(task));
        }
        self.forget(task);
    }

    /// What feeds and the keeper still have of a task whose term has ended.
    fn forget(&self, task: u32) {
        *self.opening.shared.checkpoints[task as usize].lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.ask(|| Request::Release(task));
    }

    /// The others that were being taken with it begin anew.
    pub(super) fn stop_taking(&mut self, task: u32) {
        if let Some(taking) = self.taking.take_if(|taking| taking.tasks.contains(&task)) {
            self.wanted.extend(taking.tasks);
        }
        self.wanted.remove(&task);
    }

    /// Others wait for a task: it goes in order.
    pub(super) fn give_up(&mut self, task: u32) -> Result<()> {
        if self.running.remove(&task) {
            let since = self.opening.shared.clock.now();
            self.giving_up.insert(task, GivingUp { since, last: None, flush: 0 });
            self.worker(task).give(Order::GiveUp(task));
            return Ok(());
        }
        self.drop_task(task);
        self.members.release(&[task])
    }

    /// Gives tasks back of which everything is safe, or that have had their time.
    pub(super) fn finish_giving_up(&mut self) -> Result<()> {
        for (task, last) in self.workers.iter().flat_map(|worker| worker.take_gone()).collect::<Vec<_>>() {
            self.dropping.remove(&task);
            if let Some(given_up) = self.giving_up.get_mut(&task) {
                given_up.last = Some(last);
            }
        }
        let shared = &self.opening.shared;
        let now = shared.clock.now();
        let (mut done, mut flush) = (Vec::new(), false);
        for (task, GivingUp { since, last, flush: due }) in &mut self.giving_up {
            let kept = || shared.checkpoints[*task as usize].lock().unwrap_or_else(PoisonError::into_inner).is_none();
            let (at, positions) = (*task as usize, &shared.positions);
            let safe = last.is_some_and(|last| positions.is_kept(at, last) || positions.safe_epoch(at) >= last) && kept();
            let late = now - *since > GIVE_UP;
            if late && !safe && last.is_some() {
                tracing::warn!("task {task} is given up before all of it is safe: its next owner does what is left");
            }
            if safe || (late && last.is_some()) {
                done.push(*task);
            } else if last.is_some() && now >= *due {
                (*due, flush) = (now + FLUSH, true);
            }
        }
        if flush {
            self.ask(|| Request::Flush);
        }
        for task in &done {
            self.giving_up.remove(task);
            self.opening.shared.terms.end(*task);
            self.forget(*task);
        }
        if done.is_empty() { Ok(()) } else { self.members.release(&done) }
    }
}
