//! Reading: the newest intact checkpoint of a task, and what is there at all.

use std::sync::{Arc, PoisonError};

use arrow::array::RecordBatch;
use bytes::Bytes;

use super::encoding::decode;
use super::manifest::{Manifest, PartPlace, PendingOutputs, PendingPlace};
use super::names::{self, FileKind, TaskFile};
use super::storage::Storage;
use super::{Chain, Checkpoint, Checkpoints, MadeBy, Operator, Outputs, Packed, Pending, PendingPart, checksum, version_1};
use crate::graph::NodeId;
use crate::operator::{PartRows, StatePart, StoredRows};
use crate::state::disk::{Extent, Space};
use crate::{Error, Result};

/// Data files that are read at once.
const FILES_AT_ONCE: usize = 8;

/// What is intact, or why it is not.
pub type Intact<T> = Result<T, String>;

/// State by node.
type States = Vec<(NodeId, Vec<StatePart>)>;

impl Checkpoints {
    /// The newest intact checkpoint of a task. Those that are not intact are told and passed over.
    ///
    /// # Errors
    /// It is of another graph or of a later version, or none that is there is intact; or the storage cannot be read.
    pub fn newest(&self, task: usize) -> Result<Option<Checkpoint>> {
        loop {
            let files = self.files(task)?;
            let found = self.newest_of(&files)?;
            // Another process may have written and removed meanwhile: what was not intact may have been gone.
            let newest = found.chain.newest;
            if found.chain.broken.is_empty() || self.newest_sequence(task)? == newest {
                for why in &found.passed_over {
                    tracing::warn!(event = "checkpoint_not_intact", "{why}; the one before it is used");
                }
                if found.checkpoint.is_none() && !found.passed_over.is_empty() {
                    return Err(none_intact(self.storage.as_ref(), task, &found.passed_over));
                }
                self.chains.lock().unwrap_or_else(PoisonError::into_inner).insert(task, found.chain);
                return Ok(found.checkpoint);
            }
        }
    }

    /// The files of a task.
    pub(super) fn files(&self, task: usize) -> Result<Vec<TaskFile>> {
        Ok(self.storage.list(&names::folder(task))?.into_iter().filter_map(TaskFile::of).collect())
    }

    fn newest_of(&self, files: &[TaskFile]) -> Result<Found> {
        let of = |kind| files.iter().filter(move |f| f.kind == kind).rev();
        let newest = of(FileKind::Manifest).map(|f| f.sequence).max().unwrap_or(0);
        let mut found = Found { checkpoint: None, chain: Chain { newest, ..Chain::default() }, passed_over: Vec::new() };
        for file in of(FileKind::Manifest) {
            match self.read(&file.stored.name)? {
                Ok((manifest, checkpoint)) => {
                    found.checkpoint = Some(checkpoint);
                    // Of an older one, parts may be gone by the time that the next is written; of another graph, nodes are others.
                    found.chain.base = Some(manifest).filter(|m| file.sequence == newest && m.origin.graph == self.origin.graph);
                    return Ok(found);
                }
                Err(why) => {
                    found.chain.broken.insert(file.sequence);
                    found.passed_over.push(format!("checkpoint {}/{} is not intact: {why}", self.storage, file.stored.name));
                }
            }
        }
        for file in of(FileKind::Version1) {
            let name = &file.stored.name;
            let bytes = self.storage.get(name)?;
            match bytes.map_or_else(|| Err("it is gone".into()), |bytes| version_1::decode(&bytes)) {
                Ok((origin, checkpoint)) => {
                    self.check_origin(&origin)?;
                    found.checkpoint = Some(checkpoint);
                    return Ok(found);
                }
                Err(why) => found.passed_over.push(format!("checkpoint {}/{name} is not intact: {why}", self.storage)),
            }
        }
        Ok(found)
    }

    fn read(&self, name: &str) -> Result<Intact<(Manifest, Checkpoint)>> {
        let manifest = match read_manifest(self.storage.as_ref(), name)? {
            Ok(manifest) => manifest,
            Err(why) => return Ok(Err(why)),
        };
        self.check_origin(&manifest.origin)?;
        let space = self.disk.as_ref().map(|disk| disk.space()).transpose()?;
        let (states, pending) = match read_parts(self.storage.as_ref(), &manifest, space.as_ref())? {
            Ok(read) => read,
            Err(why) => return Ok(Err(why)),
        };
        let Manifest { epoch, clock, .. } = manifest;
        // A life that begins here has no records yet, like one without a journal.
        let lineage = manifest.lineage.clone().filter(|_| manifest.reset_from.is_empty());
        let positions = manifest.positions.clone();
        let operators = manifest.operators.iter().map(|o| Operator { name: o.name.clone(), identity: o.identity.clone() });
        let made_by = Some(MadeBy { graph: manifest.origin.graph.clone(), operators: operators.collect() });
        Ok(Ok((manifest, Checkpoint { epoch, clock, lineage, positions, states, pending, made_by })))
    }

