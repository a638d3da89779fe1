//! Reads one partition of a topic.
//!
//! Invariants: a partition's queue is split off before it is assigned, so no record takes another way. A bounded read ends on
//! a record at or past the stop offset or at the partition's end, since offsets have gaps (transactions, compaction). A poll
//! up to an offset ends on a record at or past it, which is kept for the next one, or on an end of the partition that is
//! known to be there: an end may also be that of a replica which lags behind.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Headers, Message, OwnedMessage};
use riverrun_engine::source::{Limit, PartitionReader, Poll};
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

use super::client::{Callbacks, classify, lock};
use super::repartition::Incoming;
use super::source::{Cluster, Place};
use crate::format::{Decoder, Header, RawRecord};

/// One partition's reader.
pub(super) struct Reader {
    cluster: Arc<Cluster>,
    queue: PartitionQueue<Callbacks>,
    intake: Intake,
    place: Place,
    /// The position: all before it was taken in.
    next: i64,
    /// A record that stands at or past the end of a poll, or whose schema is not known yet.
    held: Option<OwnedMessage>,
    /// Whether an end of the partition came since it was assigned.
    saw_end: bool,
    stop: Option<i64>,
    /// The newest record's time since the last fetch was given.
    newest: Option<Micros>,
    ended: bool,
    assigned: bool,
}

/// What records become.
pub(super) enum Intake {
    /// Rows of the table.
    Decoded(Box<Decoder>),
    /// Records of a repartition topic.
    Raw(Incoming),
}

impl Intake {
    /// Whether a record with this payload can be taken now.
    fn ready(&mut self, payload: Option<&[u8]>) -> Result<bool> {
        match self {
            Self::Decoded(decoder) => decoder.ready(payload),
            Self::Raw(_) => Ok(true),
        }
    }

    /// Records that were taken since the last fetch.
    fn len(&self) -> usize {
        match self {
            Self::Decoded(decoder) => decoder.len(),
            Self::Raw(records) => records.len(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Decoded(decoder) => decoder.bytes(),
            Self::Raw(records) => records.bytes(),
        }
    }
}

/// What a look into the queue found.
enum Found {
    Record,
    /// Nothing now.
    Nothing,
    /// A record whose schema is on its way.
    Waiting,
    /// All before the offset that ends the poll.
    Until,
    /// The stop offset, or the end of the partition in a bounded read.
    End,
    /// The position is gone from the topic.
    Gone,
}

impl Reader {
    /// Reads from an offset on, until a stop offset if there is one.
    pub fn open(cluster: &Arc<Cluster>, intake: Intake, place: Place, (next, stop): (i64, Option<i64>)) -> Result<Self> {
        let queue = cluster.consumer.split_partition_queue(&place.topic, place.partition as i32);
        let mut reader = Self {
            intake,
            queue: queue.ok_or_else(|| Error::permanent(format!("{} has no queue", place.at())))?,
            cluster: Arc::clone(cluster),
            place,
            next,
            held: None,
            saw_end: false,
            stop,
            newest: None,
            ended: stop.is_some_and(|stop| next >= stop),
            assigned: false,
        };
        if !reader.ended {
            reader.assign(next)?;
        }
        Ok(reader)
    }

