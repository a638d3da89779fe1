//! Schemas on disk, so that a pipeline starts and goes on while the registry is down.
//!
//! One folder per registry, one small JSON file per question: `id-7.json`, `subject-orders-value.json` (the version that was
//! last seen as the latest, and what was registered). A file appears whole or not at all. A cache that cannot be written costs
//! only itself: it is told once.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The folder of one registry.
pub(super) struct Cache {
    folder: PathBuf,
    told: AtomicBool,
}

impl Cache {
    /// The cache of the registry at `url`.
    pub fn new(root: &Path, url: &str) -> Self {
        let host = url.split_once("://").map_or(url, |(_, rest)| rest);
        Self { folder: root.join(file_name(host)), told: AtomicBool::new(false) }
    }

    /// What was kept under a name, if it can be read.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let text = std::fs::read(self.folder.join(format!("{}.json", file_name(name)))).ok()?;
        serde_json::from_slice(&text).inspect_err(|error| tracing::warn!("schema cache: {name}: {error}; it is asked anew")).ok()
    }

    /// Keeps an answer.
    pub fn put<T: Serialize>(&self, name: &str, value: &T) {
        if let Err(error) = self.write(&file_name(name), value)
            && !self.told.swap(true, Relaxed)
        {
            let folder = self.folder.display();
            tracing::warn!("schemas cannot be kept in {folder}: {error}; without them nothing starts while the registry is down");
        }
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        // Several threads may write the same answer: each to a file of its own first.
        let unique = format!("{:?}", std::thread::current().id());
        let new = self.folder.join(format!(".{name}.{}.{}", std::process::id(), file_name(&unique)));
        std::fs::write(&new, serde_json::to_vec(value)?)?;
        std::fs::rename(&new, self.folder.join(format!("{name}.json")))
    }
}

/// A text as the name of a file; different texts have different names.
fn file_name(text: &str) -> String {
    let mut name = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            b'.' if !name.is_empty() => name.push('.'),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_by_the_same_registry_and_name_only() {
        let root = tempfile::tempdir().unwrap();
        Cache::new(root.path(), "http://a:8081").put("subject-x/y", &"one".to_owned());
        let get = |url: &str, name: &str| Cache::new(root.path(), url).get::<String>(name);
        assert_eq!(get("http://a:8081", "subject-x/y").as_deref(), Some("one"));
        assert_eq!(get("http://a:8082", "subject-x/y"), None);
        assert_eq!(get("http://a:8081", "subject-x_y"), None);
    }

    #[test]
    fn damaged_files_are_as_if_they_were_not_there() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path(), "http://a");
        cache.put("id-1", &"one".to_owned());
        std::fs::write(cache.folder.join("id-1.json"), "\"on").unwrap();
        assert_eq!(cache.get::<String>("id-1"), None);
    }
}
