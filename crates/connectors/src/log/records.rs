//! Generated records into a topic of the embedded log: `riverrun generate`, and the demo.

use std::sync::Arc;

use riverrun_engine::Result;
use riverrun_engine::time::{Clock, Micros};

use super::batch::{Batch, Durability, NewRecord};
use super::store::Log;
use super::topic::Topic;
use crate::generator::{Deliveries, Record, RecordSink};

/// Records that wait for one append, at most.
const FULL: usize = 4096;

/// A topic that takes generated records, many in one atomic append.
pub struct LogRecords {
    log: Arc<Log>,
    topic: Arc<Topic>,
    batch: Batch,
    newest: Micros,
    clock: Arc<dyn Clock>,
    deliveries: Deliveries,
}

impl LogRecords {
    /// Records into `topic`, made with so many partitions if it is missing.
    pub fn new(log: Arc<Log>, topic: &str, partitions: Option<u32>, clock: Arc<dyn Clock>) -> Result<Self> {
        let topic = log.create_topic(topic, partitions, None)?;
        Ok(Self { log, topic, batch: Batch::new(Durability::Process), newest: 0, clock, deliveries: Deliveries::default() })
    }

    fn append(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let appended = self.log.append(&mut self.batch, self.newest.max(self.clock.now()))?;
        for block in appended {
            for offset in block.base..block.base + block.records {
                self.deliveries.acknowledge(block.partition, offset);
            }
        }
        Ok(())
    }
}

impl RecordSink for LogRecords {
    fn send(&mut self, record: &Record) -> Result<()> {
        let (key, value) = (Some(record.key.as_slice()), Some(record.payload.as_slice()));
        let new = NewRecord { key, value, timestamp: record.timestamp, ..NewRecord::default() };
        self.batch.push(&self.topic, new)?;
        self.newest = self.newest.max(record.timestamp);
        if self.batch.records() >= FULL { self.append() } else { Ok(()) }
    }

    fn poll(&mut self) -> Result<()> {
        self.append()
    }

    fn flush(&mut self) -> Result<()> {
        self.append()
    }

    fn deliveries(&self) -> Deliveries {
        self.deliveries.clone()
    }
}
