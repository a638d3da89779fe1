//! The journal: on the bus with the semantics of Kafka's transactions, or the engine's own files, with faults around them.
//!
//! On the bus a commit is applied whole or not at all, with the rows of the sinks that the journal takes. Its answer may be
//! lost either way; then the owner looks what became of it before it sends anything again. A new owner settles what the one
//! before it left open, and fences it.

use std::sync::Arc;

use riverrun_engine::graph::NodeId;
use riverrun_engine::journal::{Epoch, Genesis, Journal, LocalJournal, Record, Recorded};
use riverrun_engine::planted::{Fault, is_planted};
use riverrun_engine::sink::EpochOutput;
use riverrun_engine::{Error, Result};

use crate::group::Group;
use crate::plan::Kind;
use crate::world::{Fate, Life, State, World};

/// What the bus knows beside the records.
#[derive(Debug, Default)]
pub struct BusState {
    /// Whose journal it is: all earlier lives are fenced.
    owner: Life,
    /// A transaction that was sent and is neither committed nor aborted yet.
    open: Option<Sent>,
    /// Where instances share the tasks: who has which.
    pub group: Group,
}

/// What a transaction holds: records, and the rows that go with each.
pub type Sent = Vec<(Record, Vec<EpochOutput>)>;

const FENCED: &str = "another run of this pipeline has taken over its journal";

/// Whether an error says that a newer life has the journal.
pub fn is_fenced(error: &Error) -> bool {
    error.message().contains(FENCED)
}

/// The journal on the bus.
pub struct BusJournal {
    world: Arc<World>,
    life: Life,
    takes: Vec<NodeId>,
    /// The outcome of the last commit is not known.
    doubtful: bool,
}

impl BusJournal {
    /// The journal of `life`; `sinks` are the graph's, in order.
    pub fn new(world: Arc<World>, life: Life, sinks: &[NodeId]) -> Self {
        let kinds = world.state().plan.kinds.clone();
        let takes = kinds.iter().zip(sinks).filter(|(kind, _)| **kind == Kind::Taken).map(|(_, sink)| *sink).collect();
        Self { world, life, takes, doubtful: false }
    }

    fn check_owner(&self, state: &State) -> Result<()> {
        if state.bus.owner > self.life { Err(Error::permanent(FENCED)) } else { Ok(()) }
    }

    /// A transaction that is still under way is committed or aborted.
    fn settle(&self, state: &mut State) {
        let Some(epochs) = state.bus.open.take() else { return };
        let life = self.life;
        if state.random.chance(500) {
            state.note(|| format!("life {life}: the transaction under way is committed"));
            state.apply(life, epochs);
        } else {
            state.note(|| format!("life {life}: the transaction under way is aborted"));
        }
    }
}

impl State {
    /// The journal gets its first entry.
    pub fn begin(&mut self, genesis: &Genesis) {
        if self.history.genesis.as_ref().is_some_and(|begun| begun != genesis) {
            self.violate(|| "the journal is begun anew".to_owned());
        }
        self.history.genesis = Some(genesis.clone());
    }

    /// `life` has records cut off that are not needed. That is no part of any transaction: the bus fences nobody here.
    pub fn cut(&mut self, life: Life, task: u32, epoch: u64) -> Result<()> {
        let fate = self.enter(life, "truncation of the journal")?;
        if fate != Fate::Refused {
            self.was_cut(task, epoch);
        }
        self.leave(life, "truncation of the journal", fate)
    }

    /// A transaction of `life` is committed.
    pub fn apply(&mut self, life: Life, epochs: Sent) {
        let taken = self.plan.kinds.iter().enumerate().filter(|(_, kind)| **kind == Kind::Taken);
        let taken: Vec<usize> = taken.map(|(sink, _)| sink).collect();
        for (record, outputs) in epochs {
            self.note(|| format!("life {life}: task {}, epoch {} is committed: {record:?}", record.task, record.epoch));
            self.committed(&record);
            for (sink, output) in taken.iter().zip(&outputs) {
                if (output.task, output.epoch) != (record.task, record.epoch) {
                    self.violate(|| format!("a record of epoch {} goes with rows of epoch {}", record.epoch, output.epoch));
                }
                self.land(*sink, life, output);
            }
        }
    }
}

