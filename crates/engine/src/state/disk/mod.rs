//! State on disk: files that operators keep their rows and tables in, with a bounded part of them in memory.
//!
//! What lies here is a copy of what checkpoints hold, and of what came since: it need not survive. So nothing is synced,
//! and a file has no name once it is open: it goes with the process that made it, however that ends.
//!
//! Invariants: whoever opens the directory removes what others left there between making a file and taking its name. Parts
//! of a file ([`space`]) are written in large pieces; what changes in place ([`pages`]) does so in memory.

mod pages;
mod space;

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

pub(super) use self::pages::{PAGE, Pages};
pub(crate) use self::space::Extent;
pub use self::space::Space;
use crate::{Error, Result};

/// What the names of files end with while they have one.
const SUFFIX: &str = ".state";

/// A segment of fewer rows stays in memory: there are few of those, and they are merged soon.
const ROWS: usize = 1024;

/// Where an operator keeps its state.
#[derive(Debug, Clone, Default)]
pub enum Backend {
    /// In memory.
    #[default]
    Memory,
    /// In a file, which the operators of a task share.
    Disk(Arc<Space>),
}

impl Backend {
    /// Whether memory must stay bounded, however much is kept.
    pub fn is_disk(&self) -> bool {
        matches!(self, Self::Disk(_))
    }
}

/// A directory for state, shared by the tasks of a process.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
    /// Bytes of memory for what changes in place.
    memory: usize,
    /// Segments of fewer rows stay in memory.
    rows: usize,
    /// How many share them.
    shares: AtomicUsize,
}

impl Disk {
    /// Opens a directory, and makes it where it is not there. Of what is kept here, `memory` bytes are held in memory too.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn open(directory: impl Into<PathBuf>, memory: usize) -> Result<Arc<Self>> {
        let directory = directory.into();
        let failed = |e| failed(&directory, "opened", &e);
        std::fs::create_dir_all(&directory).map_err(failed)?;
        for entry in std::fs::read_dir(&directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.to_str().is_some_and(|path| path.ends_with(SUFFIX)) {
                forget(&path)?;
            }
        }
        Ok(Arc::new(Self { directory, memory, rows: ROWS, shares: AtomicUsize::default() }))
    }

    /// For tests: segments of two rows are written already, and as little as can be is in memory.
    #[cfg(test)]
    pub(crate) fn small() -> Arc<Self> {
        Arc::new(Self { directory: std::env::temp_dir(), memory: 0, rows: 2, shares: AtomicUsize::default() })
    }

    /// A file, for the operators of one task.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn space(self: &Arc<Self>) -> Result<Arc<Space>> {
        static FILES: AtomicU64 = AtomicU64::new(0);
        let number = FILES.fetch_add(1, Relaxed);
        let path = self.directory.join(format!("{}-{number}{SUFFIX}", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(&path).map_err(|e| failed(&path, "made", &e))?;
        forget(&path)?;
        Ok(Arc::new(Space::new(self.clone(), file)))
    }

    /// Bytes of memory that one of those that share it may take.
    fn share(&self) -> usize {
        self.memory / self.shares.load(Relaxed).max(1)
    }

    fn failed(&self, what: &str, error: &std::io::Error) -> Error {
        failed(&self.directory, what, error)
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.directory.display().fmt(f)
    }
}

/// Takes a file's name.
fn forget(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(failed(path, "removed", &e)),
        _ => Ok(()),
    }
}

fn failed(path: &Path, what: &str, error: &std::io::Error) -> Error {
    let hint = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "make room there, or SET state.path to a larger disk; the pipeline goes on from its newest checkpoint"
        }
        _ => "SET state.path names the directory; SET state.backend = 'memory' does without",
    };
    Error::permanent(format!("state in {} cannot be {what}: {error}", path.display())).hint(hint)
}

#[cfg(test)]
mod tests;
