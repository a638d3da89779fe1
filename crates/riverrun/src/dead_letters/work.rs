//! The replay of one source: which letters are wanted, which of them would become rows, and what became of each.

use std::collections::HashSet;

use riverrun_connectors::format::Judge;
use riverrun_connectors::redelivery::Redelivery;
use riverrun_engine::Result;
use riverrun_engine::dead_letter::DeadLetter;
use riverrun_engine::table::Table;
use riverrun_engine::time::Micros;
use riverrun_serve::protocol::{ReplayOutcome, ReplayWanted, ReplayedRecord, ReplayedSource};

/// Records that are told one by one.
const TOLD: usize = 100;

/// Letters are given in the order in which they stood, among those that wait together: up to so many bytes of them.
const WAITING_BYTES: usize = 64 << 20;

/// What is given at once: so many letters …
const GIVEN: usize = 500;
/// … or so many bytes of them, about.
const GIVEN_BYTES: usize = 4 << 20;

/// The replay of one source.
pub(super) struct Work<'a> {
    table: &'a Table,
    wanted: &'a ReplayWanted,
    judge: Judge,
    place: &'a mut dyn Redelivery,
    now: Micros,
    /// How many may still be given.
    left: &'a mut usize,
    /// What was given before, or is about to be.
    given: HashSet<String>,
    waiting: Vec<DeadLetter>,
    waiting_bytes: usize,
    counts: ReplayedSource,
    records: Vec<ReplayedRecord>,
}

impl<'a> Work<'a> {
    /// Takes over from others, unless it only looks, and learns what was given before.
    pub fn begin(
        table: &'a Table,
        wanted: &'a ReplayWanted,
        judge: Judge,
        (place, now): (&'a mut dyn Redelivery, Micros),
        left: &'a mut usize,
    ) -> Result<Self> {
        if !wanted.dry_run {
            place.take_over()?;
        }
        let given = place.given()?;
        let counts = ReplayedSource { source: table.name.clone(), ..ReplayedSource::default() };
        let (waiting, records) = (Vec::new(), Vec::new());
        Ok(Self { table, wanted, judge, place, now, left, given, waiting, waiting_bytes: 0, counts, records })
    }

    /// Takes the next letter; whether it wants more.
    pub fn take(&mut self, letter: DeadLetter) -> Result<bool> {
        if !self.is_wanted(&letter) {
            return Ok(true);
        }
        self.counts.letters += 1;
        let id = letter.id();
        if self.given.contains(&id) {
            self.counts.before += 1;
            return Ok(true);
        }
        if !self.place.takes(&letter) {
            self.counts.incomplete += 1;
            self.tell(&letter, ReplayOutcome::Incomplete, None);
            return Ok(true);
        }
        let bad = self.judge.judge(&letter, self.now)?;
        if let Some(bad) = bad.filter(|_| !self.wanted.all) {
            *self.counts.bad.entry(bad.reason.to_owned()).or_default() += 1;
            self.tell(&letter, ReplayOutcome::Bad, Some(bad.detail));
            return Ok(true);
        }
        self.tell(&letter, ReplayOutcome::Replayed, None);
        self.given.insert(id);
        self.waiting_bytes += bytes(&letter);
        self.waiting.push(letter);
        *self.left -= 1;
        if self.waiting_bytes >= WAITING_BYTES {
            self.give()?;
        }
        Ok(*self.left > 0)
    }

    /// Gives what still waits.
    pub fn end(mut self) -> Result<(ReplayedSource, Vec<ReplayedRecord>)> {
        self.give()?;
        Ok((self.counts, self.records))
    }

    fn is_wanted(&self, letter: &DeadLetter) -> bool {
        let read = letter.read_time.or(letter.record_time);
        *self.left > 0
            && letter.is_of(&self.table.name)
            && self.wanted.reason.as_ref().is_none_or(|reason| *reason == letter.reason)
            && self.wanted.since.is_none_or(|since| read.is_none_or(|read| read >= since.0))
    }

    fn tell(&mut self, letter: &DeadLetter, outcome: ReplayOutcome, detail: Option<String>) {
        if self.records.len() < TOLD {
            let DeadLetter { source, partition, offset, reason, .. } = letter.clone();
            self.records.push(ReplayedRecord { source, partition, offset, reason, outcome, detail });
        }
    }

    fn give(&mut self) -> Result<()> {
        let mut waiting = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        waiting.sort_by(|a, b| (&a.source, a.partition, a.offset).cmp(&(&b.source, b.partition, b.offset)));
        let mut rest = waiting.as_slice();
        while !rest.is_empty() {
            let mut total = 0;
            let fits = |letter: &&DeadLetter| {
                total += bytes(letter);
                total <= GIVEN_BYTES
            };
            let count = rest.iter().take(GIVEN).take_while(fits).count().max(1);
            let (now, later) = rest.split_at(count);
            if !self.wanted.dry_run {
                self.place.give(now)?;
            }
            self.counts.replayed += count as u64;
            rest = later;
        }
        Ok(())
    }
}

/// The bytes that a letter takes, about.
fn bytes(letter: &DeadLetter) -> usize {
    let parts = [letter.payload.as_ref(), letter.key.as_ref()];
    parts.into_iter().flatten().map(bytes::Bytes::len).sum::<usize>() + letter.detail.len() + 100
}
