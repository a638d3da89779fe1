//! The sink that appends to one file: simple, for dead letters and for people.
//!
//! What [`Sink::write`] took is with the operating system when it returns: safe against `kill -9`, not against power loss.
//! Where epochs can be repeated, a [mark](super::mark) beside the file says up to which length its epochs are known; what a
//! crash left behind that length is cut off when the file is opened again, and its epochs come again. That needs a file that
//! is ours alone: one that others append to as well, a pipe, or a file system without locks gets no mark.
//!
//! Locks: shared while the file is open, exclusive from the first row on if a mark is kept.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use riverrun_engine::batch::Change;
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result, failpoint};

use super::config::{Config, io_error};
use super::encoder::FileEncoder;
use super::mark::{self, Mark};

/// Appends rows to a file, whole outputs or nothing.
pub(super) struct Appender {
    file: File,
    path: PathBuf,
    /// The table's name in the script.
    name: String,
    length: u64,
    /// Whether it is a file: a pipe has no length.
    is_file: bool,
    /// Whether it can be locked.
    lockable: bool,
    mark: Option<Kept>,
    /// Whether it was looked for a mark when tasks were taken: the file's fate is one for all of them.
    taken: bool,
    encoder: FileEncoder,
    buffer: Vec<u8>,
}

/// The mark of a file that is ours.
struct Kept {
    path: PathBuf,
    mark: Mark,
    /// Whether the file has rows that the mark does not know.
    behind: bool,
}

impl Appender {
    /// Opens or creates the file and its folder.
    pub fn open(config: &Config, name: &str, schema: &SchemaRef) -> Result<Self> {
        let path = config.path.clone();
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| io_error("cannot create folder", folder, &e))?;
        }
        let opened = OpenOptions::new().create(true).read(true).append(true).open(&path);
        let file = opened.map_err(|e| io_error("cannot open", &path, &e))?;
        // By whatever name it is opened, its marks lie beside the file itself.
        let path = path.canonicalize().unwrap_or(path);
        let is_file = file.metadata().is_ok_and(|m| m.is_file());
        let lockable = is_file && lock_and_repair(&file, &path)?;
        let encoder = FileEncoder::new(config, schema)?;
        let (name, buffer) = (name.to_owned(), Vec::new());
        let mut appender = Self { file, path, name, length: 0, is_file, lockable, mark: None, taken: false, encoder, buffer };
        appender.length = appender.real_length()?;
        if appender.length > 0 && !appender.ends_with_newline()? {
            // A line that an earlier run did not finish costs itself, not the next one.
            appender.buffer.push(b'\n');
            appender.append()?;
        }
        Ok(appender)
    }

    fn real_length(&self) -> Result<u64> {
        if !self.is_file {
            return Ok(self.length);
        }
        Ok(self.file.metadata().map_err(|e| io_error("cannot read", &self.path, &e))?.len())
    }

    fn ends_with_newline(&mut self) -> Result<bool> {
        let mut last = [0];
        let read = self.file.seek(SeekFrom::End(-1)).and_then(|_| self.file.read_exact(&mut last));
        read.map_err(|e| io_error("cannot read", &self.path, &e))?;
        Ok(last == *b"\n")
    }

    /// Appends the buffer; on an error the file is as before.
    fn append(&mut self) -> Result<()> {
        write_at_end(&mut self.file, self.length, &self.buffer).map_err(|e| io_error("cannot write to", &self.path, &e))?;
        self.length += self.buffer.len() as u64;
        Ok(())
    }

    /// Looks whether the file is still ours alone, and before the first rows makes it so: else no mark is kept any more.
    fn guard(&mut self) -> Result<()> {
        let length = self.real_length()?;
        let before = std::mem::replace(&mut self.length, length);
        let Some(kept) = &mut self.mark else { return Ok(()) };
        let ours = match kept.mark.open {
            true => length == before,
            false => lock_alone(&self.file),
        };
        if ours && kept.mark.open {
            return Ok(());
        }
        let mark = Mark { length, open: ours, shared: !ours, ..kept.mark.clone() };
        mark.save(&kept.path)?;
        if ours {
            kept.mark = mark;
            return Ok(());
        }
        self.mark = None;
        tracing::warn!("{}: others append to it too: after a crash rows may be there twice", self.path.display());
        Ok(())
    }
}

