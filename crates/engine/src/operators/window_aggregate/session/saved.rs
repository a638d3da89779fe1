//! Open sessions in a checkpoint: keys, groups, and a row per session that is written again when the session changed.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt32Type, UInt64Type};

use super::super::output::Span;
use super::super::saved::column;
use super::{Session, Sessions};
use crate::Result;
use crate::operator::StatePart;
use crate::state::parts::{self, Restored, Snapshot};
use crate::time::MIN_TIME;

/// An open session in a checkpoint.
#[derive(Debug, Clone, Copy)]
struct SavedSession {
    /// Slot of its key.
    key: u32,
    span: Span,
    /// Orders sessions by their first row.
    seen: u64,
    /// The window under which it last went out as an upsert.
    sent: Option<Span>,
}

/// The columns of open sessions.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::UInt32, false),
        Field::new("start", DataType::Int64, false),
        Field::new("end", DataType::Int64, false),
        Field::new("seen", DataType::UInt64, false),
        Field::new("sent_start", DataType::Int64, true),
        Field::new("sent_end", DataType::Int64, true),
    ]))
}

/// Open sessions as rows.
fn rows(all: &[SavedSession], schema: &SchemaRef) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_iter_values(all.iter().map(|s| s.key))),
        Arc::new(Int64Array::from_iter_values(all.iter().map(|s| s.span.start))),
        Arc::new(Int64Array::from_iter_values(all.iter().map(|s| s.span.end))),
        Arc::new(UInt64Array::from_iter_values(all.iter().map(|s| s.seen))),
        Arc::new(Int64Array::from_iter(all.iter().map(|s| s.sent.map(|sent| sent.start)))),
        Arc::new(Int64Array::from_iter(all.iter().map(|s| s.sent.map(|sent| sent.end)))),
    ];
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

/// Reads what [`rows`] wrote.
///
/// # Errors
/// The batch is of another operator.
fn read(rows: &RecordBatch) -> Result<Vec<SavedSession>> {
    parts::expect(rows, &schema())?;
    let (key, seen) = (column::<UInt32Type>(rows, 0)?, column::<UInt64Type>(rows, 3)?);
    let time = |i| column::<Int64Type>(rows, i);
    let (start, end, sent_start, sent_end) = (time(1)?, time(2)?, time(4)?, time(5)?);
    let session = |i: usize| SavedSession {
        key: key.value(i),
        span: Span { end: end.value(i), start: start.value(i) },
        seen: seen.value(i),
        sent: sent_end.is_valid(i).then(|| Span { end: sent_end.value(i), start: sent_start.value(i) }),
    };
    Ok((0..rows.num_rows()).map(session).collect())
}

impl Sessions {
    /// The state as parts. Writes the sessions that changed since the last snapshot.
    pub(super) fn save(&mut self) -> Result<Vec<StatePart>> {
        let mut open = Vec::with_capacity(self.changed.len());
        for id in std::mem::take(&mut self.changed) {
            let session = &mut self.sessions[id as usize];
            session.changed = false;
            if session.open { open.push(id) } else { self.saved.free(id)? }
        }
        let saved = |id: &u32| {
            let Session { key, span, seen, sent, .. } = self.sessions[*id as usize];
            SavedSession { key, span, seen, sent }
        };
        let sessions: Vec<_> = open.iter().map(saved).collect();
        self.saved.write(&open, rows(&sessions, self.saved.schema())?)?;
        let mut snapshot = Snapshot::new(&mut self.next_part);
        self.keys.save(&mut snapshot)?;
        self.groups.save(&mut snapshot)?;
        self.saved.save(&mut snapshot)?;
        snapshot.finish(self.watermark)
    }

    /// Takes up what [`save`](Sessions::save) gave.
    pub(super) fn resume(&mut self, mut state: Restored) -> Result<()> {
        (self.watermark, self.next_part) = (state.watermark, state.next);
        self.keys.restore(state.section()?)?;
        self.groups.restore(state.section()?)?;
        let mut open: Vec<(u32, SavedSession)> = Vec::new();
        self.saved.restore(state.section()?, &mut |ids, rows| {
            open.extend(ids.iter().copied().zip(read(&rows)?));
            Ok(())
        })?;
        state.finish()?;
        open.sort_unstable_by_key(|(_, session)| session.seen);
        self.reopen(&open);
        Ok(())
    }

    /// Takes up open sessions with their ids, in the order of their first rows.
    fn reopen(&mut self, open: &[(u32, SavedSession)]) {
        let count = open.iter().map(|(id, _)| id + 1).max().unwrap_or(0);
        let nowhere = Span { end: MIN_TIME, start: MIN_TIME };
        let closed = Session { key: 0, span: nowhere, seen: 0, sent: None, into: 0, open: false, changed: false };
        self.sessions = vec![closed; count as usize];
        for &(id, SavedSession { key, span, seen, sent }) in open {
            self.sessions[id as usize] = Session { key, span, seen, sent, into: id, open: true, changed: false };
            if key as usize >= self.of_key.len() {
                self.of_key.resize(key as usize + 1, Vec::new());
            }
            self.of_key[key as usize].push(id);
            self.closing.insert((span.end, seen), id);
            self.next_seen = seen + 1;
        }
        self.vacant = (0..count).rev().filter(|id| !self.sessions[*id as usize].open).collect();
    }
}
