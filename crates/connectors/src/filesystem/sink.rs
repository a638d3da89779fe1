//! The sink that fills a folder with files which are complete when they appear.
//!
//! A file holds the rows of a range of epochs of one task and is named by them ([`Names`]). It is written under a hidden name
//! and gets its own when it is finished, by size or by age; only then are its epochs told to be safe. What a crash leaves
//! under a hidden name was not, and is removed.
//!
//! Invariants: a file never replaces another. The files of a task appear in the order of their epochs, so that the greatest
//! epoch in a name is how far the task is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use arrow::datatypes::SchemaRef;
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result, failpoint};
use tempfile::NamedTempFile;

use super::appender::{refuse_deletes, write_at_end};
use super::config::{Config, io_error};
use super::encoder::FileEncoder;
use super::names::Names;

/// Writes each task's rows into files of their own.
pub(super) struct FolderSink {
    config: Config,
    /// The table's name in the script.
    name: String,
    schema: SchemaRef,
    names: Names,
    /// The last epoch of each task in a finished file, where positions are kept.
    positions: BTreeMap<u32, u64>,
    open: BTreeMap<u32, OpenFile>,
    /// Whether instances share the tasks: then these were taken.
    taken: Option<BTreeSet<u32>>,
    /// Tasks whose position was moved.
    moved: Vec<u32>,
}

/// A file that is not finished.
struct OpenFile {
    /// `None` once it has its name.
    file: Option<NamedTempFile>,
    length: u64,
    encoder: Option<FileEncoder>,
    /// Bytes that end the file and are not written yet.
    rest: Vec<u8>,
    first_epoch: u64,
    last_epoch: u64,
    since: Micros,
}

impl FolderSink {
    /// Creates the folder.
    pub fn create(config: Config, name: &str, schema: &SchemaRef) -> Result<Self> {
        std::fs::create_dir_all(&config.path).map_err(|e| io_error("cannot create folder", &config.path, &e))?;
        let (names, name, schema) = (Names::new(&config), name.to_owned(), schema.clone());
        let (positions, open, moved) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Ok(Self { config, name, schema, names, positions, open, taken: None, moved })
    }

    fn begin(&self, output: &EpochOutput) -> Result<OpenFile> {
        if !self.names.tell_positions() {
            self.names.remove_unfinished_of(output.task)?;
        }
        let (prefix, folder) = (self.names.unfinished(output.task), self.names.folder());
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".tmp");
        // Others read the finished file, as far as the process's umask lets them.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder).map_err(|e| io_error("cannot create a file in", folder, &e))?;
        Ok(OpenFile {
            file: Some(file),
            length: 0,
            encoder: Some(FileEncoder::new(&self.config, &self.schema)?),
            rest: Vec::new(),
            first_epoch: output.epoch,
            last_epoch: output.epoch,
            since: output.clock,
        })
    }

    /// Finishes the file of a task; `found` are the positions in the folder, where they are kept. May be called again after an
    /// error.
    fn finish(&mut self, task: u32, found: Option<&BTreeMap<u32, u64>>) -> Result<()> {
        let Some(open) = self.open.get_mut(&task) else { return Ok(()) };
        open.end()?;
        if let Some(found) = found {
            let [known, found] = [&self.positions, found].map(|positions| positions.get(&task).copied().unwrap_or(0));
            let own = self.names.finished(task, open.first_epoch, open.last_epoch).any(|name| name.exists());
            if known != found && !own {
                if self.taken.is_some() {
                    self.release(task);
                    self.moved.push(task);
                    return Ok(());
                }
                let folder = self.names.folder().display();
                let what =
                    format!("{folder}: task {task} is at epoch {found}, not {known}: another run of this pipeline writes there");
                return Err(Error::permanent(what).hint("stop one of them, or give it another pipeline.name"));
            }
        }
        open.put(&self.names, task)?;
        self.positions.insert(task, open.last_epoch);
        self.open.remove(&task);
        Ok(())
    }
}

