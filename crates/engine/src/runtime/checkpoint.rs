//! State and positions of a task, kept over a restart.
//!
//! A checkpoint is taken at the end of an epoch and becomes visible (its file gets its name) only once every sink has made
//! all outputs up to that epoch safe: what is visible needs nothing that could be lost. Recovery takes a task's newest
//! intact one and reads on from its positions. Outputs of later epochs were maybe written already and are written again.
//!
//! File `task-<n>/<epoch>.checkpoint`: `RIVERRUN-CHECKPOINT-1\n`, a line of JSON ([`Manifest`]), then per operator an Arrow
//! IPC stream per batch. The manifest holds the xxh3 of all that follows it; a file that does not fit is passed over.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};

use crate::failpoint;
use crate::graph::NodeId;
use crate::operator::StatePart;
use crate::time::Micros;
use crate::{Error, Result};

const MAGIC: &[u8] = b"RIVERRUN-CHECKPOINT-1\n";
const ENDING: &str = "checkpoint";
/// Checkpoints that are kept of each task: the newest, and one to fall back on.
const KEPT: usize = 2;

/// Where a task was in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The source's table.
    pub source: String,
    /// The partition.
    pub partition: u32,
    /// Where to read on.
    pub offset: i64,
    /// The greatest event time seen.
    pub newest: Option<Micros>,
    /// What the watermark was lifted to.
    pub floor: Micros,
}

/// A task at the end of an epoch.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The epoch.
    pub epoch: u64,
    /// Its clock.
    pub clock: Micros,
    /// The life of the pipeline that the epoch is of. `None`: no journal was kept.
    pub lineage: Option<String>,
    /// Where it was in its sources.
    pub positions: Vec<Position>,
    /// State by node.
    pub states: Vec<(NodeId, Vec<StatePart>)>,
}

/// What writing a checkpoint did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its size.
    pub bytes: u64,
    /// The oldest epoch that a kept checkpoint could be restored from, once there is one to fall back on.
    pub oldest: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    graph: String,
    tasks: usize,
    /// What the partition numbers stand for, where a source has several topics.
    #[serde(default)]
    parts: Vec<String>,
    epoch: u64,
    clock: Micros,
    #[serde(default)]
    lineage: Option<String>,
    positions: Vec<Position>,
    /// (node, bytes of the stream) for each batch, in order.
    batches: Vec<(NodeId, usize)>,
    checksum: u64,
}

/// The checkpoints of one pipeline.
#[derive(Debug)]
pub struct Checkpoints {
    dir: PathBuf,
    graph: String,
    tasks: usize,
    parts: Vec<String>,
}

impl Checkpoints {
    /// In `dir`; `graph` is the graph's text: state of another graph, of another number of tasks, or of other `parts` of
    /// sources with several topics is refused.
    pub fn new(dir: PathBuf, graph: &str, tasks: usize, parts: Vec<String>) -> Self {
        Self { dir, tasks, parts, graph: digest(graph) }
    }

    /// Writes a checkpoint and removes those that are no longer needed; tells what is there then.
    pub fn write(&self, task: usize, checkpoint: &Checkpoint) -> Result<Written> {
        let dir = self.task_dir(task);
        let path = dir.join(format!("{:020}.{ENDING}", checkpoint.epoch));
        let bytes = self.encode(checkpoint)?;
        let unfinished = dir.join("unfinished");
        let written = fs::create_dir_all(&dir)
            .and_then(|()| fs::File::create(&unfinished))
            .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
            .inspect(|()| failpoint::reach("checkpoint.before-rename"))
            .and_then(|()| fs::rename(&unfinished, &path))
            .and_then(|()| fs::File::open(&dir)?.sync_all());
        written.map_err(|e| Error::transient(format!("checkpoint {} cannot be written: {e}", path.display())))?;
        failpoint::reach("checkpoint.before-deletion");
        let mut kept = files(&dir);
        for old in kept.drain(..kept.len().saturating_sub(KEPT)) {
            fs::remove_file(&old).map_err(|e| Error::transient(format!("old checkpoint {}: {e}", old.display())))?;
        }
        let epoch = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
        let oldest = kept.first().filter(|_| kept.len() == KEPT).and_then(epoch);
        Ok(Written { bytes: bytes.len() as u64, oldest })
    }

