//! What one append writes: records of any topics and partitions, and journal entries, all or none of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

use super::block::BlockBuilder;
use super::topic::Topic;
use crate::partitioner::partition_of;

/// A block takes no further record beyond this size: large enough to be fast, small enough to be read in a few steps.
const FULL_BLOCK: usize = 128 << 10;

/// The most that one record may hold, key and value together.
pub const MAX_RECORD: usize = 64 << 20;

/// When an append is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Handed to the operating system: survives the death of the process (`kill -9`), not that of the machine.
    #[default]
    Process,
    /// On the disk (fdatasync before the append is acknowledged): survives a power cut.
    Power,
}

/// A record to append.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewRecord<'a> {
    /// Its partition; `None`: by key as Kafka's default partitioner does it; without a key one partition per batch in turn.
    pub partition: Option<u32>,
    /// What it is partitioned by.
    pub key: Option<&'a [u8]>,
    /// The payload; `None` = a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// The record's own time.
    pub timestamp: Micros,
}

/// Records that one append gave their offsets: `base` to `base + records`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Place of the topic among those of the batch, by first use.
    pub topic: usize,
    /// The partition.
    pub partition: u32,
    /// Offset of the first one.
    pub base: i64,
    /// How many.
    pub records: i64,
}

/// Records and journal entries that become visible together. Filled again after each append.
#[derive(Debug)]
pub struct Batch {
    id: u64,
    pub(super) durability: Durability,
    pub(super) topics: Vec<TopicRecords>,
    pub(super) journal: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    records: usize,
    bytes: usize,
}

/// The records of one topic in a batch: blocks by partition.
#[derive(Debug)]
pub(super) struct TopicRecords {
    pub topic: Arc<Topic>,
    pub partitions: Vec<Vec<BlockBuilder>>,
    sticky: Option<u32>,
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Batch {
    /// An empty batch.
    pub fn new(durability: Durability) -> Self {
        Self { id: next_id(), durability, topics: Vec::new(), journal: Vec::new(), records: 0, bytes: 0 }
    }

    /// Tells this content from that of all other appends of this process.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// How many records it holds.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing to append.
    pub fn is_empty(&self) -> bool {
        self.records == 0 && self.journal.is_empty()
    }

    /// Adds a record; gives its partition.
    pub fn push(&mut self, topic: &Arc<Topic>, record: NewRecord<'_>) -> Result<u32> {
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        let bytes = length(record.key) + length(record.value);
        if bytes > MAX_RECORD {
            return Err(Error::permanent(format!("a record of {bytes} bytes is too large for the log: at most {MAX_RECORD}")));
        }
        let place = self.topics.iter().position(|t| Arc::ptr_eq(&t.topic, topic)).unwrap_or_else(|| {
            let partitions = std::iter::repeat_with(Vec::new).take(topic.partitions() as usize).collect();
            self.topics.push(TopicRecords { topic: Arc::clone(topic), partitions, sticky: None });
            self.topics.len() - 1
        });
        let records = &mut self.topics[place];
        let partition = match (record.partition, record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of(key, topic.partitions()),
            (None, None) => *records.sticky.get_or_insert_with(|| topic.sticky()),
        };
        topic.check_partition(partition)?;
        let blocks = &mut records.partitions[partition as usize];
        if blocks.last().is_none_or(|block| block.len() >= FULL_BLOCK) {
            blocks.push(BlockBuilder::new(record.timestamp));
        }
        if let Some(block) = blocks.last_mut() {
            block.push(record.key, record.value, record.headers, record.timestamp);
        }
        self.records += 1;
        self.bytes += bytes;
        Ok(partition)
    }

    /// Sets an entry of the journal, or removes it.
    pub fn journal(&mut self, key: impl Into<Vec<u8>>, value: Option<Vec<u8>>) {
        self.journal.push((key.into(), value));
    }

    /// The offsets that the records would get now.
    pub(super) fn place(&self) -> Vec<Appended> {
        let mut placed = Vec::new();
        for (topic, records) in self.topics.iter().enumerate() {
            for (partition, blocks) in (0..).zip(&records.partitions) {
                let count: i64 = blocks.iter().map(BlockBuilder::records).sum();
                if count > 0 {
                    placed.push(Appended { topic, partition, base: records.topic.end(partition), records: count });
                }
            }
        }
        placed
    }

    /// Empties it: the content was appended, or is given up.
    pub fn clear(&mut self) {
        self.id = next_id();
        for records in &mut self.topics {
            records.partitions.iter_mut().for_each(Vec::clear);
            records.sticky = None;
        }
        self.journal.clear();
        (self.records, self.bytes) = (0, 0);
    }
}
