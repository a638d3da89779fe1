//! The names of the files that a folder gets.
//!
//! A run that is not asked for positions names a file by task and epochs, and puts a number behind a name that is taken. Where
//! epochs can be repeated, lineage and sink stand in the name: the positions of the tasks are what the names say.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use riverrun_engine::Result;

use super::config::{Config, io_error};

/// All but letters, digits and `_`.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_');

/// The name of a table as part of a file's name, without dashes.
pub(super) fn escaped(table: &str) -> String {
    utf8_percent_encode(table, ESCAPED).to_string()
}

/// How one sink names its files.
pub(super) struct Names {
    folder: PathBuf,
    extension: &'static str,
    /// `lineage-sink`, where positions are kept.
    owner: Option<String>,
}

impl Names {
    pub fn new(config: &Config) -> Self {
        Self { folder: config.path.clone(), extension: config.format.extension(), owner: None }
    }

    /// From now on names tell the positions of this sink.
    pub fn keep_positions(&mut self, lineage: &str, sink: &str) {
        self.owner = Some(format!("{lineage}-{}", escaped(sink)));
    }

    /// Whether names tell positions.
    pub fn tell_positions(&self) -> bool {
        self.owner.is_some()
    }

    /// What the hidden name of an unfinished file begins with.
    pub fn unfinished(&self, task: u32) -> String {
        match &self.owner {
            Some(owner) => format!(".open-{owner}-{task:05}-"),
            None => format!(".part-{task:05}-"),
        }
    }

    /// The names that a finished file may have, the first that is free is its own.
    pub fn finished(&self, task: u32, first: u64, last: u64) -> impl Iterator<Item = PathBuf> {
        let (owner, count) = match &self.owner {
            Some(owner) => (format!("{owner}-"), 1),
            None => (String::new(), usize::MAX),
        };
        let stem = self.folder.join(format!("part-{owner}{task:05}-{first:012}-{last:012}"));
        let extension = self.extension;
        let name = move |n: u64| {
            let number = if n > 1 { format!("-{n}") } else { String::new() };
            PathBuf::from(format!("{}{number}.{extension}", stem.display()))
        };
        (1..).map(name).take(count)
    }

    /// The last epoch of each task that finished files hold.
    pub fn positions(&self) -> Result<BTreeMap<u32, u64>> {
        let mut positions = BTreeMap::new();
        let prefix = format!("part-{}-", self.owner.as_deref().unwrap_or_default());
        for name in self.list()? {
            let Some((task, last)) = name.strip_prefix(&prefix).and_then(|rest| self.epochs(rest)) else { continue };
            let position: &mut u64 = positions.entry(task).or_default();
            *position = last.max(*position);
        }
        Ok(positions)
    }

    /// Task and last epoch of `<task>-<first>-<last>.<extension>`.
    fn epochs(&self, name: &str) -> Option<(u32, u64)> {
        let mut numbers = name.strip_suffix(self.extension)?.strip_suffix('.')?.split('-');
        let (task, _, last) = (numbers.next()?, numbers.next()?.parse::<u64>().ok()?, numbers.next()?);
        numbers.next().is_none().then_some((task.parse().ok()?, last.parse().ok()?))
    }

    /// Removes what an earlier run of this lineage left unfinished.
    pub fn remove_unfinished(&self) -> Result<()> {
        let prefix = format!(".open-{}-", self.owner.as_deref().unwrap_or_default());
        // Behind a lineage that begins with this one stands more.
        let ours =
            |rest: &str| rest.split_once('-').is_some_and(|(task, rest)| task.parse::<u32>().is_ok() && !rest.contains('-'));
        self.remove(|name| name.strip_prefix(&prefix).is_some_and(ours))
    }

    /// Removes what earlier runs that kept no positions left unfinished of a task.
    pub fn remove_unfinished_of(&self, task: u32) -> Result<()> {
        let prefix = self.unfinished(task);
        self.remove(|name| name.starts_with(&prefix))
    }

    fn remove(&self, is_left: impl Fn(&str) -> bool) -> Result<()> {
        for name in self.list()?.into_iter().filter(|name| name.ends_with(".tmp") && is_left(name)) {
            let path = self.folder.join(&name);
            std::fs::remove_file(&path).map_err(|e| io_error("cannot remove", &path, &e))?;
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>> {
        let unreadable = |e: std::io::Error| io_error("cannot read folder", &self.folder, &e);
        let entries = std::fs::read_dir(&self.folder).map_err(unreadable)?;
        entries.map(|entry| entry.map(|e| text(&e.file_name())).map_err(unreadable)).collect()
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn text(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}
