//! How other processes find the running one: a small file in its data directory.

use std::path::{Path, PathBuf};

use riverrun_engine::{Error, Result};
use serde::{Deserialize, Serialize};

/// The file's name within the data directory.
pub const FILE: &str = "running.json";

/// Who runs here.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Running {
    /// `127.0.0.1:port`.
    pub address: String,
    /// Process number.
    pub pid: u32,
    /// The pipeline's name.
    pub pipeline: String,
}

/// The announcement of this process; taken back when dropped.
#[derive(Debug)]
pub struct Announcement(PathBuf);

impl Announcement {
    /// Writes the file.
    pub fn write(data_dir: &Path, running: &Running) -> Result<Self> {
        let path = data_dir.join(FILE);
        let text = serde_json::to_string(running).map_err(|e| Error::permanent(e.to_string()))?;
        std::fs::create_dir_all(data_dir)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|e| Error::permanent(format!("{} cannot be written: {e}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Nothing depends on it: a file left behind names a process that no longer answers.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Who runs on this data directory, by its file. It may be gone: a process that was killed leaves the file behind.
pub fn find(data_dir: &Path) -> Option<Running> {
    let text = std::fs::read_to_string(data_dir.join(FILE)).ok()?;
    serde_json::from_str(&text).ok()
}
