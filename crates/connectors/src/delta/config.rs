//! The options of a Delta table, parsed.

use std::collections::BTreeMap;
use std::time::Duration;

use deltalake_core::TableProperty;
use riverrun_engine::table::Options;
use riverrun_engine::{Error, Result};

use super::place::Place;
use super::{PROPERTY, S3};

/// What `WITH (…)` says.
#[derive(Debug, Clone)]
pub(super) struct Config {
    /// The path as written, for messages.
    pub path: String,
    /// Where the table is.
    pub place: Place,
    /// Columns whose values name the folders; `None`: not said, an existing table keeps its own.
    pub partition_by: Option<Vec<String>>,
    /// Encoded bytes that make a commit due.
    pub roll_size: usize,
    /// How long rows wait for their commit at most.
    pub roll_interval: Duration,
    /// Whether columns that the table lacks are added to it.
    pub add_columns: bool,
    /// To what size small files are merged in the background; `None`: they are not.
    pub compact_size: Option<u64>,
    /// How to read the table.
    pub reading: Reading,
    /// Properties that a new table gets (`delta.checkpointInterval` and so on).
    pub properties: BTreeMap<String, String>,
}

/// How a table is read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// Whether newer versions are read as they come.
    pub follow: bool,
    /// Where reading starts.
    pub start: StartingVersion,
    /// How often newer versions are looked for.
    pub poll_interval: Duration,
    /// Whether versions that take rows away are passed over, rather than an error.
    pub ignore_deletes: bool,
}

/// Where reading starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartingVersion {
    /// With all rows that the table has.
    Snapshot,
    /// With those that this version added.
    Changes(u64),
    /// With those that come.
    Latest,
}

impl Config {
    /// Reads the options without I/O.
    pub fn parse(options: &Options) -> Result<Self> {
        let path = options.required("path")?;
        let s3 = options.iter().filter_map(|(name, value)| Some((name.strip_prefix(S3)?.to_owned(), value.value.clone())));
        let place = Place::parse(&path, s3.collect()).map_err(|e| at(options, "path", e))?;
        let partition_by = options.get("partition_by").map(|text| names(&text));
        if partition_by.as_ref().is_some_and(Vec::is_empty) {
            return Err(options.error("partition_by", "names no column"));
        }
        let compact = options.one_of("compact", &[("auto", true), ("off", false)])?.unwrap_or(true);
        let compact_size = size(options, "compact_size")?;
        Ok(Self {
            path,
            place,
            partition_by,
            roll_size: usize::try_from(size(options, "roll_size")?).unwrap_or(usize::MAX),
            roll_interval: options.duration("roll_interval")?.unwrap_or(Duration::from_secs(10)),
            add_columns: options.parse("add_columns", "true or false")?.unwrap_or(false),
            compact_size: compact.then_some(compact_size),
            reading: Reading::parse(options)?,
            properties: properties(options)?,
        })
    }
}

impl Reading {
    fn parse(options: &Options) -> Result<Self> {
        let follow = options.parse("follow", "true or false")?.unwrap_or(false);
        for name in ["starting_version", "ignore_deletes"] {
            if !follow && options.get(name).is_some() {
                return Err(options.error(name, "a table at rest is read at its newest version").hint("add follow = 'true'"));
            }
        }
        let start = match options.get("starting_version").as_deref().map(str::trim) {
            None => StartingVersion::Snapshot,
            Some("latest") => StartingVersion::Latest,
            Some(text) => StartingVersion::Changes(text.parse().map_err(|_| {
                options
                    .error("starting_version", &format!("'{text}' is not a version"))
                    .hint("a number, or 'latest'; left out, all rows that the table has come first")
            })?),
        };
        let ignore_deletes = options.parse("ignore_deletes", "true or false")?.unwrap_or(false);
        let poll_interval = options.duration("poll_interval")?.unwrap_or(Duration::from_secs(1));
        Ok(Self { follow, start, poll_interval, ignore_deletes })
    }
}

/// A size that is not 0; 128 MiB where it is not said.
fn size(options: &Options, name: &str) -> Result<u64> {
    match options.bytes(name)? {
        Some(0) => Err(options.error(name, "must be more than 0")),
        size => Ok(size.unwrap_or(128 << 20)),
    }
}

fn properties(options: &Options) -> Result<BTreeMap<String, String>> {
    let mut properties = BTreeMap::new();
    for (name, value) in options.iter().filter(|(name, _)| name.starts_with(PROPERTY)) {
        if name.parse::<TableProperty>().is_err() {
            return Err(options
                .error(name, "Delta tables have no such property")
                .hint("such as 'delta.checkpointInterval' = '100'"));
        }
        properties.insert(name.to_owned(), value.value.clone());
    }
    Ok(properties)
}

fn names(text: &str) -> Vec<String> {
    text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

fn at(options: &Options, name: &str, error: Error) -> Error {
    let placed = options.error(name, error.message());
    match error.hint_text() {
        Some(hint) => placed.hint(hint),
        None => placed,
    }
}
