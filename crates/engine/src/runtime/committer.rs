//! What stands between the tasks and the sinks: an epoch has happened once its record is committed, and only then do the
//! sinks get its rows.
//!
//! Invariants: epochs of a task are committed in order; all that wait go into one commit (so commits grow with the load, and a
//! slow journal makes them larger, not later); a commit that failed is repeated with the same epochs. After a commit it rests as
//! long as that took: a journal that answers in milliseconds is asked often, a busy one less often, for more at once.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::backoff::Backoff;
use super::events::{CommitFailed, Committed, Event};
use super::latency::Unacknowledged;
use super::part::{Next, Work};
use super::queue::{Handed, Queue};
use super::task::Shared;
use crate::failpoint;
use crate::journal::{Epoch, Journal};
use crate::planted::{Fault, is_planted};
use crate::sink::EpochOutput;
use crate::time::{Micros, Stopwatch};
use crate::{Error, Result};

/// How long it waits for epochs before it looks at the time again.
const TICK: Duration = Duration::from_millis(20);

/// The longest rest after a commit.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// An epoch that was run and is not committed.
pub struct Ended {
    /// Its record, and the rows of the sinks that the journal takes.
    pub epoch: Epoch,
    /// Rows of the other sinks, by their places among the graph's sinks.
    pub outputs: Vec<(usize, EpochOutput)>,
    /// The newest time that a record of the epoch has of its own.
    pub record_time: Option<Micros>,
    /// Bytes of all outputs.
    pub bytes: usize,
    /// The term of its task.
    pub term: u64,
}

/// What tasks and the committer share.
pub struct Commits {
    /// Epochs that wait for their commit.
    pub queue: Queue<Ended>,
    /// The life of the pipeline that the journal is of, once that is known.
    pub life: OnceLock<String>,
    /// By the graph's sinks: whether the journal takes it.
    pub takes: Vec<bool>,
    /// By task: no record up to this epoch is needed any more.
    pub unneeded: Vec<AtomicU64>,
}

impl Commits {
    /// The name of the pipeline's life.
    pub fn lineage(&self) -> &str {
        self.life.get().map_or("", String::as_str)
    }
}

/// What is to be done behind the commit of an epoch.
struct Behind {
    term: u64,
    outputs: Vec<(usize, EpochOutput)>,
    record_time: Option<Micros>,
    bytes: usize,
}

/// Commits epochs, and hands their outputs to the sinks.
pub struct Committer {
    journal: Box<dyn Journal>,
    commits: Arc<Commits>,
    shared: Arc<Shared>,
    /// What is being committed, and what is to be done behind it.
    epochs: Vec<Epoch>,
    behind: Vec<Behind>,
    truncated: Vec<u64>,
    /// Whether a commit broke off, and its epochs may have been dropped since.
    unsettled: bool,
    /// Whether more epochs may come.
    more: bool,
    stopping_since: Option<Micros>,
    backoff: Backoff,
}

impl Committer {
    /// A committer to `journal` for the tasks of `shared`.
    pub fn new(journal: Box<dyn Journal>, commits: Arc<Commits>, shared: Arc<Shared>) -> Self {
        let truncated = vec![0; commits.unneeded.len()];
        let (epochs, behind, backoff) = (Vec::new(), Vec::new(), Backoff::seeded(shared.clock.now() as u64));
        let unsettled = false;
        Self { journal, commits, shared, epochs, behind, truncated, unsettled, more: true, stopping_since: None, backoff }
    }

    fn failed(&mut self, error: Error, now: Micros) -> Result<()> {
        if !error.is_transient() {
            return Err(error);
        }
        let deadline = self.shared.settings.stop_deadline.as_micros() as Micros;
        if self.stopping_since.is_some_and(|since| now - since > deadline) {
            return Err(error.within("gave up at the stop's deadline: what is not committed will be run again"));
        }
        CommitFailed { stats: &self.shared.stats.journal, error: &error, now, first: self.backoff.failed(now) }.emit();
        Ok(())
    }

    /// Takes what waits, if all before it is committed.
    fn take(&mut self) {
        if !self.epochs.is_empty() {
            return;
        }
        let mut ended = Vec::new();
        self.more = self.commits.queue.drain(&mut ended);
        for Ended { epoch, outputs, record_time, bytes, term } in ended {
            self.epochs.push(epoch);
            self.behind.push(Behind { outputs, record_time, bytes, term });
        }
    }

    /// Drops epochs of tasks that are not held any more.
    fn drop_lost(&mut self) {
        let terms = &self.shared.terms;
        let held = |(epoch, behind): (&Epoch, &Behind)| terms.holds(epoch.record.task, behind.term);
        if self.epochs.iter().zip(&self.behind).all(held) {
            return;
        }
        let all = self.epochs.drain(..).zip(self.behind.drain(..)).collect::<Vec<_>>();
        for (epoch, behind) in all {
            if terms.holds(epoch.record.task, behind.term) {
                self.epochs.push(epoch);
                self.behind.push(behind);
            } else {
                self.commits.queue.release(behind.bytes);
            }
        }
    }

