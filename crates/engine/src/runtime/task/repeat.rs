//! Epochs that had happened before the task's last end and are not in its checkpoint: run again from their records, they give
//! the same rows, and each sink gets what it lacks.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

use super::{CHUNK_BYTES, Decided, Progress, Task};
use crate::failpoint;
use crate::journal::{Record, Stop};
use crate::planted::{Fault, is_planted};
use crate::runtime::positions::Place;
use crate::runtime::queue::Handed;
use crate::runtime::stats::PhaseTimes;
use crate::sink::EpochOutput;
use crate::source::Limit;
use crate::time::MIN_TIME;
use crate::{Error, Result};

/// What is to be run again, and how far it got.
#[derive(Default)]
pub struct Repeat {
    records: VecDeque<Record>,
    /// In the first record: the chunk, and its part, that are read now.
    at: (usize, usize),
    /// By sink: the last epoch whose rows it holds.
    held: Vec<u64>,
}

impl Repeat {
    /// Whether there is anything left.
    pub fn is_due(&self) -> bool {
        !self.records.is_empty()
    }
}

const OTHER_ROWS: &str = "the program, the script's functions or the records in the source are not what they were: go on with the version that wrote the \
                          journal, or SET another pipeline.name to begin with empty state";

impl Task {
    /// Before anything new these epochs are run again; `held` by sink: the last epoch whose rows it holds.
    ///
    /// # Errors
    /// The outputs in the checkpoint cannot be read.
    pub fn repeat(&mut self, mut records: Vec<Record>, held: Vec<u64>) -> Result<()> {
        self.hand_over_owed(&held)?;
        if is_planted(Fault::EpochsReused) {
            records.clear();
        }
        if is_planted(Fault::RepeatSkipsEpoch) && records.len() > 1 {
            records.remove(0);
            self.epoch += 1;
        }
        if let (Some(first), Some(last)) = (records.first(), records.last()) {
            tracing::info!("task {}: epochs {} to {} are run again from the journal", self.number, first.epoch, last.epoch);
        }
        self.repeat = Repeat { records: records.into(), at: (0, 0), held };
        Ok(())
    }

    /// Gives each sink what it lacks of the outputs in the checkpoint.
    fn hand_over_owed(&mut self, held: &[u64]) -> Result<()> {
        let (task, term) = (self.number, self.term);
        for (sink, parts) in std::mem::take(&mut self.owed) {
            let held = held.get(sink).copied().unwrap_or(0);
            let held = if is_planted(Fault::PendingGivenAgain) { 0 } else { held };
            let (queue, mut count) = (&self.shared.queues[sink], 0);
            for output in parts.iter().flat_map(|part| part.outputs(task)) {
                let output = output?;
                if output.epoch > held && !is_planted(Fault::PendingNotGiven) {
                    queue.hand(Handed { output, record_time: None, term });
                    count += 1;
                }
            }
            if count > 0 {
                let name = &queue.stats().name;
                tracing::info!("task {task}: sink {name} gets {count} outputs of the checkpoint that it did not have then");
            }
        }
        Ok(())
    }

    /// Goes on with the first recorded epoch: until its end, or until its source has no more right now.
    pub(super) fn run_again(&mut self) -> Result<Progress> {
        let Some(mut record) = self.repeat.records.pop_front() else { return Ok(Progress::Idle) };
        if is_planted(Fault::RepeatFreshClock) {
            record.clock = self.shared.clock.now();
        }
        let progress = self.run_record(&record);
        self.repeat.records.push_front(record);
        if progress? == Progress::Idle {
            return Ok(Progress::Idle);
        }
        self.hand_over()?;
        self.repeat.records.pop_front();
        self.repeat.at = (0, 0);
        self.decided = Decided::default();
        let stats = &self.shared.stats;
        stats.tasks[self.number as usize].ended_epoch(self.clock, &self.times);
        stats.journal.repeated.fetch_add(1, Relaxed);
        (self.times, self.record_time) = (PhaseTimes::default(), None);
        failpoint::reach("repeat");
        if !self.repeat.is_due() {
            // Whoever was idle before the end is given its time anew.
            let now = self.shared.clock.now();
            self.inputs.iter_mut().for_each(|input| input.last_data = now);
            tracing::info!("task {}: goes on behind epoch {}", self.number, self.epoch);
        }
        self.ended = !self.repeat.is_due() && self.inputs.iter().all(|input| input.ended);
        Ok(if self.ended { Progress::Ended } else { Progress::Behind })
    }

