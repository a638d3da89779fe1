//! Where checkpoints lie, what is visible of them, and how they are damaged; and the directory of a journal in files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use riverrun_engine::Result;
use riverrun_engine::checkpoint::{FileKind, Manifest, Put, Storage, Stored, TaskFile};

use crate::history::Visible;
use crate::random::Random;
use crate::world::{Fate, Life, State, World};

/// The files of checkpoints.
#[derive(Debug, Default)]
pub struct Files {
    /// By name.
    pub bytes: BTreeMap<String, Bytes>,
    /// Names of those that are not as they were written.
    damaged: BTreeSet<String>,
    /// Tasks of which a checkpoint was put when nothing went wrong any more.
    tidy: BTreeSet<usize>,
}

/// The files, as one life sees them.
pub struct SimStorage {
    /// Where they are.
    pub world: Arc<World>,
    /// Whose view it is.
    pub life: Life,
}

impl fmt::Debug for SimStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for SimStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "simulated")
    }
}

impl Storage for SimStorage {
    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let mut state = self.world.state();
        state.ask(self.life, "read of a checkpoint")?;
        Ok(state.files.bytes.get(name).cloned())
    }

    fn put_if_absent(&self, name: &str, bytes: Bytes) -> Result<Put> {
        let mut state = self.world.state();
        let fate = state.enter(self.life, "put of a checkpoint")?;
        let mut put = Put::Taken;
        if fate != Fate::Refused {
            let there = state.files.bytes.entry(name.to_owned()).or_insert_with(|| bytes.clone());
            if *there == bytes {
                put = Put::Stored;
                state.files.damaged.remove(name);
                let manifest = task_of(name).filter(|file| state.calm && file.kind == FileKind::Manifest);
                state.files.tidy.extend(manifest.map(|file| file.task));
            }
            state.file_changed(name);
        }
        state.leave(self.life, "put of a checkpoint", fate).map(|()| put)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Stored>> {
        let mut state = self.world.state();
        state.ask(self.life, "list of checkpoints")?;
        let begun = state.files.bytes.range(prefix.to_owned()..).take_while(|(name, _)| name.starts_with(prefix));
        Ok(begun.map(|(name, bytes)| Stored { name: name.clone(), bytes: bytes.len() as u64 }).collect())
    }

    fn delete(&self, name: &str) -> Result<()> {
        let mut state = self.world.state();
        let fate = state.enter(self.life, "deletion of a checkpoint")?;
        if fate != Fate::Refused {
            state.files.bytes.remove(name);
            state.files.damaged.remove(name);
            state.file_changed(name);
        }
        state.leave(self.life, "deletion of a checkpoint", fate)
    }
}

fn task_of(name: &str) -> Option<TaskFile> {
    TaskFile::of(Stored { name: name.to_owned(), bytes: 0 })
}

impl State {
    /// A file was put, removed or damaged: what is visible may be other checkpoints.
    fn file_changed(&mut self, name: &str) {
        let Some(file) = task_of(name) else { return };
        let visible = |(_, manifest, intact): (String, Manifest, bool)| Visible {
            epoch: manifest.epoch,
            intact,
            pending: manifest.pending,
        };
        let now = self.manifests(file.task).into_iter().map(visible).collect();
        self.checkpoints_are(file.task, now);
    }

    /// The manifests of a task, oldest first, and whether all that they refer to is as it was written.
    fn manifests(&self, task: usize) -> Vec<(String, Manifest, bool)> {
        let Files { bytes, damaged, .. } = &self.files;
        let whole = |name: &String| bytes.contains_key(name) && !damaged.contains(name);
        let manifests =
            bytes.iter().filter(|(name, _)| task_of(name).is_some_and(|f| f.task == task && f.kind == FileKind::Manifest));
        let manifest = |(name, bytes): (&String, &Bytes)| {
            let manifest = Manifest::decode(bytes).ok()?.ok()?;
            let intact = whole(name) && manifest.files.iter().all(|file| whole(&file.name));
            Some((name.clone(), manifest, intact))
        };
        manifests.filter_map(manifest).collect()
    }

