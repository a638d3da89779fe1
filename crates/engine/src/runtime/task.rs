//! One task: the readers of one partition number (or of all), its dataflow, and its epochs.
//!
//! Invariant: what decided an epoch and does not follow from the state before it stands in its record: what was read in what
//! order, the clock, which watermarks were lifted, which inputs ended. `repeat` runs an epoch from its record.

mod repeat;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use super::asked::Asked;
use super::committer::{Commits, Ended};
use super::dataflow::Dataflow;
use super::events::{BadRecords, Event, Idle, LateRows, SourceFailed, SourceWorks};
use super::input::Input;
use super::pending::Owed;
use super::positions::Positions;
use super::queue::{Handed, SinkQueue};
use super::settings::Settings;
use super::stats::{Phase, PhaseTimes, PipelineStats};
use super::terms::Terms;
use super::watermark::Watermark;
use crate::batch::{Batch, Change, Port};
use crate::checkpoint::Checkpoint;
use crate::dead_letter;
use crate::failpoint;
use crate::graph::NodeId;
use crate::journal::{Epoch, Record, Stop};
use crate::planted::{Fault, is_planted};
use crate::sink::EpochOutput;
use crate::source::{Fetch, Limit, OnBadRecord, Poll};
use crate::time::{Clock, MAX_TIME, MIN_TIME, Micros, Stopwatch};
use crate::{Error, Result};
use repeat::Repeat;

/// Raw bytes of a chunk, about.
const CHUNK_BYTES: usize = 4 << 20;

/// What a task shares with the rest of the pipeline.
pub struct Shared {
    /// Bounds.
    pub settings: Settings,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub stats: Arc<PipelineStats>,
    /// One queue per sink, in the order of the graph's sinks.
    pub queues: Vec<Arc<SinkQueue>>,
    /// Ends of epochs.
    pub positions: Arc<Positions>,
    /// By task: the checkpoint that waits until it may be written.
    pub checkpoints: Vec<Mutex<Option<Taken>>>,
    /// Which tasks are this instance's.
    pub terms: Arc<Terms>,
    /// What the workers are asked for, and what became of it.
    pub asked: Asked,
    /// Where epochs wait until they are committed. `None`: no journal is kept, sinks get outputs at once.
    pub commits: Option<Arc<Commits>>,
}

/// A checkpoint that is not written yet.
pub struct Taken {
    /// The term of its task.
    pub term: u64,
    /// What is to be written.
    pub checkpoint: Checkpoint,
    /// When it was taken.
    pub at: Micros,
    /// Whether somebody waits for it: the task is given up, or the run ends.
    pub is_urgent: bool,
}

/// What an attempt at an epoch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// An epoch was handed to the sinks.
    Worked,
    /// So was this one, and more waits to be read.
    Behind,
    /// There was nothing to do.
    Idle,
    /// The last epoch of a bounded input was handed over.
    Ended,
}

/// A task.
pub struct Task {
    number: u32,
    /// What it makes counts only in this term.
    term: u64,
    inputs: Vec<Input>,
    dataflow: Dataflow,
    shared: Arc<Shared>,
    epoch: u64,
    clock: Micros,
    /// Epoch and clock of the last checkpoint, and how long it took.
    checkpointed: (u64, Micros, Micros),
    /// Where the time of this attempt at an epoch went.
    times: PhaseTimes,
    /// The newest time that a record of this epoch has of its own.
    record_time: Option<Micros>,
    /// What decided this epoch so far.
    decided: Decided,
    /// What is to be run again, before anything new.
    repeat: Repeat,
    /// By sink: outputs of its checkpoint that the sink may lack.
    owed: Owed,
    ended: bool,
}

/// What decides an epoch: the parts of its [`Record`] that grow as it runs.
#[derive(Default)]
struct Decided {
    chunks: Vec<Vec<Stop>>,
    lifts: Vec<(usize, u32, Micros)>,
    ended: Vec<(usize, usize, u32)>,
}

