//! The journal: what makes an epoch have happened.
//!
//! An epoch is a pure function of the state before it and of its [`Record`]: which records were read, in what order, and what
//! else outside decided something. It has happened if and only if its record is committed; sinks take outputs of committed
//! epochs only. After a crash the epochs behind the newest checkpoint are run again from their records, and give the same
//! rows: each sink then gets what it lacks.
//!
//! A journal may live on the bus (Kafka): it then *takes* the sinks that live there too, and commits their rows in one
//! transaction with the records. All other sinks are fed behind the commit, and keep the number of the last epoch beside
//! their rows ([`Sink::recover`](crate::sink::Sink::recover)). Without a bus, [`LocalJournal`] keeps records in files.

mod local;
mod record;

pub use local::LocalJournal;
pub use record::{Genesis, Record, Stop};

use crate::Result;
use crate::graph::NodeId;
use crate::membership::Membership;
use crate::sink::EpochOutput;
use crate::time::Micros;

/// An epoch to commit: its record, and what it gave to the sinks that the journal takes, in the order of
/// [`Journal::takes`].
#[derive(Debug)]
pub struct Epoch {
    /// What happened.
    pub record: Record,
    /// Rows for the journal's own sinks.
    pub outputs: Vec<EpochOutput>,
    /// Where the epoch left each input of its task, also those that gave nothing.
    pub ends: Vec<Stop>,
}

/// What a journal holds.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// How it all began. `None`: nothing was ever recorded.
    pub genesis: Option<Genesis>,
    /// By task, the records in order of epoch; the first may be far from epoch 1, since old records are removed.
    pub records: Vec<Vec<Record>>,
}

/// The records of one pipeline. One owner at a time; used by one thread at a time.
///
/// A [transient](crate::error::Kind::Transient) error of any call means: call again with the same arguments later. After a
/// permanent one it is not called again: the outcome of a last commit is then known only to the next owner.
pub trait Journal: Send {
    /// The graph's sinks whose rows go into the same commit, in the order of [`Graph::sinks`](crate::graph::Graph::sinks).
    fn takes(&self) -> &[NodeId] {
        &[]
    }

    /// The graph's sources whose positions go into the same commit: nobody else keeps them.
    fn keeps_positions_of(&self) -> &[NodeId] {
        &[]
    }

    /// Takes the journal over, so that an earlier owner that is still about can commit nothing any more; gives all that was
    /// committed. Where instances share the tasks, an earlier owner is an earlier run of this instance, and what was committed
    /// of a task is told when it is [taken](Membership::take).
    fn recover(&mut self) -> Result<Recorded>;

    /// Joins the instances that share the tasks, which read these places (source among the graph's, partition), by task; `None`:
    /// there is no sharing, all tasks are this run's.
    fn join(&mut self, tasks: &[Vec<(usize, u32)>]) -> Result<Option<Box<dyn Membership>>> {
        let _ = tasks;
        Ok(None)
    }

    /// Makes the first entry of a life of the pipeline, durably; what was there of another life is dropped.
    fn begin(&mut self, genesis: &Genesis) -> Result<()>;

    /// Commits epochs, of any tasks, each task's in order: all or none. They are durable when it returns.
    fn commit(&mut self, epochs: &[Epoch]) -> Result<()>;

    /// Records of `task` up to `epoch` are no longer needed. They may stay.
    fn truncate(&mut self, task: u32, epoch: u64) -> Result<()>;
}

/// A name for a new life of a pipeline, safe in file names. Two lives of one name never begin in the same microsecond.
pub fn new_lineage(pipeline: &str, now: Micros) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    format!("{}-{now:x}", pipeline.chars().map(safe).collect::<String>())
}
