//! Writing a checkpoint: the parts that are new, then the manifest, then what is no longer needed goes.

use std::collections::HashMap;
use std::collections::btree_map::Entry;
use std::sync::PoisonError;

use arrow::array::RecordBatch;
use bytes::Bytes;

use super::encoding::{Encoded, encode};
use super::manifest::{DataFile, Manifest, OperatorState, PartPlace, PendingOutputs, PendingPlace};
use super::names::{self, FileKind, TaskFile};
use super::storage::Put;
use super::{Chain, Checkpoint, Checkpoints, Packed, Pending, Written, checksum};
use crate::failpoint;
use crate::graph::NodeId;
use crate::operator::StatePart;
use crate::{Error, Result};

/// A data file takes no further part beyond this many bytes.
const FILE_BYTES: usize = 32 << 20;
/// A checkpoint refers to at most this many data files of checkpoints before it; of more, the smallest half is written again.
const MOST_FILES: usize = 64;
/// How often a file is tried under another name, and a manifest under another number.
const ATTEMPTS: u32 = 4;

/// A part's identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum PartKey {
    /// Of state: node, number, and which it is of those with that number.
    State(NodeId, u64, usize),
    /// Of outputs: sink, first and last epoch.
    Outputs(String, u64, u64),
}

impl Checkpoints {
    /// Writes a checkpoint and removes what is no longer needed; tells what was written and is there then.
    ///
    /// # Errors
    /// Transient: it may be there or not, another one can be written. Permanent: another life of the pipeline has begun here.
    pub fn write(&self, task: usize, checkpoint: &Checkpoint) -> Result<Written> {
        let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        let chain = match chains.entry(task) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(Chain { newest: self.newest_sequence(task)?, ..Chain::default() }),
        };
        let mut bytes = 0;
        for _ in 0..ATTEMPTS {
            let sequence = chain.newest + 1;
            let (manifest, written) = self.write_parts((task, sequence), chain.base.as_ref(), checkpoint)?;
            let encoded = manifest.encode()?;
            bytes += written + encoded.len() as u64;
            failpoint::reach("checkpoint.before-manifest");
            let stored = self.storage.put_if_absent(&names::manifest(task, sequence), encoded)? == Put::Stored;
            if stored {
                (chain.newest, chain.base) = (sequence, Some(manifest));
            }
            let files = self.files(task)?;
            let newest = newest_of(&files);
            if stored && newest == sequence {
                failpoint::reach("checkpoint.before-deletion");
                return Ok(Written { bytes, oldest: self.remove_unneeded(&files, chain)? });
            }
            // Somebody else was first; where the number was free, because theirs was removed as too old. What our parts'
            // numbers stand for there is not known.
            (chain.newest, chain.base) = (newest.max(sequence), None);
            if self.is_superseded(task, chain.newest, checkpoint)? {
                return Ok(Written { bytes, oldest: None });
            }
        }
        Err(Error::transient(format!("checkpoints of task {task} in {}: others write there all the time", self.storage)))
    }

    /// Whether the newest manifest holds what `checkpoint` would, or more.
    fn is_superseded(&self, task: usize, newest: u64, checkpoint: &Checkpoint) -> Result<bool> {
        let name = names::manifest(task, newest);
        let Some(Ok(manifest)) = self.storage.get(&name)?.map(|bytes| Manifest::decode(&bytes)).transpose()? else {
            return Ok(false);
        };
        if manifest.lineage != checkpoint.lineage {
            let life = |lineage: &Option<String>| lineage.clone().unwrap_or_else(|| "a run without a journal".into());
            let message = format!(
                "checkpoint {}/{name} is of {}, this run is {}",
                self.storage,
                life(&manifest.lineage),
                life(&checkpoint.lineage)
            );
            return Err(Error::permanent(message)
                .hint("the pipeline was reset, or begun anew by another process; what that one does counts"));
        }
        Ok(manifest.epoch >= checkpoint.epoch)
    }

    /// The number of the newest manifest; 0: there is none.
    pub(super) fn newest_sequence(&self, task: usize) -> Result<u64> {
        Ok(newest_of(&self.files(task)?))
    }

    /// Puts a data file for the manifest of number `sequence`.
    pub(super) fn put_data(&self, task: usize, sequence: u64, bytes: Bytes) -> Result<DataFile> {
        let sum = checksum(&bytes);
        for attempt in 0..ATTEMPTS {
            // A name is taken by other bytes only if that file is damaged: its name holds the checksum of what it should hold.
            let name = names::data(task, sequence, sum, attempt);
            if self.storage.put_if_absent(&name, bytes.clone())? == Put::Stored {
                return Ok(DataFile { name, bytes: bytes.len() as u64 });
            }
        }
        let name = names::data(task, sequence, sum, 0);
        Err(Error::transient(format!("file {}/{name} is damaged, and so are those written in its place", self.storage)))
    }

    /// Writes the parts that `base` does not have, or that lie in files that are mostly dead; gives the manifest and the bytes.
    fn write_parts(
        &self,
        (task, sequence): (usize, u64),
        base: Option<&Manifest>,
        checkpoint: &Checkpoint,
    ) -> Result<(Manifest, u64)> {
        let stored = base.map(|base| reusable(base, checkpoint)).unwrap_or_default();
        let mut data = DataWriter::new(self, task, sequence, &stored);
        let mut operators = Vec::with_capacity(checkpoint.states.len());
        for (node, state) in &checkpoint.states {
            let mut parts = Vec::with_capacity(state.len());
            for (key, part) in keyed(*node, state) {
                parts.push(match key.and_then(|key| stored.get(&key)) {
                    Some(place) => data.refer_to(*place),
                    None => data.write(part.number, &part.rows.load()?)?,
                });
            }
            let (name, identity) = self.nodes.get(*node).map(|o| (o.name.clone(), o.identity.clone())).unwrap_or_default();
            operators.push(OperatorState { node: *node, name, identity, parts });
        }
        let mut pending = Vec::with_capacity(checkpoint.pending.len());
        for Pending { sink, parts } in &checkpoint.pending {
            let mut places = Vec::with_capacity(parts.len());
            for part in parts {
                let place = match stored.get(&PartKey::Outputs(sink.clone(), part.first, part.last)) {
                    Some(place) => data.refer_to(*place),
                    None => data.write(None, Packed::pack(&part.outputs)?.stored())?,
                };
                places.push(PendingPlace { first: part.first, last: part.last, place });
            }
            pending.push(PendingOutputs { sink: sink.clone(), parts: places });
        }
        data.finish()?;
        let manifest = Manifest {
            origin: self.origin.clone(),
            task,
            epoch: checkpoint.epoch,
            clock: checkpoint.clock,
            lineage: checkpoint.lineage.clone(),
            reset_from: Vec::new(),
            positions: checkpoint.positions.clone(),
            operators,
            pending,
            files: data.files,
        };
        Ok((manifest, data.written))
    }
}

