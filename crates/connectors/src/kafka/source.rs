//! Reads the partitions of a topic. One consumer for all of them, a queue for each.
//!
//! Invariants: partitions are assigned here, never by a group; a partition's queue is split off before it is assigned, so no
//! record takes another way. A bounded read ends on a record at or past the stop offset or at the partition's end, since
//! offsets have gaps (transactions, compaction).

use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::Offset;
use riverrun_engine::source::{Limit, OnBadRecord, PartitionReader, Poll, Source, Start};
use riverrun_engine::table::Table;
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

use super::client::{Callbacks, classify, lock};
use super::config::Config;
use super::topic;
use crate::format::{Decoder, Header, RawRecord};

/// How long a poll waits for a first record.
const FIRST_RECORD: Duration = Duration::from_millis(1);

/// What readers of one source share.
struct Topic {
    config: Config,
    consumer: Arc<BaseConsumer<Callbacks>>,
}

impl Topic {
    fn name(&self) -> &str {
        &self.config.topic
    }

    fn at(&self, partition: u32) -> String {
        format!("partition {partition} of topic '{}'", self.name())
    }

    fn place(&self, partition: u32, offset: i64) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(self.name(), partition as i32, Offset::Offset(offset))
            .map_err(|e| classify(&e, &self.at(partition)))?;
        Ok(list)
    }

    /// The first offset that is still there, and the one behind the last committed record.
    fn bounds(&self, partition: u32) -> Result<(i64, i64)> {
        let bounds = self.consumer.fetch_watermarks(self.name(), partition as i32, self.config.patience);
        bounds.map_err(|e| classify(&e, &format!("offsets of {} from {}", self.at(partition), self.config.brokers)))
    }

    /// What `offset` means now: itself, or, where it is gone and that may be, the first one that is there.
    fn existing(&self, partition: u32, offset: i64) -> Result<i64> {
        let (first, end) = self.bounds(partition)?;
        let at = self.at(partition);
        if offset > end {
            let message = format!("{at} ends at offset {end}, before {offset}: it was created anew, or lost records");
            return Err(Error::permanent(message).hint("start under another pipeline.name, or remove what this one kept"));
        }
        if offset >= first {
            return Ok(offset);
        }
        let lost = format!("{at}: offsets {offset} to {} are gone", first - 1);
        if self.config.fail_on_data_loss {
            return Err(Error::permanent(lost).hint("fail_on_data_loss = 'false' goes on with what is there"));
        }
        tracing::warn!("{lost}; going on at {first}");
        Ok(first)
    }

    fn offset_at(&self, partition: u32, time: Micros) -> Result<i64> {
        // Milliseconds, rounded up: nothing before that time.
        let asked = self.place(partition, time.div_euclid(1000) + i64::from(time.rem_euclid(1000) > 0))?;
        let what = format!("offset of a time in {}", self.at(partition));
        let found = self.consumer.offsets_for_times(asked, self.config.patience).map_err(|e| classify(&e, &what))?;
        match found.find_partition(self.name(), partition as i32).map(|p| p.offset()) {
            Some(Offset::Offset(offset)) => Ok(offset),
            _ => Ok(self.bounds(partition)?.1),
        }
    }
}

/// A topic as a source.
pub(super) struct KafkaSource {
    topic: Arc<Topic>,
    table: Table,
    partitions: u32,
}

impl KafkaSource {
    /// Finds the topic.
    pub fn connect(config: Config, table: &Table) -> Result<Self> {
        config.check()?;
        let what = format!("consumer of topic '{}'", config.topic);
        let consumer = config.consumer().create_with_context(Callbacks::default()).map_err(|e| classify(&e, &what))?;
        let topic = Arc::new(Topic { config, consumer: Arc::new(consumer) });
        let client = topic.consumer.client();
        match topic::partitions(client, &topic.config)? {
            Some(partitions) => Ok(Self { table: table.clone(), partitions, topic }),
            None => Err(topic::missing(client, &topic.config)),
        }
    }
}

impl Source for KafkaSource {
    fn partitions(&self) -> Result<u32> {
        Ok(self.partitions)
    }

