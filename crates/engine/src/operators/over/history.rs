//! Which rows of each key are kept, in the order of event time.
//!
//! Invariants: the entries of a key form a list in the order (event time, arrival), linked both ways through one arena; a
//! key in use has at least one entry; rows that were purged stand before every row that is still to come; each key stands
//! in at most one bucket of deadlines, so the work of purging is in proportion to the rows that came.

mod saved;

use std::collections::BTreeMap;
use std::mem::size_of;

pub(super) use self::saved::Purged;
use crate::state::row_store::RowRef;
use crate::time::{MAX_TIME, MIN_TIME, Micros};

/// No entry.
pub(super) const NONE: u32 = u32::MAX;

/// Deadlines are kept in buckets of 2^20 microseconds, about a second.
const BUCKET_BITS: u32 = 20;

/// What the functions need of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retention {
    /// So many of the newest rows at or below the watermark.
    pub(super) rows: usize,
    /// Rows at most so many microseconds older than the watermark.
    pub(super) range: Option<Micros>,
    /// The first row of the key.
    pub(super) first: bool,
    /// How many rows came before: a function tells it, or the first row is kept apart.
    pub(super) counts: bool,
    /// A key whose newest row is so many microseconds below the watermark is forgotten.
    pub(super) ttl: Option<Micros>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    time: Micros,
    row: RowRef,
    older: u32,
    /// For vacant entries: the next vacant one.
    newer: u32,
}

#[derive(Debug, Clone, Copy)]
struct Key {
    oldest: u32,
    newest: u32,
    /// Their event times, so that most looks at a key need no look at its entries.
    oldest_time: Micros,
    newest_time: Micros,
    len: u32,
    /// The key's first row, once it was purged from the list, where [`Retention::first`] asks for it.
    first: u32,
    purged: u64,
    /// Whether a bucket holds the slot. Survives the key: the bucket is not searched when a key goes.
    scheduled: bool,
    /// Whether `changed` holds the slot.
    changed: bool,
}

impl Key {
    const VACANT: Key = Key {
        oldest: NONE,
        newest: NONE,
        oldest_time: MIN_TIME,
        newest_time: MIN_TIME,
        len: 0,
        first: NONE,
        purged: 0,
        scheduled: false,
        changed: false,
    };
}

/// The kept rows of all keys, by slot.
#[derive(Debug)]
pub(super) struct History {
    entries: Vec<Entry>,
    vacant: u32,
    keys: Vec<Key>,
    retention: Retention,
    due: BTreeMap<i64, Vec<u32>>,
    /// Keys whose [`Purged`] is not what the last snapshot had.
    changed: Vec<u32>,
}

impl History {
    /// No rows yet.
    pub(super) fn new(retention: Retention) -> Self {
        Self { entries: Vec::new(), vacant: NONE, keys: Vec::new(), retention, due: BTreeMap::new(), changed: Vec::new() }
    }

    /// Gives `count` entries to be inserted.
    pub(super) fn reserve(&mut self, count: usize, ids: &mut Vec<u32>) {
        ids.clear();
        while ids.len() < count && self.vacant != NONE {
            ids.push(self.vacant);
            self.vacant = self.entries[self.vacant as usize].newer;
        }
        let fresh = self.entries.len()..self.entries.len() + count - ids.len();
        let empty = Entry { time: 0, row: RowRef { segment: 0, row: 0 }, older: NONE, newer: NONE };
        self.entries.resize(fresh.end, empty);
        ids.extend(fresh.map(|id| id as u32));
    }

    /// Puts a reserved entry into its key's list, behind all rows of its time. Returns its number among the key's rows,
    /// counted from 1. Costs one step for each row of the key that is younger.
    pub(super) fn insert(&mut self, slot: u32, id: u32, time: Micros, row: RowRef) -> u64 {
        if slot as usize >= self.keys.len() {
            self.keys.resize(slot as usize + 1, Key::VACANT);
        }
        let key = &mut self.keys[slot as usize];
        let (mut older, mut newer, mut younger) = (key.newest, NONE, 0);
        while older != NONE && key.newest_time > time && self.entries[older as usize].time > time {
            newer = older;
            older = self.entries[older as usize].older;
            younger += 1;
        }
        self.entries[id as usize] = Entry { time, row, older, newer };
        match older {
            NONE => (key.oldest, key.oldest_time) = (id, time),
            _ => self.entries[older as usize].newer = id,
        }
        match newer {
            NONE => (key.newest, key.newest_time) = (id, time),
            _ => self.entries[newer as usize].older = id,
        }
        key.len += 1;
        key.purged + u64::from(key.len) - younger
    }

    /// The entry before this one, or [`NONE`].
    pub(super) fn older(&self, id: u32) -> u32 {
        self.entries[id as usize].older
    }

    /// The entry behind this one, or [`NONE`].
    pub(super) fn newer(&self, id: u32) -> u32 {
        self.entries[id as usize].newer
    }

    /// Event time of an entry.
    pub(super) fn time(&self, id: u32) -> Micros {
        self.entries[id as usize].time
    }

