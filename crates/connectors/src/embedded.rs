//! What the embedded stores (`log`, `table`) share: one handle per directory and process, the form of sinks' positions, and
//! errors for people.
//!
//! fjall opens a directory for one process. Within that process every source, sink and reader of a directory takes the
//! same handle from a [`Handles`]; another process is told who holds it.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::ErrorKind;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};

use riverrun_engine::connect::Context;
use riverrun_engine::{Error, Result};

/// The key under which a sink keeps the last epoch of a task. A lineage holds no zero byte.
pub(crate) fn position_key(lineage: &str, sink: &str, task: u32) -> Vec<u8> {
    [lineage.as_bytes(), &[0], sink.as_bytes(), &[0], &task.to_be_bytes()].concat()
}

/// Reads the epoch under such a key, as `u64::to_be_bytes` wrote it; 0 where there is none.
pub(crate) fn parse_epoch(value: Option<&[u8]>) -> Result<u64> {
    let damaged = |_| Error::permanent("the store is damaged: the position of a sink is not 8 bytes");
    value.map_or(Ok(0), |value| value.try_into().map(u64::from_be_bytes).map_err(damaged))
}

/// Refuses an instance that shares its pipeline with others: what an embedded store holds is one process's.
pub(crate) fn check_alone(context: &Context, what: &str) -> Result<()> {
    let Some(instance) = &context.instance else { return Ok(()) };
    let error = Error::invalid(format!("instance '{instance}': {what} is one process's, and instances share a pipeline's tasks"));
    Err(error.hint("use tables that all instances reach (kafka, delta, files), or one instance without a name"))
}

/// Names the process that has a directory open, for those who come second.
const OWNER_FILE: &str = "owner";

/// The open stores of this process by directory. A store closes when its last user lets it go.
pub(crate) struct Handles<T> {
    open: Mutex<BTreeMap<PathBuf, Weak<T>>>,
}

impl<T> Handles<T> {
    /// No store is open.
    pub(crate) const fn new() -> Self {
        Self { open: Mutex::new(BTreeMap::new()) }
    }

    /// The store in `directory`, made by `open` (which is given the canonical path) if nobody has it yet.
    /// The directory is created if it is missing.
    pub(crate) fn get(&self, directory: &Path, open: impl FnOnce(&Path) -> Result<T>) -> Result<Arc<T>> {
        let unusable = |e: std::io::Error| io_error(&e).within(directory.display());
        std::fs::create_dir_all(directory).map_err(unusable)?;
        let path = directory.canonicalize().map_err(unusable)?;
        // Held while opening: of two that come at once, the second must wait for the first one's handle.
        let mut handles = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        handles.retain(|_, handle| handle.strong_count() > 0);
        if let Some(store) = handles.get(&path).and_then(Weak::upgrade) {
            return Ok(store);
        }
        let store = Arc::new(open(&path)?);
        handles.insert(path, Arc::downgrade(&store));
        Ok(store)
    }
}

/// What a store has open, and the way to open it again: fjall takes no write after one that failed.
pub(crate) struct Reopening<D> {
    path: PathBuf,
    open: fn(&Path) -> Result<D>,
    disk: RwLock<Option<D>>,
    broken: AtomicBool,
}

impl<D> Reopening<D> {
    /// Opens it for the first time.
    pub(crate) fn new(path: &Path, open: fn(&Path) -> Result<D>) -> Result<Self> {
        let disk = RwLock::new(Some(open(path)?));
        Ok(Self { path: path.to_owned(), open, disk, broken: AtomicBool::new(false) })
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is open, for one read or write: opening again waits until it is let go.
    pub(crate) fn get(&self) -> Result<Opened<'_, D>> {
        let disk = self.disk.read().unwrap_or_else(PoisonError::into_inner);
        match disk.is_some() {
            true => Ok(Opened(disk)),
            false => Err(Error::transient(format!("{}: closed since a write failed", self.path.display()))
                .hint("often the disk is full; the next write that succeeds opens it again")),
        }
    }

