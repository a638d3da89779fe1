//! The thread that reads ahead of the worker: files of the version where reading is, then those of newer versions as they come.
//!
//! A version is read whole before the next; what a position names (see [`super::position`]) depends on nothing else. An error that
//! may pass is told, and the same rows are tried again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use deltalake_core::DeltaTableError;
use deltalake_core::logstore::LogStoreRef;
use riverrun_engine::{Error, Result};

use super::config::Reading;
use super::data::{File, Storage};
use super::io::failed;
use super::position::Position;
use super::reader::{Changes, Snapshot, has_later};
use super::table::GONE;
use super::types::unlike;

/// Batches that wait for the worker at most.
const AHEAD: usize = 3;
/// A version that is not there after so many looks may be gone, rather than yet to come.
const LOOKS: u64 = 60;
/// How long the thread waits after an error that may pass.
const AGAIN: Duration = Duration::from_secs(1);

/// Rows of one version, in order.
pub(super) struct Piece {
    /// The stored columns.
    pub rows: RecordBatch,
    /// Where the first of them stands.
    pub at: i64,
    /// What to read behind the last of them.
    pub end: i64,
}

/// What the thread is to read.
pub(super) struct Job {
    pub log: LogStoreRef,
    pub storage: Storage,
    pub reading: Reading,
    /// The columns to read.
    pub columns: SchemaRef,
    /// Where to begin.
    pub position: Position,
    /// The offset to end before.
    pub stop: i64,
    /// The version that was the newest when the source was opened.
    pub newest: Arc<Snapshot>,
    /// Rows that are known and were not taken yet.
    pub behind: Arc<AtomicU64>,
}

/// The worker's end. The thread ends when it is dropped.
pub(super) struct Ahead {
    pub pieces: Receiver<Result<Piece>>,
    _alive: Sender<()>,
}

impl Ahead {
    /// Starts to read.
    pub fn start(job: Job) -> Result<Self> {
        let (send, pieces) = bounded(AHEAD);
        let (alive, ended) = bounded(0);
        let mut work = Work { job, files: None, send, ended };
        let thread = std::thread::Builder::new().name("read delta".to_owned());
        thread.spawn(move || work.run()).map_err(|e| Error::transient(format!("cannot start a thread: {e}")))?;
        Ok(Self { pieces, _alive: alive })
    }
}

/// Fails with `None` when nobody takes rows any more.
type Stopped = Option<Error>;

struct Work {
    job: Job,
    /// The files of the version where reading is; each with the ordinal of its first row.
    files: Option<VersionFiles>,
    send: Sender<Result<Piece>>,
    ended: Receiver<()>,
}

struct VersionFiles {
    left: VecDeque<(u64, File)>,
    /// Rows of the version.
    rows: u64,
}

impl Work {
    fn run(&mut self) {
        loop {
            let again = match self.read() {
                Ok(()) | Err(None) => return,
                Err(Some(error)) => {
                    let again = error.is_transient();
                    // Nobody listens any more: then nobody needs the error.
                    again & self.send.send(Err(error)).is_ok()
                }
            };
            if !again || self.wait(AGAIN).is_err() {
                return;
            }
        }
    }

    /// Reads to the end, where there is one.
    fn read(&mut self) -> Result<(), Stopped> {
        loop {
            if self.offset()? >= self.job.stop {
                return Ok(());
            }
            if self.job.position.changes && !self.job.reading.follow {
                return Ok(());
            }
            if self.files.is_none() {
                let files = self.list()?;
                let rows = files.iter().filter_map(|file| file.rows).sum();
                let mut first = 0;
                let place = |file: File| {
                    let at = first;
                    first += file.rows.unwrap_or_default();
                    (at, file)
                };
                let left = files.into_iter().map(place).collect();
                self.job.behind.fetch_add(u64::saturating_sub(rows, self.job.position.row), Relaxed);
                self.files = Some(VersionFiles { left, rows });
            }
            self.read_version()?;
            self.job.position = self.job.position.behind();
            self.files = None;
        }
    }

    fn offset(&self) -> Result<i64> {
        self.job.position.offset()
    }

