//! `connector = 'filesystem'`: JSON lines, CSV and Parquet, from and into files.
//!
//! As a source it is one partition: the files that `path` names (a file, a folder or a glob), in order of their names. Its
//! offsets count bytes (for Parquet: rows) over all files before the record; so files must be complete when they appear,
//! only the last one may still grow, and new ones must sort behind it. This is checked while a folder is watched.
//!
//! As a sink it writes a folder of files that are complete when they appear, or appends to one file.

#[cfg(feature = "filesystem")]
mod appender;
#[cfg(feature = "filesystem")]
mod config;
#[cfg(feature = "filesystem")]
mod encoder;
#[cfg(feature = "filesystem")]
mod files;
#[cfg(feature = "filesystem")]
mod lines;
#[cfg(feature = "filesystem")]
mod mark;
#[cfg(feature = "filesystem")]
mod names;
#[cfg(feature = "filesystem")]
mod parquet;
#[cfg(feature = "filesystem")]
mod reader;
#[cfg(feature = "filesystem")]
mod sink;
#[cfg(feature = "filesystem")]
mod source;
#[cfg(test)]
#[cfg(feature = "filesystem")]
mod tests;

use crate::connector::{Connector, Description, option, required};

/// Files, for people and documentation.
pub static DESCRIPTION: Description = Description {
    name: "filesystem",
    feature: Some("filesystem"),
    docs: "Reads files (JSON lines, CSV, Parquet) once or watches for new ones; writes rolled files into a folder, or appends \
           to one file where `path` has an extension.",
    options: &[
        required("path", "a file, a folder, or a glob such as 'in/*.jsonl'"),
        option("watch", "false", "source: whether to wait for new files, rather than end"),
        option("poll_interval", "1 second", "source: how often a watched path is looked at"),
        option("header", "true", "csv: whether the first line names the columns"),
        option("delimiter", ",", "csv: the character between values, or 'tab'"),
        option("roll_size", "128 MiB", "sink: a file is finished at this size"),
        option("roll_interval", "1 minute", "sink: a file is finished at this age"),
    ],
    pass_through: None,
};

/// Files as a connector, where compiled in.
#[cfg(feature = "filesystem")]
pub fn connector() -> Option<Box<dyn Connector>> {
    Some(Box::new(config::Filesystem))
}

/// Files as a connector, where compiled in.
#[cfg(not(feature = "filesystem"))]
pub fn connector() -> Option<Box<dyn Connector>> {
    None
}