    fn assign(&mut self, offset: i64) -> Result<()> {
        let assigned = self.cluster.consumer.incremental_assign(&self.place.list(offset)?);
        assigned.map_err(|e| classify(&e, &format!("assignment of {}", self.place.at())))?;
        self.assigned = true;
        self.saw_end = false;
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

    /// The end that the partition was last told to have.
    fn told_end(&self) -> Option<i64> {
        let topics = lock(&self.cluster.consumer.context().topics);
        topics.get(&*self.place.topic)?.told_ends.get(&(self.place.partition as i32)).copied()
    }

    fn look(&mut self, until: i64) -> Result<Found> {
        if let Some(held) = &self.held {
            if held.offset() >= until {
                return Ok(Found::Until);
            }
            if !self.intake.ready(held.payload())? {
                return Ok(Found::Waiting);
            }
            take(&mut self.intake, &mut self.newest, held)?;
            self.next = held.offset() + 1;
            self.held = None;
            return Ok(Found::Record);
        }
        let record = match self.queue.poll(Duration::ZERO) {
            None => return Ok(Found::Nothing),
            Some(Ok(record)) => record,
            Some(Err(KafkaError::PartitionEOF(_))) => {
                self.saw_end = true;
                if until < i64::MAX {
                    // What was read before is not there any more if the partition ends before it.
                    self.cluster.existing(&self.place, until)?;
                }
                return Ok(if self.stop.is_some() { Found::End } else { Found::Nothing });
            }
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
        if record.offset() >= until {
            self.held = Some(record.detach());
            return Ok(Found::Until);
        }
        match self.intake.ready(record.payload()) {
            Ok(true) => {}
            not_yet => {
                self.held = Some(record.detach());
                return not_yet.map(|_| Found::Waiting);
            }
        }
        self.next = record.offset() + 1;
        take(&mut self.intake, &mut self.newest, &record)?;
        Ok(Found::Record)
    }

    /// Takes records until the limit, or there are none; whether the read is over.
    fn gather(&mut self, limit: Limit) -> Result<bool> {
        // Looked up before the queue: what comes before this end is in the queue by now.
        let told_end = if limit.until < i64::MAX { self.told_end() } else { None };
        while self.next < limit.until && self.intake.len() < limit.rows && self.intake.bytes() < limit.bytes {
            match self.look(limit.until)? {
                Found::Record => {}
                Found::Nothing if self.saw_end && told_end.is_some_and(|end| end >= limit.until) => self.next = limit.until,
                Found::Until => self.next = limit.until,
                Found::Nothing | Found::Waiting => return Ok(false),
                Found::End => return Ok(true),
                Found::Gone => {
                    let next = self.cluster.existing(&self.place, self.next)?;
                    self.unassign()?;
                    self.next = next.min(limit.until);
                    self.assign(next)?;
                    return Ok(false);
                }
            }
        }
        Ok(false)
    }
}

fn take(intake: &mut Intake, newest: &mut Option<Micros>, record: &impl Message) -> Result<()> {
    let timestamp = record.timestamp().to_millis().map(|millis| millis.saturating_mul(1000));
    *newest = (*newest).max(timestamp);
    let decoder = match intake {
        Intake::Decoded(decoder) => decoder,
        Intake::Raw(records) => {
            records.push(record.payload().unwrap_or_default());
            return Ok(());
        }
    };
    let headers = decoder.wants_headers().then(|| record.headers()).flatten();
    let headers: Vec<Header<'_>> = headers.map_or_else(Vec::new, |headers| headers.iter().map(|h| (h.key, h.value)).collect());
    let (key, payload) = (record.key(), record.payload());
    decoder.push(&RawRecord { offset: record.offset(), timestamp, key, payload, headers: &headers })
}

impl PartitionReader for Reader {
    fn poll(&mut self, limit: Limit, clock: Micros) -> Result<Poll> {
        let before = self.next;
        if !self.ended {
            match self.serve().and_then(|()| self.gather(limit)) {
                // What came before the trouble goes out first; the trouble will be there again.
                Err(error) if self.intake.len() == 0 || !error.is_transient() => return Err(error),
                Ok(true) => {
                    self.ended = true;
                    self.unassign()?;
                }
                _ => {}
            }
        }
        if self.ended {
            self.next = self.stop.unwrap_or(self.next).min(limit.until).max(self.next);
        }
        // The end of a range is told also where there is no record before it.
        let passed = limit.until < i64::MAX && self.next > before;
        if self.intake.len() == 0 && !passed {
            return Ok(if self.ended { Poll::End } else { Poll::Pending });
        }
        let newest = self.newest.take();
        Ok(Poll::Ready(match &mut self.intake {
            Intake::Raw(records) => records.fetch(self.next, newest)?,
            Intake::Decoded(decoder) => {
                let mut fetch = decoder.finish(self.next)?.into_fetch(clock)?;
                fetch.newest_record_time = fetch.newest_record_time.max(newest);
                fetch
            }
        }))
    }

    fn holds(&self) -> bool {
        self.held.is_some()
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