    /// The files of the version where reading is; waits until it is there.
    fn list(&self) -> Result<Vec<File>, Stopped> {
        let Job { log, storage, newest, position, .. } = &self.job;
        if !position.changes {
            if newest.version == position.version {
                return Ok(newest.files.clone());
            }
            return Ok(Snapshot::at(Arc::clone(log), &storage.path, position.version)?.files);
        }
        for look in 1.. {
            let passed =
                position.version <= newest.version || (look % LOOKS == 0 && self.ask(has_later(log, position.version))?);
            match self.ask(Changes::of(log, position.version))? {
                Some(changes) => return Ok(self.check(changes)?),
                None if passed => break,
                None => self.wait(self.job.reading.poll_interval)?,
            }
        }
        let text = format!("the Delta table at {} has no version {} any more", storage.path, position.version);
        Err(Some(Error::permanent(text).hint(GONE)))
    }

    fn ask<T: Send>(&self, question: impl Future<Output = Result<T, DeltaTableError>> + Send) -> Result<T> {
        let Storage { io, path, .. } = &self.job.storage;
        io.run(question).map_err(|e| failed("read", path, e))
    }

    /// The files of changes that can be followed, with their rows.
    fn check(&self, changes: Changes) -> Result<Vec<File>> {
        let Job { storage, position, columns, reading, .. } = &self.job;
        let version = format!("version {} of the Delta table at {}", position.version, storage.path);
        if changes.removed && !reading.ignore_deletes {
            let error = Error::permanent(format!("{version} takes rows away that were read already"));
            return Err(error.hint("ignore_deletes = 'true' passes over that; rows that were rewritten then come again"));
        }
        if let Some(schema) = changes.schema {
            let unlike = unlike(columns, &schema);
            if !unlike.is_empty() {
                let error = Error::permanent(format!("{version} changes its columns:\n  {}", unlike.join("\n  ")));
                return Err(error.hint("change the declaration to fit"));
            }
        }
        let counted = |mut file: File| -> Result<File> {
            file.rows = Some(file.rows.map_or_else(|| storage.rows(&file), Ok)?);
            Ok(file)
        };
        let files: Result<Vec<File>> = changes.added.into_iter().map(counted).collect();
        files.map_err(|e| e.within(version))
    }

    /// Gives what is left of the version where reading is.
    fn read_version(&mut self) -> Result<(), Stopped> {
        let behind = self.job.position.behind().offset()?;
        while let Some(VersionFiles { left, rows }) = &self.files
            && let Some((first, file)) = left.front()
        {
            let (rows, end) = (*rows, first + file.rows.unwrap_or_default());
            if self.job.position.row < end {
                self.read_file(*first, end, &file.clone(), rows, behind)?;
            }
            if let Some(files) = &mut self.files {
                files.left.pop_front();
            }
        }
        let rows = self.files.as_ref().map_or(0, |files| files.rows);
        let Position { version, row, .. } = self.job.position;
        if row > rows {
            let text =
                format!("version {version} of the Delta table at {} has {rows} rows, none at {row}", self.job.storage.path);
            return Err(Some(Error::permanent(text).hint("this position is not of this table: start the pipeline anew")));
        }
        Ok(())
    }

    fn read_file(&mut self, first: u64, end: u64, file: &File, rows: u64, behind: i64) -> Result<(), Stopped> {
        let Job { storage, columns, position, .. } = &self.job;
        let version = format!("version {}", position.version);
        let mut reader = storage.open(file, columns, position.row - first).map_err(|e| e.within(&version))?;
        while self.job.position.row < end {
            let at = self.offset()?;
            let left = usize::try_from(self.job.stop.saturating_sub(at)).unwrap_or(0);
            if left == 0 {
                return Err(None);
            }
            let Some(batch) = reader.next().map_err(|e| e.within(&version))? else {
                let place = format!("the file {} of the Delta table at {}", file.path, self.job.storage.path);
                return Err(Some(Error::permanent(format!("{place} has fewer rows than its log says"))));
            };
            let batch = batch.slice(0, batch.num_rows().min(left));
            self.job.position.row += batch.num_rows() as u64;
            let next = if self.job.position.row == rows { behind } else { self.offset()? };
            self.give(Piece { rows: batch, at, end: next })?;
        }
        Ok(())
    }

    fn give(&self, piece: Piece) -> Result<(), Stopped> {
        if piece.rows.num_rows() == 0 {
            return Ok(());
        }
        if self.ended.try_recv() == Err(TryRecvError::Disconnected) {
            return Err(None);
        }
        self.send.send(Ok(piece)).map_err(|_| None)
    }

    fn wait(&self, time: Duration) -> Result<(), Stopped> {
        match self.ended.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            _ => Err(None),
        }
    }
}
