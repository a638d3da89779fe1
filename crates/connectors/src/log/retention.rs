//! Retention: deletes the oldest blocks of a partition, and moves its start.

use riverrun_engine::Result;
use riverrun_engine::time::Micros;

use super::keys::{self, BlockKey};
use super::store::Log;
use super::topic::Topic;

impl Log {
    /// Deletes what retention lets go of a partition: whole blocks, never the newest. Called under the writer's lock.
    pub(super) fn retain(&self, topic: &Topic, partition: u32, now: Micros) -> Result<()> {
        let retention = topic.retention();
        let oldest = retention.micros.map_or(Micros::MIN, |age| now.saturating_sub(age));
        let disk = self.disk()?;
        let range = || disk.blocks.range(keys::blocks_from(topic.id(), partition, topic.start(partition)));
        let block = |entry: fjall::Guard| BlockKey::decode(&entry.key().map_err(|e| self.error(&e))?);
        let mut over = 0;
        if let Some(limit) = retention.bytes {
            let held = range().map(|entry| Ok(u64::from(block(entry)?.bytes))).sum::<Result<u64>>()?;
            over = held.saturating_sub(limit);
        }
        let newest = topic.end(partition) - 1;
        let mut write = disk.database.batch();
        let mut start = topic.start(partition);
        for entry in range() {
            let block = block(entry)?;
            if block.last >= newest || (over < u64::from(block.bytes) && block.newest >= oldest) {
                break;
            }
            over = over.saturating_sub(block.bytes.into());
            start = block.last + 1;
            write.remove(&disk.blocks, block.encode(topic.id(), partition));
        }
        if start > topic.start(partition) {
            topic.move_start(partition, start);
            write.insert(&disk.meta, keys::start(topic.id(), partition), keys::offset_value(start));
            write.commit().map_err(|e| self.broke(&e))?;
        }
        Ok(())
    }
}
