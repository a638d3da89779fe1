//! Which rows of each key are kept, in the order of event time.
//!
//! Invariants: the entries of a key form a list in the order (event time, arrival), linked both ways through one arena; a
//! key in use has at least one entry; rows that were purged stand before every row that is still to come; each key stands
//! in at most one bucket of deadlines, so the work of purging is in proportion to the rows that came.

mod saved;

use std::collections::BTreeMap;

pub(super) use self::saved::Purged;
use crate::Result;
use crate::operator::StateSize;
use crate::state::Backend;
use crate::state::array::{Array, Record, halves, whole};
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

impl Entry {
    const VACANT: Entry = Entry { time: 0, row: RowRef { segment: 0, row: 0 }, older: NONE, newer: NONE };
}

impl Record for Entry {
    type Words = [u32; 6];

    fn words(&self) -> Self::Words {
        let [least, most] = halves(self.time.cast_unsigned());
        [least, most, self.row.segment, self.row.row, self.older, self.newer]
    }

    fn of([least, most, segment, row, older, newer]: Self::Words) -> Self {
        Self { time: whole(least, most).cast_signed(), row: RowRef { segment, row }, older, newer }
    }
}

impl Record for Key {
    type Words = [u32; 11];

    fn words(&self) -> Self::Words {
        let [a, b] = halves(self.oldest_time.cast_unsigned());
        let [c, d] = halves(self.newest_time.cast_unsigned());
        let [e, f] = halves(self.purged);
        let flags = u32::from(self.scheduled) | u32::from(self.changed) << 1;
        [self.oldest, self.newest, a, b, c, d, self.len, self.first, e, f, flags]
    }

    fn of([oldest, newest, a, b, c, d, len, first, e, f, flags]: Self::Words) -> Self {
        Self {
            oldest,
            newest,
            oldest_time: whole(a, b).cast_signed(),
            newest_time: whole(c, d).cast_signed(),
            len,
            first,
            purged: whole(e, f),
            scheduled: flags & 1 != 0,
            changed: flags & 2 != 0,
        }
    }
}

/// The kept rows of all keys, by slot.
#[derive(Debug)]
pub(super) struct History {
    entries: Array<Entry>,
    vacant: u32,
    keys: Array<Key>,
    retention: Retention,
    due: BTreeMap<i64, Vec<u32>>,
    /// Keys whose [`Purged`] is not what the last snapshot had.
    changed: Vec<u32>,
}

impl History {
    /// No rows yet.
    pub(super) fn new(retention: Retention, backend: &Backend) -> Self {
        let (entries, keys) = (Array::new(backend), Array::new(backend));
        Self { entries, vacant: NONE, keys, retention, due: BTreeMap::new(), changed: Vec::new() }
    }

    /// Gives `count` entries to be inserted.
    pub(super) fn reserve(&mut self, count: usize, ids: &mut Vec<u32>) -> Result<()> {
        ids.clear();
        while ids.len() < count && self.vacant != NONE {
            ids.push(self.vacant);
            self.vacant = self.entries.get(self.vacant)?.newer;
        }
        let fresh = self.entries.len()..self.entries.len() + count - ids.len();
        self.entries.grow(fresh.end, Entry::VACANT)?;
        ids.extend(fresh.map(|id| id as u32));
        Ok(())
    }

    /// Puts a reserved entry into its key's list, behind all rows of its time. Returns its number among the key's rows,
    /// counted from 1. Costs one step for each row of the key that is younger.
    pub(super) fn insert(&mut self, slot: u32, id: u32, time: Micros, row: RowRef) -> Result<u64> {
        self.keys.grow(slot as usize + 1, Key::VACANT)?;
        let mut key = self.keys.get(slot)?;
        let (mut older, mut newer, mut younger) = (key.newest, NONE, 0);
        while older != NONE && key.newest_time > time {
            let entry = self.entries.get(older)?;
            if entry.time <= time {
                break;
            }
            (newer, older) = (older, entry.older);
            younger += 1;
        }
        self.entries.set(id, Entry { time, row, older, newer })?;
        match older {
            NONE => (key.oldest, key.oldest_time) = (id, time),
            _ => self.entries.update(older, |entry| entry.newer = id)?,
        }
        match newer {
            NONE => (key.newest, key.newest_time) = (id, time),
            _ => self.entries.update(newer, |entry| entry.older = id)?,
        }
        key.len += 1;
        self.keys.set(slot, key)?;
        Ok(key.purged + u64::from(key.len) - younger)
    }

    /// The entry before this one, or [`NONE`].
    pub(super) fn older(&self, id: u32) -> Result<u32> {
        Ok(self.entries.get(id)?.older)
    }

    /// The entry behind this one, or [`NONE`].
    pub(super) fn newer(&self, id: u32) -> Result<u32> {
        Ok(self.entries.get(id)?.newer)
    }

    /// Event time of an entry.
    pub(super) fn time(&self, id: u32) -> Result<Micros> {
        Ok(self.entries.get(id)?.time)
    }

    /// Where the row of an entry is kept.
    pub(super) fn row(&self, id: u32) -> Result<RowRef> {
        Ok(self.entries.get(id)?.row)
    }

