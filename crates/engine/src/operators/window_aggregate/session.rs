//! The operator for session windows.
//!
//! A row at time `t` stands for the span `[t, t + gap)`; rows of a key whose spans overlap share a session, which spans
//! them all. So rows exactly `gap` apart do not meet (`t < end` joins), and the sessions of a set of rows are the same
//! whatever their order: a row may extend a session or merge two into the one that was seen first.
//!
//! Invariants: the open sessions of a key do not overlap; a session's id is its number in [`Groups`] and is used again once
//! the session closed; `closing` holds each open session once, by its end. A session's window is part of its key, so a
//! session that went out and then grew, or was merged away, is deleted under its old window.
//! (array_agg over merged sessions: within each of the two in order of arrival, one after the other.)

mod saved;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take, take_record_batch};
use datafusion_physical_expr::PhysicalExpr;

use super::Shared;
use super::groups::{Cooled, Groups};
use super::output::{self, MAX_ROWS, Span, WindowKey, micros};
use crate::batch::{Batch, Change};
use crate::operator::{Operator, Output, StatePart, StateSize};
use crate::state::keys::Keys;
use crate::state::latest::Latest;
use crate::state::parts::Restored;
use crate::time::{MIN_TIME, Micros};
use crate::{Error, Result};

#[derive(Debug, Clone, Copy)]
struct Session {
    key: u32,
    span: Span,
    /// Orders sessions by their first row.
    seen: u64,
    /// The window under which it last went out as an upsert.
    sent: Option<Span>,
    /// The session that it was merged into; itself while it is open.
    into: u32,
    /// Whether it is open: neither merged away nor closed.
    open: bool,
    /// Whether it stands in `changed`.
    changed: bool,
}

/// The operator.
pub(super) struct Sessions {
    plan: Arc<Shared>,
    window: WindowKey,
    time: Arc<dyn PhysicalExpr>,
    gap: Micros,
    keys: Keys,
    /// The open sessions of each key.
    of_key: Vec<Vec<u32>>,
    sessions: Vec<Session>,
    vacant: Vec<u32>,
    /// Open sessions by end, then by first row.
    closing: BTreeMap<(Micros, u64), u32>,
    groups: Groups,
    /// Windows that went out and were merged away in this epoch, and the session that took them up.
    gone: Vec<(u32, Span)>,
    /// Sessions that were merged away in this epoch: `gone` may still lead through them.
    retired: Vec<u32>,
    next_seen: u64,
    watermark: Micros,
    /// Sessions that are no longer as `saved` has them.
    changed: Vec<u32>,
    /// The open sessions as the last snapshot had them, by id.
    saved: Latest,
    /// The number of the next part of a snapshot.
    next_part: u64,
}

/// The sessions of a batch's rows.
struct Assigned {
    /// The session of each row.
    sessions: Vec<u32>,
    /// Sessions that were merged away, and the open ones that took them up.
    merged: Vec<(u32, u32)>,
}

impl Sessions {
    pub(super) fn new(plan: Arc<Shared>, window: WindowKey, time: Arc<dyn PhysicalExpr>, gap: Micros) -> Result<Self> {
        if gap <= 0 {
            return Err(Error::invalid("session(time, gap): the gap must be positive"));
        }
        let groups = Groups::new(plan.layout.clone(), &plan.backend)?;
        let keys = Keys::new(plan.key_fields(window.key()), &plan.backend)?;
        let saved = Latest::new(saved::schema(), &plan.backend)?;
        Ok(Self {
            plan,
            window,
            time,
            gap,
            keys,
            of_key: Vec::new(),
            sessions: Vec::new(),
            vacant: Vec::new(),
            closing: BTreeMap::new(),
            groups,
            gone: Vec::new(),
            retired: Vec::new(),
            next_seen: 0,
            watermark: MIN_TIME,
            changed: Vec::new(),
            saved,
            next_part: 0,
        })
    }

