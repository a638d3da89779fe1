//! The journal on Kafka: a pipeline's records, the rows of all its sinks on Kafka and the offsets of what was read, committed
//! in one transaction.
//!
//! One transactional producer an instance, and an internal topic with the records of all ([`entries`]). A run takes both over:
//! the producer's id fences an earlier run of the instance, and the run's name goes into the topic. So a producer that died can
//! tell why: if another run's name stands there it was fenced, and the pipeline stops; if its own does, the brokers gave up a
//! transaction that was open for too long, as they do when they could not be reached, and a new producer goes on. So it does
//! if a transaction does not come to an end: the new one's takeover ends it, one way or the other.
//!
//! Instances share the tasks as members of the sources' consumer group ([`members`]). Each transaction carries offsets for
//! every task that it journals, and what the group knows the instance by (KIP-447): once the group has given a task to another
//! instance, this one's commits of it are refused, or, if it was let in just before, the other one waits for its end.
//!
//! Invariants: an epoch is sent again only when it is known that it was not committed, if need be by looking into the topic;
//! nobody who was fenced writes anything that is ever read.

mod bus;
mod entries;
mod fence;
mod group;
mod members;
mod offsets;
mod orphans;
mod read;
mod rebalances;
mod reports;
#[cfg(test)]
mod tests;
mod topic;
mod transaction;

pub(super) use bus::Bus;
pub(super) use transaction::Transactions;

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::producer::BaseRecord;
use riverrun_engine::graph::NodeId;
use riverrun_engine::journal::{Epoch, Genesis, Journal, Recorded, Stop};
use riverrun_engine::membership::Membership;
use riverrun_engine::sink::EpochOutput;
use riverrun_engine::{Error, Result, failpoint};

use self::entries::{DEFAULT_INSTANCE, EPOCH, GENESIS, OWNER, Offsets, partition_of};
use self::fence::Fence;
use self::group::Group;
use self::members::Members;
use self::read::Reader;
use self::topic::OwnTopic;
use super::config::Config;
use super::rows::{Row, Writer};
use super::topic::create_if_missing;

/// An epoch that was sent.
struct Sent {
    task: u32,
    epoch: u64,
    /// Where it ended in repartition topics.
    inputs: Vec<Stop>,
}

/// A pipeline's journal on Kafka.
pub(super) struct KafkaJournal {
    pipeline: String,
    instance: String,
    /// Names this run.
    owner: String,
    config: Config,
    topic: OwnTopic,
    /// Repartition topics, by their places among the graph's sources.
    repartitions: BTreeMap<usize, OwnTopic>,
    takes: Vec<NodeId>,
    writers: Vec<Writer>,
    /// Where the sources are on Kafka.
    group: Option<Group>,
    fence: Arc<Fence>,
    /// Since it was taken over.
    transactions: Option<Transactions>,
    /// The epochs of the last transaction, until its outcome is known.
    sent: Vec<Sent>,
    /// Whether that must be looked up before anything is sent.
    doubtful: bool,
}

impl KafkaJournal {
    /// Finds the sinks' topics, or creates them.
    pub fn connect(bus: Bus) -> Result<Self> {
        let (mut takes, mut writers) = (Vec::new(), Vec::new());
        let repartitions = repartition_topics(&bus)?;
        for ((id, config, key), rows) in bus.sinks.into_iter().zip(bus.encoders) {
            takes.push(id);
            writers.push(match rows {
                Some(rows) => Writer::new(create_if_missing(&config)?, key, rows),
                None => Writer::ready(config.topics.one().unwrap_or_default().to_owned()),
            });
        }
        let topic = OwnTopic::new(format!("riverrun-{}-journal", bus.pipeline), &bus.config)?;
        let group = Group::find(&bus.sources)?;
        let Bus { pipeline, instance, owner, config, .. } = bus;
        let (fence, transactions, sent, doubtful) = (Arc::default(), None, Vec::new(), false);
        Ok(Self {
            pipeline,
            instance,
            owner,
            config,
            topic,
            repartitions,
            takes,
            writers,
            group,
            fence,
            transactions,
            sent,
            doubtful,
        })
    }

