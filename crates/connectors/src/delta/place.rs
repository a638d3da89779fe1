//! Where a table is: a folder on local disk, or a prefix in a bucket.

use std::collections::BTreeMap;

use deltalake_core::logstore::{LogStoreRef, StorageConfig, logstore_for};
use riverrun_engine::{Error, Result};
use url::Url;

use super::io::failed;

/// A place, and how to get there.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// As it was written, for messages.
    pub path: String,
    location: Url,
    /// Options of the object store, by the names that its client has for them.
    #[cfg_attr(not(feature = "s3"), allow(dead_code))]
    s3: BTreeMap<String, String>,
}

impl Place {
    /// Reads a path or URL. Nothing is created or looked up.
    pub fn parse(path: &str, s3: BTreeMap<String, String>) -> Result<Self> {
        Ok(Self { path: path.to_owned(), location: location(path)?, s3 })
    }

    /// Access to the log of the table there. Nothing is created or looked up.
    pub fn log(&self) -> Result<LogStoreRef> {
        match self.location.scheme() {
            #[cfg(feature = "s3")]
            "s3" => self.s3_log(),
            _ => logstore_for(&self.location, StorageConfig::default()).map_err(|e| failed("open", &self.path, e)),
        }
    }

    /// The log's entries are put if absent, which the store decides: so of two commits of one version exactly one is there.
    #[cfg(feature = "s3")]
    fn s3_log(&self) -> Result<LogStoreRef> {
        use deltalake_core::logstore::default_logstore;
        use object_store::path::Path;
        use object_store::prefix::PrefixStore;

        let wrong = |e: &dyn std::fmt::Display| Error::invalid(format!("'{}': {e}", self.path));
        let bucket = self.location.host_str().ok_or_else(|| wrong(&"there is no bucket"))?;
        let prefix = Path::from_url_path(self.location.path()).map_err(|e| wrong(&e))?;
        let store = crate::s3::connect(bucket, &self.s3)?;
        let table = std::sync::Arc::new(PrefixStore::new(std::sync::Arc::clone(&store), prefix));
        Ok(default_logstore(table, store, &self.location, &StorageConfig::default()))
    }
}

fn location(path: &str) -> Result<Url> {
    let folder = match path.split_once("://") {
        None if path.trim().is_empty() => return Err(Error::invalid("the path is empty")),
        None => std::path::absolute(path).map_err(|e| Error::invalid(format!("'{path}' is not a path: {e}")))?,
        Some(("file", _)) => Url::parse(path)
            .ok()
            .and_then(|url| url.to_file_path().ok())
            .ok_or_else(|| Error::invalid(format!("'{path}' is not a file:// URL of a local folder")))?,
        Some(("s3" | "s3a", rest)) => return bucket(path, rest),
        Some((scheme, _)) => {
            return Err(Error::invalid(format!("'{path}': there is no store of this kind ({scheme}://)"))
                .hint("give a path, file:///path or s3://bucket/prefix"));
        }
    };
    Url::from_directory_path(&folder).map_err(|()| Error::invalid(format!("'{path}' is not the path of a folder")))
}

fn bucket(path: &str, rest: &str) -> Result<Url> {
    if !cfg!(feature = "s3") {
        return Err(Error::invalid(format!("'{path}': this riverrun is built without S3"))
            .hint("build it with the feature s3, or give a path"));
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_matches('/');
    let url = Url::parse(&format!("s3://{bucket}")).ok().filter(|_| !bucket.is_empty() && !prefix.is_empty());
    let Some(mut url) = url else {
        return Err(Error::invalid(format!("'{path}' names no table in a bucket")).hint("write s3://bucket/prefix"));
    };
    url.set_path(&format!("/{prefix}/"));
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_in_a_folder_or_a_bucket() {
        let at = |path: &str| location(path).map(|url| url.to_string()).map_err(|e| e.to_string());
        assert_eq!(at("/a/b").unwrap(), "file:///a/b/");
        assert_eq!(at("file:///a/b").unwrap(), "file:///a/b/");
        assert!(at("gs://bucket/x").unwrap_err().contains("no store of this kind"));
        if cfg!(feature = "s3") {
            assert_eq!(at("s3://bucket/a/b").unwrap(), "s3://bucket/a/b/");
            assert_eq!(at("s3a://bucket/a/b/").unwrap(), "s3://bucket/a/b/");
            for wrong in ["s3://", "s3://bucket", "s3://bucket/", "s3:///a"] {
                assert!(at(wrong).unwrap_err().contains("names no table in a bucket"), "{wrong}");
            }
        }
    }
}