    /// Between two lives: the newest checkpoint of a task is torn, corrupt or lost, if there is one to fall back on.
    pub fn damage(&mut self, random: &mut Random) {
        for task in 0..self.plan.tasks as usize {
            let mut intact = self.manifests(task);
            intact.retain(|(_, _, intact)| *intact);
            let Some((name, newest, _)) = intact.pop().filter(|_| !intact.is_empty() && !self.calm && random.chance(200)) else {
                continue;
            };
            let needed = |name: &String| intact.iter().any(|(_, other, _)| other.files.iter().any(|file| file.name == *name));
            let data = newest.files.into_iter().map(|file| file.name).filter(|name| !needed(name));
            let victims: Vec<String> = data.chain([name]).collect();
            let victim = victims[random.place(victims.len())].clone();
            self.note(|| format!("task {task}: {victim} is damaged, of its checkpoint of epoch {}", newest.epoch));
            self.spoil(&victim, random);
            self.file_changed(&victim);
        }
    }

    /// In the end no file is left that nobody can need: older than the checkpoints that are kept, and not a part of them. What
    /// is damaged may be taken for one of the two that are kept, or not.
    pub fn check_orphans(&mut self) {
        for task in std::mem::take(&mut self.files.tidy) {
            let files: Vec<TaskFile> =
                self.files.bytes.keys().filter_map(|name| task_of(name)).filter(|file| file.task == task).collect();
            let manifests = self.manifests(task);
            let intact = |file: &&TaskFile| manifests.iter().any(|(name, _, intact)| *intact && *name == file.stored.name);
            let of_manifests = || files.iter().rev().filter(|file| file.kind == FileKind::Manifest);
            let (Some(any), Some(whole)) = (of_manifests().nth(1), of_manifests().filter(intact).nth(1)) else { continue };
            let oldest = any.sequence.min(whole.sequence);
            let needed: BTreeSet<&String> = manifests.iter().flat_map(|(_, m, _)| &m.files).map(|file| &file.name).collect();
            let orphan = files.iter().find(|file| file.sequence < oldest && !needed.contains(&file.stored.name));
            if let Some(orphan) = orphan.cloned() {
                self.violate(|| format!("task {task}: {} is left behind, and nobody can need it", orphan.stored.name));
            }
        }
    }

    fn spoil(&mut self, name: &str, random: &mut Random) {
        let Some(bytes) = self.files.bytes.remove(name) else { return };
        let mut bytes = bytes.to_vec();
        match random.place(3) {
            0 => return,
            1 => bytes.truncate(random.place(bytes.len())),
            _ => {
                let place = random.place(bytes.len());
                bytes[place] ^= 1;
            }
        }
        self.files.bytes.insert(name.to_owned(), bytes.into());
        self.files.damaged.insert(name.to_owned());
    }
}

/// A directory for the journal of one seed, in memory where there is such a place.
pub fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.unwrap_or_else(|error| panic!("no directory can be made: {error}"))
}

/// Between two lives: the end of a journal in files may be a commit that was torn. `torn` is the length that it had behind the
/// last one: what nobody has written to since is not torn again.
pub fn tear_journal(world: &World, directory: &Path, random: &mut Random, torn: &mut u64) {
    let Ok(entries) = fs::read_dir(directory.join("journal")) else { return };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some()).collect();
    files.sort();
    let Some(newest) = files.pop().filter(|_| random.chance(200)) else { return };
    let length = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    if length(&newest) == *torn {
        return;
    }
    world.state().note(|| "the end of the journal is torn".to_owned());
    let end = random.one_of(&["0", "0123456789abcdef {\"task\":0,", "0123456789abcdef {\"task\":0,\"epoch\":99}\n"]);
    let written = fs::OpenOptions::new().append(true).open(&newest).and_then(|mut file| file.write_all(end.as_bytes()));
    written.unwrap_or_else(|error| panic!("the journal cannot be torn: {error}"));
    *torn = length(&newest);
}