    /// A pipeline's name has no colon, since it is part of topics' names: so ids differ where names do.
    fn transactional_id(&self) -> String {
        match self.instance.as_str() {
            DEFAULT_INSTANCE => format!("riverrun-{}", self.pipeline),
            instance => format!("riverrun-{}:{instance}", self.pipeline),
        }
    }

    /// Makes this run the owner of the instance's place, whoever was. Gives how many partitions the topic has, if it is there.
    fn take_over(&mut self) -> Result<Option<i32>> {
        if self.transactions.as_ref().is_none_or(Transactions::is_dead) {
            self.transactions = Some(Transactions::new(&self.config, &self.transactional_id(), &self.topic.name)?);
        }
        let partitions = self.topic.find()?;
        let (name, owner) = (&self.topic.name, self.place());
        let transactions = ready(&mut self.transactions)?;
        transactions.init()?;
        if partitions.is_some() {
            if !transactions.is_committing() {
                transactions.begin()?;
                transactions.send(entry(name, 0, OWNER, owner.as_bytes()))?;
                transactions.delivered()?;
            }
            transactions.commit()?;
        }
        Ok(partitions)
    }

    /// This run at its instance's place, as the topic has it.
    fn place(&self) -> String {
        format!("{}/{}", self.instance, self.owner)
    }

    /// Sees to it that a transaction can begin, or goes on to be committed. A new producer takes the place of one that died,
    /// unless another run has taken over; one that could not take over yet tries again.
    fn settle(&mut self) -> Result<()> {
        let transactions = ready(&mut self.transactions)?;
        if transactions.is_dead() {
            self.doubtful = true;
            let found = self.reader()?.read(0..1)?;
            if found.owners.get(&self.instance).is_some_and(|owner| *owner != self.owner) {
                return Err(self.fenced());
            }
            tracing::warn!("pipeline '{}': its transaction was given up; going on with a new producer", self.pipeline);
            self.take_over()?;
        } else if transactions.is_new() {
            self.take_over()?;
        } else if !transactions.is_committing() {
            transactions.abort()?;
        }
        Ok(())
    }

    fn fenced(&self) -> Error {
        let (pipeline, topic) = (&self.pipeline, &self.topic.name);
        if self.instance == DEFAULT_INSTANCE {
            let what = format!("another run of pipeline '{pipeline}' has taken over its journal, topic '{topic}'");
            return Error::permanent(what).hint(
                "instances that share a pipeline need names (--instance NAME); a pipeline of its own needs a pipeline.name of its own",
            );
        }
        let what = format!("another run of pipeline '{pipeline}' has taken over the place of instance '{}'", self.instance);
        Error::permanent(what).hint("give each instance of a pipeline a name of its own: --instance NAME")
    }

    fn reader(&self) -> Result<Reader> {
        Reader::new(&self.config, &self.topic.name)
    }

    /// Ends what an earlier call left open. Gives the epochs that it is known to have committed.
    fn finish(&mut self) -> Result<Vec<(u32, u64)>> {
        let transactions = ready(&mut self.transactions)?;
        if transactions.is_committing() {
            let committed = transactions.commit();
            self.doubtful |= committed.is_err() && !transactions.is_committing();
            let stands = committed?;
            // In doubt, what went on was not these epochs' transaction but a later one, of a new producer.
            if !self.doubtful {
                return Ok(self.remember(stands));
            }
        }
        let first = self.sent.first().map(|sent| (sent.task, sent.epoch));
        let Some((task, epoch)) = first.filter(|_| self.doubtful) else {
            self.doubtful = false;
            self.sent.clear();
            return Ok(Vec::new());
        };
        let partition = partition_of(task);
        let found = self.reader()?.read(partition..partition + 1)?;
        self.doubtful = false;
        let sent = std::mem::take(&mut self.sent);
        Ok(if found.has(task, epoch) { sent.iter().map(|sent| (sent.task, sent.epoch)).collect() } else { Vec::new() })
    }

