//! A history in a checkpoint: rows bring their key, their time and their order; what they do not tell is here.

use super::{Entry, History, Key, NONE};
use crate::state::row_store::RowRef;
use crate::time::Micros;

/// What a key remembers of rows that were purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Purged {
    /// How many they are.
    pub(in super::super) rows: u64,
    /// The entry of the first one, where it is kept apart; else [`NONE`].
    pub(in super::super) first: u32,
}

impl History {
    /// Takes the keys that were purged since the last call: those that are there with what they remember, and those that
    /// are gone.
    pub(in super::super) fn take_changed(&mut self) -> (Vec<(u32, Purged)>, Vec<u32>) {
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for slot in std::mem::take(&mut self.changed) {
            let key = &mut self.keys[slot as usize];
            key.changed = false;
            match key.len {
                0 => gone.push(slot),
                _ => there.push((slot, Purged { rows: key.purged, first: key.first })),
            }
        }
        (there, gone)
    }

    /// Takes up rows where there are none: each with its key, its entry and its time, in the order of each key; and what
    /// keys remember.
    pub(in super::super) fn restore(
        &mut self,
        rows: impl Iterator<Item = (u32, u32, Micros, RowRef)> + Clone,
        purged: &[(u32, Purged)],
    ) {
        let vacant = Entry { time: 0, row: RowRef { segment: 0, row: 0 }, older: NONE, newer: NONE };
        let (entries, keys) = rows.clone().fold((0, 0), |(e, k), (slot, id, ..)| (e.max(id + 1), k.max(slot + 1)));
        self.entries = vec![vacant; entries as usize];
        self.keys = vec![Key::VACANT; keys as usize];
        for (slot, known) in purged {
            let key = &mut self.keys[*slot as usize];
            (key.purged, key.first) = (known.rows, known.first);
        }
        let mut used = vec![false; entries as usize];
        for (slot, id, time, row) in rows {
            used[id as usize] = true;
            if self.keys[slot as usize].first == id {
                self.entries[id as usize] = Entry { time, row, ..vacant };
            } else {
                self.insert(slot, id, time, row);
            }
        }
        for (id, entry) in self.entries.iter_mut().enumerate().rev().filter(|(id, _)| !used[*id]) {
            entry.newer = std::mem::replace(&mut self.vacant, id as u32);
        }
        for slot in 0..keys {
            let Key { len, newest_time, .. } = self.keys[slot as usize];
            if len > 0 {
                self.schedule(slot, newest_time);
            }
        }
    }
}