    fn commit(&mut self) -> Result<()> {
        self.drop_lost();
        if self.epochs.is_empty() {
            if self.unsettled {
                self.journal.commit(&[])?;
                self.unsettled = false;
            }
            return Ok(());
        }
        self.unsettled = true;
        failpoint::reach("journal.before-commit");
        let stopwatch = Stopwatch::start();
        if is_planted(Fault::FeedBeforeCommit) {
            self.hand_over();
        }
        let committed = self.journal.commit(&self.epochs);
        if !is_planted(Fault::FailedCommitForgotten) {
            committed?;
        }
        self.unsettled = false;
        failpoint::reach("journal.committed");
        let (stats, nanos) = (&self.shared.stats.journal, stopwatch.nanos());
        Committed { stats, epochs: self.epochs.len(), nanos, again: self.backoff.worked() }.emit();
        let times: Vec<_> = self.behind.iter().filter_map(|behind| Some((behind.record_time?, 1))).collect();
        self.epochs.iter().for_each(|epoch| self.shared.count_taken(&self.commits.takes, epoch));
        self.hand_over();
        self.epochs.clear();
        let now = self.shared.clock.now();
        for (queue, _) in self.shared.queues.iter().zip(&self.commits.takes).filter(|(_, taken)| **taken) {
            let mut unacknowledged = Unacknowledged::default();
            unacknowledged.extend(times.iter().copied());
            unacknowledged.acknowledged(now, &queue.stats().latency);
            queue.stats().acknowledged(now);
            queue.stats().flush_duration.observe(nanos);
        }
        Ok(())
    }

    /// Gives the sinks what was committed.
    fn hand_over(&mut self) {
        for (epoch, Behind { outputs, record_time, bytes, term }) in self.epochs.iter().zip(self.behind.drain(..)) {
            for (sink, output) in outputs {
                self.shared.queues[sink].hand(Handed { output, record_time, term });
            }
            self.shared.positions.handed(epoch.record.task, epoch.record.epoch);
            self.commits.queue.release(bytes);
        }
    }

    /// Tells the journal which records no checkpoint needs any more.
    fn truncate(&mut self) -> Result<()> {
        for (task, (unneeded, truncated)) in (0..).zip(self.commits.unneeded.iter().zip(&mut self.truncated)) {
            let epoch = unneeded.load(Relaxed);
            if epoch > *truncated {
                self.journal.truncate(task, epoch)?;
                *truncated = epoch;
            }
        }
        Ok(())
    }
}

impl Work for Committer {
    /// Commits what waits. It has ended once the queue is closed and everything in it is committed.
    ///
    /// # Errors
    /// A permanent error of the journal, or a transient one that outlived the deadline of a stop.
    fn step(&mut self) -> Result<Next> {
        self.take();
        if !self.more && self.epochs.is_empty() {
            return Ok(Next::Ended);
        }
        let now = self.shared.clock.now();
        if self.shared.stats.stopping.load(Relaxed) {
            self.stopping_since.get_or_insert(now);
        }
        if !self.backoff.ready(now) {
            return Ok(Next::After(TICK));
        }
        let any = !self.epochs.is_empty();
        if let Err(error) = self.commit().and_then(|()| self.truncate()) {
            self.failed(error, now)?;
        }
        if !any || !self.more {
            return Ok(Next::Queue(TICK));
        }
        let took = Duration::from_micros(self.shared.clock.now().saturating_sub(now).max(0).unsigned_abs());
        Ok(Next::After(took.min(LONGEST_REST)))
    }

    fn wait(&self, at_most: Duration) {
        if self.epochs.is_empty() {
            self.commits.queue.wait_for_items(at_most);
        }
    }
}

impl Shared {
    /// Counts the rows of the sinks that the journal takes as written and safe.
    fn count_taken(&self, takes: &[bool], epoch: &Epoch) {
        let taken = takes.iter().enumerate().filter(|(_, taken)| **taken).map(|(sink, _)| sink);
        for (sink, output) in taken.zip(&epoch.outputs) {
            let stats = self.queues[sink].stats();
            let (rows, bytes) = (output.rows() as u64, output.bytes() as u64);
            self.stats.nodes[stats.node].rows_out.fetch_add(rows, Relaxed);
            for counter in [&stats.rows_written, &stats.rows_safe] {
                counter.fetch_add(rows, Relaxed);
            }
            for counter in [&stats.bytes_written, &stats.bytes_safe] {
                counter.fetch_add(bytes, Relaxed);
            }
            stats.batches_written.fetch_add(output.batches.len() as u64, Relaxed);
            output.batches.iter().for_each(|batch| stats.newest.push(batch.change, output.clock, &batch.rows));
            self.positions.acknowledged(sink, output.task, output.epoch);
        }
    }
}
