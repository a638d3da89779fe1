//! One task: the readers of one partition number (or of all), its dataflow, and its epochs.
//!
//! Invariant: what decided an epoch and does not follow from the state before it stands in its record: what was read in what
//! order, the clock, which watermarks were lifted, which inputs ended. `repeat` runs an epoch from its record.

mod checkpoint;
mod read;
mod repeat;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use super::asked::Asked;
use super::committer::{Commits, Ended};
use super::dataflow::Dataflow;
use super::input::Input;
use super::pending::Owed;
use super::positions::Positions;
use super::queue::{Handed, SinkQueue};
use super::settings::Settings;
use super::stats::{Phase, PhaseTimes, PipelineStats};
use super::terms::Terms;
use crate::Result;
use crate::journal::{Epoch, Record, Stop};
use crate::planted::{Fault, is_planted};
use crate::sink::EpochOutput;
use crate::time::{Clock, MIN_TIME, Micros, Stopwatch};

pub use self::checkpoint::Taken;
use self::repeat::Repeat;

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