    fn insert(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<()> {
        let count = rows.num_rows();
        let times = self.time.evaluate(rows)?.into_array(count)?;
        let times = micros(&times)?;
        let kept = |row: &u32| {
            let row = *row as usize;
            times.is_valid(row) && times.value(row).saturating_add(self.gap) > self.watermark
        };
        let kept: Vec<u32> = (0..count as u32).filter(kept).collect();
        out.count_late(count - kept.len());
        if kept.is_empty() {
            return Ok(());
        }
        let mut keys = self.plan.evaluate_keys(self.window.key(), rows)?;
        let mut arguments = self.plan.layout.arguments(rows)?;
        if kept.len() < count {
            let order = UInt32Array::from(kept.clone());
            keys = keys.iter().map(|k| take(k, &order, None)).collect::<Result<_, _>>()?;
            arguments = arguments.take(&order)?;
        }
        let mut slots = Vec::new();
        self.keys.insert(&keys, kept.len(), &mut slots)?;
        let times = kept.iter().map(|row| times.value(*row as usize));
        let Assigned { sessions, merged } = self.assign(times.zip(slots.iter().copied()));
        let mut indices = Vec::with_capacity(sessions.len());
        self.groups.touch(sessions.iter().copied(), &mut indices)?;
        self.groups.absorb(&merged)?;
        self.groups.update(&arguments, &indices)?;
        self.retired.extend(merged.iter().map(|(from, _)| *from));
        Ok(())
    }

    /// Finds, extends, merges and opens sessions for rows (time, key).
    fn assign(&mut self, rows: impl Iterator<Item = (Micros, u32)>) -> Assigned {
        let mut sessions = Vec::new();
        let mut merged = Vec::new();
        for (time, key) in rows {
            let span = Span { end: time.saturating_add(self.gap), start: time };
            if key as usize >= self.of_key.len() {
                self.of_key.resize(key as usize + 1, Vec::new());
            }
            let mut home = None;
            let mut i = 0;
            while let Some(id) = self.of_key[key as usize].get(i).copied() {
                let open = self.sessions[id as usize].span;
                if open.start >= span.end || span.start >= open.end {
                    i += 1;
                    continue;
                }
                match home {
                    None => {
                        self.resize(id, span);
                        home = Some(id);
                        i += 1;
                    }
                    Some(other) => {
                        let (from, into) = self.merge(id, other);
                        merged.push(from);
                        home = Some(into);
                        self.of_key[key as usize].retain(|id| *id != from);
                    }
                }
            }
            sessions.push(home.unwrap_or_else(|| self.open(key, span)));
        }
        for id in &mut sessions {
            *id = self.home(*id);
        }
        let merged = merged.into_iter().map(|from| (from, self.home(from))).collect();
        Assigned { sessions, merged }
    }

    /// The open session that `id` became part of.
    fn home(&self, mut id: u32) -> u32 {
        while self.sessions[id as usize].into != id {
            id = self.sessions[id as usize].into;
        }
        id
    }

    fn open(&mut self, key: u32, span: Span) -> u32 {
        let seen = self.next_seen;
        self.next_seen += 1;
        let id = self.vacant.pop().unwrap_or(self.sessions.len() as u32);
        let session = Session { key, span, seen, sent: None, into: id, open: true, changed: false };
        match self.sessions.get_mut(id as usize) {
            Some(place) => *place = Session { changed: place.changed, ..session },
            None => self.sessions.push(session),
        }
        self.mark(id);
        self.of_key[key as usize].push(id);
        self.closing.insert((span.end, seen), id);
        id
    }

    /// Notes that the next snapshot has to write the session again, or to forget it.
    fn mark(&mut self, id: u32) {
        let session = &mut self.sessions[id as usize];
        if !std::mem::replace(&mut session.changed, true) {
            self.changed.push(id);
        }
    }

    /// Lets session `id` span `more` too.
    fn resize(&mut self, id: u32, more: Span) {
        self.mark(id);
        let session = &mut self.sessions[id as usize];
        session.span.start = session.span.start.min(more.start);
        if more.end > session.span.end {
            self.closing.remove(&(session.span.end, session.seen));
            session.span.end = more.end;
            self.closing.insert((more.end, session.seen), id);
        }
    }

    /// Merges two sessions into the one that was seen first; gives (from, into).
    fn merge(&mut self, a: u32, b: u32) -> (u32, u32) {
        let older = self.sessions[a as usize].seen < self.sessions[b as usize].seen;
        let (from, into) = if older { (b, a) } else { (a, b) };
        self.mark(from);
        let session = &mut self.sessions[from as usize];
        (session.into, session.open) = (into, false);
        let Session { span, seen, sent, .. } = *session;
        self.gone.extend(sent.map(|sent| (into, sent)));
        self.closing.remove(&(span.end, seen));
        self.resize(into, span);
        (from, into)
    }

    /// Writes what changed back, and gives it to whoever takes updates.
    fn settle(&mut self, out: &mut Output) -> Result<()> {
        if !self.groups.is_hot() {
            return Ok(());
        }
        let cooled = self.groups.cool()?;
        if self.plan.updates { self.send(&cooled, out) } else { Ok(()) }
    }

    fn rows(&self, ids: &[u32], values: Vec<ArrayRef>) -> Result<RecordBatch> {
        let spans: Vec<_> = ids.iter().map(|id| self.sessions[*id as usize].span).collect();
        let keys = self.keys.columns(ids.iter().map(|id| self.sessions[*id as usize].key))?;
        self.plan.rows(&self.window, &spans, keys, values)
    }

    fn send(&mut self, cooled: &Cooled, out: &mut Output) -> Result<()> {
        let rows = self.rows(&cooled.groups, self.groups.values_of(cooled)?)?;
        let passing = output::passing(self.plan.having.as_ref(), &rows)?;
        // Rows that take the place of what is no longer true, and the windows that that had.
        let (mut at, mut old) = (Vec::new(), Vec::new());
        let gone = std::mem::take(&mut self.gone);
        if !gone.is_empty() {
            let row_of: BTreeMap<u32, u32> = cooled.groups.iter().copied().zip(0..).collect();
            for (into, sent) in gone {
                at.extend(row_of.get(&self.home(into)).map(|row| {
                    old.push(sent);
                    *row
                }));
            }
        }
        for (row, id) in cooled.groups.iter().enumerate() {
            let session = &mut self.sessions[*id as usize];
            let now = passing.as_ref().is_none_or(|mask| mask.value(row)).then_some(session.span);
            let before = std::mem::replace(&mut session.sent, now);
            if before != now && !std::mem::replace(&mut session.changed, true) {
                self.changed.push(*id);
            }
            if let Some(before) = before.filter(|_| before != now) {
                at.push(row as u32);
                old.push(before);
            }
        }
        if !at.is_empty() {
            let mut columns = take_record_batch(&rows, &UInt32Array::from(at))?.columns().to_vec();
            if let Some((key, column)) = self.window.key().zip(self.window.column(&old)) {
                columns[key] = column;
            }
            out.delete(output::batch(&self.plan.output, columns, old.len())?);
        }
        out.upsert(match passing {
            Some(mask) => filter_record_batch(&rows, &mask)?,
            None => rows,
        });
        Ok(())
    }

    /// Closes sessions, given in the order in which they go out.
    fn close(&mut self, ids: &[u32], out: &mut Output) -> Result<()> {
        for ids in ids.chunks(MAX_ROWS) {
            if self.plan.finals {
                let rows = self.rows(ids, self.groups.cold_values(ids)?)?;
                output::append(self.plan.having.as_ref(), &rows, out)?;
            }
            for id in ids {
                self.groups.free(*id)?;
                self.mark(*id);
                let session = &mut self.sessions[*id as usize];
                session.open = false;
                let key = session.key;
                let open = &mut self.of_key[key as usize];
                open.retain(|other| other != id);
                if open.is_empty() {
                    self.keys.remove(key)?;
                }
            }
            self.vacant.extend(ids);
        }
        Ok(())
    }
}

impl Operator for Sessions {
    fn on_batch(&mut self, _input: usize, batch: Batch, out: &mut Output) -> Result<()> {
        match batch.change {
            Change::Insert => self.insert(&batch.rows, out),
            Change::Late => {
                out.count_late(batch.rows.num_rows());
                Ok(())
            }
            Change::Upsert | Change::Delete => Err(super::takes_inserts_only()),
        }
    }

