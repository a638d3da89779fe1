//! Topics as a source. One consumer for all partitions, a queue for each.
//!
//! Invariants: partitions are assigned here, never by a group, and their number is fixed for a run. Partitions are numbered
//! through, topic by topic; those of equal number in different topics hold equal keys, and belong to one task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::Offset;
use riverrun_engine::connect::Context;
use riverrun_engine::source::{OnBadRecord, Part, PartitionReader, Source, Start};
use riverrun_engine::table::Table;
use riverrun_engine::time::{Clock, Micros, Stopwatch, SystemClock};
use riverrun_engine::{Error, Result};

use super::client::{Callbacks, Seen, classify, lock, remind};
use super::config::{Config, Topics};
use super::reader::{Intake, Reader};
use super::repartition::Incoming;
use super::topic;
use crate::format::Decoding;

/// How long to wait before a question is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// What readers of one source share.
pub(super) struct Cluster {
    pub config: Config,
    pub consumer: Arc<BaseConsumer<Callbacks>>,
    /// Whether it was told that the brokers are away.
    away: AtomicBool,
}

/// One partition of one topic.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub topic: Arc<str>,
    pub partition: u32,
}

impl Place {
    pub fn at(&self) -> String {
        format!("partition {} of topic '{}'", self.partition, self.topic)
    }

    pub fn list(&self, offset: i64) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        let added = list.add_partition_offset(&self.topic, self.partition as i32, Offset::Offset(offset));
        added.map_err(|e| classify(&e, &self.at()))?;
        Ok(list)
    }

    fn offset_in(&self, list: &TopicPartitionList) -> Option<i64> {
        match list.find_partition(&self.topic, self.partition as i32).map(|p| p.offset()) {
            Some(Offset::Offset(offset)) => Some(offset),
            _ => None,
        }
    }
}

impl Cluster {
    /// Asks until there is an answer, for as long as `patience`: a cluster that has just started, or whose leaders move, at
    /// first answers that it can't tell.
    fn ask<T>(&self, what: &str, question: impl Fn(Duration) -> KafkaResult<T>) -> Result<T> {
        let stopwatch = Stopwatch::start();
        loop {
            let left = self.config.patience.saturating_sub(Duration::from_nanos(stopwatch.nanos()));
            match question(left.max(AGAIN)).map_err(|e| classify(&e, what)) {
                Err(error) if error.is_transient() && left > AGAIN => SystemClock.sleep(AGAIN),
                answer => return answer,
            }
        }
    }

    /// The first offset that is still there, and the one behind the last record that may be read.
    fn bounds(&self, place: &Place) -> Result<(i64, i64)> {
        let what = format!("offsets of {} from {}", place.at(), self.config.brokers);
        self.ask(&what, |patience| self.consumer.fetch_watermarks(&place.topic, place.partition as i32, patience))
    }

    /// What `offset` means now: itself, or, where it is gone and that may be, the first one that is there.
    pub fn existing(&self, place: &Place, offset: i64) -> Result<i64> {
        let (first, end) = self.bounds(place)?;
        let at = place.at();
        if offset > end {
            let message = format!("{at} ends at offset {end}, before {offset}: it was created anew, or lost records");
            return Err(Error::permanent(message).hint("start under another pipeline.name, or remove what this one kept"));
        }
        if offset >= first {
            return Ok(offset);
        }
        let lost = format!("{at}: offsets {offset} to {} are gone before they were read", first - 1);
        if self.config.is_repartition {
            // An instance that was away for long still reads for a task that others have taken and read on for: it hears of that.
            return Err(Error::transient(lost)
                .hint("another instance has the task; if none has, somebody removed records: SET another pipeline.name"));
        }
        if self.config.fail_on_data_loss {
            return Err(Error::permanent(format!("{lost}; the first one that is there is {first}"))
                .hint("keep records longer (the topic's retention); fail_on_data_loss = 'false' goes on with what is there"));
        }
        tracing::warn!("{lost}: {} lost; going on at {first}", first - offset);
        Ok(first)
    }

    fn offset_at(&self, place: &Place, time: Micros) -> Result<i64> {
        // Milliseconds, rounded up: nothing before that time.
        let asked = place.list(time.div_euclid(1000) + i64::from(time.rem_euclid(1000) > 0))?;
        let what = format!("offset of a time in {}", place.at());
        let found = self.ask(&what, |patience| self.consumer.offsets_for_times(asked.clone(), patience))?;
        match place.offset_in(&found) {
            Some(offset) => Ok(offset),
            None => Ok(self.bounds(place)?.1),
        }
    }

    /// Tells once that the brokers are away, and once that they are back: librdkafka goes on trying by itself, and says so
    /// again and again, to whichever reader asks.
    pub fn tell_away(&self) {
        let callbacks = self.consumer.context();
        let topics = &self.config.topics;
        if callbacks.forgotten.swap(false, Relaxed) {
            remind(self.consumer.client(), &self.config.brokers);
        }
        if callbacks.down.swap(false, Relaxed) && !self.away.swap(true, Relaxed) {
            let because = callbacks.because();
            tracing::warn!(
                "{topics}: Kafka at {} cannot be reached{because}; reading goes on when it is back",
                self.config.brokers
            );
        }
        if self.away.load(Relaxed) && callbacks.up.load(Relaxed) && self.away.swap(false, Relaxed) {
            tracing::info!("{topics}: works again");
        }
    }