    /// The row of an entry was moved.
    pub(super) fn moved(&mut self, id: u32, to: RowRef) -> Result<()> {
        self.entries.update(id, |entry| entry.row = to)
    }

    /// The first entry that the key ever had (with [`Retention::first`]; else the oldest that is kept).
    pub(super) fn first(&self, slot: u32) -> Result<u32> {
        let key = self.keys.get(slot)?;
        Ok(if key.first == NONE { key.oldest } else { key.first })
    }

    /// Drops the rows of a key that no later row needs, tells `freed` where they were, and notes when to look again.
    /// Returns whether the key is gone with its last row.
    pub(super) fn purge(&mut self, slot: u32, watermark: Micros, freed: &mut impl FnMut(RowRef)) -> Result<bool> {
        if slot as usize >= self.keys.len() {
            return Ok(false);
        }
        let mut key = self.keys.get(slot)?;
        if key.len == 0 {
            return Ok(false);
        }
        let (newest, was) = (key.newest_time, (key.len, key.scheduled));
        let expired = |ttl: Micros| bucket(watermark) > bucket(newest.saturating_add(ttl));
        if self.retention.ttl.is_some_and(expired) {
            while key.len > 0 {
                self.drop_oldest(slot, &mut key, freed)?;
            }
        } else if key.len as usize > self.retention.rows {
            self.drop_settled(slot, &mut key, watermark, freed)?;
        }
        if key.len == 0 {
            let first = key.first;
            key = Key { scheduled: key.scheduled, changed: key.changed, ..Key::VACANT };
            if first != NONE {
                self.release(first, freed)?;
            }
        } else {
            self.schedule(slot, &mut key);
        }
        if was != (key.len, key.scheduled) {
            self.keys.set(slot, key)?;
        }
        Ok(key.len == 0)
    }

    fn drop_settled(&mut self, slot: u32, key: &mut Key, watermark: Micros, freed: &mut impl FnMut(RowRef)) -> Result<()> {
        if key.oldest_time > watermark {
            return Ok(());
        }
        let in_range = self.retention.range.map_or(MAX_TIME, |range| watermark.saturating_sub(range));
        // `probe` is as many rows behind the oldest as must be kept: once it is settled too, the oldest can go.
        let mut probe = key.oldest;
        for _ in 0..self.retention.rows {
            probe = self.newer(probe)?;
        }
        while probe != NONE && key.oldest_time < in_range {
            let Entry { time, newer, .. } = self.entries.get(probe)?;
            if time > watermark {
                break;
            }
            probe = newer;
            self.drop_oldest(slot, key, freed)?;
        }
        Ok(())
    }

    /// Notes that the next snapshot has to write what the key remembers, or to forget it.
    fn mark(&mut self, slot: u32, key: &mut Key) {
        if self.retention.counts && !std::mem::replace(&mut key.changed, true) {
            self.changed.push(slot);
        }
    }

    fn drop_oldest(&mut self, slot: u32, key: &mut Key, freed: &mut impl FnMut(RowRef)) -> Result<()> {
        self.mark(slot, key);
        let id = key.oldest;
        key.oldest = self.newer(id)?;
        key.len -= 1;
        key.purged += 1;
        match key.oldest {
            NONE => key.newest = NONE,
            next => {
                key.oldest_time = self.entries.update(next, |next| {
                    next.older = NONE;
                    next.time
                })?;
            }
        }
        if self.retention.first && key.first == NONE {
            key.first = id;
            self.entries.update(id, |entry| entry.newer = NONE)
        } else {
            self.release(id, freed)
        }
    }

    fn release(&mut self, id: u32, freed: &mut impl FnMut(RowRef)) -> Result<()> {
        let newer = std::mem::replace(&mut self.vacant, id);
        freed(self.entries.update(id, |entry| {
            entry.newer = newer;
            entry.row
        })?);
        Ok(())
    }

    /// Notes when the key has to be looked at again if nothing touches it before.
    fn schedule(&mut self, slot: u32, key: &mut Key) {
        if key.scheduled {
            return;
        }
        let rows = (key.len as usize > self.retention.rows).then(|| self.retention.range.unwrap_or(0));
        let Some(wait) = [rows, self.retention.ttl].into_iter().flatten().min() else { return };
        key.scheduled = true;
        self.due.entry(bucket(key.newest_time.saturating_add(wait))).or_default().push(slot);
    }

    /// Takes the slots whose deadline the watermark has passed.
    pub(super) fn take_due(&mut self, watermark: Micros) -> Result<Vec<u32>> {
        let mut slots = Vec::new();
        while let Some(first) = self.due.first_entry() {
            if *first.key() >= bucket(watermark) {
                break;
            }
            slots.append(&mut first.remove());
        }
        for slot in &slots {
            self.keys.update(*slot, |key| key.scheduled = false)?;
        }
        Ok(slots)
    }

    /// What is held, but for the rows.
    pub(super) fn size(&self) -> StateSize {
        self.entries.size() + self.keys.size()
    }
}

fn bucket(time: Micros) -> i64 {
    time >> BUCKET_BITS
}
