//! Checkpoints: state and positions of tasks, kept over a restart.
//!
//! A checkpoint is taken at the end of an epoch. It becomes visible once every sink has made all outputs up to that epoch safe,
//! or with those that it has not ([`pending`]): what is visible needs nothing that could be lost. Recovery takes a task's newest
//! intact one and reads on from its positions.
//!
//! Files of a task, in a [`Storage`]; all are written once and never changed:
//! - `task-<n>/<sequence>-<checksum>.data`: parts of operators' state and of outputs, one behind the other ([`encoding`]);
//! - `task-<n>/<sequence>.manifest`: what the checkpoint holds, and which bytes of which data files ([`manifest`]). It is
//!   written last: before it, there is no checkpoint.
//!
//! Invariants:
//! - Manifests of a task are numbered without gaps, and put if absent. So they are a chain: whoever writes number n + 1 knew
//!   n as the newest, or is told that somebody else was first; the first one's stands. (A number far back may be free again,
//!   since old manifests are removed; who takes it sees that newer ones are there.) Epochs grow along a life's chain.
//! - A manifest refers to data files of its own number, and to those that the manifest before it refers to: never to others.
//!   Hence a file that is older than the oldest kept manifest and that no kept one refers to is needed by none that may still
//!   come, whoever writes it: deletion needs no lock, and a zombie's is as safe as the owner's (docs/decisions/0010).
//! - All bytes that are read are covered by a checksum; what does not fit is named, and the checkpoint before is used.

mod encoding;
mod manifest;
mod names;
mod pending;
mod read;
mod reset;
mod retention;
mod storage;
mod version_1;
mod write;

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::graph::NodeId;
use crate::operator::StatePart;
use crate::state::Disk;
use crate::time::Micros;

pub use manifest::{DataFile, Manifest, OperatorState, PartPlace, PendingOutputs, PendingPlace};
pub use names::{FileKind, TaskFile};
pub use pending::{Outputs, Packed, Pending, PendingPart};
pub use read::{Inspected, Intact, inspect, read_manifest, verify};
pub use reset::{At, Chosen, choose, copy, reset};
pub use storage::{MemoryStorage, Put, Storage, Stored};

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
    /// The life of the pipeline that the epoch is of. `None`: no journal was kept, or a new life begins with it.
    pub lineage: Option<String>,
    /// Where it was in its sources.
    pub positions: Vec<Position>,
    /// State by node of the graph that it was made by.
    pub states: Vec<(NodeId, Vec<StatePart>)>,
    /// By sink: outputs up to the epoch that it had not made safe.
    pub pending: Vec<Pending>,
    /// What made it, where it was read; that graph may be another one than now runs.
    pub made_by: Option<MadeBy>,
}

/// What a checkpoint was made by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeBy {
    /// Digest of the graph's text.
    pub graph: String,
    /// What the operators were whose state it holds, in the order of [`Checkpoint::states`].
    pub operators: Vec<Operator>,
}

/// An operator, as a checkpoint names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The node's name, for people.
    pub name: String,
    /// What it computes: [`Node::identity`](crate::graph::Node).
    pub identity: String,
}

/// What writing a checkpoint did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Bytes that were written: what was stored before is not written again.
    pub bytes: u64,
    /// The oldest epoch that a kept checkpoint could be restored from, once there is one to fall back on.
    pub oldest: Option<u64>,
}

/// What the checkpoints are of. State of another number of tasks, or of other parts is refused; whether that of another graph
/// fits is for the reader to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Digest of the graph's text.
    pub graph: String,
    /// How many tasks the pipeline has.
    pub tasks: usize,
    /// What the partition numbers stand for, where a source has several topics.
    #[serde(default)]
    pub parts: Vec<String>,
}

/// What this process knows of a task's manifests.
#[derive(Debug, Default)]
struct Chain {
    /// The number of the newest one; 0: there is none.
    newest: u64,
    /// That one, if it was written or restored here: only its parts are known to be ours, and may be referred to.
    base: Option<Manifest>,
    /// Those that were found not to be intact: nothing to fall back on.
    broken: BTreeSet<u64>,
}

/// The checkpoints of one pipeline.
#[derive(Debug)]
pub struct Checkpoints {
    storage: Arc<dyn Storage>,
    keep: usize,
    /// Where data files are copied to when they are read. `None`: they are read into memory.
    disk: Option<Arc<Disk>>,
    origin: Origin,
    /// The graph's nodes.
    nodes: Vec<Operator>,
    chains: Mutex<BTreeMap<usize, Chain>>,
}

impl Checkpoints {
    /// In `storage`, the newest `keep` of each task (at least one).
    pub fn new(storage: Arc<dyn Storage>, keep: usize, origin: Origin, nodes: Vec<Operator>) -> Self {
        Self { storage, keep: keep.max(1), disk: None, origin, nodes, chains: Mutex::default() }
    }

    /// What is read is copied to this disk, so that a state need not be in memory as a whole to be taken up.
    pub fn reading_through(self, disk: Option<Arc<Disk>>) -> Self {
        Self { disk, ..self }
    }
}

/// The checksum of all files: xxh3, 64 bits.
fn checksum(bytes: &[u8]) -> u64 {
    twox_hash::XxHash3_64::oneshot(bytes)
}
