//! A history in a checkpoint: rows bring their key, their time and their order; what they do not tell is here.

use super::{Entry, History, Key};
use crate::Result;
use crate::state::row_store::RowRef;
use crate::time::Micros;

/// What a key remembers of rows that were purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Purged {
    /// How many they are.
    pub(in super::super) rows: u64,
    /// The entry of the first one, where it is kept apart; else [`NONE`](super::NONE).
    pub(in super::super) first: u32,
}

/// Keys with what they remember, and keys that are gone.
type Changed = (Vec<(u32, Purged)>, Vec<u32>);

impl History {
    /// Takes the keys that were purged since the last call: those that are there with what they remember, and those that
    /// are gone.
    pub(in super::super) fn take_changed(&mut self) -> Result<Changed> {
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for slot in std::mem::take(&mut self.changed) {
            self.keys.update(slot, |key| {
                key.changed = false;
                match key.len {
                    0 => gone.push(slot),
                    _ => there.push((slot, Purged { rows: key.purged, first: key.first })),
                }
            })?;
        }
        Ok((there, gone))
    }

    /// Takes up what a key remembers. Comes before its rows.
    pub(in super::super) fn restore_purged(&mut self, slot: u32, known: Purged) -> Result<()> {
        self.keys.grow(slot as usize + 1, Key::VACANT)?;
        self.keys.update(slot, |key| (key.purged, key.first) = (known.rows, known.first))
    }

    /// Takes up a row with its key, its entry and its time. The rows of a key come in their order.
    pub(in super::super) fn restore(&mut self, slot: u32, id: u32, time: Micros, row: RowRef) -> Result<()> {
        // Until all rows are there, an entry that leads to itself is one that is not used.
        while self.entries.len() <= id as usize {
            let newer = self.entries.len() as u32;
            self.entries.push(Entry { newer, ..Entry::VACANT })?;
        }
        if (slot as usize) < self.keys.len() && self.keys.get(slot)?.first == id {
            return self.entries.set(id, Entry { time, row, ..Entry::VACANT });
        }
        self.insert(slot, id, time, row).map(drop)
    }

    /// All rows were taken up.
    pub(in super::super) fn restored(&mut self) -> Result<()> {
        for id in (0..self.entries.len() as u32).rev() {
            let entry = self.entries.get(id)?;
            if entry.newer == id {
                let newer = std::mem::replace(&mut self.vacant, id);
                self.entries.set(id, Entry { newer, ..entry })?;
            }
        }
        for slot in 0..self.keys.len() as u32 {
            let mut key = self.keys.get(slot)?;
            if key.len > 0 {
                self.schedule(slot, &mut key);
                self.keys.set(slot, key)?;
            }
        }
        Ok(())
    }
}
