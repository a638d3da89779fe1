//! Feeds one sink, at its own pace: takes from the queue, coalesces, spaces, writes, retries, and
//! tells what is safe.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::backlog::Due;
use super::backoff::Backoff;
use super::coalesce::Coalesce;
use super::committer::Commits;
use super::events::{Event, SinkFailed, SinkWorks};
use super::latency::Unacknowledged;
use super::part::{Next, Work};
use super::positions::Positions;
use super::queue::{Item, Request, SinkQueue};
use super::stats::PipelineStats;
use super::terms::Terms;
use crate::graph::{NodeId, SinkNode};
use crate::planted::{Fault, is_planted};
use crate::sink::{EpochOutput, Flushed, Sink};
use crate::table::Emit;
use crate::time::{Clock, Micros, Stopwatch};
use crate::{Error, Result};

/// How long the feed waits for outputs before it looks at the time again.
const TICK: Duration = Duration::from_millis(20);

/// What stands behind one sink.
pub struct Feed {
    name: String,
    node: NodeId,
    index: usize,
    sink: Box<dyn Sink>,
    queue: Arc<SinkQueue>,
    positions: Arc<Positions>,
    stats: Arc<PipelineStats>,
    clock: Arc<dyn Clock>,
    trigger: Micros,
    stop_deadline: Micros,
    coalesce: Option<Coalesce>,
    written: BTreeMap<u32, u64>,
    unsafe_rows: u64,
    unsafe_bytes: u64,
    unacknowledged: Unacknowledged,
    last_round: Option<Micros>,
    stopping_since: Option<Micros>,
    backoff: Backoff,
    terms: Arc<Terms>,
    commits: Option<Arc<Commits>>,
    /// Whether instances share the tasks.
    shares: bool,
    /// Whether all is to be made safe, due or not.
    flush_now: bool,
    /// Whether the last flush failed: the sink gets no more before one works, so that what it holds stays bounded.
    unflushed: bool,
}

/// What a feed shares with the rest of the pipeline.
pub struct Shared {
    /// Where outputs wait.
    pub queue: Arc<SinkQueue>,
    /// Where it tells what is safe.
    pub positions: Arc<Positions>,
    /// Counts.
    pub stats: Arc<PipelineStats>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// How long a stop waits for a sink that cannot be reached.
    pub stop_deadline: Duration,
    /// Which tasks are this instance's.
    pub terms: Arc<Terms>,
    /// Whose epochs they are.
    pub commits: Option<Arc<Commits>>,
    /// Whether instances share the tasks.
    pub shares: bool,
}

impl Feed {
    /// A feed for sink number `index` of the graph.
    pub fn new(index: usize, node: NodeId, plan: &SinkNode, sink: Box<dyn Sink>, shared: Shared) -> Result<Self> {
        let keyed = plan.emit == Emit::Update && !plan.key.is_empty();
        let coalesce = keyed.then(|| Coalesce::new(plan.schema.clone(), plan.key.clone())).transpose()?;
        let backoff = Backoff::seeded(shared.clock.now() as u64 ^ (index as u64 + 1) << 48);
        Ok(Self {
            name: format!("sink {}", plan.table.name),
            node,
            index,
            sink,
            queue: shared.queue,
            positions: shared.positions,
            stats: shared.stats,
            clock: shared.clock,
            trigger: plan.trigger.as_micros() as Micros,
            stop_deadline: shared.stop_deadline.as_micros() as Micros,
            coalesce,
            written: BTreeMap::new(),
            unsafe_rows: 0,
            unsafe_bytes: 0,
            unacknowledged: Unacknowledged::default(),
            last_round: None,
            stopping_since: None,
            backoff,
            terms: shared.terms,
            commits: shared.commits,
            shares: shared.shares,
            flush_now: false,
            unflushed: false,
        })
    }

    fn failed(&mut self, error: Error, now: Micros) -> Result<()> {
        if !error.is_transient() {
            return Err(error.within(&self.name));
        }
        if self.stopping_since.is_some_and(|since| now - since > self.stop_deadline) {
            return Err(error.within(format!("{}: gave up at the stop's deadline", self.name)));
        }
        SinkFailed { stats: self.queue.stats(), error: &error, now, first: self.backoff.failed(now) }.emit();
        Ok(())
    }

    /// Of outputs that wait for a keyed sink, only the newest rows by key are kept.
    fn merge(&mut self) -> Result<()> {
        let Some(coalesce) = &self.coalesce else { return Ok(()) };
        for mut waiting in self.queue.mergeable() {
            waiting.batches = coalesce.newest(&waiting.batches)?;
            self.queue.merged(waiting);
        }
        Ok(())
    }

    /// Does what it is asked for.
    fn serve(&mut self, request: Request) {
        match request {
            Request::Take(number, tasks) => {
                tasks.iter().for_each(|task| self.forget_ended(*task));
                let lineage = self.commits.as_ref().map_or("", |commits| commits.lineage());
                let told = self.sink.take(lineage, &tasks);
                self.queue.answer(number, told.map_err(|e| e.within(&self.name)));
            }
            Request::Release(task) => {
                self.forget_ended(task);
                self.sink.release(task);
            }
            Request::Flush => self.flush_now = true,
        }
    }

    /// What is left of an earlier term of a task is not written.
    fn forget_ended(&mut self, task: u32) {
        self.queue.forget_ended(task, &self.terms);
        self.written.remove(&task);
    }