impl Task {
    /// Task number `number` over `inputs`.
    pub fn new(number: u32, inputs: Vec<Input>, dataflow: Dataflow, shared: Arc<Shared>) -> Self {
        let stats = &shared.stats.tasks[number as usize];
        stats.watermark.store(MIN_TIME, Relaxed);
        shared.asked.written(number, 0);
        Self {
            number,
            term: shared.terms.of(number),
            inputs,
            dataflow,
            epoch: 0,
            clock: MIN_TIME,
            checkpointed: (0, shared.clock.now(), 0),
            times: PhaseTimes::default(),
            record_time: None,
            decided: Decided::default(),
            repeat: Repeat::default(),
            owed: Vec::new(),
            ended: false,
            shared,
        }
    }

    /// Takes up the state of a checkpoint; the inputs stand at its positions already. `owed` by sink: the outputs in it.
    pub fn resume(&mut self, checkpoint: Checkpoint, owed: Owed) -> Result<()> {
        failpoint::reach("restore");
        self.owed = owed;
        self.shared.positions.kept(self.number as usize, checkpoint.epoch);
        (self.epoch, self.clock) = (checkpoint.epoch, checkpoint.clock);
        self.checkpointed.0 = checkpoint.epoch;
        self.shared.asked.written(self.number, checkpoint.epoch);
        self.shared.stats.tasks[self.number as usize].epoch.store(checkpoint.epoch, Relaxed);
        self.dataflow.restore(checkpoint.states)
    }

    /// Takes a checkpoint if one is due, or with `force` if anything happened since the last.
    ///
    /// It costs what changed, and now and then a merge of what is kept: so that this does not take all the time, the next one
    /// is due no sooner than ten times what this one took.
    pub fn checkpoint(&mut self, force: bool) -> Result<()> {
        let settings = &self.shared.settings;
        let (epoch, at, took) = self.checkpointed;
        let now = self.shared.clock.now();
        let due = now - at >= (settings.checkpoint_interval.as_micros() as Micros).max(10 * took);
        let slot = &self.shared.checkpoints[self.number as usize];
        if force && let Some(taken) = &mut *slot.lock().unwrap_or_else(PoisonError::into_inner) {
            taken.is_urgent = true;
        }
        // Between two epochs only: the first of those to be run again may be half done.
        if settings.checkpoints.is_none() || epoch == self.epoch || !(due || force) || self.repeat.is_due() {
            return Ok(());
        }
        let waits = |slot: &Option<Taken>| slot.as_ref().is_some_and(|taken| taken.term == self.term);
        if !force && waits(&slot.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(());
        }
        let stopwatch = Stopwatch::start();
        let states = self.dataflow.snapshot()?;
        self.times.add(Phase::Checkpoint, stopwatch.nanos());
        let positions = self.inputs.iter().map(Input::position).collect();
        let lineage = self.shared.commits.as_ref().map(|commits| commits.lineage().to_owned());
        let (epoch, clock, pending) = (self.epoch, self.clock, Vec::new());
        self.shared.queues.iter().for_each(|queue| queue.seal(self.number, self.term, epoch));
        let checkpoint = Checkpoint { epoch, clock, lineage, positions, states, pending, made_by: None };
        let taken = Taken { term: self.term, checkpoint, at: now, is_urgent: force };
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
        self.checkpointed = (self.epoch, now, self.shared.clock.now() - now);
        Ok(())
    }

    /// Takes the checkpoint that [`Asked::checkpoint`] wants, unless nothing happened since the last one. `false`: not yet, for
    /// what was recorded is being run again.
    pub fn answer(&mut self, request: u64) -> Result<bool> {
        if self.repeat.is_due() {
            return Ok(false);
        }
        self.checkpoint(true)?;
        self.shared.asked.taken(self.number, request, self.checkpointed.0);
        Ok(true)
    }