/// Locks the file as one of those who append to it, and ends what a crash left unfinished; whether it can be locked.
fn lock_and_repair(file: &File, path: &Path) -> Result<bool> {
    match file.try_lock() {
        Ok(()) => {
            mark::repair(file, path)?;
            file.unlock().map_err(|e| io_error("cannot unlock", path, &e))?;
        }
        // Whoever has it open repaired it.
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(_)) => return Ok(false),
    }
    match file.try_lock_shared() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => {
            let text = format!("{}: another run appends to it, and keeps its position there", path.display());
            Err(Error::permanent(text).hint("stop that one, or name another file"))
        }
        Err(TryLockError::Error(_)) => Ok(false),
    }
}

/// Whether nobody else has the file open to append.
fn lock_alone(file: &File) -> bool {
    let alone = file.unlock().is_ok() && file.try_lock().is_ok();
    if !alone {
        // Where this fails too, another run has made it its own meanwhile, and sees by its length that it is not.
        let _ = file.try_lock_shared();
    }
    alone
}

/// Appends `bytes` to a file of a known length; where that fails half-way, the file is cut to that length again.
pub(super) fn write_at_end(file: &mut File, length: u64, bytes: &[u8]) -> std::io::Result<()> {
    file.write_all(bytes).inspect_err(|_| {
        // Were this to fail too, the next line would be spoilt; there is nothing better to do.
        let _ = file.set_len(length).and_then(|()| file.seek(SeekFrom::Start(length)));
    })
}

/// Refuses what a file cannot take back.
pub(super) fn refuse_deletes(output: &EpochOutput) -> Result<()> {
    match output.batches.iter().any(|b| b.change == Change::Delete) {
        true => Err(Error::permanent("a file cannot take rows back").hint("use emit = 'append', or a sink with keys")),
        false => Ok(()),
    }
}

impl Sink for Appender {
    fn recover(&mut self, lineage: &str, tasks: u32) -> Result<Option<Vec<u64>>> {
        if !self.lockable {
            return Ok(None);
        }
        let path = mark::path(&self.path, lineage, &self.name);
        let mark = Mark::load(&path)?.unwrap_or_default();
        if mark.shared {
            return Ok(None);
        }
        let last = (0..tasks).map(|task| mark.epochs.get(&task).copied().unwrap_or(0)).collect();
        self.mark = Some(Kept { path, mark, behind: false });
        Ok(Some(last))
    }

    fn take(&mut self, lineage: &str, tasks: &[u32]) -> Result<Option<Vec<u64>>> {
        if self.mark.is_none() && !std::mem::replace(&mut self.taken, true) {
            let count = tasks.iter().max().map_or(0, |last| last + 1);
            self.recover(lineage, count)?;
        }
        let epoch_of = |kept: &Kept, task: &u32| kept.mark.epochs.get(task).copied().unwrap_or(0);
        Ok(self.mark.as_ref().map(|kept| tasks.iter().map(|task| epoch_of(kept, task)).collect()))
    }

    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        refuse_deletes(output)?;
        if output.rows() == 0 {
            return Ok(());
        }
        self.guard()?;
        self.buffer.clear();
        for batch in &output.batches {
            self.encoder.encode(&batch.rows, self.length == 0, &mut self.buffer)?;
        }
        self.append()?;
        failpoint::reach("file.after-append");
        if let Some(kept) = &mut self.mark {
            kept.mark.epochs.insert(output.task, output.epoch);
            kept.behind = true;
        }
        Ok(())
    }

    fn flush(&mut self, _: Micros, _: bool) -> Result<Flushed> {
        if let Some(kept) = self.mark.as_mut().filter(|kept| kept.behind) {
            kept.mark.length = self.length;
            kept.mark.save(&kept.path)?;
            kept.behind = false;
        }
        Ok(Flushed::All)
    }

    fn close(&mut self) -> Result<()> {
        if let Some(kept) = self.mark.as_mut().filter(|kept| kept.mark.open) {
            kept.mark.open = false;
            kept.mark.save(&kept.path)?;
        }
        Ok(())
    }
}
