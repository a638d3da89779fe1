//! Going back: a new life of the pipeline from an earlier checkpoint; and copies of checkpoints in another storage.
//!
//! A reset is one more manifest per task, with the state and positions of the earlier checkpoint, the name of the new life,
//! and the names of the lives before it. A journal that is of one of those is begun anew at the next start. Data files are
//! copied under the new manifest's number, so that the invariant of the chain holds whoever removes files meanwhile.
//!
//! A process of the old life that still runs is told at its next checkpoint that another life has begun, and stops.

use std::collections::BTreeSet;

use super::manifest::Manifest;
use super::names;
use super::read::{Inspected, Intact, inspect, read_manifest, verify};
use super::storage::{Put, Storage, Stored};
use super::write::newest_of;
use super::{Checkpoints, DataFile, TaskFile, checksum};
use crate::time::Micros;
use crate::{Error, Result};

/// Which checkpoint of each task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The newest.
    Latest,
    /// The newest whose epoch's clock is not later.
    Time(Micros),
    /// The newest of an epoch that is not later.
    Epoch(u64),
}

/// The checkpoints that were chosen, one a task.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// In order of task.
    pub manifests: Vec<Manifest>,
    /// All lives that the checkpoints know of.
    pub lives: BTreeSet<String>,
}

/// Chooses the newest intact checkpoint of each task that has any, at or before `at`. Those that are not intact are passed
/// over, and given with the reason.
///
/// # Errors
/// There are none; a task has none so early; or they are of pipelines that differ.
pub fn choose(storage: &dyn Storage, at: At) -> Result<(Chosen, Vec<String>)> {
    let (inspected, _) = inspect(storage)?;
    let mut lives = BTreeSet::new();
    for manifest in inspected.iter().filter_map(|i| i.manifest.as_ref().ok()) {
        lives.extend(manifest.lineage.iter().chain(&manifest.reset_from).cloned());
    }
    let tasks: BTreeSet<usize> = inspected.iter().map(|i| i.file.task).collect();
    let (mut manifests, mut passed_over) = (Vec::new(), Vec::new());
    for task in &tasks {
        let of_task: Vec<&Inspected> = inspected.iter().filter(|i| i.file.task == *task).rev().collect();
        let chosen = newest_intact(storage, &of_task, at, &mut passed_over)?;
        manifests.push(chosen.ok_or_else(|| none_so_early(storage, *task, &of_task, at))?);
    }
    let Some(first) = manifests.first() else {
        return Err(Error::invalid(format!("there are no checkpoints in {storage}")));
    };
    // Scripts may differ: a task that got nothing since a change has none of the new one yet.
    let of = |manifest: &Manifest| (manifest.origin.tasks, manifest.origin.parts.clone());
    if manifests.iter().any(|manifest| of(manifest) != of(first)) {
        return Err(Error::invalid(format!("the checkpoints in {storage} are of partition counts or topics that differ")));
    }
    Ok((Chosen { manifests, lives }, passed_over))
}

fn newest_intact(
    storage: &dyn Storage,
    newest_first: &[&Inspected],
    at: At,
    passed_over: &mut Vec<String>,
) -> Result<Option<Manifest>> {
    for Inspected { file, manifest } in newest_first {
        let why = match manifest {
            Ok(manifest) if !at.includes(manifest) => continue,
            Ok(manifest) => match verify(storage, manifest)? {
                Ok(()) => return Ok(Some(manifest.clone())),
                Err(why) => why,
            },
            Err(why) => why.clone(),
        };
        passed_over.push(format!("checkpoint {storage}/{} is not intact: {why}", file.stored.name));
    }
    Ok(None)
}

impl At {
    fn includes(self, manifest: &Manifest) -> bool {
        match self {
            Self::Latest => true,
            Self::Time(time) => manifest.clock <= time,
            Self::Epoch(epoch) => manifest.epoch <= epoch,
        }
    }
}

fn none_so_early(storage: &dyn Storage, task: usize, of_task: &[&Inspected], at: At) -> Error {
    let oldest = of_task.iter().filter_map(|i| i.manifest.as_ref().ok()).min_by_key(|m| m.clock);
    let message = match at {
        At::Latest => format!("task {task} has no intact checkpoint in {storage}"),
        _ => format!("task {task} has no intact checkpoint that early in {storage}"),
    };
    let time = |micros| chrono::DateTime::from_timestamp_micros(micros).map(|t| t.to_rfc3339()).unwrap_or_default();
    match oldest {
        Some(oldest) => Error::invalid(message).hint(format!(
            "its oldest is of epoch {}, {}; SET checkpoint.keep to keep more from now on",
            oldest.epoch,
            time(oldest.clock)
        )),
        None => Error::invalid(message),
    }
}