impl Sink for FolderSink {
    fn recover(&mut self, lineage: &str, tasks: u32) -> Result<Option<Vec<u64>>> {
        self.names.keep_positions(lineage, &self.name);
        // First, so that whoever is still writing these finishes none of them after we looked.
        self.names.remove_unfinished()?;
        self.positions = self.names.positions()?;
        Ok(Some((0..tasks).map(|task| self.positions.get(&task).copied().unwrap_or(0)).collect()))
    }

    fn take(&mut self, lineage: &str, tasks: &[u32]) -> Result<Option<Vec<u64>>> {
        self.names.keep_positions(lineage, &self.name);
        for task in tasks {
            self.open.remove(task);
            // First, as when the folder is one run's alone; others are at work on the files of other tasks.
            self.names.remove_unfinished_of(*task)?;
        }
        self.taken.get_or_insert_default().extend(tasks);
        let found = self.names.positions()?;
        let last: Vec<u64> = tasks.iter().map(|task| found.get(task).copied().unwrap_or(0)).collect();
        self.positions.extend(tasks.iter().copied().zip(last.iter().copied()));
        Ok(Some(last))
    }

    fn release(&mut self, task: u32) {
        self.open.remove(&task);
        if let Some(taken) = &mut self.taken {
            taken.remove(&task);
        }
    }

    fn take_moved(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.moved)
    }

    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        refuse_deletes(output)?;
        if output.rows() == 0 || self.taken.as_ref().is_some_and(|taken| !taken.contains(&output.task)) {
            return Ok(());
        }
        if !self.open.contains_key(&output.task) {
            let begun = self.begin(output)?;
            self.open.insert(output.task, begun);
        }
        let Some(open) = self.open.get_mut(&output.task) else { return Ok(()) };
        let mut bytes = Vec::new();
        if let Some(encoder) = &mut open.encoder {
            for batch in &output.batches {
                encoder.encode(&batch.rows, open.length == 0, &mut bytes)?;
            }
        }
        open.append(&bytes)?;
        open.last_epoch = output.epoch;
        Ok(())
    }

    fn flush(&mut self, now: Micros, force: bool) -> Result<Flushed> {
        let age = i64::try_from(self.config.roll_interval.as_micros()).unwrap_or(i64::MAX);
        let due = |open: &OpenFile| force || open.size() >= self.config.roll_size || now.saturating_sub(open.since) >= age;
        let tasks: Vec<u32> = self.open.iter().filter(|(_, open)| due(open)).map(|(task, _)| *task).collect();
        let found = (self.names.tell_positions() && !tasks.is_empty()).then(|| self.names.positions()).transpose()?;
        for task in tasks {
            self.finish(task, found.as_ref())?;
        }
        Ok(if self.open.is_empty() { Flushed::All } else { Flushed::Pending })
    }
}

impl OpenFile {
    fn size(&self) -> usize {
        self.length as usize + self.encoder.as_ref().map_or(0, FileEncoder::waiting)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = write_at_end(file.as_file_mut(), self.length, bytes);
        written.map_err(|e| io_error("cannot write to", file.path(), &e))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Writes the bytes that end the file.
    fn end(&mut self) -> Result<()> {
        if let Some(encoder) = self.encoder.take() {
            self.rest = encoder.finish()?;
        }
        let rest = std::mem::take(&mut self.rest);
        self.append(&rest).inspect_err(|_| self.rest = rest)
    }

    /// Gives the file its name. One that is taken where names tell positions is this file: it was finished before.
    fn put(&mut self, names: &Names, task: u32) -> Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        for name in names.finished(task, self.first_epoch, self.last_epoch) {
            failpoint::reach("files.before-rename");
            match file.persist_noclobber(&name) {
                Ok(_) => {
                    failpoint::reach("files.after-rename");
                    return Ok(());
                }
                Err(taken) if taken.error.kind() == ErrorKind::AlreadyExists => file = taken.file,
                Err(failed) => {
                    self.file = Some(failed.file);
                    return Err(io_error("cannot rename to", &name, &failed.error));
                }
            }
        }
        Ok(())
    }
}
