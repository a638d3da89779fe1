//! The names of files: which task's, which manifest's.

use super::storage::Stored;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A manifest.
    Manifest,
    /// Parts of state.
    Data,
    /// A whole checkpoint as the first version wrote it; its number is the epoch.
    Version1,
}

/// A file of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFile {
    /// Whose.
    pub task: usize,
    /// The number of the manifest that it is, or that it was written for.
    pub sequence: u64,
    /// What it holds.
    pub kind: FileKind,
    /// Name and size.
    pub stored: Stored,
}

impl TaskFile {
    /// `None`: it is no file of checkpoints.
    pub fn of(stored: Stored) -> Option<Self> {
        let (folder, file) = stored.name.split_once('/')?;
        let task = folder.strip_prefix("task-")?.parse().ok()?;
        let (stem, ending) = file.rsplit_once('.')?;
        let (number, kind) = match ending {
            "manifest" => (stem, FileKind::Manifest),
            "data" => (stem.split_once('-')?.0, FileKind::Data),
            "checkpoint" => (stem, FileKind::Version1),
            _ => return None,
        };
        Some(Self { task, sequence: number.parse().ok()?, kind, stored })
    }
}

/// What all files of a task begin with.
pub fn folder(task: usize) -> String {
    format!("task-{task}/")
}

/// The manifest of a number.
pub fn manifest(task: usize, sequence: u64) -> String {
    format!("task-{task}/{sequence:020}.manifest")
}

/// A data file that was first written for the manifest of a number. Names of equal content are equal, unless an `attempt`
/// found the name taken by a file that is damaged.
pub fn data(task: usize, sequence: u64, checksum: u64, attempt: u32) -> String {
    match attempt {
        0 => format!("task-{task}/{sequence:020}-{checksum:016x}.data"),
        _ => format!("task-{task}/{sequence:020}-{checksum:016x}-{attempt}.data"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whose_and_what_they_are() {
        let of = |name: String| TaskFile::of(Stored { name, bytes: 1 }).map(|f| (f.task, f.sequence, f.kind));
        assert_eq!(of(manifest(3, 17)), Some((3, 17, FileKind::Manifest)));
        assert_eq!(of(data(0, 17, 5, 0)), Some((0, 17, FileKind::Data)));
        assert_eq!(of(data(0, 17, 5, 2)), Some((0, 17, FileKind::Data)));
        assert_eq!(of("task-1/00000000000000000009.checkpoint".into()), Some((1, 9, FileKind::Version1)));
        for other in ["journal/lock", "task-1/unfinished", "task-x/1.manifest", "task-1/x.manifest", "lock"] {
            assert_eq!(of(other.into()), None);
        }
        assert!(manifest(0, 9) < manifest(0, 10), "names sort by number");
    }
}
