//! What `checkpoint.location` says.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use riverrun_engine::{Error, Result};

use super::ObjectStorage;

/// A place for checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory, absolute.
    Directory(PathBuf),
    /// A bucket, and what all names in it begin with; no `/` at its ends.
    S3 {
        /// The bucket.
        bucket: String,
        /// Maybe empty.
        prefix: String,
    },
}

impl Location {
    /// Reads a path or URL.
    ///
    /// # Errors
    /// A URL of another kind.
    pub fn parse(text: &str) -> Result<Self> {
        let path = match text.split_once("://") {
            None => Path::new(text),
            Some(("file", path)) if path.starts_with('/') => Path::new(path),
            Some(("s3" | "s3a", rest)) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return Err(Error::invalid(format!("location '{text}': there is no bucket")).hint("write s3://bucket/prefix"));
                }
                return Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() });
            }
            Some(_) => {
                return Err(Error::invalid(format!("location '{text}': there is no store of this kind"))
                    .hint("give a path, file:///path or s3://bucket/prefix"));
            }
        };
        let absolute = std::path::absolute(path);
        Ok(Self::Directory(absolute.map_err(|e| Error::invalid(format!("location '{text}': {e}")))?))
    }

    /// The folder `name` in it.
    pub fn folder(&self, name: &str) -> Self {
        match self {
            Self::Directory(path) => Self::Directory(path.join(name)),
            Self::S3 { bucket, prefix } if prefix.is_empty() => Self::S3 { bucket: bucket.clone(), prefix: name.to_owned() },
            Self::S3 { bucket, prefix } => Self::S3 { bucket: bucket.clone(), prefix: format!("{prefix}/{name}") },
        }
    }

    /// Its directory, if it is one.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::S3 { .. } => None,
        }
    }

    /// Connects to it. `options` are those of S3, by the names of `SET checkpoint.s3.NAME`.
    ///
    /// # Errors
    /// The program is built without it, or an option is unknown.
    pub fn open(&self, options: &BTreeMap<String, String>) -> Result<ObjectStorage> {
        match self {
            Self::Directory(path) => ObjectStorage::directory(path),
            #[cfg(feature = "s3")]
            Self::S3 { bucket, prefix } => {
                let store = riverrun_connectors::s3::connect(bucket, options).map_err(|e| e.within("checkpoint.location"))?;
                ObjectStorage::new(store, prefix, self)
            }
            #[cfg(not(feature = "s3"))]
            Self::S3 { .. } => {
                let _ = options;
                Err(Error::invalid(format!("location {self}: this riverrun is built without S3"))
                    .hint("build it with the feature s3, or give a path"))
            }
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}
