//! The journal on Kafka: a pipeline's records and the rows of all its sinks on Kafka, committed in one transaction.
//!
//! One transactional producer a pipeline, and an internal topic with its records ([`entries`]). A run takes both over: the
//! producer's id fences an earlier run's producer, and the run's name goes into the topic. So a producer that died can tell
//! why: if another run's name stands there it was fenced, and the pipeline stops; if its own does, the brokers gave up a
//! transaction that was open for too long, as they do when they could not be reached, and a new producer goes on.
//!
//! Invariants: an epoch is sent again only when it is known that it was not committed, if need be by looking into the topic;
//! nobody who was fenced writes anything that is ever read.

mod bus;
mod entries;
mod read;
mod reports;
mod topic;
mod transaction;

pub(super) use bus::Bus;

use rdkafka::producer::BaseRecord;
use riverrun_engine::graph::NodeId;
use riverrun_engine::journal::{Epoch, Genesis, Journal, Recorded};
use riverrun_engine::sink::EpochOutput;
use riverrun_engine::{Error, Result, failpoint};

use self::entries::{EPOCH, Entries, GENESIS, OWNER, Offsets, partition_of};
use self::read::Reader;
use self::topic::JournalTopic;
use self::transaction::Transactions;
use super::config::Config;
use super::rows::Writer;
use super::topic::create_if_missing;

/// A pipeline's journal on Kafka.
pub(super) struct KafkaJournal {
    pipeline: String,
    /// Names this run.
    owner: String,
    config: Config,
    topic: JournalTopic,
    takes: Vec<NodeId>,
    writers: Vec<Writer>,
    /// Since it was taken over.
    transactions: Option<Transactions>,
    /// Whether the outcome of the last commit must be looked up before anything is sent.
    doubtful: bool,
    /// Where records stand, by task.
    offsets: Vec<Offsets>,
}

impl KafkaJournal {
    /// Finds the sinks' topics, or creates them.
    pub fn connect(bus: Bus) -> Result<Self> {
        let (mut takes, mut writers) = (Vec::new(), Vec::new());
        for (id, config, key) in bus.sinks {
            takes.push(id);
            writers.push(Writer::new(create_if_missing(&config)?, key));
        }
        let topic = JournalTopic::new(format!("riverrun-{}-journal", bus.pipeline), &bus.config)?;
        let (pipeline, owner, config) = (bus.pipeline, bus.owner, bus.config);
        let (transactions, doubtful, offsets) = (None, false, Vec::new());
        Ok(Self { pipeline, owner, config, topic, takes, writers, transactions, doubtful, offsets })
    }

    /// Makes this run the owner, whoever was. Gives how many partitions the topic has, if it is there.
    fn take_over(&mut self) -> Result<Option<i32>> {
        if self.transactions.as_ref().is_none_or(Transactions::is_dead) {
            let id = format!("riverrun-{}", self.pipeline);
            self.transactions = Some(Transactions::new(&self.config, &id, &self.topic.name)?);
        }
        let partitions = self.topic.find()?;
        let (name, owner) = (&self.topic.name, self.owner.as_bytes());
        let transactions = ready(&mut self.transactions)?;
        transactions.init()?;
        if partitions.is_some() {
            if !transactions.is_committing() {
                transactions.begin()?;
                transactions.send(entry(name, 0, OWNER, owner))?;
                transactions.delivered()?;
            }
            transactions.commit()?;
        }
        Ok(partitions)
    }

    /// Sees to it that a transaction can begin, or goes on to be committed. A new producer takes the place of one that died,
    /// unless another run has taken over.
    fn settle(&mut self) -> Result<()> {
        let transactions = ready(&mut self.transactions)?;
        if transactions.is_dead() {
            self.doubtful = true;
            let found = Reader::new(&self.config, &self.topic.name)?.read(0..1)?;
            if found.owner.as_ref().is_some_and(|owner| *owner != self.owner) {
                return Err(self.fenced());
            }
            tracing::warn!("pipeline '{}': the brokers gave up its transaction; going on with a new producer", self.pipeline);
            self.take_over()?;
        } else if !transactions.is_committing() {
            transactions.abort()?;
        }
        Ok(())
    }

    fn fenced(&self) -> Error {
        let what = format!("another run of pipeline '{}' has taken over its journal, topic '{}'", self.pipeline, self.topic.name);
        Error::permanent(what).hint("one run of a pipeline at a time; a pipeline of its own needs a pipeline.name of its own")
    }

    /// Everything in the topic.
    fn read(&mut self) -> Result<Entries> {
        match self.topic.find()? {
            Some(partitions) => Reader::new(&self.config, &self.topic.name)?.read(0..partitions),
            None => Ok(Entries::default()),
        }
    }

    /// If the last outcome is in doubt: what the topic says.
    fn decide(&mut self) -> Result<Option<Entries>> {
        if !self.doubtful {
            return Ok(None);
        }
        let found = self.read()?;
        self.doubtful = false;
        Ok(Some(found))
    }

