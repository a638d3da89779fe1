//! The options of a Delta table, parsed.

use std::collections::BTreeMap;
use std::time::Duration;

use deltalake_core::TableProperty;
use riverrun_engine::table::Options;
use riverrun_engine::{Error, Result};
use url::Url;

use super::PROPERTY;

/// What `WITH (…)` says.
#[derive(Debug, Clone)]
pub(super) struct Config {
    /// The path as written, for messages.
    pub path: String,
    /// Where the table is.
    pub location: Url,
    /// Columns whose values name the folders; `None`: not said, an existing table keeps its own.
    pub partition_by: Option<Vec<String>>,
    /// Encoded bytes that make a commit due.
    pub roll_size: usize,
    /// How long rows wait for their commit at most.
    pub roll_interval: Duration,
    /// Properties that a new table gets (`delta.checkpointInterval` and so on).
    pub properties: BTreeMap<String, String>,
}

impl Config {
    /// Reads the options without I/O.
    pub fn parse(options: &Options) -> Result<Self> {
        let path = options.required("path")?;
        let location = location(&path).map_err(|e| at(options, "path", e))?;
        let partition_by = options.get("partition_by").map(|text| names(&text));
        if partition_by.as_ref().is_some_and(Vec::is_empty) {
            return Err(options.error("partition_by", "names no column"));
        }
        let roll_size = options.bytes("roll_size")?.unwrap_or(128 << 20);
        if roll_size == 0 {
            return Err(options.error("roll_size", "must be more than 0"));
        }
        if options.parse::<bool>("follow", "true or false")?.unwrap_or(false) {
            return Err(options
                .error("follow", "a Delta table is read at one version, the newest when the run begins")
                .hint("leave the option out, and run again for newer versions"));
        }
        Ok(Self {
            path,
            location,
            partition_by,
            roll_size: usize::try_from(roll_size).unwrap_or(usize::MAX),
            roll_interval: options.duration("roll_interval")?.unwrap_or(Duration::from_secs(10)),
            properties: properties(options)?,
        })
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

/// The URL of a table: a path or a `file://` URL. Nothing is created or looked up.
pub(super) fn location(path: &str) -> Result<Url> {
    let folder = match path.split_once("://") {
        None if path.trim().is_empty() => return Err(Error::invalid("the path is empty")),
        None => std::path::absolute(path).map_err(|e| Error::invalid(format!("'{path}' is not a path: {e}")))?,
        Some(("file", _)) => Url::parse(path)
            .ok()
            .and_then(|url| url.to_file_path().ok())
            .ok_or_else(|| Error::invalid(format!("'{path}' is not a file:// URL of a local folder")))?,
        Some((scheme, _)) => {
            return Err(Error::invalid(format!("'{path}': object stores ({scheme}://) cannot hold a Delta table yet"))
                .hint("write to a local path or a file:// URL; S3 and the like come with the object store feature"));
        }
    };
    Url::from_directory_path(&folder).map_err(|()| Error::invalid(format!("'{path}' is not the path of a folder")))
}