/// Begins a new life, named `lineage`, from the chosen checkpoints. Done by the next start, once all tasks have a manifest
/// of it: if this fails half way, do it again.
pub fn reset(storage: &dyn Storage, chosen: &Chosen, lineage: &str) -> Result<()> {
    for manifest in &chosen.manifests {
        let task = manifest.task;
        let sequence = 1 + newest_of(&files_of(storage, task)?);
        let (reset_from, lineage) = (chosen.lives.iter().cloned().collect(), Some(lineage.to_owned()));
        let mut manifest = Manifest { lineage, reset_from, ..manifest.clone() };
        for file in &mut manifest.files {
            let bytes = storage.get(&file.name)?;
            let bytes = bytes.ok_or_else(|| Error::transient(format!("{storage}/{} is gone; try again", file.name)))?;
            let name = names::data(task, sequence, checksum(&bytes), 0);
            put(storage, &name, bytes)?;
            file.name = name;
        }
        put(storage, &names::manifest(task, sequence), manifest.encode()?)?;
        if newest_of(&files_of(storage, task)?) != sequence {
            return Err(Error::invalid(format!("somebody else writes checkpoints of task {task} in {storage}"))
                .hint("stop the pipeline first"));
        }
    }
    Ok(())
}

/// Copies the chosen checkpoints to another storage, as they are.
pub fn copy(from: &dyn Storage, to: &dyn Storage, chosen: &Chosen) -> Result<u64> {
    let mut copied = 0;
    for manifest in &chosen.manifests {
        for file in &manifest.files {
            let bytes = from.get(&file.name)?;
            let bytes = bytes.ok_or_else(|| Error::transient(format!("{from}/{} is gone; try again", file.name)))?;
            copied += bytes.len() as u64;
            put(to, &file.name, bytes)?;
        }
        // A chain begins anew there: names of data files need not be those of its numbers.
        let encoded = manifest.encode()?;
        copied += encoded.len() as u64;
        put(to, &names::manifest(manifest.task, number_of(manifest)), encoded)?;
    }
    for manifest in &chosen.manifests {
        let name = names::manifest(manifest.task, number_of(manifest));
        let intact: Intact<()> = match read_manifest(to, &name)? {
            Ok(manifest) => verify(to, &manifest)?,
            Err(why) => Err(why),
        };
        intact.map_err(|why| Error::transient(format!("the copy {to}/{name} is not intact: {why}")))?;
    }
    Ok(copied)
}

/// A number that is at least that of all files which the manifest refers to.
fn number_of(manifest: &Manifest) -> u64 {
    let of = |file: &DataFile| TaskFile::of(Stored { name: file.name.clone(), bytes: file.bytes });
    manifest.files.iter().filter_map(of).map(|f| f.sequence).max().unwrap_or(1)
}

fn files_of(storage: &dyn Storage, task: usize) -> Result<Vec<TaskFile>> {
    Ok(storage.list(&names::folder(task))?.into_iter().filter_map(TaskFile::of).collect())
}

fn put(storage: &dyn Storage, name: &str, bytes: bytes::Bytes) -> Result<()> {
    match storage.put_if_absent(name, bytes)? {
        Put::Stored => Ok(()),
        Put::Taken => Err(Error::invalid(format!("{storage}/{name} is there already, and holds something else"))
            .hint("somebody else writes there; stop that first, or choose a location that is empty")),
    }
}

impl Checkpoints {
    /// The life that the next start is to begin, if the pipeline was reset and `journal`, the life that its journal is of, is
    /// one of those before.
    ///
    /// # Errors
    /// The reset is not finished, or was of other lives.
    pub fn reset_since(&self, journal: Option<&str>) -> Result<Option<String>> {
        let mut newest = Vec::new();
        for task in 0..self.origin.tasks {
            let sequence = self.newest_sequence(task)?;
            if sequence > 0
                && let Ok(manifest) = read_manifest(self.storage.as_ref(), &names::manifest(task, sequence))?
            {
                newest.push(manifest);
            }
        }
        let Some(reset) = newest.iter().find(|m| !m.reset_from.is_empty() && m.lineage.as_deref() != journal) else {
            return Ok(None);
        };
        let (storage, life) = (&self.storage, reset.lineage.clone().unwrap_or_default());
        if newest.iter().any(|m| m.lineage != reset.lineage) {
            return Err(Error::invalid(format!("the reset of the checkpoints in {storage} to {life} is not finished"))
                .hint("run riverrun checkpoint reset again"));
        }
        match journal {
            Some(journal) if !reset.reset_from.iter().any(|before| before == journal) => {
                let message = format!("the checkpoints in {storage} were reset to {life}, and the journal is of {journal}");
                Err(Error::invalid(format!("{message}, which is none of the lives before"))
                    .hint("bring back the journal that was there when it was reset, or run riverrun checkpoint reset again"))
            }
            _ => Ok(Some(life)),
        }
    }
}
