//! The group of the instances that share a pipeline's tasks, which says who has which, with the semantics of Kafka's.
//!
//! Whoever is given a task hears of it when it asks, and so does whoever lost it: until then it goes on. A transaction bears,
//! for each of its tasks, the number under which the task was given to who sends it: it is refused if the task was given anew
//! since. What was sent may be decided later; a task is taken only once no transaction with it is under way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use riverrun_engine::membership::Change;
use riverrun_engine::planted::{Fault, is_planted};

use crate::journal::Sent;
use crate::world::{Life, State};

/// Who has what.
#[derive(Debug, Default)]
pub struct Group {
    /// By member: what it was not told yet.
    pub untold: BTreeMap<Life, VecDeque<Change>>,
    /// By task: who has it, and the number under which it was given.
    pub owner: BTreeMap<u32, (Life, u64)>,
    /// By task that is to be given up: who gets it.
    pub heir: BTreeMap<u32, Life>,
    /// By member and task: the number under which it was taken.
    pub taken: BTreeMap<(Life, u32), u64>,
    /// By member: its transaction that was sent, and is neither committed nor aborted.
    pub open: BTreeMap<Life, Sent>,
    given: u64,
}

impl Group {
    /// A task is given to a life, anew.
    pub fn give(&mut self, task: u32, to: Life) {
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

    /// Whether it has a task.
    pub fn owns(&self, life: Life, task: u32) -> bool {
        self.owner.get(&task).is_some_and(|(owner, _)| *owner == life)
    }

    /// Whether a commit of `life` for a task is refused.
    pub fn is_fenced(&self, life: Life, task: u32) -> bool {
        if is_planted(Fault::VouchedTooLate) {
            return !self.owns(life, task);
        }
        let taken = self.taken.get(&(life, task));
        taken.is_none_or(|taken| self.owner.get(&task) != Some(&(life, *taken)))
    }
}

impl State {
    /// An instance joins: it gets what nobody has, and some of what others have. The first begins with all.
    pub fn join(&mut self, life: Life) {
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
    pub fn decide(&mut self, life: Life) -> Option<bool> {
        let sent = self.bus.group.open.remove(&life)?;
        let commits = self.random.chance(500);
        self.note(|| format!("life {life}: its transaction under way is {}", if commits { "committed" } else { "aborted" }));
        if commits {
            self.apply(life, sent);
        }
        Some(commits)
    }
}