    fn start(&self, partition: u32) -> Start {
        self.topic.config.start.of(partition)
    }

    fn resolve(&self, partition: u32, start: Start) -> Result<i64> {
        match start {
            Start::Earliest => Ok(self.topic.bounds(partition)?.0),
            Start::Latest => Ok(self.topic.bounds(partition)?.1),
            Start::Offset(offset) => self.topic.existing(partition, offset),
            Start::Time(time) => self.topic.offset_at(partition, time),
        }
    }

    fn end_offset(&self, partition: u32) -> Result<Option<i64>> {
        Ok(Some(self.topic.bounds(partition)?.1))
    }

    fn open(&self, partition: u32, offset: i64, stop: Option<i64>) -> Result<Box<dyn PartitionReader>> {
        let topic = Arc::clone(&self.topic);
        let queue = topic.consumer.split_partition_queue(topic.name(), partition as i32);
        let queue = queue.ok_or_else(|| Error::permanent(format!("{} has no queue", topic.at(partition))))?;
        let mut reader = Reader {
            decoder: Decoder::new(&self.table, topic.name(), partition)?,
            queue,
            partition,
            next: offset,
            stop,
            newest: None,
            ended: stop.is_some_and(|stop| offset >= stop),
            assigned: false,
            topic,
        };
        if !reader.ended {
            reader.assign()?;
        }
        Ok(Box::new(reader))
    }

    fn committed(&self, partition: u32) -> Result<Option<i64>> {
        let what = format!("committed offset of {} in group '{}'", self.topic.at(partition), self.topic.config.group);
        let mut list = TopicPartitionList::new();
        list.add_partition(self.topic.name(), partition as i32);
        let list = self.topic.consumer.committed_offsets(list, self.topic.config.patience).map_err(|e| classify(&e, &what))?;
        match list.find_partition(self.topic.name(), partition as i32).map(|p| p.offset()) {
            Some(Offset::Offset(offset)) => Ok(Some(offset)),
            _ => Ok(None),
        }
    }

    fn commit(&self, positions: &[(u32, i64)]) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        let what = format!("commit of offsets of topic '{}' in group '{}'", self.topic.name(), self.topic.config.group);
        let mut list = TopicPartitionList::new();
        for (partition, offset) in positions {
            list.add_partition_offset(self.topic.name(), *partition as i32, Offset::Offset(*offset))
                .map_err(|e| classify(&e, &what))?;
        }
        self.topic.consumer.commit(&list, CommitMode::Sync).map_err(|e| classify(&e, &what))
    }

    fn bad_records(&self) -> OnBadRecord {
        self.topic.config.bad_records
    }
}

/// One partition's reader.
struct Reader {
    topic: Arc<Topic>,
    queue: PartitionQueue<Callbacks>,
    decoder: Decoder,
    partition: u32,
    /// The position: all before it was pushed into the decoder.
    next: i64,
    stop: Option<i64>,
    /// The newest record's time since the last fetch was given.
    newest: Option<Micros>,
    ended: bool,
    assigned: bool,
}

/// What a look into the queue found.
enum Found {
    Record,
    /// Nothing now.
    Nothing,
    /// The stop offset, or the end of the partition in a bounded read.
    End,
    /// The position is gone from the topic.
    Gone,
}

impl Reader {
    fn assign(&mut self) -> Result<()> {
        let place = self.topic.place(self.partition, self.next)?;
        let assigned = self.topic.consumer.incremental_assign(&place);
        assigned.map_err(|e| classify(&e, &format!("assignment of {}", self.topic.at(self.partition))))?;
        self.assigned = true;
        Ok(())
    }

    fn unassign(&mut self) -> Result<()> {
        self.assigned = false;
        let place = self.topic.place(self.partition, self.next)?;
        let unassigned = self.topic.consumer.incremental_unassign(&place);
        unassigned.map_err(|e| classify(&e, &format!("assignment of {}", self.topic.at(self.partition))))
    }

