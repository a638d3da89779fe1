//! The sink that fills a folder with files which are complete when they appear.
//!
//! A file holds the rows of a range of epochs of one task and is named by them: `part-<task>-<first>-<last>.jsonl`. It is
//! written under a hidden name and renamed when it is finished, by size or by age; only then are its epochs told to be safe.
//! What a crash leaves under a hidden name was not, and is removed when its task writes again.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use riverrun_engine::Result;
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::time::Micros;

use super::appender::{refuse_deletes, write_at_end};
use super::config::{Config, io_error};
use super::encoder::FileEncoder;

/// Writes each task's rows into files of their own.
pub(super) struct FolderSink {
    config: Config,
    schema: SchemaRef,
    open: BTreeMap<u32, OpenFile>,
}

/// A file that is not finished.
struct OpenFile {
    file: File,
    path: PathBuf,
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
    pub fn create(config: Config, schema: &SchemaRef) -> Result<Self> {
        std::fs::create_dir_all(&config.path).map_err(|e| io_error("cannot create folder", &config.path, &e))?;
        Ok(Self { config, schema: schema.clone(), open: BTreeMap::new() })
    }

    fn begin(&self, output: &EpochOutput) -> Result<OpenFile> {
        let folder = &self.config.path;
        remove_leftovers(folder, output.task)?;
        let path = folder.join(format!(".part-{:05}-{:012}.tmp", output.task, output.epoch));
        let file = File::create(&path).map_err(|e| io_error("cannot create", &path, &e))?;
        Ok(OpenFile {
            file,
            path,
            length: 0,
            encoder: Some(FileEncoder::new(&self.config, &self.schema)?),
            rest: Vec::new(),
            first_epoch: output.epoch,
            last_epoch: output.epoch,
            since: output.clock,
        })
    }
}

impl Sink for FolderSink {
    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        refuse_deletes(output)?;
        if output.rows() == 0 {
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
                encoder.encode(&batch.rows, &mut bytes)?;
            }
        }
        open.append(&bytes)?;
        open.last_epoch = output.epoch;
        Ok(())
    }

    fn flush(&mut self, now: Micros, force: bool) -> Result<Flushed> {
        let age = i64::try_from(self.config.roll_interval.as_micros()).unwrap_or(i64::MAX);
        let tasks: Vec<u32> = self.open.keys().copied().collect();
        for task in tasks {
            let Some(open) = self.open.get_mut(&task) else { continue };
            if force || open.size() >= self.config.roll_size || now.saturating_sub(open.since) >= age {
                open.finish(&self.config, task)?;
                self.open.remove(&task);
            }
        }
        Ok(if self.open.is_empty() { Flushed::All } else { Flushed::Pending })
    }
}

impl OpenFile {
    fn size(&self) -> usize {
        self.length as usize + self.encoder.as_ref().map_or(0, FileEncoder::waiting)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        write_at_end(&mut self.file, self.length, bytes).map_err(|e| io_error("cannot write to", &self.path, &e))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Ends the file and gives it its name. May be called again after an error.
    fn finish(&mut self, config: &Config, task: u32) -> Result<()> {
        if let Some(encoder) = self.encoder.take() {
            self.rest = encoder.finish()?;
        }
        let rest = std::mem::take(&mut self.rest);
        if let Err(error) = self.append(&rest) {
            self.rest = rest;
            return Err(error);
        }
        let stem = format!("part-{task:05}-{:012}-{:012}", self.first_epoch, self.last_epoch);
        let name = free_name(&config.path, &stem, config.format.extension());
        std::fs::rename(&self.path, &name).map_err(|e| io_error("cannot rename to", &name, &e))
    }
}

/// A name that no file has: one of an earlier lineage may hold the same epochs.
fn free_name(folder: &Path, stem: &str, extension: &str) -> PathBuf {
    let plain = folder.join(format!("{stem}.{extension}"));
    if !plain.exists() {
        return plain;
    }
    let numbered = (2_u64..).map(|n| folder.join(format!("{stem}-{n}.{extension}")));
    numbered.into_iter().find(|name| !name.exists()).unwrap_or(plain)
}

fn remove_leftovers(folder: &Path, task: u32) -> Result<()> {
    let prefix = format!(".part-{task:05}-");
    let entries = std::fs::read_dir(folder).map_err(|e| io_error("cannot read folder", folder, &e))?;
    for path in entries.filter_map(|e| e.ok().map(|e| e.path())) {
        let leftover = path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with(&prefix) && name.ends_with(".tmp")
        });
        if leftover {
            std::fs::remove_file(&path).map_err(|e| io_error("cannot remove", &path, &e))?;
        }
    }
    Ok(())
}