impl Journal for BusJournal {
    fn takes(&self) -> &[NodeId] {
        &self.takes
    }

    fn recover(&mut self) -> Result<Recorded> {
        let world = self.world.clone();
        let mut state = world.state();
        let fate = state.enter(self.life, "takeover of the journal")?;
        if fate != Fate::Refused {
            self.check_owner(&state)?;
            state.bus.owner = self.life;
            self.settle(&mut state);
        }
        state.leave(self.life, "takeover of the journal", fate)?;
        Ok(state.history.recorded())
    }

    fn begin(&mut self, genesis: &Genesis) -> Result<()> {
        let mut state = self.world.state();
        let fate = state.enter(self.life, "begin of the journal")?;
        self.check_owner(&state)?;
        if fate != Fate::Refused {
            state.begin(genesis);
        }
        state.leave(self.life, "begin of the journal", fate)
    }

    fn commit(&mut self, epochs: &[Epoch]) -> Result<()> {
        let world = self.world.clone();
        let mut state = world.state();
        let fate = state.enter(self.life, "commit")?;
        self.check_owner(&state)?;
        let Some(first) = epochs.first().map(|epoch| &epoch.record) else { return Ok(()) };
        if std::mem::take(&mut self.doubtful) && !is_planted(Fault::CommitAgainBlindly) {
            self.settle(&mut state);
            if state.history.has(first.task, first.epoch) {
                return state.leave(self.life, "commit", Fate::Works);
            }
        }
        let sent = epochs.iter().map(|epoch| (epoch.record.clone(), epoch.outputs.clone())).collect();
        match fate {
            Fate::Works => state.apply(self.life, sent),
            Fate::Refused => {}
            Fate::Unheard | Fate::Dies if state.random.chance(500) => state.apply(self.life, sent),
            Fate::Unheard | Fate::Dies => state.bus.open = Some(sent),
        }
        self.doubtful = fate != Fate::Works;
        state.leave(self.life, "commit", fate)
    }

    fn truncate(&mut self, task: u32, epoch: u64) -> Result<()> {
        self.world.state().cut(self.life, task, epoch)
    }
}

/// The engine's journal in files. What a failed write leaves is the engine's to repair, so faults come before the effect.
pub struct FileJournal {
    /// Where it is.
    pub world: Arc<World>,
    /// Whose it is.
    pub life: Life,
    /// The journal.
    pub files: LocalJournal,
}

impl FileJournal {
    fn enter(&self, call: &str) -> Result<Fate> {
        let mut state = self.world.state();
        match state.enter(self.life, call)? {
            fate @ (Fate::Works | Fate::Dies) => Ok(fate),
            fate => state.leave(self.life, call, fate).map(|()| Fate::Works),
        }
    }

    fn leave(&self, call: &str, fate: Fate) -> Result<()> {
        self.world.state().leave(self.life, call, fate)
    }
}

impl Journal for FileJournal {
    fn recover(&mut self) -> Result<Recorded> {
        self.world.state().ask(self.life, "read of the journal")?;
        let recorded = self.files.recover()?;
        let mut state = self.world.state();
        for (task, records) in recorded.records.iter().enumerate() {
            if !state.history.records[task].ends_with(records) {
                state.violate(|| format!("task {task}: the journal holds other records than were committed"));
            }
        }
        Ok(recorded)
    }

    fn begin(&mut self, genesis: &Genesis) -> Result<()> {
        let fate = self.enter("begin of the journal")?;
        self.files.begin(genesis)?;
        self.world.state().history.genesis = Some(genesis.clone());
        self.leave("begin of the journal", fate)
    }

    fn commit(&mut self, epochs: &[Epoch]) -> Result<()> {
        let fate = self.enter("commit")?;
        self.files.commit(epochs)?;
        {
            let mut state = self.world.state();
            for Epoch { record, .. } in epochs {
                let life = self.life;
                state.note(|| format!("life {life}: task {}, epoch {} is committed: {record:?}", record.task, record.epoch));
                state.committed(record);
            }
        }
        self.leave("commit", fate)
    }

    fn truncate(&mut self, task: u32, epoch: u64) -> Result<()> {
        let fate = self.enter("truncation of the journal")?;
        self.files.truncate(task, epoch)?;
        self.world.state().was_cut(task, epoch);
        self.leave("truncation of the journal", fate)
    }
}
