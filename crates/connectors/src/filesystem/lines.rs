//! Records of a text file: lines, or for CSV several lines where quotes span them. Big reads, no copy per line.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use memchr::{memchr, memchr_iter};
use riverrun_engine::{Error, Result};

use super::config::io_error;

const BLOCK: usize = 1 << 20;
/// A longer line means that the file is not what it is taken for.
const LONGEST: usize = 64 << 20;

/// Reads the records of a file from a position up to a limit.
pub(super) struct Lines {
    file: File,
    path: PathBuf,
    buffer: Vec<u8>,
    /// What of the buffer was not given yet.
    next: usize,
    filled: usize,
    /// Bytes of the file that may still be read.
    left: u64,
    /// Position in the file of `buffer[next]`.
    position: i64,
    quotes: bool,
}

/// A record without its line end, and where it stands in the file.
pub(super) struct Line<'a> {
    pub bytes: &'a [u8],
    pub position: i64,
    /// The position behind it and its line end.
    pub next: i64,
    /// Whether a line end follows: without one it may be half written.
    pub whole: bool,
}

impl Lines {
    /// Opens a file at a byte position; nothing at or behind `end` is read. `quotes`: quoted values may span lines.
    pub fn open(path: &Path, position: i64, end: i64, quotes: bool) -> Result<Self> {
        let mut file = File::open(path).map_err(|e| io_error("cannot open", path, &e))?;
        file.seek(SeekFrom::Start(position.max(0) as u64)).map_err(|e| io_error("cannot read", path, &e))?;
        let left = (end - position).max(0) as u64;
        Ok(Self { file, path: path.to_owned(), buffer: vec![0; BLOCK], next: 0, filled: 0, left, position, quotes })
    }

    /// The next record that is not blank.
    pub fn read(&mut self) -> Result<Option<Line<'_>>> {
        let mut searched = 0;
        loop {
            if let Some(length) = self.record_length(searched) {
                if self.buffer[self.next..self.next + length].trim_ascii().is_empty() {
                    self.advance(length + 1);
                    searched = 0;
                    continue;
                }
                return Ok(Some(self.give(length, true)));
            }
            searched = if self.quotes { 0 } else { self.filled - self.next };
            if !self.fill()? {
                break;
            }
        }
        let rest = self.filled - self.next;
        if self.buffer[self.next..self.filled].trim_ascii().is_empty() {
            return Ok(None);
        }
        Ok(Some(self.give(rest, false)))
    }

    fn give(&mut self, length: usize, whole: bool) -> Line<'_> {
        let (first, position) = (self.next, self.position);
        self.advance(length + usize::from(whole));
        Line { bytes: &self.buffer[first..first + length], position, next: self.position, whole }
    }

    fn advance(&mut self, bytes: usize) {
        self.next += bytes;
        self.position += bytes as i64;
    }

    /// How long the next record is, where its end is in the buffer; the first `searched` bytes are known to have none.
    fn record_length(&self, searched: usize) -> Option<usize> {
        let bytes = &self.buffer[self.next..self.filled];
        if !self.quotes {
            return memchr(b'\n', &bytes[searched..]).map(|at| searched + at);
        }
        let mut quotes = 0;
        let mut from = 0;
        for end in memchr_iter(b'\n', bytes) {
            quotes += memchr_iter(b'"', &bytes[from..end]).count();
            if quotes % 2 == 0 {
                return Some(end);
            }
            from = end;
        }
        None
    }

    /// Reads on, behind what is left in the buffer; `false` at the end.
    fn fill(&mut self) -> Result<bool> {
        self.buffer.copy_within(self.next..self.filled, 0);
        self.filled -= self.next;
        self.next = 0;
        if self.filled > LONGEST {
            let what = format!("{}: a line of more than {} MiB at byte {}", self.path.display(), LONGEST >> 20, self.position);
            return Err(Error::permanent(what).hint("is the option 'format' right?"));
        }
        if self.buffer.len() - self.filled < BLOCK / 2 {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let room = (self.buffer.len() - self.filled).min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = loop {
            match self.file.read(&mut self.buffer[self.filled..self.filled + room]) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                read => break read.map_err(|e| io_error("cannot read", &self.path, &e))?,
            }
        };
        self.filled += read;
        self.left -= read as u64;
        Ok(read > 0)
    }
}
