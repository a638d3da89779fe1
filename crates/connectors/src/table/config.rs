//! The options of `connector = 'table'`, parsed.

use std::path::{Path, PathBuf};

use riverrun_engine::table::Table;

/// Which table of which directory.
#[derive(Debug, Clone)]
pub(super) struct Config {
    path: Option<PathBuf>,
    /// The name in the store.
    pub name: String,
}

impl Config {
    pub fn of(table: &Table) -> Self {
        let name = table.options.get("table").unwrap_or_else(|| table.name.clone());
        Self { path: table.options.get("path").map(PathBuf::from), name }
    }

    /// The directory of the tables.
    pub fn directory(&self, data_dir: &Path) -> PathBuf {
        self.path.clone().unwrap_or_else(|| data_dir.join("tables"))
    }
}
