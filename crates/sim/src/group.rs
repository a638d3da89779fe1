//! Instances that share a pipeline's tasks: the group that says who has which, and the journal that they write together, with
//! the semantics of Kafka's.
//!
//! Whoever is given a task hears of it when it asks, and so does whoever lost it: until then it goes on. A transaction bears,
//! for each of its tasks, the number under which the task was given to who sends it: it is refused if the task was given anew
//! since. What was sent may be decided later; a task is taken only once no transaction with it is under way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use riverrun_engine::graph::NodeId;
use riverrun_engine::journal::{Epoch, Genesis, Journal, Record, Recorded};
use riverrun_engine::membership::{Change, Membership};
use riverrun_engine::planted::{Fault, is_planted};
use riverrun_engine::{Error, Result};

use crate::journal::Sent;
use crate::plan::Kind;
use crate::world::{Fate, Life, State, World};

/// Who has what.
#[derive(Debug, Default)]
pub struct Group {
    /// By member: what it was not told yet.
    untold: BTreeMap<Life, VecDeque<Change>>,
    /// By task: who has it, and the number under which it was given.
    owner: BTreeMap<u32, (Life, u64)>,
    /// By task that is to be given up: who gets it.
    heir: BTreeMap<u32, Life>,
    /// By member and task: the number under which it was taken.
    taken: BTreeMap<(Life, u32), u64>,
    /// By member: its transaction that was sent, and is neither committed nor aborted.
    open: BTreeMap<Life, Sent>,
    given: u64,
}

impl Group {
    fn give(&mut self, task: u32, to: Life) {
        self.given += 1;
        self.owner.insert(task, (to, self.given));
        self.heir.remove(&task);
        self.untold.entry(to).or_default().push_back(Change::Assigned(vec![task]));
    }

    fn pass_over(&mut self, task: u32, to: Life) {
        if let Some((from, _)) = self.owner.get(&task) {
            self.untold.entry(*from).or_default().push_back(Change::Lost(vec![task]));
        }
        self.give(task, to);
    }

    fn owns(&self, life: Life, task: u32) -> bool {
        self.owner.get(&task).is_some_and(|(owner, _)| *owner == life)
    }

    /// Whether a commit of `life` for a task is refused.
    fn is_fenced(&self, life: Life, task: u32) -> bool {
        if is_planted(Fault::VouchedTooLate) {
            return !self.owns(life, task);
        }
        let taken = self.taken.get(&(life, task));
        taken.is_none_or(|taken| self.owner.get(&task) != Some(&(life, *taken)))
    }
}

impl State {
    /// An instance joins: it gets what nobody has, and some of what others have. The first begins with all.
    fn join(&mut self, life: Life) {
        let (tasks, begun) = (self.plan.tasks, self.history.genesis.is_some());
        self.bus.group.untold.entry(life).or_default();
        for task in 0..tasks {
            let moves = self.random.chance(400);
            let group = &mut self.bus.group;
            match group.owner.get(&task).copied() {
                Some((owner, _)) if begun && moves => self.revoke(task, owner, life),
                Some(_) if begun => {}
                _ => group.pass_over(task, life),
            }
        }
    }

    fn revoke(&mut self, task: u32, from: Life, to: Life) {
        let group = &mut self.bus.group;
        if group.heir.insert(task, to).is_none() {
            group.untold.entry(from).or_default().push_back(Change::Revoked(vec![task]));
        }
    }

    /// Whether one of this life is not.
    pub fn is_in_doubt(&self, life: Life) -> bool {
        self.bus.group.open.contains_key(&life)
    }