    /// The newest intact checkpoint of a task.
    ///
    /// # Errors
    /// It is of another graph, or none that is there is intact.
    pub fn newest(&self, task: usize) -> Result<Option<Checkpoint>> {
        let files = files(&self.task_dir(task));
        for path in files.iter().rev() {
            match fs::read(path).map_err(|e| e.to_string()).and_then(|bytes| decode(&bytes)) {
                Ok((manifest, _)) if manifest.tasks != self.tasks => {
                    let message = format!("the checkpoints in {} are of {} tasks", self.dir.display(), manifest.tasks);
                    return Err(Error::invalid(format!("{message}, this run has {}: a source's partition count changed", self.tasks)).hint(
                        "keys have moved between partitions, so the state no longer fits: SET another pipeline.name, or restore the count",
                    ));
                }
                Ok((manifest, _)) if manifest.graph != self.graph => {
                    let message = format!("checkpoint {} holds the state of another script", path.display());
                    return Err(Error::invalid(message).hint(format!(
                        "run the script that it is of, SET another pipeline.name, or remove {} to begin with empty state",
                        self.dir.display()
                    )));
                }
                Ok((manifest, _)) if manifest.parts != self.parts => {
                    let message = format!("the checkpoints in {} are of other topics", self.dir.display());
                    let (then, now) = (manifest.parts.join(", "), self.parts.join(", "));
                    return Err(Error::invalid(format!("{message}: then {then}; now {now}"))
                        .hint("name the same topics, or SET another pipeline.name to begin with empty state"));
                }
                Ok((_, checkpoint)) => return Ok(Some(checkpoint)),
                Err(why) => tracing::warn!("checkpoint {} is not intact ({why}); the one before it is used", path.display()),
            }
        }
        match files.len() {
            0 => Ok(None),
            n => Err(Error::permanent(format!("none of the {n} checkpoints in {} is intact", self.task_dir(task).display()))
                .hint("restore the directory from a backup, or remove it to begin with empty state")),
        }
    }

    fn task_dir(&self, task: usize) -> PathBuf {
        self.dir.join(format!("task-{task}"))
    }

    fn encode(&self, checkpoint: &Checkpoint) -> Result<Vec<u8>> {
        let mut data = Vec::new();
        let mut batches = Vec::new();
        for (node, state) in &checkpoint.states {
            for StatePart { rows: batch, .. } in state {
                let begin = data.len();
                let mut writer = StreamWriter::try_new(&mut data, batch.schema_ref())?;
                writer.write(batch)?;
                writer.finish()?;
                drop(writer);
                batches.push((*node, data.len() - begin));
            }
        }
        let manifest = Manifest {
            graph: self.graph.clone(),
            tasks: self.tasks,
            parts: self.parts.clone(),
            epoch: checkpoint.epoch,
            clock: checkpoint.clock,
            lineage: checkpoint.lineage.clone(),
            positions: checkpoint.positions.clone(),
            batches,
            checksum: twox_hash::XxHash3_64::oneshot(&data),
        };
        let mut bytes = MAGIC.to_vec();
        serde_json::to_writer(&mut bytes, &manifest).map_err(|e| Error::permanent(e.to_string()))?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&data);
        Ok(bytes)
    }
}

/// Tells graphs apart.
pub fn digest(graph: &str) -> String {
    format!("{:016x}", twox_hash::XxHash3_64::oneshot(graph.as_bytes()))
}