    fn on_watermark(&mut self, watermark: Micros, out: &mut Output) -> Result<()> {
        self.watermark = self.watermark.max(watermark);
        let mut ids = Vec::new();
        while let Some(first) = self.closing.first_entry().filter(|first| first.key().0 <= watermark) {
            ids.push(first.remove());
        }
        if ids.is_empty() {
            return Ok(());
        }
        self.settle(out)?;
        self.close(&ids, out)
    }

    fn on_epoch_end(&mut self, out: &mut Output) -> Result<()> {
        if self.plan.updates || self.groups.is_overheated() {
            self.settle(out)?;
        }
        self.vacant.append(&mut self.retired);
        Ok(())
    }

    fn state_size(&self) -> StateSize {
        let sessions = self.sessions.capacity() * size_of::<Session>() + self.of_key.capacity() * size_of::<Vec<u32>>();
        let sessions = StateSize { bytes: sessions as u64, ..StateSize::default() };
        let all = self.groups.size() + self.saved.size() + self.keys.size() + sessions;
        StateSize { rows: self.closing.len() as u64, ..all }
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        self.save()
    }

    fn restore(&mut self, state: Vec<StatePart>) -> Result<()> {
        match Restored::new(state)? {
            Some(state) => self.resume(state),
            None => Ok(()),
        }
    }
}
