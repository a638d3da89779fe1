//! The source: files as one partition.

use riverrun_engine::source::{OnBadRecord, PartitionReader, Source, Start};
use riverrun_engine::table::Table;
use riverrun_engine::{Error, Result};

use super::config::Config;
use super::files;
use super::reader::{FileReader, Job};
use crate::connector::on_bad_record;

/// The files of a table, read from their start (whatever `starting_offsets` says: files are rows at rest) unless a pipeline
/// has a position of its own.
pub(super) struct FileSource {
    table: Table,
    config: Config,
    bad_records: OnBadRecord,
}

impl FileSource {
    /// Fails where there is nothing to read.
    pub fn new(table: &Table, config: Config) -> Result<Self> {
        files::list(&config)?;
        Ok(Self { table: table.clone(), config, bad_records: on_bad_record(&table.options)? })
    }
}

impl Source for FileSource {
    fn partitions(&self) -> Result<u32> {
        Ok(1)
    }

    fn resolve(&self, _: u32, start: Start) -> Result<i64> {
        match start {
            Start::Earliest => Ok(0),
            Start::Latest => Ok(files::end(&files::list(&self.config)?)),
            Start::Offset(offset) => Ok(offset),
            Start::Time(_) => Err(Error::invalid("files have no record times to start from").hint("filter by a column")),
        }
    }

    fn end_offset(&self, _: u32) -> Result<Option<i64>> {
        Ok(Some(files::end(&files::list(&self.config)?)))
    }

    fn open(&self, _: u32, offset: i64, stop: Option<i64>) -> Result<Box<dyn PartitionReader>> {
        let files = files::list(&self.config)?;
        if offset > files::end(&files) {
            let what = format!("{}: position {offset} is past the end of the files", self.config.path.display());
            return Err(Error::permanent(what).hint("files that were read are gone or shorter; start anew"));
        }
        let job = Job { table: self.table.clone(), config: self.config.clone(), position: offset, stop, files };
        Ok(Box::new(FileReader::start(job)?))
    }

    fn bad_records(&self) -> OnBadRecord {
        self.bad_records
    }
}
