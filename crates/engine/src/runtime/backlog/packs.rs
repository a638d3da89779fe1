//! Small outputs that wait lie together in memory: under light load an epoch gives a row or two, and a batch costs kilobytes
//! beside its rows. So the queue's bound is one of rows, and a sink that is away for minutes does not hold up the others.
//!
//! Invariant: each output stays one of its own, with its epoch, its clock and its rows in order; only where they lie changes. What
//! the feed was given last stays as it is: it may hold it.

use std::sync::Arc;

use super::OfTask;
use super::entry::{Entry, Held};
use crate::checkpoint::{Outputs, Packed};

/// So many outputs come before they are packed.
const LOOSE: usize = 64;

/// An output of more rows is not small.
const SMALL: usize = 128;

impl OfTask {
    /// Another output waits. Gives the bytes that packing saves.
    pub(super) fn came(&mut self) -> usize {
        self.loose += 1;
        if self.loose < LOOSE {
            return 0;
        }
        let begin = (self.entries.len() - self.loose.min(self.entries.len())).max(self.taken + 1);
        self.loose = 0;
        if begin >= self.entries.len() {
            return 0;
        }
        let mut newest: Vec<&mut Entry> = self.entries.range_mut(begin..).collect();
        newest.chunk_by_mut(|a, b| a.is_small() && b.is_small()).map(pack).sum()
    }
}

impl Entry {
    fn is_small(&self) -> bool {
        self.rows <= SMALL && matches!(self.held, Held::Whole(_))
    }
}

/// Packs neighbours, all of them small or just one. Gives the bytes that are saved.
fn pack(entries: &mut [&mut Entry]) -> usize {
    let rows: usize = entries.iter().map(|entry| entry.rows).sum();
    if entries.len() == 1 || rows == 0 {
        return 0;
    }
    let outputs: Vec<Outputs> = entries.iter().filter_map(|entry| entry.held.whole().cloned().map(Outputs::One)).collect();
    // Those that do not fit together stay as they are.
    let Ok(packed) = Packed::pack(&outputs).map(Arc::new) else { return 0 };
    let (mut begin, mut saved) = (0, 0);
    for entry in entries {
        entry.held = Held::Packed(packed.clone(), begin);
        begin += entry.rows;
        let bytes = (packed.bytes() * entry.rows / rows + size_of::<Entry>()).min(entry.bytes);
        saved += entry.bytes - bytes;
        entry.bytes = bytes;
    }
    saved
}
