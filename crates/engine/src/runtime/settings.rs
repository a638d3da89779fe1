//! What a run of a pipeline can be told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::Result;
use crate::checkpoint::Storage;
use crate::progress::Listeners;
use crate::state::{Backend, Disk};

/// Bounds and pace of a run. The defaults suit a laptop and a server alike.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The pipeline's name: who reports progress.
    pub name: String,
    /// The name of this instance among those that share the pipeline's tasks. `None`: it has none.
    pub instance: Option<String>,
    /// Read each source to the end that it had when the run began, close all windows, and stop.
    pub bounded: bool,
    /// Rounds of reading are at least this far apart. Zero: continuous.
    pub trigger_interval: Duration,
    /// An epoch ends at this many rows per task …
    pub epoch_rows: usize,
    /// … or at this age.
    pub epoch_interval: Duration,
    /// Rows that go through the operators at once.
    pub chunk_rows: usize,
    /// Outputs that may wait for one sink, in bytes. At the bound the sources slow.
    pub queue_bytes: usize,
    /// A partition that gave nothing for this long no longer holds back the watermark of the others.
    pub idle_timeout: Duration,
    /// Threads that run tasks. `None`: as many as the machine has cores.
    pub workers: Option<usize>,
    /// Where operators keep their state while they run. `None`: in memory.
    pub disk: Option<Arc<Disk>>,
    /// Where state and positions are kept over a restart. `None`: they are not.
    pub checkpoints: Option<Arc<dyn Storage>>,
    /// How many checkpoints of each task are kept.
    pub checkpoint_keep: usize,
    /// The directory of the journal, where none lives on a bus.
    pub journal_dir: Option<PathBuf>,
    /// State of operators that the script no longer has, or has otherwise, is dropped; else it is refused to start.
    pub drop_state: bool,
    /// How often, at most.
    pub checkpoint_interval: Duration,
    /// How long a stop waits for sinks that cannot be reached.
    pub stop_deadline: Duration,
    /// How often progress is reported.
    pub progress_interval: Duration,
    /// Who is told about it.
    pub listeners: Listeners,
}

impl Settings {
    /// Where the operators of one more task keep their state.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub(super) fn backend(&self) -> Result<Backend> {
        Ok(match &self.disk {
            None => Backend::Memory,
            Some(disk) => Backend::Disk(disk.space()?),
        })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "pipeline".into(),
            instance: None,
            bounded: false,
            trigger_interval: Duration::ZERO,
            epoch_rows: 65_536,
            epoch_interval: Duration::from_millis(100),
            chunk_rows: 8_192,
            queue_bytes: 64 << 20,
            idle_timeout: Duration::from_secs(60),
            workers: None,
            disk: None,
            checkpoints: None,
            checkpoint_keep: 2,
            journal_dir: None,
            drop_state: false,
            checkpoint_interval: Duration::from_secs(10),
            stop_deadline: Duration::from_secs(30),
            progress_interval: Duration::from_secs(10),
            listeners: Listeners::default(),
        }
    }
}