    /// Serves what concerns all partitions: statistics, and trouble with the brokers.
    fn serve(&self) -> Result<()> {
        while let Some(event) = self.topic.consumer.poll(Duration::ZERO) {
            match event {
                Ok(record) => {
                    let at = format!("{} of topic '{}'", record.partition(), record.topic());
                    return Err(Error::permanent(format!("a record of partition {at} came by the wrong queue")));
                }
                Err(error) if error.rdkafka_error_code() == Some(Code::AllBrokersDown) => {
                    let what = format!("Kafka at {}{}", self.topic.config.brokers, self.topic.consumer.context().because());
                    return Err(classify(&error, &what));
                }
                Err(error) => {
                    let error = classify(&error, &format!("topic '{}'", self.topic.name()));
                    if !error.is_transient() {
                        return Err(error);
                    }
                    tracing::debug!(%error, "kafka");
                }
            }
        }
        Ok(())
    }

    fn look(&mut self, wait: Duration) -> Result<Found> {
        let record = match self.queue.poll(wait) {
            None => return Ok(Found::Nothing),
            Some(Ok(record)) => record,
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(if self.stop.is_some() { Found::End } else { Found::Nothing }),
            Some(Err(error)) => {
                return match error.rdkafka_error_code() {
                    Some(Code::OffsetOutOfRange | Code::AutoOffsetReset) => Ok(Found::Gone),
                    _ => Err(classify(&error, &format!("reading {}", self.topic.at(self.partition)))),
                };
            }
        };
        if self.stop.is_some_and(|stop| record.offset() >= stop) {
            return Ok(Found::End);
        }
        self.next = record.offset() + 1;
        let time = record.timestamp().to_millis().map(|millis| millis.saturating_mul(1000));
        self.newest = self.newest.max(time);
        push(&mut self.decoder, &record, time)?;
        Ok(Found::Record)
    }

    /// Takes records until the limit, or there are none; whether the read is over.
    fn gather(&mut self, limit: Limit) -> Result<bool> {
        let mut wait = FIRST_RECORD;
        while self.decoder.len() < limit.rows && self.decoder.bytes() < limit.bytes {
            match self.look(wait)? {
                Found::Record => wait = Duration::ZERO,
                Found::Nothing => return Ok(false),
                Found::End => return Ok(true),
                Found::Gone => {
                    let next = self.topic.existing(self.partition, self.next)?;
                    self.unassign()?;
                    self.next = next;
                    self.assign()?;
                    return Ok(false);
                }
            }
        }
        Ok(false)
    }
}

fn push(decoder: &mut Decoder, record: &BorrowedMessage<'_>, timestamp: Option<Micros>) -> Result<()> {
    let headers: Vec<Header<'_>> = match record.headers() {
        Some(headers) if decoder.wants_headers() => headers.iter().map(|h| (h.key, h.value)).collect(),
        _ => Vec::new(),
    };
    let (key, payload) = (record.key(), record.payload());
    decoder.push(&RawRecord { offset: record.offset(), timestamp, key, payload, headers: &headers })
}

impl PartitionReader for Reader {
    fn poll(&mut self, limit: Limit, clock: Micros) -> Result<Poll> {
        if self.ended {
            return Ok(Poll::End);
        }
        let gathered = self.serve().and_then(|()| self.gather(limit));
        match gathered {
            // What came before the trouble goes out first; the trouble will be there again.
            Err(error) if self.decoder.is_empty() || !error.is_transient() => return Err(error),
            Ok(true) => {
                self.ended = true;
                self.next = self.stop.unwrap_or(self.next).max(self.next);
                self.unassign()?;
            }
            _ => {}
        }
        if self.decoder.is_empty() {
            return Ok(if self.ended { Poll::End } else { Poll::Pending });
        }
        let mut fetch = self.decoder.finish(self.next)?.into_fetch(clock)?;
        fetch.newest_record_time = fetch.newest_record_time.max(self.newest.take());
        Ok(Poll::Ready(fetch))
    }

    fn lag(&self) -> Option<u64> {
        let end = *lock(&self.topic.consumer.context().ends).get(&(self.partition as i32))?;
        Some((end.min(self.stop.unwrap_or(end)) - self.next).max(0).unsigned_abs())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.assigned
            && let Err(error) = self.unassign()
        {
            tracing::debug!(%error, "kafka");
        }
    }
}
