//! The keyspaces of a log's directory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions};
use riverrun_engine::{Error, Result};

use super::keys::{self, BlockKey};
use super::topic::{Partition, Settings, Topic};
use crate::embedded::{open_database, store_error};

/// What fjall has open.
pub(super) struct Disk {
    pub database: Database,
    pub blocks: Keyspace,
    pub meta: Keyspace,
    pub journal: Keyspace,
}

impl Disk {
    /// Opens the directory, which must be there.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let database = open_database(path, "riverrun log list, riverrun log tail TOPIC")?;
        let keyspace = |name: &str, options: fn() -> KeyspaceCreateOptions| {
            database.keyspace(name, options).map_err(|e| store_error(&e).within(path.display()))
        };
        // Blocks lie beside the tree: it is compacted without rewriting them.
        let blocks =
            keyspace("blocks", || KeyspaceCreateOptions::default().with_kv_separation(Some(KvSeparationOptions::default())))?;
        let meta = keyspace("meta", KeyspaceCreateOptions::default)?;
        let journal = keyspace("journal", KeyspaceCreateOptions::default)?;
        Ok(Self { database, blocks, meta, journal })
    }

    /// All topics as they lie here.
    pub(super) fn topics(&self) -> Result<BTreeMap<String, Arc<Topic>>> {
        let mut topics = BTreeMap::new();
        for entry in self.meta.prefix(keys::TOPICS) {
            let (key, value) = entry.into_inner().map_err(|e| store_error(&e))?;
            let name = String::from_utf8_lossy(&key[keys::TOPICS.len()..]).into_owned();
            let settings: Settings = serde_json::from_slice(&value)
                .map_err(|e| Error::permanent(format!("the log is damaged: settings of topic {name}: {e}")))?;
            let partitions = (0..settings.partitions)
                .map(|p| {
                    let start = self.meta.get(keys::start(settings.id, p)).map_err(|e| store_error(&e))?;
                    let start = start.map_or(Ok(0), |v| keys::parse_offset(&v))?;
                    Ok(Partition::at(start, self.end(settings.id, p)?.max(start)))
                })
                .collect::<Result<Vec<_>>>()?;
            topics.insert(name.clone(), Arc::new(Topic::new(&name, &settings, partitions)));
        }
        Ok(topics)
    }

    /// The offset behind the last block of a partition.
    pub(super) fn end(&self, topic: u32, partition: u32) -> Result<i64> {
        match self.blocks.range(keys::blocks_from(topic, partition, 0)).next_back() {
            None => Ok(0),
            Some(entry) => Ok(BlockKey::decode(&entry.key().map_err(|e| store_error(&e))?)?.last + 1),
        }
    }
}
