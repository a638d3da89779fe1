//! Instances of a pipeline as members of its consumer group.
//!
//! A consumer of its own subscribes to the lead topic and reads nothing: its partitions are paused, readers assign theirs by
//! themselves. The group hands out partitions cooperatively: a rebalance moves only what must move, and a revoked partition is
//! this instance's until it says that it is done. Membership is static (`group.instance.id`): a run that comes back under its
//! name gets what it had, at once.
//!
//! The group may take this instance for one that was replaced though nobody has its name: ids that members were given in a
//! rebalance are gone with a coordinator that dies before the rebalance is over, and the next one goes by older ids
//! (`FENCED_INSTANCE_ID`). So the group's word is looked into: each run writes its name into the journal's topic before it
//! joins. If another run's stands there this instance ends, else it joins anew.
//!
//! Invariant: what is lost is shut off before anything else is heard of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use riverrun_engine::journal::{Genesis, Record};
use riverrun_engine::membership::{Change, Membership};
use riverrun_engine::time::Stopwatch;
use riverrun_engine::{Error, Result};

use super::entries::{Entries, partition_of};
use super::fence::Fence;
use super::group::Group;
use super::orphans::Orphans;
use super::read::Reader;
use super::rebalances::{Rebalances, Told};
use crate::kafka::client::{classify, lock, remind};
use crate::kafka::config::Config;

/// How long one question of a taking waits: it is asked again, and rebalances are heard in between.
const QUESTION: Duration = Duration::from_secs(1);

/// How long at least lies between joining and joining anew.
const REJOIN: Duration = Duration::from_secs(1);

/// This instance as a member.
pub(super) struct Members {
    group: Group,
    consumer: BaseConsumer<Rebalances>,
    fence: Arc<Fence>,
    journal: (Config, String),
    instance: String,
    /// Names this run, in the journal's topic.
    owner: String,
    /// Since it joined.
    joined: Stopwatch,
    /// Whether the group takes it for replaced, and that is not looked into yet.
    fenced: bool,
    /// By task: the places (source, partition) that it reads.
    tasks: Vec<Vec<(usize, u32)>>,
    /// Tasks that were assigned.
    assigned: BTreeSet<u32>,
    /// Partitions that were revoked, and their tasks that are not released yet.
    revoked: BTreeMap<i32, BTreeSet<u32>>,
    reader: Option<Reader>,
    orphans: Orphans,
    leaving: bool,
    /// Whether nothing was assigned when it last looked while leaving.
    empty: bool,
}

impl Members {
    /// Joins as this run (`owner`) under the name of an instance; `journal`: how its topic is reached, and its name.
    pub fn join(
        group: Group,
        (instance, owner): (&str, &str),
        tasks: &[Vec<(usize, u32)>],
        fence: Arc<Fence>,
        journal: (Config, String),
    ) -> Result<Self> {
        let consumer = member(&group, instance, &fence)?;
        let (assigned, revoked) = (BTreeSet::new(), BTreeMap::new());
        let (instance, owner, tasks) = (instance.to_owned(), owner.to_owned(), tasks.to_vec());
        let (joined, fenced) = (Stopwatch::start(), false);
        let (reader, leaving, empty, orphans) = (None, false, false, Orphans::new());
        Ok(Self {
            group,
            consumer,
            fence,
            journal,
            instance,
            owner,
            joined,
            fenced,
            tasks,
            assigned,
            revoked,
            reader,
            orphans,
            leaving,
            empty,
        })
    }

