//! Checkpoints as the first version wrote them: one file with everything. They are read, never written.
//!
//! `task-<n>/<epoch>.checkpoint`: `RIVERRUN-CHECKPOINT-1\n`, a line of JSON, then an Arrow IPC stream per batch of state.

use std::io::Cursor;

use arrow::ipc::reader::StreamReader;
use serde::Deserialize;

use super::{Checkpoint, MadeBy, Operator, Origin, Position, checksum};
use crate::graph::NodeId;
use crate::operator::StatePart;
use crate::time::Micros;

const MAGIC: &[u8] = b"RIVERRUN-CHECKPOINT-1\n";

#[derive(Deserialize)]
struct Manifest {
    #[serde(flatten)]
    origin: Origin,
    epoch: u64,
    clock: Micros,
    #[serde(default)]
    lineage: Option<String>,
    positions: Vec<Position>,
    /// (node, bytes of the stream) for each batch, in order.
    batches: Vec<(NodeId, usize)>,
    checksum: u64,
}

/// What a file holds, or why it is not intact.
pub fn decode(bytes: &[u8]) -> Result<(Origin, Checkpoint), String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("it does not begin as a checkpoint does")?;
    let end = rest.iter().position(|b| *b == b'\n').ok_or("it ends within its manifest")?;
    let manifest: Manifest = serde_json::from_slice(&rest[..end]).map_err(|e| e.to_string())?;
    let mut data = &rest[end + 1..];
    if checksum(data) != manifest.checksum {
        return Err("its checksum does not fit".into());
    }
    let mut states: Vec<(NodeId, Vec<StatePart>)> = Vec::new();
    for (node, length) in manifest.batches {
        let (stream, after) = data.split_at_checked(length).ok_or("it is too short")?;
        data = after;
        let batches = StreamReader::try_new(Cursor::new(stream), None).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let batches = batches.map_err(|e| e.to_string())?.into_iter().map(StatePart::whole);
        match states.last_mut() {
            Some((last, state)) if *last == node => state.extend(batches),
            _ => states.push((node, batches.collect())),
        }
    }
    let Manifest { origin, epoch, clock, lineage, positions, .. } = manifest;
    // Operators had no identity then: this state fits the very same graph only.
    let operators = states.iter().map(|(node, _)| Operator { name: format!("#{node}"), identity: String::new() }).collect();
    let made_by = Some(MadeBy { graph: origin.graph.clone(), operators });
    Ok((origin, Checkpoint { epoch, clock, lineage, positions, states, pending: Vec::new(), made_by }))
}