    /// Where the row of an entry is kept.
    pub(super) fn row(&self, id: u32) -> RowRef {
        self.entries[id as usize].row
    }

    /// The row of an entry was moved.
    pub(super) fn moved(&mut self, id: u32, to: RowRef) {
        self.entries[id as usize].row = to;
    }

    /// The first entry that the key ever had (with [`Retention::first`]; else the oldest that is kept).
    pub(super) fn first(&self, slot: u32) -> u32 {
        let key = &self.keys[slot as usize];
        if key.first == NONE { key.oldest } else { key.first }
    }

    /// Drops the rows of a key that no later row needs, tells `freed` where they were, and notes when to look again.
    /// Returns whether the key is gone with its last row.
    pub(super) fn purge(&mut self, slot: u32, watermark: Micros, freed: &mut impl FnMut(RowRef)) -> bool {
        let Some(Key { newest_time: newest, len, .. }) = self.keys.get(slot as usize).copied() else { return false };
        if len == 0 {
            return false;
        }
        let expired = |ttl: Micros| bucket(watermark) > bucket(newest.saturating_add(ttl));
        if self.retention.ttl.is_some_and(expired) {
            while self.keys[slot as usize].len > 0 {
                self.drop_oldest(slot, freed);
            }
        } else if len as usize > self.retention.rows {
            self.drop_settled(slot, watermark, freed);
        }
        if self.keys[slot as usize].len == 0 {
            self.forget(slot, freed);
            return true;
        }
        self.schedule(slot, newest);
        false
    }

    fn drop_settled(&mut self, slot: u32, watermark: Micros, freed: &mut impl FnMut(RowRef)) {
        let Key { mut oldest, oldest_time, .. } = self.keys[slot as usize];
        if oldest_time > watermark {
            return;
        }
        let in_range = self.retention.range.map_or(MAX_TIME, |range| watermark.saturating_sub(range));
        // `probe` is as many rows behind the oldest as must be kept: once it is settled too, the oldest can go.
        let mut probe = oldest;
        for _ in 0..self.retention.rows {
            probe = self.entries[probe as usize].newer;
        }
        while probe != NONE && self.entries[probe as usize].time <= watermark && self.entries[oldest as usize].time < in_range {
            probe = self.entries[probe as usize].newer;
            self.drop_oldest(slot, freed);
            oldest = self.keys[slot as usize].oldest;
        }
    }

    /// Notes that the next snapshot has to write what the key remembers, or to forget it.
    fn mark(&mut self, slot: u32) {
        if self.retention.counts && !std::mem::replace(&mut self.keys[slot as usize].changed, true) {
            self.changed.push(slot);
        }
    }

    fn drop_oldest(&mut self, slot: u32, freed: &mut impl FnMut(RowRef)) {
        self.mark(slot);
        let key = &mut self.keys[slot as usize];
        let id = key.oldest;
        key.oldest = self.entries[id as usize].newer;
        key.len -= 1;
        key.purged += 1;
        match key.oldest {
            NONE => key.newest = NONE,
            next => {
                let next = &mut self.entries[next as usize];
                next.older = NONE;
                key.oldest_time = next.time;
            }
        }
        if self.retention.first && key.first == NONE {
            key.first = id;
            self.entries[id as usize].newer = NONE;
        } else {
            self.release(id, freed);
        }
    }

    fn release(&mut self, id: u32, freed: &mut impl FnMut(RowRef)) {
        let entry = &mut self.entries[id as usize];
        freed(entry.row);
        entry.newer = self.vacant;
        self.vacant = id;
    }

    fn forget(&mut self, slot: u32, freed: &mut impl FnMut(RowRef)) {
        let key = &mut self.keys[slot as usize];
        let first = key.first;
        *key = Key { scheduled: key.scheduled, changed: key.changed, ..Key::VACANT };
        if first != NONE {
            self.release(first, freed);
        }
    }

    /// Notes when the key has to be looked at again if nothing touches it before.
    fn schedule(&mut self, slot: u32, newest: Micros) {
        let key = &mut self.keys[slot as usize];
        if key.scheduled {
            return;
        }
        let rows = (key.len as usize > self.retention.rows).then(|| self.retention.range.unwrap_or(0));
        let Some(wait) = [rows, self.retention.ttl].into_iter().flatten().min() else { return };
        key.scheduled = true;
        self.due.entry(bucket(newest.saturating_add(wait))).or_default().push(slot);
    }

    /// Takes the slots whose deadline the watermark has passed.
    pub(super) fn take_due(&mut self, watermark: Micros) -> Vec<u32> {
        let mut slots = Vec::new();
        while let Some(first) = self.due.first_entry() {
            if *first.key() >= bucket(watermark) {
                break;
            }
            slots.append(&mut first.remove());
        }
        for slot in &slots {
            self.keys[*slot as usize].scheduled = false;
        }
        slots
    }

    /// Bytes in memory, about.
    pub(super) fn size(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.keys.capacity() * size_of::<Key>()
    }
}

fn bucket(time: Micros) -> i64 {
    time >> BUCKET_BITS
}