    fn list(&self, partitions: impl Iterator<Item = i32>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.group.topic, partition);
        }
        list
    }

    /// Serves the consumer's events, until the group takes it for replaced.
    fn serve(&mut self) -> Result<()> {
        if self.consumer.context().callbacks.forgotten.swap(false, Relaxed) {
            remind(self.consumer.client(), &self.group.config.brokers);
        }
        while let Some(event) = self.consumer.poll(Duration::ZERO) {
            let Err(error) = event else { continue };
            if self.consumer.client().fatal_error().is_some() {
                tracing::debug!(%error, "kafka");
                self.fence.close();
                self.fenced = true;
                return Ok(());
            }
            let error = classify(&error, &format!("group '{}' of topic '{}'", self.group.config.group, self.group.topic));
            if !error.is_transient() {
                return Err(error);
            }
            tracing::debug!(%error, "kafka");
        }
        Ok(())
    }

    /// Ends if another run has this instance's place; else it joins anew.
    ///
    /// # Errors
    /// Permanent: another run has. Transient: that cannot be looked up now.
    fn rejoin(&mut self) -> Result<()> {
        let owners = self.read(vec![0])?.owners;
        let (instance, group) = (&self.instance, &self.group.config.group);
        if owners.get(instance).is_some_and(|run| *run != self.owner) {
            let what = format!("another run has taken over the place of instance '{instance}' in group '{group}'");
            return Err(Error::permanent(what).hint("give each instance of a pipeline a name of its own: --instance NAME"));
        }
        tracing::warn!("group '{group}' takes instance '{instance}' for replaced, but no other run has begun: it joins anew");
        let consumer = member(&self.group, &self.instance, &self.fence)?;
        self.joined = Stopwatch::start();
        self.fenced = false;
        retire(std::mem::replace(&mut self.consumer, consumer))
    }

    /// Where the group has given partitions to nobody, it is made to share them out.
    fn share_out_orphans(&mut self) -> Result<()> {
        if !self.orphans.are_to_be_shared_out(&self.consumer, &self.group, !self.assigned.is_empty()) {
            return Ok(());
        }
        self.orphans.forget();
        let (group, topic) = (&self.group.config.group, &self.group.topic);
        tracing::warn!(
            "group '{group}' has given partitions of topic '{topic}' to no instance: this one leaves it and joins it anew"
        );
        self.consumer.unsubscribe();
        self.consumer.subscribe(&[topic]).map_err(|e| self.group.error(&e, "joining anew"))
    }

    /// The group has given all of it to others: nothing that was told before counts, and partitions that were revoked need not be
    /// given back.
    fn lose_all(&mut self) -> Vec<Change> {
        lock(&self.consumer.context().told).clear();
        let held = std::mem::take(&mut self.revoked);
        let held = self.list(held.into_keys());
        if held.count() > 0
            && let Err(error) = self.consumer.incremental_unassign(&held)
        {
            tracing::debug!(%error, "kafka");
        }
        vec![Change::Lost(std::mem::take(&mut self.assigned).into_iter().collect())]
    }

    fn changes(&mut self) -> Vec<Change> {
        let (group, count) = (self.group.clone(), self.tasks.len() as u32);
        let tasks_of = |partitions: &[i32]| partitions.iter().flat_map(|p| group.tasks_of(*p, count)).collect::<Vec<u32>>();
        let told = std::mem::take(&mut *lock(&self.consumer.context().told));
        let mut changes = Vec::new();
        for told in told {
            changes.push(match told {
                Told::Assigned(partitions) => {
                    let tasks = tasks_of(&partitions);
                    self.assigned.extend(&tasks);
                    Change::Assigned(tasks)
                }
                Told::Revoked(partitions) => {
                    for partition in &partitions {
                        let tasks = group.tasks_of(*partition, count).filter(|task| self.assigned.contains(task));
                        self.revoked.insert(*partition, tasks.collect());
                    }
                    Change::Revoked(tasks_of(&partitions))
                }
                Told::Lost(partitions) => {
                    self.revoked.retain(|partition, _| !partitions.contains(partition));
                    let lost = std::mem::take(&mut self.assigned);
                    Change::Lost(lost.into_iter().collect())
                }
            });
        }
        changes
    }

    /// Lets go of what was revoked once nothing is left to do: all at once, since this instance joins the others again then, and
    /// nobody waits for the rest any more.
    fn give_back(&mut self) {
        if self.revoked.is_empty() || self.revoked.values().any(|tasks| !tasks.is_empty()) {
            return;
        }
        let revoked = std::mem::take(&mut self.revoked);
        let list = self.list(revoked.into_keys());
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            // They were lost meanwhile: that is told.
            tracing::debug!(%error, "kafka");
        }
    }

    /// Waits until no offset of these tasks' input hangs on an open transaction: an earlier owner's commit.
    fn await_stable(&self, tasks: &[u32]) -> Result<()> {
        let list = self.group.inputs(tasks.iter().filter_map(|task| self.tasks.get(*task as usize)).flatten());
        let what = "committed offsets";
        let found = self.consumer.committed_offsets(list, QUESTION).map_err(|e| self.group.error(&e, what))?;
        match found.elements().iter().find_map(|place| place.error().err()) {
            Some(error) => Err(Error::transient(format!("{what} of group '{}': {error}", self.group.config.group))),
            None => Ok(()),
        }
    }

    /// What is committed in these partitions of the journal. After trouble new clients are made: old ones may have forgotten
    /// where the brokers are.
    fn read(&mut self, partitions: Vec<i32>) -> Result<Entries> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => Reader::new(&self.journal.0, &self.journal.1)?.patient_for(QUESTION),
        };
        let found = reader.read(partitions)?;
        self.reader = Some(reader);
        Ok(found)
    }
}

