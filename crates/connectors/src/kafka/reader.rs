//! Reads one partition of a topic.
//!
//! Invariants: a partition's queue is split off before it is assigned, so no record takes another way. A bounded read ends on
//! a record at or past the stop offset or at the partition's end, since offsets have gaps (transactions, compaction).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use riverrun_engine::source::{Limit, PartitionReader, Poll};
use riverrun_engine::table::Table;
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

use super::client::{Callbacks, classify, lock};
use super::source::{Cluster, Place};
use crate::format::{Decoder, Header, RawRecord};

/// One partition's reader.
pub(super) struct Reader {
    cluster: Arc<Cluster>,
    queue: PartitionQueue<Callbacks>,
    decoder: Decoder,
    place: Place,
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
    /// Reads from an offset on, until a stop offset if there is one.
    pub fn open(cluster: &Arc<Cluster>, table: &Table, place: Place, (next, stop): (i64, Option<i64>)) -> Result<Self> {
        let queue = cluster.consumer.split_partition_queue(&place.topic, place.partition as i32);
        let mut reader = Self {
            decoder: Decoder::new(table, &place.topic, place.partition)?,
            queue: queue.ok_or_else(|| Error::permanent(format!("{} has no queue", place.at())))?,
            cluster: Arc::clone(cluster),
            place,
            next,
            stop,
            newest: None,
            ended: stop.is_some_and(|stop| next >= stop),
            assigned: false,
        };
        if !reader.ended {
            reader.assign()?;
        }
        Ok(reader)
    }

    fn assign(&mut self) -> Result<()> {
        let assigned = self.cluster.consumer.incremental_assign(&self.place.list(self.next)?);
        assigned.map_err(|e| classify(&e, &format!("assignment of {}", self.place.at())))?;
        self.assigned = true;
        Ok(())
    }

    fn unassign(&mut self) -> Result<()> {
        self.assigned = false;
        let unassigned = self.cluster.consumer.incremental_unassign(&self.place.list(self.next)?);
        unassigned.map_err(|e| classify(&e, &format!("assignment of {}", self.place.at())))
    }

    /// Serves what concerns all partitions: statistics, and trouble with the brokers.
    fn serve(&self) -> Result<()> {
        let config = &self.cluster.config;
        while let Some(event) = self.cluster.consumer.poll(Duration::ZERO) {
            match event {
                Ok(record) => {
                    let at = format!("{} of topic '{}'", record.partition(), record.topic());
                    return Err(Error::permanent(format!("a record of partition {at} came by the wrong queue")));
                }
                // Told below.
                Err(error) if error.rdkafka_error_code() == Some(Code::AllBrokersDown) => {}
                Err(error) => {
                    let because = self.cluster.consumer.context().because();
                    let error = classify(&error, &format!("{}{because}", config.topics));
                    if !error.is_transient() {
                        return Err(error);
                    }
                    tracing::debug!(%error, "kafka");
                }
            }
        }
        self.cluster.tell_away();
        match self.cluster.consumer.context().grown.swap(false, Relaxed) {
            true => self.cluster.tell_growth(),
            false => Ok(()),
        }
    }

    fn look(&mut self) -> Result<Found> {
        let record = match self.queue.poll(Duration::ZERO) {
            None => return Ok(Found::Nothing),
            Some(Ok(record)) => record,
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(if self.stop.is_some() { Found::End } else { Found::Nothing }),
            Some(Err(error)) => {
                return match error.rdkafka_error_code() {
                    Some(Code::OffsetOutOfRange | Code::AutoOffsetReset) => Ok(Found::Gone),
                    _ => Err(classify(&error, &format!("reading {}", self.place.at()))),
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
        while self.decoder.len() < limit.rows && self.decoder.bytes() < limit.bytes {
            match self.look()? {
                Found::Record => {}
                Found::Nothing => return Ok(false),
                Found::End => return Ok(true),
                Found::Gone => {
                    let next = self.cluster.existing(&self.place, self.next)?;
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
    let headers: Vec<Header<'_>> = match decoder.wants_headers().then(|| record.headers()).flatten() {
        Some(headers) => headers.iter().map(|h| (h.key, h.value)).collect(),
        None => Vec::new(),
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
        let topics = lock(&self.cluster.consumer.context().topics);
        let end = *topics.get(&*self.place.topic)?.ends.get(&(self.place.partition as i32))?;
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
