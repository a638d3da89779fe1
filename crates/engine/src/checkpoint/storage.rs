//! Where checkpoints lie: files by name, that are written once and never changed.
//!
//! The engine knows no client library; what speaks to an object store or a directory implements [`Storage`] outside of it.
//! All that the protocol of checkpoints rests on is that of several who put the same name, one is the first.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::Result;

/// What became of [`Storage::put_if_absent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// A file of this name holds these bytes: they were written now, or stood there already.
    Stored,
    /// A file of this name holds other bytes, and stays.
    Taken,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Files of a pipeline. Calls block; several threads and processes may use it at once.
///
/// A name is parts between `/`, each of ASCII letters, digits, `.`, `_` and `-`. `Display` tells the place, for messages: a
/// path or a URL.
///
/// A file is seen whole or not at all, and by everyone once a put of it has returned (S3, Google Cloud Storage, Azure and
/// local file systems do so). A [transient](crate::error::Kind::Transient) error leaves open whether a put or a deletion happened.
pub trait Storage: fmt::Debug + fmt::Display + Send + Sync {
    /// The bytes of a file. `None`: there is none of this name.
    fn get(&self, name: &str) -> Result<Option<Bytes>>;

    /// The bytes of several files, in order; at once where that is faster.
    fn get_many(&self, names: &[String]) -> Result<Vec<Option<Bytes>>> {
        names.iter().map(|name| self.get(name)).collect()
    }

    /// Writes a file if there is none of its name, as one step: of several who try, one is first. It is durable on return.
    fn put_if_absent(&self, name: &str, bytes: Bytes) -> Result<Put>;

    /// The files whose names begin with `prefix`, sorted by name. A prefix ends with `/`, or is empty: all files.
    fn list(&self, prefix: &str) -> Result<Vec<Stored>>;

    /// Removes a file. That there is none of this name is fine.
    fn delete(&self, name: &str) -> Result<()>;
}

/// Files in memory, for tests. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryStorage(Arc<Mutex<BTreeMap<String, Bytes>>>);

impl MemoryStorage {
    /// Puts a file in place of what is there, as a fault would.
    pub fn replace(&self, name: &str, bytes: Bytes) {
        self.files().insert(name.to_owned(), bytes);
    }

    fn files(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}

impl Storage for MemoryStorage {
    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        Ok(self.files().get(name).cloned())
    }

    fn put_if_absent(&self, name: &str, bytes: Bytes) -> Result<Put> {
        let mut files = self.files();
        let held = files.entry(name.to_owned()).or_insert_with(|| bytes.clone());
        Ok(if *held == bytes { Put::Stored } else { Put::Taken })
    }

    fn list(&self, prefix: &str) -> Result<Vec<Stored>> {
        let files = self.files();
        let begun = files.range(prefix.to_owned()..).take_while(|(name, _)| name.starts_with(prefix));
        Ok(begun.map(|(name, bytes)| Stored { name: name.clone(), bytes: bytes.len() as u64 }).collect())
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.files().remove(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_two_stands_and_the_same_again_is_fine() {
        let storage = MemoryStorage::default();
        let (one, other) = (Bytes::from_static(b"one"), Bytes::from_static(b"other"));
        assert_eq!(storage.put_if_absent("a/b", one.clone()).unwrap(), Put::Stored);
        assert_eq!(storage.put_if_absent("a/b", one.clone()).unwrap(), Put::Stored);
        assert_eq!(storage.put_if_absent("a/b", other).unwrap(), Put::Taken);
        assert_eq!(storage.get("a/b").unwrap(), Some(one));
        assert_eq!(storage.list("a/").unwrap(), [Stored { name: "a/b".into(), bytes: 3 }]);
        assert_eq!(storage.list("b/").unwrap(), []);
        storage.delete("a/b").unwrap();
        storage.delete("a/b").unwrap();
        assert_eq!(storage.get_many(&["a/b".into()]).unwrap(), [None]);
    }
}