impl Membership for Members {
    fn poll(&mut self) -> Result<Vec<Change>> {
        if self.fenced {
            if Duration::from_nanos(self.joined.nanos()) < REJOIN {
                return Ok(Vec::new());
            }
            self.rejoin()?;
        }
        self.serve()?;
        if self.fenced {
            return Ok(self.lose_all());
        }
        if !self.revoked.is_empty() && self.consumer.assignment_lost() {
            // While others waited for what was revoked, the group has given up on this instance.
            self.fence.close();
            let partitions: Vec<i32> = self.revoked.keys().copied().collect();
            let list = self.list(partitions.iter().copied());
            lock(&self.consumer.context().told).push(Told::Lost(partitions));
            self.consumer.incremental_unassign(&list).map_err(|e| self.group.error(&e, "giving up partitions"))?;
        }
        let changes = self.changes();
        self.give_back();
        if changes.is_empty() && self.revoked.is_empty() && !self.leaving {
            self.share_out_orphans()?;
        } else {
            self.orphans.forget();
        }
        Ok(changes)
    }

    fn genesis(&mut self) -> Result<Option<Genesis>> {
        Ok(self.read(vec![0])?.genesis)
    }

    fn take(&mut self, tasks: &[u32], genesis: &Genesis) -> Result<Vec<Vec<Record>>> {
        self.fence.shut(tasks)?;
        self.await_stable(tasks)?;
        let mut found = self.read(tasks.iter().map(|task| partition_of(*task)).collect())?;
        let mut records = Vec::with_capacity(tasks.len());
        let mut opened = Vec::with_capacity(tasks.len());
        for task in tasks {
            let (theirs, offsets) =
                found.take_task(*task, genesis).map_err(|e| e.within(format!("topic '{}'", self.journal.1)))?;
            records.push(theirs);
            opened.push((*task, offsets));
        }
        // What was lost or revoked meanwhile is told next, and taken off again there.
        opened.into_iter().filter(|(task, _)| self.assigned.contains(task)).for_each(|(task, at)| self.fence.open(task, at));
        Ok(records)
    }

    fn release(&mut self, tasks: &[u32]) -> Result<()> {
        for task in tasks {
            self.fence.release(*task);
            self.assigned.remove(task);
            for left in self.revoked.values_mut() {
                left.remove(task);
            }
        }
        self.give_back();
        Ok(())
    }

    fn leave(&mut self) -> Result<bool> {
        if self.assigned.len() >= self.tasks.len() && !self.leaving {
            // Nobody else is there. The group remembers this member for a while: started again, it need not wait.
            return Ok(true);
        }
        if !self.leaving {
            self.leaving = true;
            self.consumer.context().closing.store(true, Relaxed);
            let held: Vec<i32> = self.revoked.keys().copied().collect();
            if !held.is_empty() {
                let list = self.list(held.into_iter());
                self.consumer.incremental_unassign(&list).map_err(|e| self.group.error(&e, "giving up partitions"))?;
            }
            self.consumer.unsubscribe();
        }
        self.serve()?;
        if self.fenced {
            // It is no member any more.
            return Ok(true);
        }
        let left = self.consumer.assignment().map_err(|e| self.group.error(&e, "leaving"))?;
        // Behind the last partition goes the request to leave: it has the time of another look.
        let before = std::mem::replace(&mut self.empty, left.count() == 0);
        Ok(before && self.empty)
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        // The client's own end asks for what is assigned back, and waits for it.
        self.consumer.context().closing.store(true, Relaxed);
        let list = self.list(self.revoked.keys().copied());
        if list.count() > 0
            && let Err(error) = self.consumer.incremental_unassign(&list)
        {
            tracing::debug!(%error, "kafka");
        }
    }
}

/// A consumer that joins under the name of an instance.
fn member(group: &Group, instance: &str, fence: &Arc<Fence>) -> Result<BaseConsumer<Rebalances>> {
    let created = group.config.member(instance).create_with_context(Rebalances::new(Arc::clone(fence)));
    let consumer: BaseConsumer<Rebalances> = created.map_err(|e| group.error(&e, "member"))?;
    consumer.subscribe(&[&group.topic]).map_err(|e| group.error(&e, "joining"))?;
    Ok(consumer)
}

/// Ends a consumer that another one has replaced. That may wait for brokers that are away: a thread of its own does it.
fn retire(consumer: BaseConsumer<Rebalances>) -> Result<()> {
    consumer.context().replaced.store(true, Relaxed);
    let ending = std::thread::Builder::new().name("kafka-retired".into()).spawn(move || drop(consumer));
    ending.map(drop).map_err(|e| Error::transient(format!("no thread for the end of a consumer: {e}")))
}