    /// A write failed: the next [`mend`](Self::mend) opens it again. Gives the error in our words.
    pub(crate) fn broke(&self, error: &fjall::Error) -> Error {
        self.broken.store(true, Ordering::Release);
        self.error(error)
    }

    /// An error of fjall in our words, with the place.
    pub(crate) fn error(&self, error: &fjall::Error) -> Error {
        store_error(error).within(self.path.display())
    }

    /// Opens it again if a write failed; says whether it had to.
    pub(crate) fn mend(&self) -> Result<bool> {
        if !self.broken.load(Ordering::Acquire) {
            return Ok(false);
        }
        let mut disk = self.disk.write().unwrap_or_else(PoisonError::into_inner);
        // Closed first: fjall opens a directory once.
        *disk = None;
        *disk = Some((self.open)(&self.path)?);
        self.broken.store(false, Ordering::Release);
        tracing::info!(path = %self.path.display(), "opened the store again after a failed write");
        Ok(true)
    }
}

/// What [`Reopening::get`] gives.
pub(crate) struct Opened<'a, D>(RwLockReadGuard<'a, Option<D>>);

impl<D> Deref for Opened<'_, D> {
    type Target = D;

    fn deref(&self) -> &D {
        self.0.as_ref().expect("was open when this was made")
    }
}

/// Opens the fjall database in `path`; `read_with` is the command that reads through the process that has it open.
pub(crate) fn open_database(path: &Path, read_with: &str) -> Result<fjall::Database> {
    let database = fjall::Database::builder(path).cache_size(64 << 20).worker_threads(2).open().map_err(|e| match e {
        fjall::Error::Locked => locked(path, read_with),
        e => store_error(&e).within(path.display()),
    })?;
    let owner = format!("process {}", std::process::id());
    // Only a courtesy to whoever comes second: the lock is fjall's.
    if let Err(e) = std::fs::write(path.join(OWNER_FILE), owner) {
        tracing::debug!(path = %path.display(), error = %e, "cannot write the owner's name");
    }
    Ok(database)
}

fn locked(path: &Path, read_with: &str) -> Error {
    let owner = std::fs::read_to_string(path.join(OWNER_FILE)).unwrap_or_else(|_| "another process".to_owned());
    Error::permanent(format!("{}: {owner} has it open, and only one process can", path.display()))
        .hint(format!("read it through the running one ({read_with}), or stop that process first"))
}

/// An error of fjall in our words.
pub(crate) fn store_error(error: &fjall::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = match error {
        fjall::Error::Io(e) => return io_error(e),
        e => e.source(),
    };
    while let Some(e) = cause {
        if let Some(io) = e.downcast_ref::<std::io::Error>() {
            return io_error(io);
        }
        cause = e.source();
    }
    match error {
        fjall::Error::Poisoned => {
            Error::transient("an earlier write failed, and the store takes no more until it is opened again")
                .hint("see the message before this one; often the disk is full")
        }
        fjall::Error::InvalidVersion(_) | fjall::Error::Unrecoverable | fjall::Error::JournalRecovery(_) => {
            Error::permanent(format!("the store cannot be opened: {error}"))
                .hint("restore the directory, or move it away to start afresh")
        }
        e => Error::permanent(format!("the store failed: {e}")),
    }
}

/// An error of the file system in our words. A full disk may be emptied: it is transient.
pub(crate) fn io_error(error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Error::transient(format!("no room on the disk: {error}")).hint("free some space; writing goes on by itself")
        }
        ErrorKind::FileTooLarge => Error::transient(format!("a file may not grow: {error}"))
            .hint("raise the limit on file sizes (ulimit -f), or free some space"),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Error::permanent(format!("not writable: {error}"))
            .hint("make the directory writable, or name another with the option 'path'"),
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            Error::permanent(format!("not a directory: {error}")).hint("name a directory with the option 'path'")
        }
        _ => Error::permanent(error.to_string()),
    }
}