    /// Tells of tasks whose position somebody else has moved.
    fn heed_moved(&mut self) -> Result<()> {
        let moved = self.sink.take_moved();
        let Some(first) = moved.first() else { return Ok(()) };
        if !self.shares {
            let what = format!("{}: another run of this pipeline has written rows of task {first}", self.name);
            return Err(Error::permanent(what).hint("stop one of them, or give it another pipeline.name"));
        }
        for task in &moved {
            self.queue.forget(*task);
            self.written.remove(task);
        }
        self.queue.tell_moved(moved);
        Ok(())
    }

    /// Writes what is due and flushes.
    fn round(&mut self, now: Micros, stopping: bool) -> Result<Flushed> {
        let force = stopping || self.flush_now;
        // At the queue's bound a round comes early: one slow rhythm must not stop the whole pipeline.
        let due =
            force || self.trigger == 0 || self.queue.is_full() || self.last_round.is_none_or(|last| now - last >= self.trigger);
        let stopwatch = Stopwatch::start();
        if !due || self.unflushed || !self.sink.is_ready() {
            self.merge()?;
        } else if self.queue.is_waiting() {
            self.write_waiting()?;
            self.last_round = Some(now);
        }
        let flushing = Stopwatch::start();
        let flushed = self.sink.flush(now, force);
        self.unflushed = flushed.is_err();
        self.queue.stats().flush_nanos.fetch_add(flushing.nanos(), Relaxed);
        self.heed_moved()?;
        let all = *flushed.as_ref().unwrap_or(&Flushed::Pending) == Flushed::All;
        if all || is_planted(Fault::AcknowledgedBeforeFlush) {
            self.acknowledge(flushing.nanos());
            self.flush_now = false;
        }
        self.stats.nodes[self.node].add_work(stopwatch.nanos(), 0);
        flushed
    }

    /// All that the sink took is safe; the flush that made it so took `nanos`.
    fn acknowledge(&mut self, nanos: u64) {
        if self.written.is_empty() {
            return;
        }
        for (task, epoch) in std::mem::take(&mut self.written) {
            self.positions.acknowledged(self.index, task, epoch);
            self.queue.acknowledged(task, epoch);
        }
        let (stats, now) = (self.queue.stats(), self.clock.now());
        stats.acknowledged(now);
        stats.flush_duration.observe(nanos);
        stats.rows_safe.fetch_add(std::mem::take(&mut self.unsafe_rows), Relaxed);
        stats.bytes_safe.fetch_add(std::mem::take(&mut self.unsafe_bytes), Relaxed);
        self.unacknowledged.acknowledged(now, &stats.latency);
    }

    fn write_waiting(&mut self) -> Result<()> {
        let keyed = self.coalesce.is_some();
        // What comes meanwhile has time until the next round: this one is to be flushed.
        for (task, until) in self.queue.waiting_tasks() {
            while let Some(due) = self.queue.due(task, keyed)?.filter(|due| keyed || due.output.epoch <= until) {
                if !self.terms.holds(task, due.term) {
                    self.forget_ended(task);
                    break;
                }
                let epoch = due.output.epoch;
                self.write(due)?;
                self.unacknowledged.extend(self.queue.take_times(task, epoch));
                if epoch >= until {
                    break;
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, due: Due) -> Result<()> {
        let merged;
        let output = match &self.coalesce {
            Some(coalesce) if due.output.batches.len() > 1 => {
                let EpochOutput { task, epoch, clock, .. } = *due.output;
                merged = EpochOutput { task, epoch, clock, batches: coalesce.newest(&due.output.batches)? };
                &merged
            }
            _ => due.output.as_ref(),
        };
        let stopwatch = Stopwatch::start();
        let written = self.sink.write(output);
        let stats = self.queue.stats();
        stats.write_nanos.fetch_add(stopwatch.nanos(), Relaxed);
        written?;
        output.batches.iter().for_each(|batch| stats.newest.push(batch.change, output.clock, &batch.rows));
        let (rows, bytes) = (output.rows() as u64, output.bytes() as u64);
        self.unsafe_rows += rows;
        self.unsafe_bytes += bytes;
        self.stats.nodes[self.node].rows_out.fetch_add(rows, Relaxed);
        stats.rows_written.fetch_add(rows, Relaxed);
        stats.bytes_written.fetch_add(bytes, Relaxed);
        stats.batches_written.fetch_add(output.batches.len() as u64, Relaxed);
        self.written.insert(output.task, output.epoch);
        self.queue.took(&due);
        Ok(())
    }
}

impl Work for Feed {
    /// Takes what waits, and writes what is due. It has ended once the queue is closed and everything is safe.
    ///
    /// # Errors
    /// A permanent error of the sink, or a transient one that outlived the deadline of a stop.
    fn step(&mut self) -> Result<Next> {
        let mut taken = Vec::new();
        let more = self.queue.drain(&mut taken);
        for item in taken {
            match item {
                Item::Output => {}
                Item::Request(request) => self.serve(request),
            }
        }
        let now = self.clock.now();
        if !more {
            self.stopping_since.get_or_insert(now);
        }
        if !self.backoff.ready(now) {
            self.merge().map_err(|e| e.within(&self.name))?;
            return Ok(Next::After(TICK));
        }
        match self.round(now, !more) {
            Ok(Flushed::All) if !more && !self.queue.is_waiting() => {
                self.sink.close().map_err(|e| e.within(&self.name))?;
                return Ok(Next::Ended);
            }
            Ok(Flushed::Trying) => {}
            Ok(Flushed::All | Flushed::Pending) => SinkWorks { stats: self.queue.stats(), again: self.backoff.worked() }.emit(),
            Err(e) => self.failed(e, now)?,
        }
        Ok(Next::Queue(TICK))
    }

    fn wait(&self, at_most: Duration) {
        self.queue.wait_for_items(at_most);
    }
}