pub(super) fn newest_of(files: &[TaskFile]) -> u64 {
    files.iter().filter(|f| f.kind == FileKind::Manifest).map(|f| f.sequence).max().unwrap_or(0)
}

/// The parts of an operator's state with their identities; those without a number have none.
fn keyed(node: NodeId, state: &[StatePart]) -> impl Iterator<Item = (Option<PartKey>, &StatePart)> {
    let mut seen: HashMap<u64, usize> = HashMap::new();
    state.iter().map(move |part| (part.number.map(|number| nth(&mut seen, node, number)), part))
}

fn nth(seen: &mut HashMap<u64, usize>, node: NodeId, number: u64) -> PartKey {
    let count = seen.entry(number).or_default();
    *count += 1;
    PartKey::State(node, number, *count)
}

/// The parts of `checkpoint` that need not be written: where they lie. Parts in files that are mostly dead, or too many, are
/// not among them.
fn reusable<'a>(base: &'a Manifest, checkpoint: &Checkpoint) -> HashMap<PartKey, (&'a DataFile, PartPlace)> {
    let mut stored = HashMap::new();
    for operator in &base.operators {
        let mut seen = HashMap::new();
        for part in &operator.parts {
            if let Some(number) = part.number {
                stored.insert(nth(&mut seen, operator.node, number), *part);
            }
        }
    }
    for sink in &base.pending {
        let key = |part: &PendingPlace| PartKey::Outputs(sink.sink.clone(), part.first, part.last);
        stored.extend(sink.parts.iter().map(|part| (key(part), part.place)));
    }
    let mut live: HashMap<usize, u64> = HashMap::new();
    let mut wanted = HashMap::new();
    let states = checkpoint.states.iter().flat_map(|(node, state)| keyed(*node, state).filter_map(|(key, _)| key));
    let of_sink = |Pending { sink, parts }: &Pending| {
        parts.iter().map(|part| PartKey::Outputs(sink.clone(), part.first, part.last)).collect::<Vec<_>>()
    };
    for key in states.chain(checkpoint.pending.iter().flat_map(of_sink)) {
        if let Some(place) = stored.get(&key) {
            *live.entry(place.file).or_default() += place.bytes;
            wanted.insert(key, *place);
        }
    }
    let mut kept: Vec<usize> =
        live.iter().filter(|(file, live)| **live * 2 >= base.files[**file].bytes).map(|(f, _)| *f).collect();
    if kept.len() > MOST_FILES {
        kept.sort_by_key(|file| (std::cmp::Reverse(base.files[*file].bytes), *file));
        kept.truncate(MOST_FILES / 2);
    }
    wanted.retain(|_, place| kept.contains(&place.file));
    wanted.into_iter().map(|(key, place)| (key, (&base.files[place.file], place))).collect()
}

