//! Compaction beside a sink, on a thread of its own. It never delays or fails what the sink does; what goes wrong is tried again
//! the next time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use deltalake_core::DeltaTable;
use riverrun_engine::Result;
use riverrun_engine::time::Micros;

use super::{Compacted, Compaction, When};
use crate::delta::data::Storage;
use crate::delta::io::{Io, failed};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(60);

/// Compacts a table now and then.
pub(in crate::delta) struct Background {
    path: String,
    /// The size of the files that are written, in bytes, about.
    target: u64,
    /// When the files were last looked at; at first, when this was first asked.
    last: Option<Micros>,
    running: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Background {
    /// Nothing runs yet.
    pub fn new(path: &str, target: u64) -> Self {
        Self { path: path.to_owned(), target, last: None, running: None, stop: Arc::default() }
    }

    /// Looks at the table's files, if it is time to and the last look is over.
    pub fn consider(&mut self, table: &DeltaTable, now: Micros) {
        let every = i64::try_from(EVERY.as_micros()).unwrap_or(i64::MAX);
        if now.saturating_sub(*self.last.get_or_insert(now)) < every || self.running.as_ref().is_some_and(|r| !r.is_finished()) {
            return;
        }
        self.last = Some(now);
        let (path, target, stop, mut table) = (self.path.clone(), self.target, Arc::clone(&self.stop), table.clone());
        let thread = std::thread::Builder::new().name("compact delta".to_owned());
        let started = thread.spawn(move || match compact(&path, target, now, &stop, &mut table) {
            Ok(()) => {}
            Err(error) if error.is_transient() => tracing::info!(%error, "delta: compaction is tried again"),
            Err(error) => tracing::warn!(%error, "delta: compaction failed"),
        });
        self.running = started.ok();
    }

    /// Waits for what runs.
    #[cfg(test)]
    pub fn wait(&mut self) {
        if let Some(running) = self.running.take() {
            running.join().unwrap();
        }
    }
}

fn compact(path: &str, target: u64, now: Micros, stop: &AtomicBool, table: &mut DeltaTable) -> Result<()> {
    let io = Arc::new(Io::new()?);
    io.run(table.update_state()).map_err(|e| failed("read", path, e))?;
    let storage = Storage { path: path.to_owned(), store: table.object_store(), io };
    let compaction = Compaction { storage, target, when: When::Due(now), partition: Default::default(), stop };
    compaction.run(table, &mut |Compacted { partition, from, into }| {
        tracing::info!("delta: {path}, {partition}: {} files became {}", from.0, into.0);
    })
}

impl Drop for Background {
    fn drop(&mut self) {
        // It ends at the next batch. What it has written and not committed is vacuum's.
        self.stop.store(true, Relaxed);
    }
}
