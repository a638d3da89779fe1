//! The sink that appends to one file: simple, at least once, for dead letters and for people.
//!
//! What [`Sink::write`] took is with the operating system when it returns: safe against `kill -9`, not against power loss.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use arrow::datatypes::SchemaRef;
use riverrun_engine::batch::Change;
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

use super::config::{Config, io_error};
use super::encoder::FileEncoder;

/// Appends rows to a file, whole outputs or nothing.
pub(super) struct Appender {
    file: File,
    path: PathBuf,
    length: u64,
    encoder: FileEncoder,
    buffer: Vec<u8>,
}

impl Appender {
    /// Opens or creates the file and its folder.
    pub fn open(config: &Config, schema: &SchemaRef) -> Result<Self> {
        let path = config.path.clone();
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| io_error("cannot create folder", folder, &e))?;
        }
        let opened = OpenOptions::new().create(true).read(true).append(true).open(&path);
        let file = opened.map_err(|e| io_error("cannot open", &path, &e))?;
        let length = file.metadata().map_err(|e| io_error("cannot read", &path, &e))?.len();
        let mut encoder = FileEncoder::new(config, schema)?;
        if length > 0 {
            encoder.skip_header();
        }
        let mut appender = Self { file, path, length, encoder, buffer: Vec::new() };
        if length > 0 && !appender.ends_with_newline()? {
            // A line that an earlier run did not finish costs itself, not the next one.
            appender.buffer.push(b'\n');
            appender.append()?;
        }
        Ok(appender)
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
    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        refuse_deletes(output)?;
        self.buffer.clear();
        for batch in &output.batches {
            self.encoder.encode(&batch.rows, &mut self.buffer)?;
        }
        self.append()
    }

    fn flush(&mut self, _: Micros, _: bool) -> Result<Flushed> {
        Ok(Flushed::All)
    }
}