    /// Whether a checkpoint can be of this pipeline.
    fn check_origin(&self, then: &super::Origin) -> Result<()> {
        let (now, storage) = (&self.origin, &self.storage);
        if then.tasks != now.tasks {
            let message = format!("the checkpoints in {storage} are of {} tasks, this run has {}", then.tasks, now.tasks);
            let why = "a source's partition count changed, or repartition.partitions did";
            return Err(Error::invalid(format!("{message}: {why}")).hint(
                "keys have moved between partitions, so the state no longer fits: SET another pipeline.name, or restore the count",
            ));
        }
        if then.parts != now.parts {
            let message = format!("the checkpoints in {storage} are of other topics");
            let (then, now) = (then.parts.join(", "), now.parts.join(", "));
            return Err(Error::invalid(format!("{message}: then {then}; now {now}"))
                .hint("name the same topics, or SET another pipeline.name to begin with empty state"));
        }
        Ok(())
    }
}

struct Found {
    checkpoint: Option<Checkpoint>,
    chain: Chain,
    passed_over: Vec<String>,
}

fn none_intact(storage: &dyn Storage, task: usize, passed_over: &[String]) -> Error {
    let message = format!("none of the {} checkpoints in {storage}/task-{task} is intact", passed_over.len());
    Error::permanent(message).hint("restore the files from a backup, or remove them all to begin with empty state")
}

/// The manifest of a name, or why it is not intact.
///
/// # Errors
/// It cannot be read, or it is of a later version.
pub fn read_manifest(storage: &dyn Storage, name: &str) -> Result<Intact<Manifest>> {
    let Some(bytes) = storage.get(name)? else { return Ok(Err("it is gone".into())) };
    Manifest::decode(&bytes).map_err(|e| e.within(format!("checkpoint {storage}/{name}")))
}

/// Whether all that a checkpoint holds is there and as it was written.
pub fn verify(storage: &dyn Storage, manifest: &Manifest) -> Result<Intact<()>> {
    let check = &mut |_: PartOf, part: &PartPlace, bytes: &[u8]| decode(bytes, part.length).map(drop);
    for_each_part(storage, manifest, FILES_AT_ONCE, check)
}