/// Bundles new parts in data files.
struct DataWriter<'a> {
    checkpoints: &'a Checkpoints,
    task: usize,
    sequence: u64,
    /// Files that the manifest refers to: first those that are there already.
    files: Vec<DataFile>,
    /// The file behind them, as far as it is filled.
    open: Vec<u8>,
    written: u64,
}

impl<'a> DataWriter<'a> {
    fn new(checkpoints: &'a Checkpoints, task: usize, sequence: u64, stored: &HashMap<PartKey, (&DataFile, PartPlace)>) -> Self {
        let mut files: Vec<DataFile> = stored.values().map(|(file, _)| (*file).clone()).collect();
        files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        files.dedup();
        Self { checkpoints, task, sequence, files, open: Vec::new(), written: 0 }
    }

    /// The place of a part that is there already.
    fn refer_to(&self, (file, place): (&DataFile, PartPlace)) -> PartPlace {
        let index = self.files.binary_search_by(|known| known.name.cmp(&file.name)).unwrap_or(place.file);
        PartPlace { file: index, ..place }
    }

    /// Takes a new part; gives its place.
    fn write(&mut self, number: Option<u64>, rows: &RecordBatch) -> Result<PartPlace> {
        let Encoded { stored, length } = encode(rows)?;
        if !self.open.is_empty() && self.open.len() + stored.len() > FILE_BYTES {
            self.finish()?;
        }
        let place = PartPlace {
            number,
            rows: rows.num_rows() as u64,
            file: self.files.len(),
            offset: self.open.len() as u64,
            bytes: stored.len() as u64,
            length,
            checksum: checksum(&stored),
        };
        self.open.extend_from_slice(&stored);
        Ok(place)
    }

    /// Puts the open file.
    fn finish(&mut self) -> Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        let bytes = Bytes::from(std::mem::take(&mut self.open));
        self.written += bytes.len() as u64;
        let file = self.checkpoints.put_data(self.task, self.sequence, bytes)?;
        self.files.push(file);
        Ok(())
    }
}
