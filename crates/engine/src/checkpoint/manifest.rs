//! What a checkpoint holds, and where its state lies.
//!
//! A manifest is text: `RIVERRUN-CHECKPOINT-<version> <16 hex digits>\n`, then JSON. The digits are the xxh3 of the JSON with
//! the version as seed. A version that is not known is refused; fields that are not known are ignored, so that one may grow.
//! Version 3 has outputs that sinks had not made safe, which must not be ignored; where there are none, version 2 is written.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Origin, Position};
use crate::graph::NodeId;
use crate::time::Micros;
use crate::{Error, Result};

const NAME: &str = "RIVERRUN-CHECKPOINT-";
const WITHOUT_PENDING: u32 = 2;
const VERSION: u32 = 3;

/// A checkpoint of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What it is of.
    #[serde(flatten)]
    pub origin: Origin,
    /// Whose.
    pub task: usize,
    /// The epoch at whose end it was taken.
    pub epoch: u64,
    /// The epoch's clock.
    pub clock: Micros,
    /// The life of the pipeline.
    pub lineage: Option<String>,
    /// The lives before, if this one begins a new one: the pipeline was reset to an earlier checkpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reset_from: Vec<String>,
    /// Where the task was in its sources.
    pub positions: Vec<Position>,
    /// State by operator, in the order in which they were asked.
    pub operators: Vec<OperatorState>,
    /// Outputs by sink, up to the epoch, that it had not made safe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<PendingOutputs>,
    /// The data files that parts lie in.
    pub files: Vec<DataFile>,
}

/// The state of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorState {
    /// Its node in the graph.
    pub node: NodeId,
    /// The node's name.
    pub name: String,
    /// What it computes: [`Node::identity`](crate::graph::Node).
    #[serde(default)]
    pub identity: String,
    /// Its parts, in the order in which the operator gave them.
    pub parts: Vec<PartPlace>,
}

/// What a sink had not made safe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingOutputs {
    /// Its table.
    pub sink: String,
    /// The outputs, in order of epochs.
    pub parts: Vec<PendingPlace>,
}

/// Where outputs of some epochs lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingPlace {
    /// The first epoch.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Where.
    #[serde(flatten)]
    pub place: PartPlace,
}

/// Where a part of state lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartPlace {
    /// Its number; see [`StatePart`](crate::operator::StatePart).
    pub number: Option<u64>,
    /// Rows in it.
    pub rows: u64,
    /// Which of [`Manifest::files`].
    pub file: usize,
    /// Where it begins in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub bytes: u64,
    /// Bytes when not compressed.
    pub length: u64,
    /// Of the bytes in the file: xxh3, 64 bits.
    pub checksum: u64,
}

/// A data file that a manifest refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

impl Manifest {
    /// The bytes of its file.
    pub fn encode(&self) -> Result<Bytes> {
        let failed = |e: serde_json::Error| Error::permanent(format!("a checkpoint's manifest cannot be written: {e}"));
        let mut json = serde_json::to_vec(self).map_err(failed)?;
        json.push(b'\n');
        let version = if self.pending.is_empty() { WITHOUT_PENDING } else { VERSION };
        Ok([header(version, &json).as_bytes(), &json].concat().into())
    }

    /// The manifest of a file's bytes, or why it is not intact.
    ///
    /// # Errors
    /// It is whole and of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Result<Self, String>> {
        let Some((version, head, json)) = split(bytes) else {
            return Ok(Err("it does not begin as a manifest does".into()));
        };
        if head != header(version, json).as_bytes() {
            return Ok(Err("its checksum does not fit".into()));
        }
        if !(WITHOUT_PENDING..=VERSION).contains(&version) {
            return Err(Error::invalid(format!("it is of version {version}, this riverrun knows versions up to {VERSION}"))
                .hint("run the version of riverrun that wrote it, or a later one"));
        }
        let manifest = serde_json::from_slice::<Self>(json).map_err(|e| e.to_string());
        Ok(manifest.and_then(|m| if m.is_sound() { Ok(m) } else { Err("it refers to files that it does not name".into()) }))
    }

    /// The bytes of state in all its parts, as they are stored.
    pub fn state_bytes(&self) -> u64 {
        self.parts().map(|part| part.bytes).sum()
    }

    /// All parts of all operators.
    pub fn parts(&self) -> impl Iterator<Item = &PartPlace> {
        self.operators.iter().flat_map(|operator| &operator.parts)
    }

    /// All parts of outputs.
    pub fn pending_parts(&self) -> impl Iterator<Item = &PartPlace> {
        self.pending.iter().flat_map(|sink| &sink.parts).map(|part| &part.place)
    }

    fn is_sound(&self) -> bool {
        let lies = |part: &PartPlace| {
            let end = part.offset.checked_add(part.bytes);
            self.files.get(part.file).zip(end).is_some_and(|(file, end)| end <= file.bytes)
        };
        self.parts().chain(self.pending_parts()).all(lies)
    }
}

fn header(version: u32, json: &[u8]) -> String {
    format!("{NAME}{version} {:016x}\n", twox_hash::XxHash3_64::oneshot_with_seed(version.into(), json))
}

/// Version, header and what is behind it.
fn split(bytes: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let end = bytes.iter().take(NAME.len() + 40).position(|b| *b == b'\n')?;
    let (head, json) = bytes.split_at(end + 1);
    let (version, _) = std::str::from_utf8(head).ok()?.strip_prefix(NAME)?.split_once(' ')?;
    Some((version.parse().ok()?, head, json))
}
