//! What a commit must show to be let in: the tasks are this instance's, and the group says so too.
//!
//! Shared by the thread that is told of rebalances and the one that commits. Invariants: the group's metadata is taken where
//! a rebalance is told, so it never vouches for tasks that were lost unnoticed; a task is listed only once no earlier owner
//! can commit anything of it, and comes off the list before others may have it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rdkafka::consumer::ConsumerGroupMetadata;
use riverrun_engine::journal::Stop;
use riverrun_engine::{Error, Result};

use super::entries::Offsets;
use crate::kafka::client::lock;

/// Who may commit.
#[derive(Default)]
pub(super) struct Fence {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    metadata: Option<Arc<ConsumerGroupMetadata>>,
    /// This instance's tasks, and where their epochs stand.
    owned: BTreeMap<u32, Stands>,
    /// Tasks of the last commit, until its outcome is known.
    committing: Vec<u32>,
}

/// Where the epochs of a task stand.
#[derive(Default)]
struct Stands {
    /// In the journal.
    journal: Offsets,
    /// In the repartition topics that it reads, by source and partition: where they ended.
    inputs: BTreeMap<(usize, u32), Offsets>,
}

impl Fence {
    /// A rebalance is told: what the group knows this instance by from now on.
    pub fn renew(&self, metadata: Option<ConsumerGroupMetadata>) {
        lock(&self.state).metadata = metadata.map(Arc::new);
    }

    /// All that this instance had is gone.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        state.metadata = None;
        state.owned.clear();
    }

    /// The task is this instance's.
    pub fn open(&self, task: u32, offsets: Offsets) {
        lock(&self.state).owned.insert(task, Stands { journal: offsets, inputs: BTreeMap::new() });
    }

    /// The task is not this instance's any more.
    pub fn release(&self, task: u32) {
        lock(&self.state).owned.remove(&task);
    }

    /// A commit of these tasks begins: gives what the group knew this instance by while they were its own. Taken before
    /// anything is sent, so that it does not vouch for tasks that are lost meanwhile.
    ///
    /// # Errors
    /// Transient: one of them is not this instance's.
    pub fn enter(&self, tasks: Vec<u32>) -> Result<Option<Arc<ConsumerGroupMetadata>>> {
        let mut state = lock(&self.state);
        if let Some(task) = tasks.iter().find(|task| !state.owned.contains_key(task)) {
            return Err(Error::transient(format!("task {task} is not this instance's any more")));
        }
        state.committing = tasks;
        Ok(state.metadata.clone())
    }

    /// What became of the last commit is known.
    pub fn leave(&self) {
        lock(&self.state).committing.clear();
    }

    /// Shuts off tasks that are to be taken, maybe anew.
    ///
    /// # Errors
    /// Transient: a commit of one is still under way here.
    pub fn shut(&self, tasks: &[u32]) -> Result<()> {
        let mut state = lock(&self.state);
        state.owned.retain(|task, _| !tasks.contains(task));
        match tasks.iter().find(|task| state.committing.contains(task)) {
            Some(task) => Err(Error::transient(format!("an earlier commit of task {task} is still under way"))),
            None => Ok(()),
        }
    }

    /// The next epoch of a task stands there in the journal, and ended there in repartition topics.
    pub fn push(&self, task: u32, epoch: u64, offset: i64, inputs: &[Stop]) {
        if let Some(stands) = lock(&self.state).owned.get_mut(&task) {
            stands.journal.push(epoch, offset);
            for end in inputs {
                stands.inputs.entry((end.source, end.partition)).or_default().push(epoch, end.offset);
            }
        }
    }

    /// Forgets where epochs of a task stand, up to this one: where the last of them stands in the journal, and where it ended in
    /// repartition topics.
    pub fn take_to(&self, task: u32, epoch: u64) -> (Option<i64>, Vec<Stop>) {
        let mut state = lock(&self.state);
        let Some(stands) = state.owned.get_mut(&task) else { return Default::default() };
        let ended = |(&(source, partition), offsets): (&(usize, u32), &mut Offsets)| {
            Some(Stop { source, partition, offset: offsets.take_to(epoch)? })
        };
        (stands.journal.take_to(epoch), stands.inputs.iter_mut().filter_map(ended).collect())
    }
}
