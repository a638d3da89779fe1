//! Bad records of a topic of the log, given to it again: records and marks in one atomic append.

use std::collections::HashSet;
use std::sync::Arc;

use riverrun_engine::connect::Context;
use riverrun_engine::dead_letter::DeadLetter;
use riverrun_engine::table::Table;
use riverrun_engine::time::Clock;
use riverrun_engine::{Error, Result};

use super::batch::{Batch, NewRecord};
use super::config::Config;
use super::keys;
use super::store::Log;
use super::topic::Topic;
use crate::redelivery::{Redelivery, headers};

/// A topic, and the marks of what was given to it again: entries of the log's journal.
pub(super) struct LogRedelivery {
    log: Arc<Log>,
    topic: Arc<Topic>,
    marks: Vec<u8>,
    batch: Batch,
    clock: Arc<dyn Clock>,
}

impl LogRedelivery {
    /// Opens the log.
    pub fn open(table: &Table, context: &Context) -> Result<Self> {
        let config = Config::of(table)?;
        let log = Log::open(&config.directory(&context.data_dir))?;
        let topic = log
            .topic(&config.topic)
            .ok_or_else(|| Error::permanent(format!("the log in {} has no topic {}", log.path().display(), config.topic)))?;
        let (marks, batch) = (keys::replayed(&context.pipeline), Batch::new(config.durability));
        Ok(Self { log, topic, marks, batch, clock: context.clock.clone() })
    }
}

impl Redelivery for LogRedelivery {
    fn take_over(&mut self) -> Result<()> {
        // One process has the log open, and lets one give at a time.
        Ok(())
    }

    fn given(&mut self) -> Result<HashSet<String>> {
        let entries = self.log.journal_entries(&self.marks)?;
        let id = |key: &[u8]| String::from_utf8_lossy(&key[self.marks.len()..]).into_owned();
        Ok(entries.iter().map(|(key, _)| id(key)).collect())
    }

    fn give(&mut self, letters: &[DeadLetter]) -> Result<()> {
        self.batch.clear();
        let now = self.clock.now();
        for letter in letters {
            let headers = headers(letter);
            let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            let record = NewRecord {
                partition: Some(letter.partition),
                key: letter.key.as_deref(),
                value: letter.payload.as_deref(),
                headers: &headers,
                timestamp: letter.record_time.unwrap_or(now),
            };
            self.batch.push(&self.topic, record).map_err(|e| e.within(letter.place()))?;
            self.batch.journal([self.marks.as_slice(), letter.id().as_bytes()].concat(), Some(Vec::new()));
        }
        self.log.append(&mut self.batch, now).map(drop)
    }
}
