//! A journal in files, for pipelines without a bus that could hold it: `<directory>/<number>.journal`.
//!
//! A file is text: a line that says what it is, then a line per entry, `<xxh3 of the JSON, 16 hex digits> <JSON>`. The first
//! entry is the genesis, all others are records. A new file is begun at a size; one whose records are all no longer needed is
//! deleted. `lock` is held by the process that writes.
//!
//! Invariants: an entry counts once its line is whole and on the disk (fdatasync); a last line that is torn or does not fit
//! its checksum was never committed, and is cut off. Such a line anywhere else is damage, and stops the start.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{Epoch, Genesis, Journal, Record, Recorded};
use crate::{Error, Result};

const MAGIC: &str = "RIVERRUN-JOURNAL-1";
const ENDING: &str = "journal";

/// A file takes no further record beyond this many bytes.
const FULL: u64 = 4 << 20;

/// A journal in a directory.
#[derive(Debug)]
pub struct LocalJournal {
    directory: PathBuf,
    genesis: Option<Genesis>,
    /// Oldest first; the last one is written to.
    segments: Vec<Segment>,
    /// By task: records up to this epoch are not needed.
    truncated: Vec<u64>,
    open: Option<File>,
    _lock: File,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    path: PathBuf,
    /// Bytes that were committed: what stands behind them was not.
    length: u64,
    /// By task: the last epoch that it holds.
    last: Vec<u64>,
}

impl LocalJournal {
    /// In `directory`, which is created if it is missing. One process at a time has it.
    pub fn open(directory: &Path) -> Result<Self> {
        let cannot = |what: &str, e: &dyn std::fmt::Display| {
            Error::permanent(format!("the journal in {} cannot be {what}: {e}", directory.display()))
        };
        fs::create_dir_all(directory).map_err(|e| cannot("created", &e))?;
        let lock = OpenOptions::new().create(true).write(true).truncate(false).open(directory.join("lock"));
        let lock = lock.map_err(|e| cannot("opened", &e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("another run of this pipeline is using {}", directory.display());
                return Err(Error::permanent(message)
                    .hint("stop that one first, or SET another pipeline.name (or checkpoint.location) for this one"));
            }
            Err(TryLockError::Error(e)) => return Err(cannot("locked", &e)),
        }
        let (directory, segments) = (directory.to_owned(), Vec::new());
        Ok(Self { directory, genesis: None, segments, truncated: Vec::new(), open: None, _lock: lock })
    }

    fn failed(&self, what: &str, path: &Path, error: &std::io::Error) -> Error {
        Error::transient(format!("journal {} cannot be {what}: {error}", path.display()))
    }

    /// Reads one file into `recorded`; `newest`: a torn end is cut off.
    fn read(&self, number: u64, path: &Path, newest: bool, recorded: &mut Recorded) -> Result<Segment> {
        let bytes = fs::read(path).map_err(|e| self.failed("read", path, &e))?;
        let mut segment = Segment { number, path: path.to_owned(), length: 0, last: Vec::new() };
        let mut rest = bytes.as_slice();
        for line_number in 1.. {
            let Some(end) = rest.iter().position(|b| *b == b'\n') else { break };
            let line = &rest[..end];
            let taken = match line_number {
                1 => (line == MAGIC.as_bytes()).then_some(()).ok_or_else(|| "it does not begin as a journal does".into()),
                _ => take(line, recorded, &mut segment),
            };
            match taken {
                Ok(()) => {}
                Err(_) if newest && end + 1 == rest.len() => break,
                Err(why) => {
                    let message = format!("journal {}, line {line_number}: {why}", path.display());
                    return Err(Error::permanent(message).hint("restore the directory of checkpoints from a backup, or SET another pipeline.name to begin with empty state"));
                }
            }
            segment.length += end as u64 + 1;
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() {
            if !newest {
                let message = format!("journal {}: its end is missing", path.display());
                return Err(Error::permanent(message).hint(
                    "restore the directory of checkpoints from a backup, or SET another pipeline.name to begin with empty state",
                ));
            }
            tracing::info!("journal {}: an entry that was not committed is cut off", path.display());
        }
        Ok(segment)
    }

    /// Begins a file with the genesis on top.
    fn roll(&mut self) -> Result<()> {
        let Some(genesis) = &self.genesis else {
            return Err(Error::permanent("the journal has no beginning"));
        };
        let number = self.segments.last().map_or(1, |s| s.number + 1);
        let path = self.directory.join(format!("{number:020}.{ENDING}"));
        let mut bytes = format!("{MAGIC}\n").into_bytes();
        push_line(&mut bytes, &genesis.encode()?);
        let unfinished = self.directory.join("unfinished");
        let written = File::create(&unfinished).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            File::open(&self.directory)?.sync_all()?;
            Ok(file)
        });
        self.open = Some(written.map_err(|e| self.failed("begun", &path, &e))?);
        self.segments.push(Segment { number, path, length: bytes.len() as u64, last: Vec::new() });
        Ok(())
    }

    /// The file that is written to, and its place behind what was committed.
    fn writable(&mut self) -> Result<()> {
        if self.segments.last().is_none_or(|s| s.length >= FULL) {
            return self.roll();
        }
        if let (None, Some(segment)) = (&self.open, self.segments.last()) {
            let opened = OpenOptions::new().write(true).open(&segment.path);
            self.open = Some(opened.map_err(|e| self.failed("opened", &segment.path, &e))?);
        }
        Ok(())
    }
}

