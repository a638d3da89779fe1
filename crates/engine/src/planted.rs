//! Faults of the protocol that a test plants on purpose, to show that the simulator finds them.
//!
//! A switch belongs to the thread that set it, and nothing outside of tests sets one. They are asked only where something is
//! rare: at a commit, a checkpoint, a start.

use std::cell::Cell;

/// A fault of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Sinks are fed before the commit of what they are given.
    FeedBeforeCommit,
    /// A commit that failed is taken for one that worked.
    FailedCommitForgotten,
    /// A commit whose outcome is in doubt is sent again without a look at what became of it. (Asked by the journal.)
    CommitAgainBlindly,
    /// A feed tells that outputs are safe once they are written, before they are flushed.
    AcknowledgedBeforeFlush,
    /// A checkpoint is made visible before the sinks have what came before it.
    CheckpointBeforeSinks,
    /// A checkpoint is written without the outputs that sinks have not made safe.
    PendingForgotten,
    /// The outputs in a checkpoint are not given to the sinks that lack them.
    PendingNotGiven,
    /// The outputs in a checkpoint are given to sinks that have them.
    PendingGivenAgain,
    /// The journal is told that the first record behind the oldest checkpoint is not needed either.
    TruncatedOneTooMany,
    /// The newest checkpoint is removed, not the oldest alone.
    NewestCheckpointDeleted,
    /// Files of state that kept checkpoints refer to are removed with the checkpoint that wrote them.
    NeededFilesDeleted,
    /// Positions are told to the sources before the checkpoint that holds them is visible.
    PositionsAheadOfState,
    /// The first epoch that is to be run again is not.
    RepeatSkipsEpoch,
    /// An epoch that is run again gets a clock of its own.
    RepeatFreshClock,
    /// Nothing is run again: new epochs take the numbers of those that happened.
    EpochsReused,
    /// What a sink holds is not asked: it is given all epochs since the checkpoint.
    SinkPositionIgnored,
    /// Lifts of idle partitions are not recorded.
    LiftsNotRecorded,
    /// A task goes on from its checkpoint without the watermarks.
    WatermarkNotRestored,
    /// A stage goes on from its checkpoint without the watermarks that the stage before told it.
    ToldWatermarksNotRestored,
    /// A stage does not wait until each task of the stage before was heard.
    UnheardTasksIgnored,
    /// A task is taken while a transaction of its earlier owner is still under way. (Asked by the group.)
    TakenBeforeDecided,
    /// A transaction is vouched for with what the group says when it is sent, not when its tasks were taken. (Asked by the group.)
    VouchedTooLate,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::FeedBeforeCommit,
        Self::FailedCommitForgotten,
        Self::CommitAgainBlindly,
        Self::AcknowledgedBeforeFlush,
        Self::CheckpointBeforeSinks,
        Self::PendingForgotten,
        Self::PendingNotGiven,
        Self::PendingGivenAgain,
        Self::TruncatedOneTooMany,
        Self::NewestCheckpointDeleted,
        Self::NeededFilesDeleted,
        Self::PositionsAheadOfState,
        Self::RepeatSkipsEpoch,
        Self::RepeatFreshClock,
        Self::EpochsReused,
        Self::SinkPositionIgnored,
        Self::LiftsNotRecorded,
        Self::WatermarkNotRestored,
        Self::ToldWatermarksNotRestored,
        Self::UnheardTasksIgnored,
        Self::TakenBeforeDecided,
        Self::VouchedTooLate,
    ];
}

thread_local! {
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// On this thread, `fault` is planted from now on; `None`: none is.
pub fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}

/// Whether `fault` is planted.
pub fn is_planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}
