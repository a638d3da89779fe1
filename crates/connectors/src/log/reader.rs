//! Reads one partition in order of offset. Any number of readers, each by itself.

use std::sync::Arc;

use fjall::UserValue;
use riverrun_engine::{Error, Result};

use super::block::{Cursor, Record};
use super::keys;
use super::store::Log;
use super::topic::Topic;

/// A position in a partition, and the block it stands in.
pub struct Reader {
    log: Arc<Log>,
    topic: Arc<Topic>,
    partition: u32,
    next: i64,
    fail_on_data_loss: bool,
    /// The block that was not read to its end, and how far.
    block: Option<(UserValue, Cursor)>,
}

/// What one read gave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Read {
    /// Records.
    pub records: usize,
    /// Bytes of keys and values.
    pub bytes: usize,
}

impl Reader {
    /// A reader of `partition` from `offset` on. Where that was deleted already: an error that says what is gone with
    /// `fail_on_data_loss`, else it begins at what is there.
    pub fn open(log: Arc<Log>, topic: Arc<Topic>, partition: u32, offset: i64, fail_on_data_loss: bool) -> Result<Self> {
        topic.check_partition(partition)?;
        let mut reader = Self { log, topic, partition, next: offset, fail_on_data_loss, block: None };
        let end = reader.topic.end(partition);
        if offset > end {
            if fail_on_data_loss {
                let name = reader.topic.name();
                return Err(Error::permanent(format!(
                    "topic {name} partition {partition} ends at {end}, before the position {offset}"
                ))
                .hint("was the log's directory replaced? fail_on_data_loss = 'false' goes on at the end"));
            }
            reader.next = end;
        }
        reader.skip_deleted()?;
        Ok(reader)
    }

    /// The offset that is read next.
    pub fn position(&self) -> i64 {
        self.next
    }

    /// Goes back to an offset that was read.
    pub(super) fn seek(&mut self, offset: i64) {
        self.next = offset;
        self.block = None;
    }

    /// How many records are there behind the position.
    pub fn lag(&self) -> u64 {
        u64::try_from(self.topic.end(self.partition) - self.next).unwrap_or(0)
    }

    /// Gives `take` the next records: those before offset `stop` that are there, at most `records` of them, and none
    /// once `bytes` were reached.
    pub fn read(&mut self, records: usize, bytes: usize, stop: i64, mut take: impl FnMut(Record<'_>)) -> Result<Read> {
        let end = self.topic.end(self.partition).min(stop);
        let mut read = Read::default();
        self.skip_deleted()?;
        if self.next >= end {
            return Ok(read);
        }
        if let Some((block, mut cursor)) = self.block.take() {
            self.read_block(&block, &mut cursor, end, (records, bytes), &mut read, &mut take)?;
            if self.next >= end || read.records >= records || read.bytes >= bytes {
                self.block = Some((block, cursor));
                return Ok(read);
            }
        }
        let log = Arc::clone(&self.log);
        let disk = log.disk()?;
        for entry in disk.blocks.range(keys::blocks_from(self.topic.id(), self.partition, self.next)) {
            let block = entry.value().map_err(|e| log.error(&e))?;
            let mut cursor = Cursor::new(&block)?;
            self.read_block(&block, &mut cursor, end, (records, bytes), &mut read, &mut take)?;
            if self.next >= end || read.records >= records || read.bytes >= bytes {
                self.block = Some((block, cursor));
                break;
            }
        }
        Ok(read)
    }

    /// Reads on in a block up to `end` and the limits (records, bytes).
    fn read_block(
        &mut self,
        block: &[u8],
        cursor: &mut Cursor,
        end: i64,
        limit: (usize, usize),
        read: &mut Read,
        take: &mut impl FnMut(Record<'_>),
    ) -> Result<()> {
        if cursor.next_offset() > self.next {
            self.lost(cursor.next_offset())?;
        }
        while self.next < end && read.records < limit.0 && read.bytes < limit.1 {
            let Some(record) = cursor.read(block)? else { break };
            if record.offset < self.next {
                continue;
            }
            read.records += 1;
            read.bytes += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            self.next = record.offset + 1;
            take(record);
        }
        Ok(())
    }

    fn skip_deleted(&mut self) -> Result<()> {
        let start = self.topic.start(self.partition);
        if start > self.next && self.block.is_none() {
            self.lost(start)?;
        }
        Ok(())
    }

    /// Records before `start` are gone.
    fn lost(&mut self, start: i64) -> Result<()> {
        let (topic, partition, last) = (self.topic.name(), self.partition, start - 1);
        if self.fail_on_data_loss {
            return Err(Error::permanent(format!(
                "topic {topic} partition {partition}: records {} to {last} were deleted by retention before they were read",
                self.next
            ))
            .hint("fail_on_data_loss = 'false' goes on behind them; a longer retention keeps them"));
        }
        tracing::warn!(topic, partition, from = self.next, to = last, "records were deleted before they were read");
        self.next = start;
        Ok(())
    }
}