/// The manifest and the checkpoint of a file's bytes, or why they are not intact.
fn decode(bytes: &[u8]) -> Result<(Manifest, Checkpoint), String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("it does not begin as a checkpoint does")?;
    let end = rest.iter().position(|b| *b == b'\n').ok_or("it ends within its manifest")?;
    let manifest: Manifest = serde_json::from_slice(&rest[..end]).map_err(|e| e.to_string())?;
    let mut data = &rest[end + 1..];
    if twox_hash::XxHash3_64::oneshot(data) != manifest.checksum {
        return Err("its checksum does not fit".into());
    }
    let mut states: Vec<(NodeId, Vec<StatePart>)> = Vec::new();
    for &(node, length) in &manifest.batches {
        let (stream, after) = data.split_at_checked(length).ok_or("it is too short")?;
        data = after;
        let batches = StreamReader::try_new(Cursor::new(stream), None).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let batches = batches.map_err(|e| e.to_string())?.into_iter().map(StatePart::whole);
        match states.last_mut() {
            Some((last, state)) if *last == node => state.extend(batches),
            _ => states.push((node, batches.collect())),
        }
    }
    let Manifest { epoch, clock, .. } = manifest;
    let (lineage, positions) = (manifest.lineage.clone(), manifest.positions.clone());
    let checkpoint = Checkpoint { epoch, clock, lineage, positions, states };
    Ok((manifest, checkpoint))
}

/// Checkpoint files, oldest first.
fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<_> = entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == ENDING)).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn checkpoint(epoch: u64) -> Checkpoint {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![Some(epoch as i64), None]))]).unwrap();
        let position = Position { source: "s".into(), partition: 3, offset: 42, newest: Some(7), floor: 5 };
        let states = vec![(2, vec![StatePart::whole(rows.clone()), StatePart::whole(rows)])];
        Checkpoint { epoch, clock: 9, lineage: Some("p-1".into()), positions: vec![position], states }
    }

    #[test]
    fn what_was_written_comes_back_and_only_the_newest_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path().into(), "graph", 1, Vec::new());
        assert!(checkpoints.newest(0).unwrap().is_none());
        let oldest: Vec<_> = (8..=11).map(|epoch| checkpoints.write(0, &checkpoint(epoch)).unwrap().oldest).collect();
        assert_eq!(oldest, [None, Some(8), Some(9), Some(10)], "the journal before it is not needed");
        let newest = checkpoints.newest(0).unwrap().unwrap();
        assert_eq!(newest.lineage.as_deref(), Some("p-1"));
        assert_eq!((newest.epoch, &newest.positions, &newest.states), (11, &checkpoint(11).positions, &checkpoint(11).states));
        assert_eq!(files(&dir.path().join("task-0")).len(), KEPT);
    }

    #[test]
    fn a_torn_or_corrupt_checkpoint_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path().into(), "graph", 1, Vec::new());
        checkpoints.write(0, &checkpoint(1)).unwrap();
        checkpoints.write(0, &checkpoint(2)).unwrap();
        let path = files(&dir.path().join("task-0")).pop().unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in [0, 10, 60, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(checkpoints.newest(0).unwrap().unwrap().epoch, 1, "cut at {cut}");
        }
        let mut corrupt = whole.clone();
        *corrupt.last_mut().unwrap() ^= 1;
        fs::write(&path, corrupt).unwrap();
        assert_eq!(checkpoints.newest(0).unwrap().unwrap().epoch, 1);
        fs::write(&path, whole).unwrap();
        assert_eq!(checkpoints.newest(0).unwrap().unwrap().epoch, 2);
    }

    #[test]
    fn the_state_of_another_script_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Checkpoints::new(dir.path().into(), "one", 1, Vec::new()).write(0, &checkpoint(1)).unwrap();
        let error = Checkpoints::new(dir.path().into(), "other", 1, Vec::new()).newest(0).unwrap_err();
        assert!(error.message().ends_with("holds the state of another script"), "{error}");
        let error = Checkpoints::new(dir.path().into(), "one", 2, Vec::new()).newest(0).unwrap_err();
        assert!(error.message().contains("are of 1 tasks, this run has 2"), "{error}");
    }
}