    /// The same steps as those of the epoch that was recorded.
    fn run_record(&mut self, record: &Record) -> Result<Progress> {
        if self.repeat.at == (0, 0) {
            self.reopen_inputs(record);
        }
        while let Some(chunk) = record.chunks.get(self.repeat.at.0) {
            while let Some(stop) = chunk.get(self.repeat.at.1) {
                if !self.read_until(*stop, record)? {
                    return Ok(Progress::Idle);
                }
                self.repeat.at.1 += 1;
            }
            self.end_inputs(record);
            self.move_watermarks(MIN_TIME, false);
            self.pass(false)?;
            self.repeat.at = (self.repeat.at.0 + 1, 0);
        }
        self.end_inputs(record);
        for (source, partition, floor) in &record.lifts {
            let i = self.input_of((*source, *partition))?;
            if let Some(watermark) = &mut self.inputs[i].watermark {
                watermark.lift(*floor);
            }
        }
        let ended = self.inputs.iter().all(|input| input.ended);
        self.move_watermarks(MIN_TIME, ended);
        self.clock = record.clock;
        self.dataflow.set_clock(record.clock);
        self.pass(true)?;
        Ok(Progress::Worked)
    }

    /// Inputs that had ended and then had not: the epoch began another run, with watermarks made anew from those of the inputs.
    fn reopen_inputs(&mut self, record: &Record) {
        let had_ended = |place: Place| record.ended.iter().any(|(_, source, partition)| (*source, *partition) == place);
        for input in self.inputs.iter_mut().filter(|input| input.ended && !had_ended(input.place)) {
            input.ended = false;
            self.dataflow.forget_watermarks();
        }
    }

    /// Inputs that were found to have ended in this chunk.
    fn end_inputs(&mut self, record: &Record) {
        let chunk = self.repeat.at.0;
        for (_, source, partition) in record.ended.iter().filter(|(at, ..)| *at == chunk) {
            for input in self.inputs.iter_mut().filter(|input| input.place == (*source, *partition)) {
                input.ended = true;
            }
        }
    }

    fn input_of(&self, place: (usize, u32)) -> Result<usize> {
        self.inputs.iter().position(|input| input.place == place).ok_or_else(|| {
            let message = format!("the journal has a partition {} of source {}, which is not there", place.1, place.0);
            Error::permanent(message).hint("was a topic created anew with fewer partitions?")
        })
    }

    /// Reads up to where the epoch read; whether it is there.
    fn read_until(&mut self, stop: Stop, record: &Record) -> Result<bool> {
        let i = self.input_of((stop.source, stop.partition))?;
        let limit = Limit { until: stop.offset, ..Limit::new(self.shared.settings.chunk_rows, CHUNK_BYTES) };
        loop {
            let before = self.inputs[i].offset;
            if before >= stop.offset {
                return self.check_stop(before, stop, record.epoch);
            }
            let was_read = self.poll(i, limit, record.clock)?;
            let input = &self.inputs[i];
            if input.ended && input.offset < stop.offset {
                return self.check_stop(input.offset, stop, record.epoch);
            }
            if was_read == 0 && input.offset == before {
                return Ok(false);
            }
        }
    }

    fn check_stop(&self, offset: i64, stop: Stop, epoch: u64) -> Result<bool> {
        if offset == stop.offset {
            return Ok(true);
        }
        let name = self.inputs.iter().find(|i| i.place.0 == stop.source).map_or("?", |i| &i.name);
        let message = format!(
            "source {name}, partition {}: epoch {epoch} read up to offset {}, now it ends at {offset}",
            stop.partition, stop.offset
        );
        Err(Error::permanent(message).hint(OTHER_ROWS))
    }

    /// Gives each sink what it lacks of an epoch.
    pub(super) fn hand_over_again(&mut self, outputs: Vec<(usize, EpochOutput)>) -> Result<()> {
        let Some(record) = self.repeat.records.front() else { return Ok(()) };
        for ((sink, output), recorded) in outputs.into_iter().zip(&record.rows) {
            let queue = &self.shared.queues[sink];
            if output.rows() as u64 != *recorded {
                let (task, epoch, rows, name) = (self.number, output.epoch, output.rows(), &queue.stats().name);
                let message =
                    format!("task {task}: epoch {epoch} gave sink {name} {recorded} rows, and {rows} when it was run again");
                return Err(Error::permanent(message).hint(OTHER_ROWS));
            }
            if self.repeat.held.get(sink).is_some_and(|held| *held >= output.epoch) {
                self.shared.positions.acknowledged(sink, output.task, output.epoch);
            } else {
                queue.hand(Handed { output, record_time: self.record_time, term: self.term });
            }
        }
        self.shared.positions.handed(self.number, record.epoch);
        Ok(())
    }
}
