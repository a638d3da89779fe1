//! What the journal holds of an epoch, and of the pipeline's beginning. Written as one line of JSON each.

use serde::{Deserialize, Serialize};

use crate::time::Micros;
use crate::{Error, Result};

/// A place in the input: reading of this partition went up to this offset. Written as `[source, partition, offset]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(usize, u32, i64)", into = "(usize, u32, i64)")]
pub struct Stop {
    /// The source, by its place among the graph's sources.
    pub source: usize,
    /// The partition.
    pub partition: u32,
    /// The offset to read from next.
    pub offset: i64,
}

impl From<(usize, u32, i64)> for Stop {
    fn from((source, partition, offset): (usize, u32, i64)) -> Self {
        Self { source, partition, offset }
    }
}

impl From<Stop> for (usize, u32, i64) {
    fn from(stop: Stop) -> Self {
        (stop.source, stop.partition, stop.offset)
    }
}

/// One epoch of one task: all that it takes to run it again on the state before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The task.
    pub task: u32,
    /// The epoch's number in the task, from 1, without gaps.
    pub epoch: u64,
    /// Its clock: processing time.
    pub clock: Micros,
    /// What went through the operators together, chunk by chunk; within a chunk in the order in which it was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<Vec<Stop>>,
    /// Idle partitions (source, partition) whose watermark was lifted to this at the end of the epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lifts: Vec<(usize, u32, Micros)>,
    /// Partitions (chunk, source, partition) that have ended, and in which chunk that was found; 0 if it was before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<(usize, usize, u32)>,
    /// Rows that each sink was given: a repetition must give as many.
    pub rows: Vec<u64>,
}

/// Epoch 0: how a life of a pipeline began. What does not fit it cannot go on from its records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// Names this life, and no other of any pipeline: sinks keep their positions under it.
    pub lineage: String,
    /// Digest of the graph.
    pub graph: String,
    /// How many tasks.
    pub tasks: u32,
    /// Where reading began.
    pub starts: Vec<Stop>,
    /// The names of the graph's sources, in order; none in what was written before they were kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
}

impl Record {
    /// As a line of JSON, without its end.
    pub fn encode(&self) -> Result<Vec<u8>> {
        encode(self)
    }

    /// From what [`encode`](Record::encode) gave.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        decode(bytes)
    }
}

impl Genesis {
    /// Whether the graph had a source of this name, as far as names were kept.
    pub fn has_source(&self, name: &str) -> bool {
        self.sources.iter().any(|of| of == name)
    }

    /// Where reading began of a partition of the source of this name, now at this place among the graph's.
    pub fn start_of(&self, (source, name): (usize, &str), partition: u32) -> Option<i64> {
        let source = match self.sources.is_empty() {
            true => source,
            false => self.sources.iter().position(|of| of == name)?,
        };
        self.starts.iter().find(|stop| (stop.source, stop.partition) == (source, partition)).map(|stop| stop.offset)
    }

    /// As a line of JSON, without its end.
    pub fn encode(&self) -> Result<Vec<u8>> {
        encode(self)
    }

    /// From what [`encode`](Genesis::encode) gave.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        decode(bytes)
    }
}

fn encode<T: Serialize>(entry: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(entry).map_err(|e| Error::permanent(format!("a journal entry cannot be written: {e}")))
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::permanent(format!("a journal entry cannot be read: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The format of version 1: what a released program wrote must be read for ever.
    #[test]
    fn entries_are_what_they_always_were() {
        let record = Record {
            task: 3,
            epoch: 7,
            clock: 1_000,
            chunks: vec![vec![(0, 3, 20).into()], vec![(0, 3, 25).into(), (1, 3, 4).into()]],
            lifts: vec![(0, 3, 500)],
            ended: vec![(1, 1, 3)],
            rows: vec![2, 0],
        };
        let text = r#"{"task":3,"epoch":7,"clock":1000,"chunks":[[[0,3,20]],[[0,3,25],[1,3,4]]],"lifts":[[0,3,500]],"ended":[[1,1,3]],"rows":[2,0]}"#;
        assert_eq!(String::from_utf8(record.encode().unwrap()).unwrap(), text);
        assert_eq!(Record::decode(text.as_bytes()).unwrap(), record);
        let short = Record::decode(br#"{"task":0,"epoch":1,"clock":5,"rows":[]}"#).unwrap();
        assert_eq!((short.chunks.len(), short.lifts.len(), short.ended.len()), (0, 0, 0));
        let genesis = r#"{"lineage":"p-1","graph":"ab","tasks":4,"starts":[[0,0,100]]}"#;
        assert_eq!(Genesis::decode(genesis.as_bytes()).unwrap().encode().unwrap(), genesis.as_bytes());
        let named = r#"{"lineage":"p-1","graph":"ab","tasks":4,"starts":[[0,0,100],[1,0,7]],"sources":["a","b"]}"#;
        let (genesis, named) = (Genesis::decode(genesis.as_bytes()).unwrap(), Genesis::decode(named.as_bytes()).unwrap());
        assert_eq!((genesis.start_of((0, "a"), 0), genesis.start_of((1, "b"), 0)), (Some(100), None), "by place");
        assert_eq!(
            (named.start_of((1, "a"), 0), named.start_of((0, "b"), 0)),
            (Some(100), Some(7)),
            "by name, wherever it stands"
        );
        assert_eq!((named.start_of((0, "c"), 0), named.start_of((0, "a"), 1)), (None, None));
    }
}
