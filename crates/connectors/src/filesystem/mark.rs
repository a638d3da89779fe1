//! The mark beside a file that is appended to: how far each task is, and how long the file was then. A small file
//! `.<file>.riverrun-<lineage>-<sink>` of JSON, replaced as a whole.
//!
//! Invariant: what stands behind the length of an open mark are rows of epochs that the mark does not know: a crash left them.
//! A mark that is not open says nothing of what came behind its length.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use riverrun_engine::{Error, Result};
use serde::{Deserialize, Serialize};

use super::config::io_error;
use super::names::escaped;

/// How far a file is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// How long the file is with the rows of these epochs.
    pub length: u64,
    /// The last epoch of each task.
    pub epochs: BTreeMap<u32, u64>,
    /// A run appends, or did and was killed.
    #[serde(default)]
    pub open: bool,
    /// Others append too: what is in the file is not known.
    #[serde(default)]
    pub shared: bool,
}

/// The path of a mark.
pub(super) fn path(file: &Path, lineage: &str, sink: &str) -> PathBuf {
    file.with_file_name(format!("{}{lineage}-{}", prefix(file), escaped(sink)))
}

/// What the marks of a file begin with.
fn prefix(file: &Path) -> String {
    format!(".{}.riverrun-", file.file_name().unwrap_or_default().to_string_lossy())
}

impl Mark {
    /// Reads a mark, if it is there.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error("cannot read", path, &e)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            Error::permanent(format!("{} is damaged: {e}", path.display()))
                .hint("it says which rows the file beside it holds; remove both to start anew")
        })
    }

    /// Replaces the mark there. Only who appends to the file does so.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|e| Error::permanent(format!("{}: {e}", path.display())))?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push("~");
        let new = path.with_file_name(name);
        let saved = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path));
        saved.map_err(|e| io_error("cannot write", path, &e))
    }
}

/// Cuts off what a crash left behind the length of an open mark. Nobody else may have the file open meanwhile.
pub(super) fn repair(file: &File, path: &Path) -> Result<()> {
    let (folder, prefix) = (path.parent().unwrap_or(Path::new("")), prefix(path));
    let entries = std::fs::read_dir(folder).map_err(|e| io_error("cannot read folder", folder, &e))?;
    for entry in entries.filter_map(|e| e.ok().map(|e| e.path())) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with(&prefix) || name.ends_with('~') {
            continue;
        }
        let Some(mark) = Mark::load(&entry)?.filter(|mark| mark.open) else { continue };
        let length = file.metadata().map_err(|e| io_error("cannot read", path, &e))?.len();
        if length > mark.length {
            tracing::info!("{}: cutting off {} bytes that a crash left unfinished", path.display(), length - mark.length);
            file.set_len(mark.length).map_err(|e| io_error("cannot write to", path, &e))?;
        }
        Mark { open: false, ..mark }.save(&entry)?;
    }
    Ok(())
}
