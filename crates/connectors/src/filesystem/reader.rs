//! The thread that reads and decodes ahead of the worker, which then only runs operators.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use riverrun_engine::source::{Fetch, Limit, PartitionReader, Poll};
use riverrun_engine::table::Table;
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

use super::config::{Config, Format};
use super::files::{self, SourceFile};
use super::lines::Lines;
use super::parquet::ParquetRows;
use crate::format::{Decoded, Decoder, RawRecord};

/// Decoded batches that wait for the worker at most.
const AHEAD: usize = 3;
/// A batch ends at this many records …
const BATCH_RECORDS: usize = 8192;
/// … or this many bytes.
const BATCH_BYTES: usize = 4 << 20;
/// How long a poll waits for the thread.
const PATIENCE: Duration = Duration::from_millis(5);

/// Takes decoded batches from the thread and finishes them with the clock of the epoch.
pub(super) struct FileReader {
    batches: Receiver<Result<Decoded>>,
    current: Option<Decoded>,
    /// The position.
    next: i64,
    /// The thread waits on the other end: dropped, it ends.
    _alive: Sender<()>,
}

/// What the thread is to read.
pub(super) struct Job {
    pub table: Table,
    pub config: Config,
    /// The position to start from.
    pub position: i64,
    /// The position to end before.
    pub stop: Option<i64>,
    /// The files that are there.
    pub files: Vec<SourceFile>,
}

impl FileReader {
    /// Starts to read.
    pub fn start(job: Job) -> Result<Self> {
        let (send, batches) = bounded(AHEAD);
        let (alive, ended) = bounded(0);
        let next = job.position;
        let thread = std::thread::Builder::new().name(format!("read {}", job.table.name));
        let read = move || {
            let mut work = Work { job, send, ended };
            if let Err(Some(error)) = work.run() {
                // Nobody listens any more: then nobody needs the error.
                let _ = work.send.send(Err(error));
            }
        };
        thread.spawn(read).map_err(|e| Error::transient(format!("cannot start a thread: {e}")))?;
        Ok(Self { batches, current: None, next, _alive: alive })
    }
}

impl PartitionReader for FileReader {
    fn poll(&mut self, limit: Limit, clock: Micros) -> Result<Poll> {
        let done = self.next >= limit.until;
        let mut decoded = match self.current.take() {
            Some(decoded) => decoded,
            None => match self.batches.recv_timeout(if done { Duration::ZERO } else { PATIENCE }) {
                Ok(decoded) => decoded?,
                Err(RecvTimeoutError::Timeout) => return Ok(Poll::Pending),
                Err(RecvTimeoutError::Disconnected) => return Ok(Poll::End),
            },
        };
        if done {
            self.current = Some(decoded);
            return Ok(Poll::Pending);
        }
        let fetch: Fetch = decoded.take(limit.rows.max(1), limit.until, clock)?;
        self.next = fetch.next_offset;
        if !decoded.is_empty() {
            self.current = Some(decoded);
        }
        Ok(Poll::Ready(fetch))
    }
}

/// The thread's side. Its functions fail with `None` when nobody takes batches any more.
struct Work {
    job: Job,
    send: Sender<Result<Decoded>>,
    ended: Receiver<()>,
}

type Stopped = Option<Error>;

impl Work {
    fn run(&mut self) -> Result<(), Stopped> {
        loop {
            for file in self.job.files.clone() {
                if self.job.position < file.end() {
                    self.read_file(&file)?;
                }
            }
            if !self.job.config.watch || self.job.stop.is_some_and(|stop| self.job.position >= stop) {
                return Ok(());
            }
            self.wait_for_more()?;
        }
    }

    /// Looks at the path again and again until there is more behind the position.
    fn wait_for_more(&mut self) -> Result<(), Stopped> {
        loop {
            if self.ended.recv_timeout(self.job.config.poll_interval) != Err(RecvTimeoutError::Timeout) {
                return Err(None);
            }
            let now = files::list(&self.job.config)?;
            files::check_unmoved(&self.job.files, &now)?;
            if now != self.job.files {
                self.job.files = now;
                return Ok(());
            }
        }
    }

    fn read_file(&mut self, file: &SourceFile) -> Result<(), Stopped> {
        match self.job.config.format {
            Format::Parquet => self.read_parquet(file),
            _ => self.read_lines(file),
        }
    }

    fn read_lines(&mut self, file: &SourceFile) -> Result<(), Stopped> {
        let csv = self.job.config.format == Format::Csv;
        let end = file.end().min(self.job.stop.unwrap_or(i64::MAX)) - file.start;
        let header = if csv && self.job.config.header { Header::read(file)? } else { Header::default() };
        let topic = file.path.to_string_lossy();
        let mut decoder = Decoder::with_csv_header(&self.job.table, &topic, 0, header.line.as_deref())
            .map_err(|e| e.within(file.path.display()))?;
        let position = (self.job.position - file.start).max(header.next);
        let mut lines = Lines::open(&file.path, position, end, csv)?;
        let may_grow = self.job.config.watch && self.job.files.last() == Some(file) && self.job.stop.is_none();
        while let Some(line) = lines.read()? {
            if !line.whole && may_grow {
                break;
            }
            let bytes =
                if line.position == 0 { line.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line.bytes) } else { line.bytes };
            decoder.push(&RawRecord { offset: file.start + line.position, payload: Some(bytes), ..RawRecord::default() })?;
            self.job.position = file.start + line.next;
            if decoder.len() >= BATCH_RECORDS || decoder.bytes() >= BATCH_BYTES {
                let decoded = decoder.finish(self.job.position)?;
                self.give(decoded)?;
            }
        }
        if !decoder.is_empty() {
            let decoded = decoder.finish(self.job.position)?;
            self.give(decoded)?;
        }
        Ok(())
    }

    fn read_parquet(&mut self, file: &SourceFile) -> Result<(), Stopped> {
        let topic = file.path.to_string_lossy();
        let mut decoder = Decoder::of_rows(&self.job.table, &topic, 0)?;
        let mut rows = ParquetRows::open(&file.path, self.job.position - file.start, BATCH_RECORDS, &decoder.payload_schema())?;
        while let Some(batch) = rows.next_batch()? {
            let left = self.job.stop.unwrap_or(i64::MAX) - self.job.position;
            let batch = batch.slice(0, batch.num_rows().min(usize::try_from(left).unwrap_or(0)));
            if batch.num_rows() == 0 {
                break;
            }
            let decoded = decoder.rows(&batch, self.job.position)?;
            self.job.position += batch.num_rows() as i64;
            self.give(decoded)?;
        }
        Ok(())
    }

    fn give(&self, decoded: Decoded) -> Result<(), Stopped> {
        if self.ended.try_recv() == Err(TryRecvError::Disconnected) {
            return Err(None);
        }
        self.send.send(Ok(decoded)).map_err(|_| None)
    }
}

/// The first line of a CSV file.
#[derive(Default)]
struct Header {
    line: Option<Arc<[u8]>>,
    /// The position behind it.
    next: i64,
}

impl Header {
    fn read(file: &SourceFile) -> Result<Self> {
        let mut lines = Lines::open(&file.path, 0, file.size, true)?;
        let Some(line) = lines.read()? else { return Ok(Self::default()) };
        let bytes = line.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line.bytes);
        Ok(Self { line: Some(bytes.into()), next: line.next })
    }
}