/// All that a checkpoint holds. With a space on disk the state's parts lie there, as they are stored, and one data file at a time
/// is in memory.
fn read_parts(storage: &dyn Storage, manifest: &Manifest, space: Option<&Arc<Space>>) -> Result<Intact<(States, Vec<Pending>)>> {
    let mut states: Vec<Vec<Option<StatePart>>> = manifest.operators.iter().map(|o| vec![None; o.parts.len()]).collect();
    let mut outputs: Vec<Vec<Option<PendingPart>>> = manifest.pending.iter().map(|s| vec![None; s.parts.len()]).collect();
    let at_once = if space.is_some() { 1 } else { FILES_AT_ONCE };
    let mut failed = None;
    let read = for_each_part(storage, manifest, at_once, &mut |at, part, bytes| {
        match (at, space) {
            (PartOf::Operator(operator, index), None) => {
                states[operator][index] = Some(StatePart { number: part.number, rows: decode(bytes, part.length)?.into() });
            }
            (PartOf::Operator(operator, index), Some(space)) => {
                let extent = space.put(bytes).map_err(|e| {
                    failed = Some(e);
                    "it cannot be copied".to_owned()
                })?;
                let copied = Copied { extent, bytes: bytes.len(), length: part.length };
                let rows = PartRows::Stored(Arc::new(copied));
                states[operator][index] = Some(StatePart { number: part.number, rows });
            }
            (PartOf::Sink(sink, index), _) => {
                let PendingPlace { first, last, .. } = manifest.pending[sink].parts[index];
                let packed = Packed::read(decode(bytes, part.length)?)?;
                outputs[sink][index] = Some(PendingPart { first, last, outputs: vec![Outputs::Packed(packed)] });
            }
        }
        Ok(())
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let nodes = manifest.operators.iter().map(|o| o.node);
    let states = nodes.zip(states.into_iter().map(|parts| parts.into_iter().flatten().collect())).collect();
    let of_sink = |(of, parts): (&PendingOutputs, Vec<Option<PendingPart>>)| Pending {
        sink: of.sink.clone(),
        parts: parts.into_iter().flatten().collect(),
    };
    let pending = manifest.pending.iter().zip(outputs).map(of_sink).collect();
    Ok(read.map(|()| (states, pending)))
}

/// A part in a file of this process. Its checksum has been seen to fit.
#[derive(Debug)]
struct Copied {
    extent: Extent,
    bytes: usize,
    length: u64,
}

impl StoredRows for Copied {
    fn load(&self) -> Result<RecordBatch> {
        let bytes = self.extent.bytes(0, self.bytes)?;
        decode(&bytes, self.length).map_err(|why| Error::permanent(format!("a part of a checkpoint: {why}")))
    }
}

/// What a part is of: the place of the operator or the sink, and that of the part among its parts.
#[derive(Clone, Copy)]
enum PartOf {
    Operator(usize, usize),
    Sink(usize, usize),
}

/// Takes the stored bytes of a part.
type TakePart<'a> = dyn FnMut(PartOf, &PartPlace, &[u8]) -> Intact<()> + 'a;

/// Gives the bytes of each part, so many files at a time.
fn for_each_part(storage: &dyn Storage, manifest: &Manifest, at_once: usize, take: &mut TakePart<'_>) -> Result<Intact<()>> {
    let mut by_file: Vec<Vec<(PartOf, &PartPlace)>> = vec![Vec::new(); manifest.files.len()];
    for (o, operator) in manifest.operators.iter().enumerate() {
        for (p, part) in operator.parts.iter().enumerate() {
            by_file[part.file].push((PartOf::Operator(o, p), part));
        }
    }
    for (s, sink) in manifest.pending.iter().enumerate() {
        for (p, part) in sink.parts.iter().enumerate() {
            by_file[part.place.file].push((PartOf::Sink(s, p), &part.place));
        }
    }
    for (files, parts) in manifest.files.chunks(at_once).zip(by_file.chunks(at_once)) {
        let names: Vec<String> = files.iter().map(|f| f.name.clone()).collect();
        for ((file, parts), bytes) in files.iter().zip(parts).zip(storage.get_many(&names)?) {
            let taken = whole(bytes, file.bytes)
                .and_then(|bytes| parts.iter().try_for_each(|(at, part)| take(*at, part, part_of(&bytes, part)?)));
            if let Err(why) = taken {
                return Ok(Err(format!("data file {}: {why}", file.name)));
            }
        }
    }
    Ok(Ok(()))
}

fn whole(bytes: Option<Bytes>, length: u64) -> Intact<Bytes> {
    match bytes {
        None => Err("it is missing".into()),
        Some(bytes) if bytes.len() as u64 != length => Err(format!("it has {} bytes, {length} were written", bytes.len())),
        Some(bytes) => Ok(bytes),
    }
}

fn part_of<'a>(bytes: &'a [u8], part: &PartPlace) -> Intact<&'a [u8]> {
    let (begin, end) = (part.offset as usize, (part.offset + part.bytes) as usize);
    let bytes = bytes.get(begin..end).ok_or("it is too short")?;
    if checksum(bytes) == part.checksum { Ok(bytes) } else { Err("a checksum does not fit".into()) }
}

/// A checkpoint that is there.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// Its manifest's file.
    pub file: TaskFile,
    /// What it says, or why it is not intact.
    pub manifest: Intact<Manifest>,
}

/// All manifests in a storage, by task and number, and all files of checkpoints. State is not read.
pub fn inspect(storage: &dyn Storage) -> Result<(Vec<Inspected>, Vec<TaskFile>)> {
    let mut files: Vec<TaskFile> = storage.list("")?.into_iter().filter_map(TaskFile::of).collect();
    files.sort_by_key(|f| (f.task, f.sequence));
    let manifests = files.iter().filter(|f| f.kind == FileKind::Manifest);
    let inspected = manifests.map(|file| {
        let manifest = read_manifest(storage, &file.stored.name)?;
        Ok(Inspected { file: file.clone(), manifest })
    });
    Ok((inspected.collect::<Result<_>>()?, files))
}
