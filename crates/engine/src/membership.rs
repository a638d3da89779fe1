//! Which tasks this instance of a pipeline has: instances of one pipeline share its tasks, and a task has one owner at a time.
//!
//! Who shares, who died and who gets what is decided outside (on Kafka by the consumer group). The runtime only obeys:
//! - *assigned*: the task is this instance's. Before it goes on with it, it [takes](Membership::take) it: from then on no
//!   earlier owner can commit anything of it.
//! - *revoked*: others wait for the task. It is this instance's until it [releases](Membership::release) it.
//! - *lost*: the task was given to another instance already. Nothing of it may be written any more.
//!
//! Invariant: fencing does not rest on this being told in time: a commit of an owner that is not one any more is refused by
//! the journal, and its write by the sink.

use crate::Result;
use crate::journal::{Genesis, Record};

/// A change of what this instance has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// These tasks came.
    Assigned(Vec<u32>),
    /// These are to be given up, in order.
    Revoked(Vec<u32>),
    /// These are gone.
    Lost(Vec<u32>),
}

/// The place of this instance among those of its pipeline. Used by one thread at a time, and never waits for long.
pub trait Membership: Send {
    /// What changed since the last call, in order. To be asked some times a second.
    ///
    /// # Errors
    /// Permanent: this instance is none any more, as when another run took its name.
    fn poll(&mut self) -> Result<Vec<Change>>;

    /// How the pipeline's life began, if it has.
    fn genesis(&mut self) -> Result<Option<Genesis>>;

    /// Takes assigned tasks: gives for each what the journal holds of it, in the order of epochs, once no earlier owner can
    /// add to it. From then on the journal commits epochs of these tasks.
    ///
    /// # Errors
    /// Transient: it is not decided yet, or the tasks are not this instance's any more; call again, or heed what
    /// [`poll`](Membership::poll) says.
    fn take(&mut self, tasks: &[u32], genesis: &Genesis) -> Result<Vec<Vec<Record>>>;

    /// Gives up revoked tasks. The journal commits nothing more of them here.
    fn release(&mut self, tasks: &[u32]) -> Result<()>;

    /// Ends the membership, so that others need not wait to find out. Whether that is done; call again until it is.
    fn leave(&mut self) -> Result<bool>;
}
