//! An instance in the group: the journal that all write together, and its place among them.

use std::collections::BTreeSet;
use std::sync::Arc;

use riverrun_engine::graph::NodeId;
use riverrun_engine::journal::{Epoch, Genesis, Journal, Record, Recorded};
use riverrun_engine::membership::{Change, Membership};
use riverrun_engine::planted::{Fault, is_planted};
use riverrun_engine::{Error, Result};

use crate::plan::Kind;
use crate::world::{Fate, Life, World};

/// The journal of an instance.
pub struct GroupJournal {
    world: Arc<World>,
    life: Life,
    takes: Vec<NodeId>,
    /// Whether the last commit, whose answer was lost, happened, where that is decided.
    decided: Option<bool>,
}

impl GroupJournal {
    /// The journal of `life`; `sinks` are the graph's, in order.
    pub fn new(world: Arc<World>, life: Life, sinks: &[NodeId]) -> Self {
        let kinds = world.state().plan.kinds.clone();
        let takes = kinds.iter().zip(sinks).filter(|(kind, _)| **kind == Kind::Taken).map(|(_, sink)| *sink).collect();
        Self { world, life, takes, decided: None }
    }
}

impl Journal for GroupJournal {
    fn takes(&self) -> &[NodeId] {
        &self.takes
    }

    fn recover(&mut self) -> Result<Recorded> {
        let mut state = self.world.state();
        state.ask(self.life, "read of the journal")?;
        Ok(Recorded { genesis: state.history.genesis.clone(), records: Vec::new() })
    }

    fn join(&mut self, _tasks: &[Vec<(usize, u32)>]) -> Result<Option<Box<dyn Membership>>> {
        self.world.state().join(self.life);
        Ok(Some(Box::new(Member { world: self.world.clone(), life: self.life })))
    }

    fn begin(&mut self, genesis: &Genesis) -> Result<()> {
        let mut state = self.world.state();
        let fate = state.enter(self.life, "begin of the journal")?;
        if fate != Fate::Refused {
            state.begin(genesis);
        }
        state.leave(self.life, "begin of the journal", fate)
    }

    fn commit(&mut self, epochs: &[Epoch]) -> Result<()> {
        let world = self.world.clone();
        let mut state = world.state();
        let doubt = state.plan.doubt_per_mille;
        let fate = match state.enter(self.life, "commit")? {
            Fate::Works if !state.calm && state.random.chance(doubt) => Fate::Unheard,
            fate => fate,
        };
        if self.decided.take().or_else(|| state.decide(self.life)) == Some(true) || epochs.is_empty() {
            // What is asked for is what was sent, or what is left of it.
            return Ok(());
        }
        if let Some(fenced) = epochs.iter().find(|epoch| state.bus.group.is_fenced(self.life, epoch.record.task)) {
            let (life, task, owner) = (self.life, fenced.record.task, state.bus.group.owner.get(&fenced.record.task).copied());
            let taken = state.bus.group.taken.get(&(life, task)).copied();
            state.note(|| format!("life {life}: commit of task {task} is refused: it is {owner:?}, was taken as {taken:?}"));
            return Err(Error::transient("the group has shared out the tasks anew"));
        }
        let sent = epochs.iter().map(|epoch| (epoch.record.clone(), epoch.outputs.clone())).collect();
        let at_once = fate == Fate::Works || state.random.chance(300);
        match fate {
            Fate::Refused => self.decided = Some(false),
            _ if at_once => {
                state.apply(self.life, sent);
                self.decided = (fate != Fate::Works).then_some(true);
            }
            _ => drop(state.bus.group.open.insert(self.life, sent)),
        }
        state.leave(self.life, "commit", fate)
    }

    fn truncate(&mut self, task: u32, epoch: u64) -> Result<()> {
        self.world.state().cut(self.life, task, epoch)
    }
}

/// An instance's place in the group.
struct Member {
    world: Arc<World>,
    life: Life,
}

impl Membership for Member {
    fn poll(&mut self) -> Result<Vec<Change>> {
        let mut state = self.world.state();
        state.ask(self.life, "poll of the group")?;
        let told: Vec<Change> = state.bus.group.untold.entry(self.life).or_default().drain(..).collect();
        for change in &told {
            if let Change::Lost(tasks) = change {
                state.bus.group.taken.retain(|(life, task), _| *life != self.life || !tasks.contains(task));
            }
        }
        Ok(told)
    }

    fn genesis(&mut self) -> Result<Option<Genesis>> {
        Ok(self.world.state().history.genesis.clone())
    }

    fn take(&mut self, tasks: &[u32], _genesis: &Genesis) -> Result<Vec<Vec<Record>>> {
        let mut state = self.world.state();
        state.ask(self.life, "taking of tasks")?;
        let group = &state.bus.group;
        if let Some(task) = tasks.iter().find(|task| !group.owns(self.life, **task)) {
            return Err(Error::transient(format!("task {task} is not this instance's any more")));
        }
        let is_open = |task: &&u32| group.open.values().flatten().any(|(record, _)| record.task == **task);
        if let Some(task) = tasks.iter().find(is_open).filter(|_| !is_planted(Fault::TakenBeforeDecided)) {
            return Err(Error::transient(format!("an earlier commit of task {task} is still under way")));
        }
        for task in tasks {
            let number = state.bus.group.owner.get(task).map_or(0, |(_, number)| *number);
            state.bus.group.taken.insert((self.life, *task), number);
        }
        let recorded = state.history.recorded().records;
        Ok(tasks.iter().map(|task| recorded[*task as usize].clone()).collect())
    }

    fn release(&mut self, tasks: &[u32]) -> Result<()> {
        let mut state = self.world.state();
        let group = &mut state.bus.group;
        for task in tasks {
            group.taken.remove(&(self.life, *task));
            // Of a task that was lost meanwhile nothing is left to release. Who was to get it may be gone.
            if group.owns(self.life, *task) {
                let heir = group.heir.remove(task).unwrap_or(self.life);
                group.give(*task, heir);
            }
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<bool> {
        let mut state = self.world.state();
        let life = self.life;
        state.note(|| format!("life {life} leaves the group"));
        let others: BTreeSet<Life> = state.bus.group.untold.keys().copied().filter(|other| *other != life).collect();
        state.find_dead(&others);
        Ok(true)
    }
}