    /// Tasks that another life has taken while the one before it was not told, which may get them back.
    fn bypassed(&self) -> Vec<(u32, Life)> {
        let group = &self.bus.group;
        let lost = group.untold.iter().flat_map(|(life, changes)| changes.iter().map(move |change| (*life, change)));
        let lost = lost.flat_map(|(life, change)| match change {
            Change::Lost(tasks) => tasks.iter().map(|task| (*task, life)).collect(),
            _ => Vec::new(),
        });
        let is_taken = |task: u32, by: Life| group.taken.contains_key(&(by, task));
        lost.filter(|(task, life)| group.owner.get(task).is_some_and(|(owner, _)| owner != life && is_taken(*task, *owner)))
            .collect()
    }

    /// Whether it matters most now who gets which task: some transaction is not decided, or some life may get a task back before
    /// it heard that it had lost it.
    pub fn is_critical(&self) -> bool {
        !self.bus.group.open.is_empty() || !self.bypassed().is_empty()
    }

    /// Some task goes to another: in order, or its owner is passed over, and hears of it when it asks.
    pub fn rebalance(&mut self, live: &BTreeSet<Life>) {
        let bypassed: Vec<_> = self.bypassed().into_iter().filter(|(_, life)| live.contains(life)).collect();
        if !bypassed.is_empty() && self.random.chance(500) {
            let (task, to) = self.random.one_of(&bypassed);
            self.note(|| format!("task {task} goes back to life {to}, which has not heard that it had lost it"));
            return self.bus.group.pass_over(task, to);
        }
        let undecided: Vec<u32> = self.bus.group.open.values().flatten().map(|(record, _)| record.task).collect();
        let task = match undecided.is_empty() {
            true => self.random.place(self.plan.tasks as usize) as u32,
            false => self.random.one_of(&undecided),
        };
        let to = self.random.place(live.len());
        let (Some(to), Some((from, _))) = (live.iter().nth(to).copied(), self.bus.group.owner.get(&task).copied()) else {
            return;
        };
        let is_abrupt = self.random.chance(400);
        self.note(|| {
            format!("task {task} goes from life {from} to life {to}{}", if is_abrupt { ", which passes it over" } else { "" })
        });
        if is_abrupt {
            self.bus.group.pass_over(task, to);
        } else {
            self.revoke(task, from, to);
        }
    }

    /// The group finds out who is not there any more.
    pub fn find_dead(&mut self, live: &BTreeSet<Life>) {
        let dead = |life: &Life| !live.contains(life);
        let orphans: Vec<u32> =
            self.bus.group.owner.iter().filter(|(_, (owner, _))| dead(owner)).map(|(task, _)| *task).collect();
        self.bus.group.untold.retain(|life, _| live.contains(life));
        self.bus.group.heir.retain(|_, heir| live.contains(heir));
        for task in orphans.into_iter().filter(|_| !live.is_empty()) {
            let heir = live.iter().nth(self.random.place(live.len())).copied().unwrap_or_default();
            self.bus.group.give(task, heir);
        }
        // Nobody is left to decide their transactions: the broker aborts them, unless they were about to be committed.
        let undecided: Vec<Life> = self.bus.group.open.keys().copied().filter(dead).collect();
        for life in undecided {
            self.decide(life);
        }
    }

    /// A transaction under way is committed or aborted; whether it is committed. `None`: there is none.
    fn decide(&mut self, life: Life) -> Option<bool> {
        let sent = self.bus.group.open.remove(&life)?;
        let commits = self.random.chance(500);
        self.note(|| format!("life {life}: its transaction under way is {}", if commits { "committed" } else { "aborted" }));
        if commits {
            self.apply(life, sent);
        }
        Some(commits)
    }
}

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
            if state.history.genesis.as_ref().is_some_and(|begun| begun != genesis) {
                state.violate(|| "the journal is begun anew".to_owned());
            }
            state.history.genesis = Some(genesis.clone());
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
        let mut state = self.world.state();
        let fate = state.enter(self.life, "truncation of the journal")?;
        if fate != Fate::Refused {
            state.was_cut(task, epoch);
        }
        state.leave(self.life, "truncation of the journal", fate)
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