    /// It was paused for this long: time in which nobody read is no silence of its partitions.
    pub fn stood_still(&mut self, paused: Micros) {
        let now = self.shared.clock.now();
        self.inputs.iter_mut().for_each(|input| input.last_data = input.last_data.saturating_add(paused).min(now));
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The last epoch that was handed over.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Where its inputs are.
    pub fn ends(&self) -> impl Iterator<Item = Stop> {
        self.inputs.iter().map(|input| Stop { source: input.place.0, partition: input.place.1, offset: input.offset })
    }

    /// It is not this instance's any more: nothing is told of it.
    pub fn count_gone(&self) {
        self.inputs.iter().for_each(|input| input.stats(&self.shared.stats).released());
        let stats = &self.shared.stats.tasks[self.number as usize];
        stats.lag.store(0, Relaxed);
        stats.watermark.store(MIN_TIME, Relaxed);
    }

    /// Whether everything was read and handed over.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Counts time that the task's worker waited for sinks.
    pub fn count_backpressure(&self, nanos: u64) {
        self.shared.stats.tasks[self.number as usize].backpressure_nanos.fetch_add(nanos, Relaxed);
    }

    /// Reads what is there and runs it through the dataflow as one epoch.
    pub fn run_epoch(&mut self) -> Result<Progress> {
        if self.repeat.is_due() {
            return self.run_again();
        }
        if self.ended {
            return Ok(Progress::Ended);
        }
        let now = self.shared.clock.now();
        let clock = now.max(self.clock.saturating_add(2));
        (self.times, self.record_time) = (PhaseTimes::default(), None);
        // An input stays ended for as long as this run lasts: each record says so, whichever one a repetition begins with.
        let ended_before = self.inputs.iter().filter(|i| i.ended).map(|i| (0, i.place.0, i.place.1));
        self.decided.ended = ended_before.collect();
        let ended_before = self.decided.ended.len();
        let rows = self.read(clock)?;
        let ended = self.inputs.iter().all(|i| i.ended);
        let moved = self.move_watermarks(now, ended);
        self.tell_lag();
        let due = self.dataflow.is_due(clock);
        if rows == 0 && !moved && !ended && !due && self.decided.ended.len() == ended_before {
            // What came last is kept in time too, whether or not anything follows it.
            self.checkpoint(false)?;
            return Ok(Progress::Idle);
        }
        self.clock = clock;
        self.dataflow.set_clock(clock);
        self.pass(true)?;
        let stopwatch = Stopwatch::start();
        self.hand_over()?;
        self.times.add(Phase::HandOver, stopwatch.nanos());
        self.checkpoint(false)?;
        self.shared.stats.tasks[self.number as usize].ended_epoch(clock, &self.times);
        self.ended = ended;
        Ok(match ended {
            true => Progress::Ended,
            false if rows >= self.shared.settings.chunk_rows => Progress::Behind,
            false => Progress::Worked,
        })
    }

    /// Reads chunk by chunk until there is nothing more, or the epoch's bound; returns records read.
    fn read(&mut self, clock: Micros) -> Result<usize> {
        let (began, bound) = (self.shared.clock.now(), self.shared.settings.epoch_interval.as_micros() as Micros);
        let mut left: Vec<usize> = self.inputs.iter().map(|i| i.round_rows.min(self.shared.settings.epoch_rows)).collect();
        let mut total = 0;
        loop {
            let mut read = 0;
            let mut chunk = Vec::new();
            for (i, left) in left.iter_mut().enumerate() {
                let rows = (*left).min(self.shared.settings.chunk_rows);
                let got = if rows > 0 { self.poll(i, Limit::new(rows, CHUNK_BYTES), clock)? } else { 0 };
                *left = left.saturating_sub(got);
                read += got;
                if got > 0 {
                    let Input { place: (source, partition), offset, .. } = self.inputs[i];
                    chunk.push(Stop { source, partition, offset });
                }
            }
            if read == 0 {
                return Ok(total);
            }
            total += read;
            self.decided.chunks.push(chunk);
            self.move_watermarks(MIN_TIME, false);
            self.pass(false)?;
            if total >= self.shared.settings.epoch_rows || self.shared.clock.now() - began >= bound {
                return Ok(total);
            }
        }
    }

    fn pass(&mut self, end: bool) -> Result<()> {
        let stopwatch = Stopwatch::start();
        let passed = self.dataflow.pass(end);
        self.times.add(Phase::Operators, stopwatch.nanos());
        passed
    }

    /// Polls one input and gives what it has to the dataflow; returns records read.
    fn poll(&mut self, i: usize, limit: Limit, clock: Micros) -> Result<usize> {
        let input = &mut self.inputs[i];
        let now = self.shared.clock.now();
        if input.ended || !input.backoff.ready(now) {
            return Ok(0);
        }
        let stopwatch = Stopwatch::start();
        let poll = input.reader.poll(limit, clock);
        let nanos = stopwatch.nanos();
        self.times.add(Phase::Read, nanos);
        let stats = input.stats(&self.shared.stats);
        match poll {
            Ok(Poll::Pending) => {
                stats.polled.store(true, Relaxed);
                Ok(0)
            }
            Ok(Poll::End) => {
                input.ended = true;
                self.decided.ended.push((self.decided.chunks.len(), input.place.0, input.place.1));
                stats.polled.store(true, Relaxed);
                stats.ended.store(true, Relaxed);
                Ok(0)
            }
            Ok(Poll::Ready(fetch)) => {
                self.shared.stats.nodes[input.node].add_work(nanos, 0);
                SourceWorks { source: &input.name, stats, again: input.backoff.worked() }.emit();
                let stopwatch = Stopwatch::start();
                let taken = self.take(i, fetch, clock);
                self.times.add(Phase::Read, stopwatch.nanos());
                taken
            }
            Err(e) if e.is_transient() => {
                let first = input.backoff.failed(now);
                SourceFailed { source: &input.name, stats, error: &e, now, first }.emit();
                Ok(0)
            }
            Err(e) => Err(e.within(format!("source {}", input.name))),
        }
    }

    fn take(&mut self, i: usize, fetch: Fetch, clock: Micros) -> Result<usize> {
        let input = &mut self.inputs[i];
        let stats = &self.shared.stats.nodes[input.node];
        let records = fetch.rows.num_rows() + fetch.bad.len();
        stats.rows_in.fetch_add(records as u64, Relaxed);
        stats.bytes.fetch_add(fetch.bytes as u64, Relaxed);
        stats.batches.fetch_add(1, Relaxed);
        let partition = input.stats(&self.shared.stats);
        partition.read(records as u64, fetch.bytes as u64, fetch.next_offset, clock);
        input.offset = fetch.next_offset;
        input.last_data = clock;
        self.record_time = self.record_time.max(fetch.newest_record_time);
        if !fetch.bad.is_empty() {
            let (first, (source, partition)) = (stats.bad().is_empty(), input.origin());
            let origin = (source.as_str(), partition);
            BadRecords { node: stats, origin, clock, records: &fetch.bad, fate: input.on_bad, first }.emit();
        }
        if let (OnBadRecord::Fail, Some(bad)) = (input.on_bad, fetch.bad.first()) {
            let (source, partition) = input.origin();
            let place = format!("source {source}: record at partition {partition}, offset {}", bad.offset);
            return Err(Error::permanent(format!("{place}: {}: {}", bad.reason, bad.detail))
                .hint("bad_records = 'drop' or 'dead_letter' (with dead_letter_topic or dead_letter_path) lets the rest go on"));
        }
        let letters = match input.on_bad {
            OnBadRecord::DeadLetter if !fetch.bad.is_empty() => {
                let (source, partition) = input.origin();
                Some(dead_letter::rows(&source, partition, clock, &fetch.bad)?)
            }
            _ => None,
        };
        let (rows, late) = match &mut input.watermark {
            Some(watermark) => watermark.observe(fetch.rows)?,
            None => (fetch.rows, None),
        };
        if let Some(spread) = input.watermark.as_mut().and_then(Watermark::take_spread) {
            partition.event_times.add(spread);
        }
        let node = input.node;
        self.dataflow.push(node, Port::Rows, Batch::insert(rows));
        if let Some(late) = late {
            let first = partition.late.load(Relaxed) == 0;
            LateRows { node: stats, stats: partition, rows: late.num_rows() as u64, first }.emit();
            stats.late_rows.push(Change::Late, clock, &late);
            self.dataflow.push(node, Port::Late, Batch::insert(late.clone()));
            self.dataflow.push(node, Port::Rows, Batch { rows: late, change: Change::Late });
        }
        if let Some(letters) = letters {
            self.dataflow.push(node, Port::DeadLetters, Batch::insert(letters));
        }
        Ok(records)
    }

    /// Tells the dataflow each source's watermark, the minimum over its partitions; `now` lifts idle ones. Whether one moved.
    fn move_watermarks(&mut self, now: Micros, ended: bool) -> bool {
        let mut sources: Vec<(NodeId, Micros)> = Vec::new();
        let mut lifted = false;
        for input in &mut self.inputs {
            let watermark = match &mut input.watermark {
                _ if ended || input.ended => MAX_TIME,
                None => {
                    let (least, greatest) = self.dataflow.gathered(input.node);
                    // Idle partitions here may lag behind those that other instances read.
                    for newest in &input.behind {
                        newest.fetch_max(greatest, Relaxed);
                    }
                    least
                }
                Some(watermark) => {
                    let idle = now.saturating_sub(input.last_data) > input.idle && !input.reader.holds();
                    let before = watermark.current();
                    if idle {
                        watermark.lift(input.newest.load(Relaxed));
                    }
                    let current = watermark.current();
                    if current > before {
                        self.decided.lifts.push((input.place.0, input.place.1, current));
                        lifted = true;
                    }
                    let stats = &self.shared.stats.partitions[input.index];
                    if now != MIN_TIME && idle != stats.idle.load(Relaxed) {
                        Idle { source: &input.name, stats, watermark: current, idle }.emit();
                    } else {
                        stats.set_watermark(current);
                    }
                    input.newest.fetch_max(current, Relaxed);
                    current
                }
            };
            match sources.iter_mut().find(|(node, _)| *node == input.node) {
                Some((_, least)) => *least = watermark.min(*least),
                None => sources.push((input.node, watermark)),
            }
        }
        let least = sources.iter().map(|(_, w)| *w).min().unwrap_or(MIN_TIME);
        for (node, watermark) in sources {
            self.dataflow.set_watermark(node, watermark);
        }
        let told = &self.shared.stats.tasks[self.number as usize].watermark;
        if least == MAX_TIME {
            return true;
        }
        told.fetch_max(least, Relaxed) < least || lifted
    }

    fn tell_lag(&self) {
        let mut lag = 0;
        for input in &self.inputs {
            let behind = input.reader.lag();
            input.stats(&self.shared.stats).at(input.offset, behind);
            lag += behind.unwrap_or(0);
        }
        self.shared.stats.tasks[self.number as usize].lag.store(lag, Relaxed);
    }

    /// Ends the epoch: its positions are kept, its outputs go to the queues, behind the commit of its record.
    fn hand_over(&mut self) -> Result<()> {
        self.epoch += 1;
        let end = self.inputs.iter().map(|i| (i.place, i.offset)).collect();
        self.shared.positions.ended(self.number, self.epoch, end);
        let (task, epoch, clock) = (self.number, self.epoch, self.clock);
        let outputs = self.dataflow.take_outputs().into_iter().map(|batches| EpochOutput { task, epoch, clock, batches });
        let outputs: Vec<(usize, EpochOutput)> = outputs.enumerate().collect();
        let record_time = self.record_time;
        if self.repeat.is_due() {
            self.hand_over_again(outputs)?;
        } else if let Some(commits) = self.shared.commits.clone() {
            let Decided { chunks, lifts, ended } = std::mem::take(&mut self.decided);
            let lifts = if is_planted(Fault::LiftsNotRecorded) { Vec::new() } else { lifts };
            let rows = outputs.iter().map(|(_, o)| o.rows() as u64).collect();
            let record = Record { task, epoch, clock, chunks, lifts, ended, rows };
            let bytes = outputs.iter().map(|(_, o)| o.bytes()).sum();
            let (taken, outputs): (Vec<_>, Vec<_>) = outputs.into_iter().partition(|(sink, _)| commits.takes[*sink]);
            let (outputs_taken, ends) = (taken.into_iter().map(|(_, output)| output).collect(), self.ends().collect());
            let (epoch, term) = (Epoch { record, outputs: outputs_taken, ends }, self.term);
            commits.queue.push(Ended { epoch, outputs, record_time, bytes, term }, bytes);
        } else {
            self.decided = Decided::default();
            let term = self.term;
            outputs.into_iter().for_each(|(sink, output)| self.shared.queues[sink].hand(Handed { output, record_time, term }));
            self.shared.positions.handed(task, epoch);
        }
        self.shared.stats.tasks[self.number as usize].epoch.store(self.epoch, Relaxed);
        Ok(())
    }
}