    /// Commits what `send` sends. Gives where the topic's entries stand, in order of partition and offset.
    fn transact(&mut self, send: impl FnOnce(&mut Transactions, &str, &[Writer]) -> Result<()>) -> Result<Vec<(i32, i64)>> {
        let transactions = ready(&mut self.transactions)?;
        if !transactions.is_committing() {
            transactions.begin()?;
            send(transactions, &self.topic.name, &self.writers)?;
            transactions.delivered()?;
            failpoint::reach("kafka.sent");
        }
        let committed = transactions.commit();
        self.doubtful = committed.is_err() && !transactions.is_committing();
        let mut stands = committed?;
        stands.sort_unstable();
        Ok(stands)
    }

    fn index(&mut self, found: Entries) -> Result<Recorded> {
        let (recorded, offsets) = found.finish().map_err(|e| e.within(format!("topic '{}'", self.topic.name)))?;
        self.offsets = offsets;
        Ok(recorded)
    }

    fn remember(&mut self, epochs: &[Epoch], stands: &[(i32, i64)]) {
        for (task, offsets) in self.offsets.iter_mut().enumerate() {
            let partition = partition_of(task as u32);
            let epochs = epochs.iter().map(|e| &e.record).filter(|record| record.task as usize == task);
            let stands = stands.iter().filter(|(p, _)| *p == partition);
            epochs.zip(stands).for_each(|(record, (_, offset))| offsets.push(record.epoch, *offset));
        }
    }
}

impl Journal for KafkaJournal {
    fn takes(&self) -> &[NodeId] {
        &self.takes
    }

    fn recover(&mut self) -> Result<Recorded> {
        let taken = self.take_over();
        self.doubtful = false;
        match taken? {
            Some(_) => {
                let found = self.read()?;
                self.index(found)
            }
            None => Ok(Recorded::default()),
        }
    }

    fn begin(&mut self, genesis: &Genesis) -> Result<()> {
        self.topic.ensure(genesis.tasks)?;
        self.settle()?;
        let known = self.decide()?.is_some_and(|found| found.genesis.as_ref() == Some(genesis));
        if !known {
            let (owner, bytes) = (self.owner.clone(), genesis.encode()?);
            let stands = self.transact(|transactions, topic, _| {
                transactions.send(entry(topic, 0, OWNER, owner.as_bytes()))?;
                (0..=genesis.tasks as i32).try_for_each(|p| transactions.send(entry(topic, p, GENESIS, &bytes)))
            })?;
            // What was there of another life.
            let mut before = stands;
            before.dedup_by_key(|(partition, _)| *partition);
            self.topic.cut(&before);
        }
        self.offsets = vec![Offsets::default(); genesis.tasks as usize];
        Ok(())
    }

    fn commit(&mut self, epochs: &[Epoch]) -> Result<()> {
        let Some(first) = epochs.first() else { return Ok(()) };
        self.settle()?;
        if let Some(found) = self.decide()? {
            let known = found.has(first.record.task, first.record.epoch);
            self.index(found)?;
            if known {
                return Ok(());
            }
        }
        let stands = self.transact(|transactions, topic, writers| {
            for epoch in epochs {
                for (writer, output) in writers.iter().zip(&epoch.outputs) {
                    send_rows(transactions, writer, output)?;
                }
                let bytes = epoch.record.encode()?;
                transactions.send(entry(topic, partition_of(epoch.record.task), EPOCH, &bytes))?;
            }
            Ok(())
        })?;
        failpoint::reach("kafka.committed");
        self.remember(epochs, &stands);
        Ok(())
    }

    fn truncate(&mut self, task: u32, epoch: u64) -> Result<()> {
        if let Some(offset) = self.offsets.get_mut(task as usize).and_then(|offsets| offsets.take_to(epoch)) {
            self.topic.cut(&[(partition_of(task), offset + 1)]);
        }
        Ok(())
    }
}

fn ready(transactions: &mut Option<Transactions>) -> Result<&mut Transactions> {
    transactions.as_mut().ok_or_else(|| Error::permanent("a journal is taken over before it is written to"))
}

fn entry<'a>(topic: &'a str, partition: i32, key: &'a [u8], payload: &'a [u8]) -> BaseRecord<'a, [u8], [u8]> {
    BaseRecord::to(topic).partition(partition).key(key).payload(payload)
}

fn send_rows(transactions: &mut Transactions, writer: &Writer, output: &EpochOutput) -> Result<()> {
    let place = |e: Error| e.within(format!("task {}, epoch {}", output.task, output.epoch));
    for batch in &output.batches {
        let records = writer.records(batch).map_err(place)?;
        for row in 0..batch.rows.num_rows() {
            let (key, payload) = records.row(row);
            let record = BaseRecord { key, payload, ..BaseRecord::to(&writer.topic) };
            transactions.send(record).map_err(|e| place(e.within(records.place(row))))?;
        }
    }
    Ok(())
}
