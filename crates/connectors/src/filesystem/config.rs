//! The options of files, parsed, and the connector itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use riverrun_engine::connect::Context;
use riverrun_engine::graph::{SinkNode, SourceNode};
use riverrun_engine::sink::Sink;
use riverrun_engine::source::Source;
use riverrun_engine::table::{Capabilities, Table};
use riverrun_engine::{Error, Result};

use super::appender::Appender;
use super::sink::FolderSink;
use super::source::FileSource;
use crate::connector::Connector;
use crate::format::{self, csv_delimiter};

/// How files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One JSON object a line.
    Json,
    /// Comma-separated values.
    Csv,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// The extension of files in this format.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Json => "jsonl",
            Format::Csv => "csv",
            Format::Parquet => "parquet",
        }
    }
}

/// The options of a table on files.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub path: PathBuf,
    pub format: Format,
    pub watch: bool,
    pub poll_interval: Duration,
    pub header: bool,
    pub delimiter: u8,
    pub roll_size: usize,
    pub roll_interval: Duration,
}

impl Config {
    pub fn of(table: &Table) -> Result<Self> {
        let options = &table.options;
        let formats = [("json", Format::Json), ("csv", Format::Csv), ("parquet", Format::Parquet)];
        let path = PathBuf::from(options.required("path")?);
        if path.as_os_str().is_empty() {
            return Err(options.error("path", "is empty"));
        }
        Ok(Self {
            path,
            format: options.one_of("format", &formats)?.unwrap_or(Format::Json),
            watch: options.parse("watch", "true or false")?.unwrap_or(false),
            poll_interval: options.duration("poll_interval")?.unwrap_or(Duration::from_secs(1)),
            header: options.parse("header", "true or false")?.unwrap_or(true),
            delimiter: csv_delimiter(options)?,
            roll_size: options.bytes("roll_size")?.unwrap_or(128 << 20) as usize,
            roll_interval: options.duration("roll_interval")?.unwrap_or(Duration::from_secs(60)),
        })
    }

    /// Whether a sink appends to the path as one file: it has an extension and is no folder.
    pub fn is_one_file(&self) -> bool {
        self.path.extension().is_some() && !self.path.is_dir()
    }
}

/// Files as a connector.
pub(super) struct Filesystem;

impl Connector for Filesystem {
    fn check(&self, table: &Table) -> Result<Capabilities> {
        let config = Config::of(table)?;
        let one_file = config.path.extension().is_some();
        if config.format == Format::Parquet && one_file && table.columns.is_empty() {
            return Err(parquet_needs_a_folder(&config.path));
        }
        let readable = !table.columns.is_empty();
        if readable && config.format != Format::Parquet && is_read(table) {
            format::check_source(table)?;
        }
        Ok(Capabilities { source: readable, sink: true, ..Capabilities::default() })
    }

    fn is_there(&self, table: &Table, _: &Context) -> Result<bool> {
        Ok(Config::of(table)?.path.exists())
    }

    fn source(&self, node: &SourceNode, _: &Context) -> Result<Arc<dyn Source>> {
        let config = Config::of(&node.table)?;
        Ok(Arc::new(FileSource::new(&node.table, config)?))
    }

    fn sink(&self, node: &SinkNode, _: &Context) -> Result<Box<dyn Sink>> {
        let config = Config::of(&node.table)?;
        match (config.is_one_file(), config.format) {
            (true, Format::Parquet) => Err(parquet_needs_a_folder(&config.path)),
            (true, _) => Ok(Box::new(Appender::open(&config, &node.table.name, &node.schema)?)),
            (false, _) => Ok(Box::new(FolderSink::create(config, &node.table.name, &node.schema)?)),
        }
    }
}

/// Whether a table can only be meant to be read.
fn is_read(table: &Table) -> bool {
    table.watermark.is_some() || table.columns.iter().any(|c| c.metadata.is_some())
}

fn parquet_needs_a_folder(path: &Path) -> Error {
    let what = format!("option 'path': a parquet file cannot be appended to: {}", path.display());
    Error::invalid(what).hint("name a folder, without an extension")
}

/// An error of the file system: full disks pass, others do not.
pub(super) fn io_error(what: &str, path: &Path, error: &std::io::Error) -> Error {
    use std::io::ErrorKind as Kind;
    let message = format!("{what} {}: {error}", path.display());
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded => Error::transient(message).hint("free some space: writing goes on by itself"),
        Kind::Interrupted | Kind::WouldBlock | Kind::TimedOut | Kind::ResourceBusy => Error::transient(message),
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Error::permanent(message).hint("check who may read and write there"),
        Kind::NotFound => Error::permanent(message).hint("check the option 'path'; it is relative to where the program runs"),
        _ => Error::permanent(message),
    }
}