    /// What the group knows this instance by, where there is a group.
    fn member(&self, known: Option<Arc<ConsumerGroupMetadata>>) -> Result<Option<Arc<ConsumerGroupMetadata>>> {
        match known {
            None if self.group.is_some() => Err(Error::transient("this instance is no member of the pipeline's group now")),
            known => Ok(known),
        }
    }

    /// Commits what `send` sends, and the offsets of these ends of epochs. Gives where the topic's entries stand.
    fn transact<'a>(
        &mut self,
        member: Option<Arc<ConsumerGroupMetadata>>,
        ends: impl Iterator<Item = &'a Stop>,
        send: impl FnOnce(&mut Transactions, &str, &[Writer]) -> Result<()>,
    ) -> Result<Vec<(i32, i64)>> {
        let transactions = ready(&mut self.transactions)?;
        transactions.begin()?;
        send(transactions, &self.topic.name, &self.writers)?;
        // The brokers are asked for both at once: what they answer to the offsets costs no time of its own.
        if let (Some(group), Some(member)) = (&self.group, member) {
            transactions.offsets(&group.offsets(ends)?, &member)?;
        }
        transactions.delivered()?;
        failpoint::reach("kafka.sent");
        let committed = transactions.commit();
        self.doubtful = committed.is_err() && !transactions.is_committing();
        committed
    }

    /// The epochs that were sent are committed, and stand there.
    fn remember(&mut self, mut stands: Vec<(i32, i64)>) -> Vec<(u32, u64)> {
        stands.sort_unstable();
        let mut by_partition: BTreeMap<i32, std::vec::IntoIter<i64>> = BTreeMap::new();
        for chunk in stands.chunk_by(|a, b| a.0 == b.0) {
            by_partition.insert(chunk[0].0, chunk.iter().map(|(_, offset)| *offset).collect::<Vec<_>>().into_iter());
        }
        for Sent { task, epoch, inputs } in &self.sent {
            if let Some(offset) = by_partition.get_mut(&partition_of(*task)).and_then(Iterator::next) {
                self.fence.push(*task, *epoch, offset, inputs);
            }
        }
        std::mem::take(&mut self.sent).iter().map(|sent| (sent.task, sent.epoch)).collect()
    }

    /// Sends epochs in one transaction and commits it.
    fn commit_new(&mut self, epochs: &[&Epoch]) -> Result<()> {
        let member = self.member(self.fence.enter(epochs.iter().map(|epoch| epoch.record.task).collect())?)?;
        let repartitioned = |end: &&Stop| self.repartitions.contains_key(&end.source);
        let sent = |epoch: &&Epoch| Sent {
            task: epoch.record.task,
            epoch: epoch.record.epoch,
            inputs: epoch.ends.iter().filter(repartitioned).copied().collect(),
        };
        self.sent = epochs.iter().map(sent).collect();
        let ends = epochs.iter().flat_map(|epoch| &epoch.ends);
        let stands = self.transact(member, ends, |transactions, topic, writers| {
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
        self.remember(stands);
        self.fence.leave();
        Ok(())
    }
}

impl Journal for KafkaJournal {
    fn takes(&self) -> &[NodeId] {
        &self.takes
    }

    fn keeps_positions_of(&self) -> &[NodeId] {
        self.group.as_ref().map_or(&[], |group| &group.sources)
    }

    fn recover(&mut self) -> Result<Recorded> {
        let taken = self.take_over();
        self.doubtful = false;
        self.sent.clear();
        let Some(partitions) = taken? else { return Ok(Recorded::default()) };
        if self.group.is_some() {
            // Tasks are read when they are taken.
            return Ok(Recorded { genesis: self.reader()?.read(0..1)?.genesis, records: Vec::new() });
        }
        let found = self.reader()?.read(0..partitions)?;
        let (recorded, offsets) = found.finish().map_err(|e| e.within(format!("topic '{}'", self.topic.name)))?;
        (0..).zip(offsets).for_each(|(task, offsets)| self.fence.open(task, offsets));
        Ok(recorded)
    }

    fn join(&mut self, tasks: &[Vec<(usize, u32)>]) -> Result<Option<Box<dyn Membership>>> {
        let Some(group) = self.group.clone() else { return Ok(None) };
        if self.topic.find()?.is_none() {
            self.topic.ensure(tasks.len() as u32)?;
            self.take_over()?;
        }
        let journal = (self.config.clone(), self.topic.name.clone());
        Ok(Some(Box::new(Members::join(group, (&self.instance, &self.owner), tasks, self.fence.clone(), journal)?)))
    }

    fn begin(&mut self, genesis: &Genesis) -> Result<()> {
        self.topic.ensure(genesis.tasks)?;
        self.settle()?;
        let transactions = ready(&mut self.transactions)?;
        if transactions.is_committing() {
            self.doubtful = true;
            transactions.commit()?;
        }
        let known = self.doubtful && self.reader()?.read(0..1)?.genesis.as_ref() == Some(genesis);
        self.doubtful = false;
        if !known {
            let (owner, bytes, member) = (self.place(), genesis.encode()?, self.member(self.fence.enter(Vec::new())?)?);
            let sent = self.transact(member, genesis.starts.iter(), |transactions, topic, _| {
                transactions.send(entry(topic, 0, OWNER, owner.as_bytes()))?;
                (0..=genesis.tasks as i32).try_for_each(|p| transactions.send(entry(topic, p, GENESIS, &bytes)))
            });
            // What was there of another life; but not who the instances are.
            let mut before = sent?;
            before.retain(|(partition, _)| *partition > 0);
            before.sort_unstable();
            before.dedup_by_key(|(partition, _)| *partition);
            self.topic.cut(&before);
        }
        if self.group.is_none() {
            (0..genesis.tasks).for_each(|task| self.fence.open(task, Offsets::default()));
        }
        Ok(())
    }

    fn commit(&mut self, epochs: &[Epoch]) -> Result<()> {
        self.settle()?;
        let done = self.finish()?;
        self.fence.leave();
        let new = |epoch: &&Epoch| !done.contains(&(epoch.record.task, epoch.record.epoch));
        let left: Vec<&Epoch> = epochs.iter().filter(new).collect();
        if left.is_empty() { Ok(()) } else { self.commit_new(&left) }
    }

    fn truncate(&mut self, task: u32, epoch: u64) -> Result<()> {
        let (offset, inputs) = self.fence.take_to(task, epoch);
        if let Some(offset) = offset {
            self.topic.cut(&[(partition_of(task), offset + 1)]);
        }
        // What is before the oldest checkpoint of who reads it, nobody reads again.
        for end in inputs {
            if let Some(topic) = self.repartitions.get_mut(&end.source) {
                topic.cut(&[(end.partition as i32, end.offset)]);
            }
        }
        Ok(())
    }
}

/// Finds the repartition topics of a pipeline, or creates them; by source.
fn repartition_topics(bus: &Bus) -> Result<BTreeMap<usize, OwnTopic>> {
    let mut found = BTreeMap::new();
    for (index, _, config) in bus.sources.iter().filter(|(_, _, config)| config.is_repartition) {
        let mut topic = OwnTopic::new(config.topics.one().unwrap_or_default().to_owned(), config)?;
        topic.ensure_partitions()?;
        found.insert(*index, topic);
    }
    Ok(found)
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
            let Row { key, payload, partition } = records.row(row);
            let record = BaseRecord { key, payload, partition, ..BaseRecord::to(&writer.topic) };
            transactions.send(record).map_err(|e| place(e.within(records.place(row))))?;
        }
    }
    Ok(())
}
