//! Feeds one sink, at its own pace: takes from the queue, coalesces, spaces, writes, retries, and
//! tells what is safe.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::backoff::Backoff;
use super::coalesce::Coalesce;
use super::committer::Commits;
use super::events::{Event, SinkFailed, SinkWorks};
use super::latency::Unacknowledged;
use super::part::{Next, Work};
use super::positions::Positions;
use super::queue::{Handed, Item, Request, SinkQueue};
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
    pending: BTreeMap<u32, Pending>,
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
}

/// Outputs of one task that were taken from the queue and not yet written.
#[derive(Default)]
struct Pending {
    outputs: VecDeque<EpochOutput>,
    record_times: Unacknowledged,
    rows: usize,
    coalesced: usize,
    bytes: usize,
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
            pending: BTreeMap::new(),
            written: BTreeMap::new(),
            unsafe_rows: 0,
            unsafe_bytes: 0,
            unacknowledged: Unacknowledged::default(),
            last_round: None,
            stopping_since: None,
            backoff: Backoff::default(),
            terms: shared.terms,
            commits: shared.commits,
            shares: shared.shares,
            flush_now: false,
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

    /// Keeps an output until the next round; of a keyed sink only the newest rows.
    fn take(&mut self, handed: Handed) -> Result<()> {
        let Handed { mut output, record_time, term } = handed;
        let (rows, bytes) = (output.rows(), output.bytes());
        if !self.terms.holds(output.task, term) {
            self.queue.release(bytes);
            return Ok(());
        }
        let newest = &self.queue.stats().newest;
        output.batches.iter().for_each(|batch| newest.push(batch.change, output.clock, &batch.rows));
        let waits = self.trigger > 0 || !self.sink.is_ready();
        let pending = self.pending.entry(output.task).or_default();
        pending.rows += rows;
        pending.bytes += bytes;
        pending.record_times.extend(record_time.map(|time| (time, 1)));
        match (&self.coalesce, pending.outputs.back_mut()) {
            (Some(coalesce), Some(last)) => {
                last.batches.append(&mut output.batches);
                (last.epoch, last.clock) = (output.epoch, output.clock);
                if waits && pending.rows > 2 * pending.coalesced + 8192 {
                    last.batches = coalesce.newest(&last.batches)?;
                    pending.rows = last.rows();
                    pending.coalesced = pending.rows;
                    let kept = last.bytes().min(pending.bytes);
                    self.queue.release(pending.bytes - kept);
                    pending.bytes = kept;
                }
            }
            _ => pending.outputs.push_back(output),
        }
        Ok(())
    }

    /// Does what it is asked for.
    fn serve(&mut self, request: Request) {
        match request {
            Request::Take(number, tasks) => {
                tasks.iter().for_each(|task| self.forget(*task));
                let lineage = self.commits.as_ref().map_or("", |commits| commits.lineage());
                let told = self.sink.take(lineage, &tasks);
                self.queue.answer(number, told.map_err(|e| e.within(&self.name)));
            }
            Request::Release(task) => {
                self.forget(task);
                self.sink.release(task);
            }
            Request::Flush => self.flush_now = true,
        }
    }

    /// What is pending of a task is not written.
    fn forget(&mut self, task: u32) {
        if let Some(pending) = self.pending.remove(&task) {
            self.queue.release(pending.bytes);
        }
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
        moved.iter().for_each(|task| self.forget(*task));
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
        if due && !self.pending.is_empty() && self.sink.is_ready() {
            self.write_pending()?;
            self.last_round = Some(now);
        }
        let flushing = Stopwatch::start();
        let flushed = self.sink.flush(now, force);
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
        }
        let (stats, now) = (self.queue.stats(), self.clock.now());
        stats.acknowledged(now);
        stats.flush_duration.observe(nanos);
        stats.rows_safe.fetch_add(std::mem::take(&mut self.unsafe_rows), Relaxed);
        stats.bytes_safe.fetch_add(std::mem::take(&mut self.unsafe_bytes), Relaxed);
        self.unacknowledged.acknowledged(now, &stats.latency);
    }

    fn write_pending(&mut self) -> Result<()> {
        while let Some(mut entry) = self.pending.first_entry() {
            let pending = entry.get_mut();
            if let (Some(coalesce), Some(output)) = (&self.coalesce, pending.outputs.front_mut())
                && output.batches.len() > 1
            {
                output.batches = coalesce.newest(&output.batches)?;
            }
            while let Some(output) = pending.outputs.front() {
                let stopwatch = Stopwatch::start();
                let written = self.sink.write(output);
                let stats = self.queue.stats();
                stats.write_nanos.fetch_add(stopwatch.nanos(), Relaxed);
                written?;
                let (rows, bytes) = (output.rows() as u64, output.bytes());
                self.unsafe_rows += rows;
                self.unsafe_bytes += bytes as u64;
                self.stats.nodes[self.node].rows_out.fetch_add(rows, Relaxed);
                stats.rows_written.fetch_add(rows, Relaxed);
                stats.bytes_written.fetch_add(bytes as u64, Relaxed);
                stats.batches_written.fetch_add(output.batches.len() as u64, Relaxed);
                self.written.insert(output.task, output.epoch);
                let bytes = bytes.min(pending.bytes);
                pending.bytes -= bytes;
                self.queue.release(bytes);
                pending.outputs.pop_front();
            }
            self.queue.release(pending.bytes);
            self.unacknowledged.extend(pending.record_times.drain());
            entry.remove();
        }
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
                Item::Output(handed) => self.take(handed).map_err(|e| e.within(&self.name))?,
                Item::Request(request) => self.serve(request),
            }
        }
        let now = self.clock.now();
        if !more {
            self.stopping_since.get_or_insert(now);
        }
        if !self.backoff.ready(now) {
            return Ok(Next::After(TICK));
        }
        match self.round(now, !more) {
            Ok(Flushed::All) if !more && self.pending.is_empty() => {
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