    /// A topic got partitions since the run began: stops the run, or tells it once.
    pub fn tell_growth(&self) -> Result<()> {
        let mut topics = lock(&self.consumer.context().topics);
        for (name, seen) in topics.iter_mut().filter(|(_, seen)| seen.partitions > seen.expected) {
            let (before, now) = (seen.expected, seen.partitions);
            seen.expected = now;
            let what = format!("topic '{name}' has {now} partitions, and had {before} when this run began");
            let why = "their number is fixed for a run: new ones are not read, and keys have moved between partitions";
            if self.config.fail_on_data_loss {
                let hint = "start it again: a pipeline that is one task reads the new partitions from their start; with a task \
                            for each partition the state no longer fits, so SET another pipeline.name and say from where with \
                            starting_offsets. With fail_on_data_loss = 'false' a run goes on without the new partitions";
                return Err(Error::permanent(format!("{what}: {why}")).hint(hint));
            }
            tracing::warn!("{what}: {why}; going on without them (fail_on_data_loss = 'false')");
        }
        Ok(())
    }
}

/// Topics as a source.
pub(super) struct KafkaSource {
    cluster: Arc<Cluster>,
    table: Table,
    decoding: Decoding,
    places: Vec<Place>,
}

impl KafkaSource {
    /// Finds the topics.
    pub fn connect(config: Config, table: &Table, context: &Context) -> Result<Self> {
        config.check()?;
        let decoding = Decoding::of(table, context)?;
        let consumer = topic::asker(&config)?;
        let found = topic::resolve(&consumer, &config)?;
        if let Some((other, count)) = found.iter().find(|(_, count)| *count != found[0].1)
            && !table.partitioned_by.is_empty()
        {
            let what = format!("topic '{}' has {} partitions and topic '{other}' has {count}", found[0].0, found[0].1);
            let hint = "equal keys must stand in partitions of equal number; without PARTITIONED BY one task reads all of them";
            return Err(Error::permanent(format!("{what}: PARTITIONED BY does not hold over both")).hint(hint));
        }
        let mut places = Vec::new();
        for (name, count) in &found {
            let seen = Seen { expected: *count, partitions: *count, ..Seen::default() };
            lock(&consumer.context().topics).insert(name.clone(), seen);
            let topic: Arc<str> = name.as_str().into();
            places.extend((0..*count).map(|partition| Place { topic: Arc::clone(&topic), partition }));
        }
        if config.topics.one().is_none() {
            let topics: Vec<_> = found.iter().map(|(name, count)| format!("{name} ({count} partitions)")).collect();
            tracing::info!("table {}: {}", table.name, topics.join(", "));
        }
        Ok(Self {
            table: table.clone(),
            decoding,
            places,
            cluster: Arc::new(Cluster { config, consumer: Arc::new(consumer), away: AtomicBool::new(false) }),
        })
    }

    fn place(&self, partition: u32) -> Result<&Place> {
        let place = self.places.get(partition as usize);
        place.ok_or_else(|| Error::permanent(format!("{} has no partition {partition}", self.cluster.config.topics)))
    }
}

impl Source for KafkaSource {
    fn partitions(&self) -> Result<u32> {
        Ok(self.places.len() as u32)
    }

    fn part(&self, partition: u32) -> Option<Part> {
        if matches!(&self.cluster.config.topics, Topics::Named(names) if names.len() == 1) {
            return None;
        }
        self.places.get(partition as usize).map(|place| Part { topic: place.topic.to_string(), partition: place.partition })
    }

    fn start(&self, partition: u32) -> Start {
        let place = self.places.get(partition as usize);
        place.map_or(Start::Earliest, |place| self.cluster.config.start.of(&place.topic, place.partition))
    }

    fn resolve(&self, partition: u32, start: Start) -> Result<i64> {
        let place = self.place(partition)?;
        match start {
            Start::Earliest => Ok(self.cluster.bounds(place)?.0),
            Start::Latest => Ok(self.cluster.bounds(place)?.1),
            Start::Offset(offset) => self.cluster.existing(place, offset),
            Start::Time(time) => self.cluster.offset_at(place, time),
        }
    }

    fn end_offset(&self, partition: u32) -> Result<Option<i64>> {
        Ok(Some(self.cluster.bounds(self.place(partition)?)?.1))
    }

    fn open(&self, partition: u32, offset: i64, stop: Option<i64>) -> Result<Box<dyn PartitionReader>> {
        let place = self.place(partition)?.clone();
        let intake = match self.cluster.config.is_repartition {
            true => Intake::Raw(Incoming::new(&self.table)),
            false => Intake::Decoded(Box::new(self.decoding.decoder(&self.table, &place.topic, place.partition)?)),
        };
        Ok(Box::new(Reader::open(&self.cluster, intake, place, (offset, stop))?))
    }

    fn committed(&self, partition: u32) -> Result<Option<i64>> {
        // What an earlier life left in a repartition topic is not this one's.
        if self.cluster.config.is_repartition {
            return Ok(None);
        }
        let place = self.place(partition)?;
        let what = format!("committed offset of {} in group '{}'", place.at(), self.cluster.config.group);
        let mut list = TopicPartitionList::new();
        list.add_partition(&place.topic, place.partition as i32);
        let list = self.cluster.ask(&what, |patience| self.cluster.consumer.committed_offsets(list.clone(), patience))?;
        Ok(place.offset_in(&list))
    }

    fn commit(&self, positions: &[(u32, i64)]) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        let what = format!("commit of offsets of {} in group '{}'", self.cluster.config.topics, self.cluster.config.group);
        let mut list = TopicPartitionList::new();
        for (partition, offset) in positions {
            let place = self.place(*partition)?;
            let added = list.add_partition_offset(&place.topic, place.partition as i32, Offset::Offset(*offset));
            added.map_err(|e| classify(&e, &what))?;
        }
        self.cluster.consumer.commit(&list, CommitMode::Sync).map_err(|e| classify(&e, &what))
    }

    fn bad_records(&self) -> OnBadRecord {
        self.cluster.config.bad_records
    }
}
