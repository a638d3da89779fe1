//! Bad records of topics, given to them again: records and marks in one transaction.
//!
//! Invariant: whoever gives has taken over the transactional id, and reads the marks after that: what an earlier one gave is
//! marked by then, and what it did not commit will never be. Marks are records of a compacted topic of one partition, a key for
//! each record that was given.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::topic_partition_list::Offset;
use riverrun_engine::connect::Context;
use riverrun_engine::dead_letter::DeadLetter;
use riverrun_engine::table::Table;
use riverrun_engine::time::Stopwatch;
use riverrun_engine::{Error, Result, failpoint};

use super::client::{Callbacks, classify};
use super::config::Config;
use super::journal::Transactions;
use super::topic;
use crate::redelivery::{Redelivery, headers};

/// How long one wait for a record lasts.
const WAIT: Duration = Duration::from_millis(20);

/// How often a commit is asked for again before it is left open whether it happened.
const COMMITS: u32 = 6;

/// Topics of a table, and the marks of what was given to them again.
pub(super) struct KafkaRedelivery {
    table: String,
    config: Config,
    client: BaseConsumer<Callbacks>,
    transactions: Transactions,
    /// The topic of the marks.
    marks: String,
    /// Partitions of the topics that were asked for.
    partitions: BTreeMap<String, u32>,
}

impl KafkaRedelivery {
    /// Changes nothing yet.
    pub fn connect(table: &Table, context: &Context) -> Result<Self> {
        let config = Config::of(table, &context.pipeline)?;
        config.check()?;
        let marks = format!("riverrun-{}-replayed", context.pipeline);
        let client = topic::asker(&config)?;
        let transactions = Transactions::new(&config, &format!("riverrun-{}-replay", context.pipeline), &marks)?;
        Ok(Self { table: table.name.clone(), config, client, transactions, marks, partitions: BTreeMap::new() })
    }

    /// Where a record is given again.
    fn place(&mut self, letter: &DeadLetter) -> Result<(String, i32)> {
        let topic = letter.topic(&self.table).or_else(|| self.config.topics.one());
        let Some(topic) = topic.map(str::to_owned) else {
            return Err(Error::permanent(format!("dead letter {} does not say its topic", letter.place())));
        };
        if !self.partitions.contains_key(&topic) {
            let count = topic::partitions(&self.client, &self.config, &topic)?;
            self.partitions.insert(topic.clone(), count.unwrap_or(0));
        }
        let count = self.partitions.get(&topic).copied().unwrap_or(0);
        if letter.partition >= count {
            let what = format!("dead letter {}: topic '{topic}' has {count} partitions now", letter.place());
            return Err(Error::permanent(what).hint("--out FILE writes the records to a file; or leave them out with --source"));
        }
        Ok((topic, letter.partition as i32))
    }

    fn send(&mut self, letter: &DeadLetter) -> Result<()> {
        let (topic, partition) = self.place(letter)?;
        let headers = headers(letter)
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() }));
        self.transactions.send(BaseRecord {
            topic: &topic,
            partition: Some(partition),
            payload: letter.payload.as_deref(),
            key: letter.key.as_deref(),
            timestamp: letter.record_time.map(|time| time.div_euclid(1000)),
            headers: Some(headers),
            delivery_opaque: (),
        })?;
        let (id, marks) = (letter.id(), self.marks.clone());
        let mark = BaseRecord::<[u8], [u8]>::to(&marks).partition(0).key(id.as_bytes()).payload(b"{}");
        self.transactions.send(mark)
    }

    fn commit(&mut self, records: usize) -> Result<()> {
        let mut asked = 1;
        loop {
            match self.transactions.commit() {
                Ok(_) => return Ok(()),
                Err(error) if self.transactions.is_committing() && asked < COMMITS => {
                    tracing::warn!(%error, "the commit of {records} records is asked for again");
                    asked += 1;
                }
                Err(error) => {
                    let what = format!("it is not known whether the last {records} records were given: {}", error.message());
                    return Err(Error::transient(what).hint("run it again: what was given is marked, and is not given twice"));
                }
            }
        }
    }
}

impl Redelivery for KafkaRedelivery {
    fn take_over(&mut self) -> Result<()> {
        if topic::partitions(&self.client, &self.config, &self.marks)?.is_none() {
            topic::create(&self.config, &self.marks, 1, &[("cleanup.policy", "compact".to_owned())])?;
        }
        self.transactions.init()
    }

    fn given(&mut self) -> Result<HashSet<String>> {
        if topic::partitions(&self.client, &self.config, &self.marks)?.is_none() {
            return Ok(HashSet::new());
        }
        let what = format!("reading topic '{}' at {}", self.marks, self.config.brokers);
        let failed = |e: &KafkaError| classify(e, &what);
        let created = self.config.consumer().set("isolation.level", "read_committed").create_with_context(Callbacks::default());
        let consumer: BaseConsumer<Callbacks> = created.map_err(|e| failed(&e))?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.marks, 0, Offset::Beginning).map_err(|e| failed(&e))?;
        consumer.assign(&list).map_err(|e| failed(&e))?;
        let (mut given, mut stopwatch) = (HashSet::new(), Stopwatch::start());
        loop {
            match consumer.poll(WAIT) {
                Some(Ok(mark)) => {
                    stopwatch = Stopwatch::start();
                    given.insert(String::from_utf8_lossy(mark.key().unwrap_or_default()).into_owned());
                }
                // All transactions before were decided when this one took over their id.
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(given),
                Some(Err(error)) if !failed(&error).is_transient() => return Err(failed(&error)),
                Some(Err(_)) | None if Duration::from_nanos(stopwatch.nanos()) > self.config.patience => {
                    return Err(Error::transient(format!("{what}: no answer{}", consumer.context().because())));
                }
                Some(Err(_)) | None => {}
            }
        }
    }

    fn give(&mut self, letters: &[DeadLetter]) -> Result<()> {
        self.transactions.begin()?;
        for letter in letters {
            self.send(letter)?;
        }
        self.transactions.delivered()?;
        failpoint::reach("replay.before-commit");
        self.commit(letters.len())?;
        failpoint::reach("replay.after-commit");
        Ok(())
    }
}
