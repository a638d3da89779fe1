//! Reads the journal's topic to its end.
//!
//! Invariant: the end is the one behind the last record of any transaction, not the one behind the last that was committed
//! so far: after a commit its markers reach partitions one by one (KAFKA-10167), so reading waits until all up to that end
//! is decided.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::Offset;
use riverrun_engine::time::{Clock, Stopwatch, SystemClock};
use riverrun_engine::{Error, Result};

use super::entries::Entries;
use crate::kafka::client::{Callbacks, classify};
use crate::kafka::config::Config;

/// How long to wait before a question is asked again, and for records.
const AGAIN: Duration = Duration::from_millis(20);

/// Reads the topic.
pub(super) struct Reader {
    config: Config,
    topic: String,
    consumer: BaseConsumer<Callbacks>,
    unfiltered: BaseConsumer<Callbacks>,
}

impl Reader {
    pub fn new(config: &Config, topic: &str) -> Result<Self> {
        let (filtered, unfiltered) = (consumer(config, topic, "read_committed")?, consumer(config, topic, "read_uncommitted")?);
        Ok(Self { config: config.clone(), topic: topic.to_owned(), consumer: filtered, unfiltered })
    }

    /// The same, that gives up sooner.
    pub fn patient_for(mut self, patience: Duration) -> Self {
        self.config.patience = patience;
        self
    }

    /// All that is committed in these partitions.
    pub fn read(&self, partitions: impl IntoIterator<Item = i32>) -> Result<Entries> {
        let mut list = TopicPartitionList::new();
        let mut open = BTreeMap::new();
        for partition in partitions {
            let (first, end) = self.decided(partition)?;
            if first < end {
                let added = list.add_partition_offset(&self.topic, partition, Offset::Offset(first));
                added.map_err(|e| self.error(&e))?;
                open.insert(partition, end);
            }
        }
        self.consumer.assign(&list).map_err(|e| self.error(&e))?;
        let entries = self.read_to(open);
        self.consumer.unassign().map_err(|e| self.error(&e))?;
        entries.map_err(|e| e.within(format!("topic '{}'", self.topic)))
    }

    /// The first offset of a partition and its end, once all before that is committed or aborted.
    fn decided(&self, partition: i32) -> Result<(i64, i64)> {
        let stopwatch = Stopwatch::start();
        let ask = |consumer: &BaseConsumer<Callbacks>| loop {
            let left = self.left(&stopwatch);
            match consumer.fetch_watermarks(&self.topic, partition, left.max(AGAIN)).map_err(|e| self.error(&e)) {
                Err(error) if error.is_transient() && left > AGAIN => SystemClock.sleep(AGAIN),
                answer => return answer,
            }
        };
        let (first, end) = ask(&self.unfiltered)?;
        loop {
            // What a reader of committed records may read.
            let (_, stable) = ask(&self.consumer)?;
            if stable >= end {
                return Ok((first, end));
            }
            if self.left(&stopwatch).is_zero() {
                let what = format!("partition {partition} of topic '{}': a transaction is open at offset {stable}", self.topic);
                return Err(Error::transient(format!("{what}, before its end at {end}")));
            }
            SystemClock.sleep(AGAIN);
        }
    }

    /// Reads until each partition's end was found.
    fn read_to(&self, mut open: BTreeMap<i32, i64>) -> Result<Entries> {
        let mut entries = Entries::default();
        let mut stopwatch = Stopwatch::start();
        while !open.is_empty() {
            match self.consumer.poll(AGAIN) {
                Some(Ok(record)) => {
                    stopwatch = Stopwatch::start();
                    let (key, value) = (record.key().unwrap_or_default(), record.payload().unwrap_or_default());
                    entries.take((record.partition(), record.offset()), key, value)?;
                }
                // All before the end was decided when reading began.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) => match self.error(&error) {
                    error if error.is_transient() => tracing::debug!(%error, "kafka"),
                    error => return Err(error),
                },
                None if self.left(&stopwatch).is_zero() => {
                    let because = self.consumer.context().because();
                    return Err(Error::transient(format!("no records from Kafka at {}{because}", self.config.brokers)));
                }
                None => {}
            }
        }
        Ok(entries)
    }

    fn left(&self, stopwatch: &Stopwatch) -> Duration {
        self.config.patience.saturating_sub(Duration::from_nanos(stopwatch.nanos()))
    }

    fn error(&self, error: &KafkaError) -> Error {
        let what = format!("reading topic '{}' at {}", self.topic, self.config.brokers);
        match error.rdkafka_error_code() {
            // It was there: brokers that have just come back may not know of it yet.
            Some(code @ (Code::UnknownPartition | Code::UnknownTopic | Code::UnknownTopicOrPartition)) => {
                Error::transient(format!("{what}: {code}")).hint("if it lasts: was the topic deleted?")
            }
            _ => classify(error, &what),
        }
    }
}

fn consumer(config: &Config, topic: &str, isolation: &str) -> Result<BaseConsumer<Callbacks>> {
    let created = config.consumer().set("isolation.level", isolation).create_with_context(Callbacks::default());
    created.map_err(|e| classify(&e, &format!("client for topic '{topic}'")))
}