/// Takes one line of a file.
fn take(line: &[u8], recorded: &mut Recorded, segment: &mut Segment) -> Result<(), String> {
    let (sum, json) = line.split_at_checked(17).ok_or("it is too short")?;
    let sum = std::str::from_utf8(&sum[..16]).ok().and_then(|hex| u64::from_str_radix(hex, 16).ok());
    if sum != Some(twox_hash::XxHash3_64::oneshot(json)) {
        return Err("its checksum does not fit".into());
    }
    // Each file begins with the genesis: it is the first entry of the file.
    if segment.last.is_empty() && json.starts_with(b"{\"lineage\"") {
        let genesis = Genesis::decode(json).map_err(|e| e.to_string())?;
        if recorded.genesis.as_ref().is_some_and(|first| *first != genesis) {
            return Err("it is of another life of the pipeline than the files before it".into());
        }
        segment.last = vec![0; genesis.tasks as usize];
        recorded.records.resize_with(genesis.tasks as usize, Vec::new);
        recorded.genesis = Some(genesis);
        return Ok(());
    }
    let record = Record::decode(json).map_err(|e| e.to_string())?;
    let (task, epoch) = (record.task as usize, record.epoch);
    let records = recorded.records.get_mut(task).ok_or("it is of a task that the pipeline does not have")?;
    if let Some(before) = records.last().filter(|before| before.epoch + 1 != epoch) {
        return Err(format!("task {task} goes from epoch {} to epoch {epoch}", before.epoch));
    }
    segment.last[task] = epoch;
    records.push(record);
    Ok(())
}

fn push_line(bytes: &mut Vec<u8>, json: &[u8]) {
    bytes.extend_from_slice(format!("{:016x} ", twox_hash::XxHash3_64::oneshot(json)).as_bytes());
    bytes.extend_from_slice(json);
    bytes.push(b'\n');
}

impl Journal for LocalJournal {
    fn recover(&mut self) -> Result<Recorded> {
        let entries = fs::read_dir(&self.directory).map_err(|e| self.failed("read", &self.directory, &e))?;
        let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_suffix(&format!(".{ENDING}"))?.parse::<u64>().ok();
        let mut files: Vec<_> = entries.flatten().filter_map(|e| Some((number(&e.path())?, e.path()))).collect();
        files.sort_unstable();
        let mut recorded = Recorded::default();
        self.segments.clear();
        for (i, (number, path)) in files.iter().enumerate() {
            let segment = self.read(*number, path, i + 1 == files.len(), &mut recorded)?;
            self.segments.push(segment);
        }
        self.genesis.clone_from(&recorded.genesis);
        self.truncated = vec![0; recorded.records.len()];
        Ok(recorded)
    }

    fn begin(&mut self, genesis: &Genesis) -> Result<()> {
        for old in self.segments.drain(..) {
            fs::remove_file(&old.path).map_err(|e| Error::transient(format!("old journal {}: {e}", old.path.display())))?;
        }
        self.truncated = vec![0; genesis.tasks as usize];
        self.genesis = Some(genesis.clone());
        self.roll()
    }

    fn commit(&mut self, epochs: &[Epoch]) -> Result<()> {
        self.writable()?;
        let tasks = self.truncated.len();
        let (Some(file), Some(segment)) = (&mut self.open, self.segments.last_mut()) else { return Ok(()) };
        let mut bytes = Vec::with_capacity(epochs.len() * 256);
        for epoch in epochs {
            push_line(&mut bytes, &epoch.record.encode()?);
        }
        // What a failed attempt left behind the committed bytes is written over.
        let written = file
            .set_len(segment.length)
            .and_then(|()| file.seek(SeekFrom::Start(segment.length)))
            .and_then(|_| file.write_all(&bytes))
            .and_then(|()| file.sync_data());
        written.map_err(|e| Error::transient(format!("journal {} cannot be written: {e}", segment.path.display())))?;
        segment.length += bytes.len() as u64;
        segment.last.resize(tasks, 0);
        for epoch in epochs {
            segment.last[epoch.record.task as usize] = epoch.record.epoch;
        }
        Ok(())
    }

    fn truncate(&mut self, task: u32, epoch: u64) -> Result<()> {
        if let Some(truncated) = self.truncated.get_mut(task as usize) {
            *truncated = epoch.max(*truncated);
        }
        let unneeded = |s: &Segment| s.last.iter().zip(&self.truncated).all(|(last, truncated)| last <= truncated);
        while self.segments.len() > 1 && unneeded(&self.segments[0]) {
            let path = &self.segments[0].path;
            fs::remove_file(path).map_err(|e| Error::transient(format!("old journal {}: {e}", path.display())))?;
            self.segments.remove(0);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
