//! Keeps what became safe, a few times a second, for as long as the pipeline runs, whoever waits for it or not:
//! checkpoints, and with them the positions of the sources.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::events::{CheckpointFailed, CheckpointWritten, Event, PositionsKept};
use super::part::{Next, Work};
use super::positions::Place;
use super::task::Shared;
use crate::Result;
use crate::checkpoint::{Checkpoints, Written};
use crate::planted::{Fault, is_planted};
use crate::source::Source;
use crate::time::Stopwatch;

/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(200);

/// What is kept, and where.
pub struct Keeper {
    /// The sources by their tables' names, in the order of the graph.
    pub sources: Vec<(String, Arc<dyn Source>)>,
    /// Where checkpoints go, if anywhere.
    pub checkpoints: Option<Arc<Checkpoints>>,
    /// By source: whether the journal keeps its positions, with each epoch.
    pub kept_by_journal: Vec<bool>,
    /// What it shares with the tasks.
    pub shared: Arc<Shared>,
    /// Set when nothing more can become safe.
    pub over: Arc<AtomicBool>,
}

impl Work for Keeper {
    /// Keeps what became safe; once it is over, for the last time.
    ///
    /// # Errors
    /// A permanent error of a source or of the checkpoints' directory.
    fn step(&mut self) -> Result<Next> {
        let over = self.over.load(Acquire);
        self.keep()?;
        Ok(if over { Next::Ended } else { Next::After(INTERVAL) })
    }
}

impl Keeper {
    /// Keeps the checkpoints that became safe, and tells the sources their positions: never positions ahead of the state.
    /// A bounded run keeps none: it always reads from the start.
    fn keep(&self) -> Result<()> {
        if self.shared.settings.bounded {
            return Ok(());
        }
        let positions = match &self.checkpoints {
            Some(checkpoints) => self.keep_checkpoints(checkpoints)?,
            None => self.shared.positions.take_safe(),
        };
        let mut by_source: BTreeMap<usize, Vec<(u32, i64)>> = BTreeMap::new();
        for ((source, partition), offset) in positions {
            by_source.entry(source).or_default().push((partition, offset));
        }
        for (source, positions) in by_source.into_iter().filter(|(source, _)| !self.kept_by_journal[*source]) {
            let stopwatch = Stopwatch::start();
            let outcome = self.sources[source].1.commit(&positions);
            let stats = &self.shared.stats.checkpoints;
            PositionsKept { stats, error: outcome.as_ref().err(), nanos: stopwatch.nanos() }.emit();
            outcome.or_else(|e| if e.is_transient() { Ok(()) } else { Err(e) })?;
        }
        Ok(())
    }

    /// Writes the checkpoints whose epochs are safe; gives the positions that they hold.
    fn keep_checkpoints(&self, checkpoints: &Checkpoints) -> Result<Vec<(Place, i64)>> {
        let mut positions = Vec::new();
        let ahead = self.shared.positions.take_safe();
        if is_planted(Fault::PositionsAheadOfState) {
            positions = ahead;
        }
        for (task, slot) in self.shared.checkpoints.iter().enumerate() {
            let safe = self.shared.positions.safe_epoch(task);
            let safe = if is_planted(Fault::CheckpointBeforeSinks) { u64::MAX } else { safe };
            let held = |term: u64| self.shared.terms.holds(task as u32, term);
            let mut waiting = slot.lock().unwrap_or_else(PoisonError::into_inner);
            // Of an earlier term: its epoch may never have happened.
            drop(waiting.take_if(|(term, _)| !held(*term)));
            let ready = waiting.take_if(|(_, checkpoint)| checkpoint.epoch <= safe);
            drop(waiting);
            let Some((_, checkpoint)) = ready else { continue };
            let (stats, stopwatch) = (&self.shared.stats.checkpoints, Stopwatch::start());
            let Written { bytes, oldest } = match checkpoints.write(task, &checkpoint) {
                Err(error) if error.is_transient() => {
                    CheckpointFailed { stats, error: &error }.emit();
                    continue;
                }
                outcome => outcome?,
            };
            let (nanos, now) = (stopwatch.nanos(), self.shared.clock.now());
            CheckpointWritten { stats, task, epoch: checkpoint.epoch, bytes, nanos, now }.emit();
            self.shared.asked.written(task as u32, checkpoint.epoch);
            if let (Some(commits), Some(oldest)) = (&self.shared.commits, oldest) {
                let oldest = oldest + u64::from(is_planted(Fault::TruncatedOneTooMany));
                commits.unneeded[task].store(oldest, Relaxed);
            }
            for position in checkpoint.positions {
                if let Some(source) = self.sources.iter().position(|(name, _)| *name == position.source) {
                    positions.push(((source, position.partition), position.offset));
                }
            }
        }
        Ok(positions)
    }
}
