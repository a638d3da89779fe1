//! Keeps what became safe, a few times a second, for as long as the pipeline runs, whoever waits for it or not:
//! checkpoints, and with them the positions of the sources.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::checkpoint::Checkpoints;
use super::positions::Place;
use super::task::Shared;
use crate::Result;
use crate::source::Source;

/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(200);

/// What is kept, and where.
pub struct Keeper {
    /// The sources by their tables' names, in the order of the graph.
    pub sources: Vec<(String, Arc<dyn Source>)>,
    /// Where checkpoints go, if anywhere.
    pub checkpoints: Option<Checkpoints>,
    /// What it shares with the tasks.
    pub shared: Arc<Shared>,
}

impl Keeper {
    /// Keeps what becomes safe until `over`.
    ///
    /// # Errors
    /// A permanent error of a source or of the checkpoints' directory.
    pub fn run(&self, over: &AtomicBool) -> Result<()> {
        while !over.load(Relaxed) {
            self.keep()?;
            self.shared.clock.sleep(INTERVAL);
        }
        Ok(())
    }

    /// Keeps the checkpoints that became safe, and tells the sources their positions: never positions ahead of the state.
    /// A bounded run keeps none: it always reads from the start.
    pub fn keep(&self) -> Result<()> {
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
        for (source, positions) in by_source {
            match self.sources[source].1.commit(&positions) {
                Err(e) if e.is_transient() => tracing::warn!("positions could not be kept, the next ones will be: {e}"),
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Writes the checkpoints whose epochs are safe; gives the positions that they hold.
    fn keep_checkpoints(&self, checkpoints: &Checkpoints) -> Result<Vec<(Place, i64)>> {
        let mut positions = Vec::new();
        self.shared.positions.take_safe();
        for (task, slot) in self.shared.checkpoints.iter().enumerate() {
            let safe = self.shared.positions.safe_epoch(task);
            let ready = slot.lock().unwrap_or_else(PoisonError::into_inner).take_if(|c| c.epoch <= safe);
            let Some(checkpoint) = ready else { continue };
            match checkpoints.write(task, &checkpoint) {
                Err(e) if e.is_transient() => {
                    tracing::warn!("{e}; the next one will be tried");
                    continue;
                }
                outcome => outcome?,
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
