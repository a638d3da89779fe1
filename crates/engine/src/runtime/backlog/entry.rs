//! One output in a backlog, and where its rows lie.

use std::sync::Arc;

use crate::batch::Batch;
use crate::checkpoint::Packed;
use crate::sink::EpochOutput;
use crate::time::Micros;

/// Outputs that are one to the sink.
pub(super) struct Entry {
    /// Its first epoch, and its last one.
    pub first: u64,
    pub epoch: u64,
    /// The clock of the last.
    pub clock: Micros,
    /// Its rows.
    pub held: Held,
    /// How many rows.
    pub rows: usize,
    /// Its share of memory, about.
    pub bytes: usize,
    /// Whether it is of several epochs, with the newest rows by key.
    pub is_merged: bool,
    /// The epochs of the part of a checkpoint that it went into.
    pub segment: Option<(u64, u64)>,
}

/// Where the rows of an output lie.
pub(super) enum Held {
    /// By themselves.
    Whole(Arc<EpochOutput>),
    /// Beside others, from this row on.
    Packed(Arc<Packed>, usize),
}

impl Entry {
    /// The outputs of the epochs from `first` on to its own.
    pub fn new(first: u64, output: EpochOutput, bytes: usize, is_merged: bool) -> Self {
        let (epoch, clock, rows) = (output.epoch, output.clock, output.rows());
        Self { first, epoch, clock, held: Held::Whole(Arc::new(output)), rows, bytes, is_merged, segment: None }
    }

    /// Its batches; they may share memory with those of others.
    pub fn batches(&self) -> Vec<Batch> {
        match &self.held {
            Held::Whole(output) => output.batches.clone(),
            Held::Packed(packed, begin) => packed.batches(*begin..begin + self.rows).collect(),
        }
    }
}

impl Held {
    /// Whether its rows lie in this one.
    pub fn lies_in(&self, pack: &Arc<Packed>) -> bool {
        matches!(self, Self::Packed(packed, _) if Arc::ptr_eq(packed, pack))
    }

    /// The output, if it lies by itself.
    pub fn whole(&self) -> Option<&Arc<EpochOutput>> {
        match self {
            Self::Whole(output) => Some(output),
            Self::Packed(..) => None,
        }
    }
}
