//! The layout of keys in the store. All numbers big-endian, so that keys sort as the numbers do.
//!
//! Keyspace `blocks`, one entry per [block](super::block):
//! `topic id u32 | partition u32 | last offset u64 | newest record time u64 (sign bit flipped) | bytes of the block u32`.
//! The *last* offset leads, so that the block that holds offset `o` is the first one at or behind `o`: one forward seek.
//! Newest time and size stand in the key, so that finding an offset by time, and retention, read keys only.
//!
//! Keyspace `meta`, by leading byte:
//! `t name` = the topic's settings, JSON ([`super::topic::Settings`]);
//! `s topic id u32 | partition u32` = start offset u64: all before it is gone;
//! `g topic id u32 | partition u32 | group` = the group's position u64.
//!
//! Keyspace `journal`, by leading byte: `e lineage 0 sink 0 task u32` = the last epoch u64 of a task whose rows a sink wrote.

use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

use crate::embedded::position_key;

/// Length of a key of `blocks`.
const BLOCK_KEY: usize = 28;

/// What a key of `blocks` says of its block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BlockKey {
    /// Offset of its last record.
    pub last: i64,
    /// Greatest record time in it.
    pub newest: Micros,
    /// Its size.
    pub bytes: u32,
}

impl BlockKey {
    /// The key of this block in a partition.
    pub(super) fn encode(self, topic: u32, partition: u32) -> [u8; BLOCK_KEY] {
        let mut key = [0; BLOCK_KEY];
        key[..4].copy_from_slice(&topic.to_be_bytes());
        key[4..8].copy_from_slice(&partition.to_be_bytes());
        key[8..16].copy_from_slice(&(self.last as u64).to_be_bytes());
        key[16..24].copy_from_slice(&(self.newest as u64 ^ (1 << 63)).to_be_bytes());
        key[24..].copy_from_slice(&self.bytes.to_be_bytes());
        key
    }

    /// Reads a key.
    pub(super) fn decode(key: &[u8]) -> Result<Self> {
        let damaged = || Error::permanent("the log is damaged: a block has a key of another form");
        let key: &[u8; BLOCK_KEY] = key.try_into().map_err(|_| damaged())?;
        let number = |at: usize| key[at..at + 8].iter().fold(0u64, |n, byte| (n << 8) | u64::from(*byte));
        let bytes = u32::from_be_bytes([key[24], key[25], key[26], key[27]]);
        Ok(Self { last: number(8) as i64, newest: (number(16) ^ (1 << 63)) as i64, bytes })
    }
}

/// The least and the greatest key that blocks of a partition holding `from` or later can have.
pub(super) fn blocks_from(topic: u32, partition: u32, from: i64) -> std::ops::RangeInclusive<[u8; BLOCK_KEY]> {
    let key = |last, newest, bytes| BlockKey { last, newest, bytes }.encode(topic, partition);
    key(from, Micros::MIN, 0)..=key(i64::MAX, Micros::MAX, u32::MAX)
}

/// The prefix of all topics in `meta`.
pub(super) const TOPICS: &[u8] = b"t";

/// The key of a topic's settings.
pub(super) fn topic(name: &str) -> Vec<u8> {
    [TOPICS, name.as_bytes()].concat()
}

/// The key of a partition's start offset.
pub(super) fn start(topic: u32, partition: u32) -> Vec<u8> {
    [b"s".as_slice(), &topic.to_be_bytes(), &partition.to_be_bytes()].concat()
}

/// The key of a group's position.
pub(super) fn group(group: &str, topic: u32, partition: u32) -> Vec<u8> {
    [b"g".as_slice(), &topic.to_be_bytes(), &partition.to_be_bytes(), group.as_bytes()].concat()
}

/// The key of a sink's position, in the journal.
pub(super) fn epoch(lineage: &str, sink: &str, task: u32) -> Vec<u8> {
    [b"e".to_vec(), position_key(lineage, sink, task)].concat()
}

/// The prefix of the marks of dead letters that this pipeline gave again, in the journal.
pub(super) fn replayed(pipeline: &str) -> Vec<u8> {
    [b"d".as_slice(), pipeline.as_bytes(), &[0]].concat()
}

/// The value of a start offset or a position.
pub(super) fn offset_value(offset: i64) -> [u8; 8] {
    (offset as u64).to_be_bytes()
}

/// Reads [`offset_value`].
pub(super) fn parse_offset(value: &[u8]) -> Result<i64> {
    let bytes = value.try_into().map_err(|_| Error::permanent("the log is damaged: an offset is not 8 bytes"))?;
    Ok(u64::from_be_bytes(bytes) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(topic: u32, partition: u32, last: i64, newest: Micros) -> [u8; BLOCK_KEY] {
        BlockKey { last, newest, bytes: 9 }.encode(topic, partition)
    }

    #[test]
    fn block_keys_sort_by_topic_partition_and_offset() {
        let keys = [block(1, 0, 9, 5), block(1, 0, 10, -5), block(1, 0, 256, 0), block(1, 1, 0, 0), block(2, 0, 0, 0)];
        assert!(keys.is_sorted());
    }

    #[test]
    fn a_block_key_reads_back() {
        for (last, newest) in [(0, 0), (7, -1), (i64::MAX, Micros::MAX), (1, Micros::MIN)] {
            assert_eq!(BlockKey::decode(&block(3, 4, last, newest)).unwrap(), BlockKey { last, newest, bytes: 9 });
        }
    }

    #[test]
    fn the_range_from_an_offset_begins_with_the_block_that_holds_it() {
        let range = blocks_from(1, 2, 10);
        assert!(range.contains(&block(1, 2, 10, Micros::MIN)) && range.contains(&block(1, 2, 11, 0)));
        assert!(!range.contains(&block(1, 2, 9, Micros::MAX)) && !range.contains(&block(1, 3, 10, 0)));
    }
}
