//! The operator for tumbling and hopping windows, windows given as timestamps, and no window at all: one table of groups per
//! window, so that closing a window frees it whole.
//!
//! Invariants: a group's slot among the keys of its window is its number in [`Groups`], in first-seen order; a table exists
//! only for a window whose end is past the watermark; at the end of an epoch a table is hot only if nobody takes updates.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::FieldRef;

use super::accumulators::Arguments;
use super::groups::{Cooled, Groups};
use super::output::{self, MAX_ROWS, Span, WindowKey};
use super::{Shared, saved};
use crate::Result;
use crate::batch::{Batch, Change};
use crate::operator::{CurrentWindow, Operator, Output, StatePart, StateSize};
use crate::state::keys::Keys;
use crate::state::parts::{Restored, Snapshot};
use crate::time::{MAX_TIME, MIN_TIME, Micros};

/// The span of all rows where no key carries time.
const FOR_EVER: Span = Span { end: MAX_TIME, start: MIN_TIME };

/// The groups of one window.
struct Table {
    keys: Keys,
    groups: Groups,
    /// By slot: whether the group's newest version that was looked at is out as an upsert. Only kept under HAVING.
    sent: Vec<bool>,
    size: StateSize,
}

/// The operator.
pub(super) struct Windows {
    plan: Arc<Shared>,
    window: WindowKey,
    /// The keys that carry no window.
    key_fields: Vec<FieldRef>,
    tables: BTreeMap<Span, Table>,
    /// Tables with rows of this epoch.
    changed: BTreeSet<Span>,
    watermark: Micros,
    size: StateSize,
    touched: u64,
    /// The number of the next part of a snapshot.
    next_part: u64,
    slots: Vec<u32>,
    indices: Vec<usize>,
}

/// Rows of a batch by window: rows `offset..offset + length` of `order` belong to the span.
struct Split {
    parts: Vec<(Span, usize, usize)>,
    /// `None`: the rows stand in order already.
    order: Option<UInt32Array>,
    dropped: usize,
}

impl Windows {
    pub(super) fn new(plan: Arc<Shared>, window: WindowKey) -> Result<Self> {
        let key_fields = plan.key_fields(window.key());
        // Refuses what cannot be kept now rather than at the first row.
        Table::new(key_fields.clone(), &plan)?;
        Ok(Self {
            plan,
            window,
            key_fields,
            tables: BTreeMap::new(),
            changed: BTreeSet::new(),
            watermark: MIN_TIME,
            size: StateSize::default(),
            touched: 0,
            next_part: 0,
            slots: Vec::new(),
            indices: Vec::new(),
        })
    }

    fn split(&self, rows: &RecordBatch) -> Result<Split> {
        let count = rows.num_rows();
        let Some(key) = self.window.key() else {
            return Ok(Split { parts: vec![(FOR_EVER, 0, count)], order: None, dropped: 0 });
        };
        let column = self.plan.keys[key].0.evaluate(rows)?.into_array(count)?;
        let spans = self.window.spans(&column)?;
        let mut numbers: BTreeMap<Span, usize> = BTreeMap::new();
        let mut parts: Vec<(Span, usize, usize)> = Vec::new();
        let mut of_row = Vec::with_capacity(count);
        let mut last = None;
        for span in &spans {
            let number = match span {
                Some(span) if span.end > self.watermark => match last {
                    Some((same, number)) if same == *span => number,
                    _ => *numbers.entry(*span).or_insert_with(|| {
                        parts.push((*span, 0, 0));
                        parts.len() - 1
                    }),
                },
                _ => usize::MAX,
            };
            if let Some(part) = parts.get_mut(number) {
                part.2 += 1;
                last = Some((part.0, number));
            }
            of_row.push(number);
        }
        let mut kept = 0;
        for part in &mut parts {
            part.1 = kept;
            kept += part.2;
        }
        let dropped = count - kept;
        if dropped == 0 && parts.len() <= 1 {
            return Ok(Split { parts, order: None, dropped });
        }
        let mut order = vec![0; kept];
        let mut next: Vec<usize> = parts.iter().map(|p| p.1).collect();
        for (row, number) in of_row.into_iter().enumerate() {
            if let Some(next) = next.get_mut(number) {
                order[*next] = row as u32;
                *next += 1;
            }
        }
        Ok(Split { parts, order: Some(order.into()), dropped })
    }

    fn insert(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<()> {
        let Split { parts, order, dropped } = self.split(rows)?;
        out.count_late(dropped);
        let mut keys = self.plan.evaluate_keys(self.window.key(), rows)?;
        let mut arguments = self.plan.layout.arguments(rows)?;
        if let Some(order) = order {
            keys = keys.iter().map(|k| take(k, &order, None)).collect::<Result<_, _>>()?;
            arguments = arguments.take(&order)?;
        }
        if let [(span, _, count)] = parts[..] {
            return self.add(span, &keys, &arguments, count);
        }
        for (span, offset, count) in parts {
            let keys: Vec<_> = keys.iter().map(|k| k.slice(offset, count)).collect();
            self.add(span, &keys, &arguments.slice(offset, count), count)?;
        }
        Ok(())
    }

    fn add(&mut self, span: Span, keys: &[ArrayRef], arguments: &Arguments, count: usize) -> Result<()> {
        if !self.tables.contains_key(&span) {
            self.tables.insert(span, Table::new(self.key_fields.clone(), &self.plan)?);
        }
        let Some(table) = self.tables.get_mut(&span) else { return Ok(()) };
        table.keys.insert(keys, count, &mut self.slots)?;
        table.groups.touch(self.slots.iter().copied(), &mut self.indices)?;
        table.groups.update(arguments, &self.indices)?;
        self.changed.insert(span);
        Ok(())
    }

    /// What the epoch changed in one window goes out; the size is measured.
    fn settle(&mut self, span: Span, out: &mut Output) -> Result<()> {
        let Some(table) = self.tables.get_mut(&span) else { return Ok(()) };
        if table.groups.is_hot() && (self.plan.updates || table.groups.is_overheated()) {
            let cooled = table.groups.cool()?;
            self.touched += cooled.groups.len() as u64;
            if self.plan.updates {
                table.send(&self.plan, &self.window, span, &cooled, out)?;
            }
        }
        let size = table.groups.size() + table.keys.size();
        let before = std::mem::replace(&mut table.size, size);
        self.size = self.size + size - before;
        Ok(())
    }

    fn close(&mut self, span: Span, out: &mut Output) -> Result<()> {
        if self.changed.remove(&span) && self.plan.updates {
            self.settle(span, out)?;
        }
        let Some(mut table) = self.tables.remove(&span) else { return Ok(()) };
        self.size = self.size - table.size;
        if !self.plan.finals {
            return Ok(());
        }
        let count = table.keys.len() as u32;
        if self.plan.backend.is_disk() {
            return self.give_in_portions(&mut table, (span, count), out);
        }
        let values = table.groups.finish(count)?;
        self.give((span, 0..count), &table.keys, values, out)
    }

    /// Gives the final rows of some groups.
    fn give(&self, (span, groups): (Span, Range<u32>), keys: &Keys, values: Vec<ArrayRef>, out: &mut Output) -> Result<()> {
        let rows = self.plan.rows(&self.window, &vec![span; groups.len()], keys.columns(groups)?, values)?;
        output::append(self.plan.having.as_ref(), &rows, out)
    }

    /// Gives the final rows of a window, without all of its groups in memory at once.
    fn give_in_portions(&self, table: &mut Table, (span, count): (Span, u32), out: &mut Output) -> Result<()> {
        if table.groups.is_hot() {
            table.groups.cool()?;
        }
        for from in (0..count).step_by(MAX_ROWS) {
            let groups = from..count.min(from + MAX_ROWS as u32);
            let values = table.groups.cold_values(&groups.clone().collect::<Vec<_>>())?;
            self.give((span, groups), &table.keys, values, out)?;
        }
        Ok(())
    }
}

impl Table {
    fn new(key_fields: Vec<FieldRef>, plan: &Shared) -> Result<Self> {
        let Shared { layout, backend, .. } = plan;
        let (keys, groups) = (Keys::new(key_fields, backend)?, Groups::new(layout.clone(), backend)?);
        Ok(Self { keys, groups, sent: Vec::new(), size: StateSize::default() })
    }

    /// Gives the groups that changed.
    fn send(&mut self, plan: &Shared, window: &WindowKey, span: Span, cooled: &Cooled, out: &mut Output) -> Result<()> {
        let groups = &cooled.groups;
        let keys = self.keys.columns(groups.iter().copied())?;
        let rows = plan.rows(window, &vec![span; groups.len()], keys, self.groups.values_of(cooled)?)?;
        let Some(having) = &plan.having else {
            out.upsert(rows);
            return Ok(());
        };
        let passing = crate::operators::filter::passes(having, &rows)?;
        self.sent.resize(self.keys.len(), false);
        let sent = &mut self.sent;
        let before = groups.iter().zip(passing.values()).map(|(group, now)| std::mem::replace(&mut sent[*group as usize], now));
        let gone: BooleanArray = before.zip(passing.values()).map(|(before, now)| Some(before && !now)).collect();
        out.delete(filter_record_batch(&rows, &gone)?);
        out.upsert(filter_record_batch(&rows, &passing)?);
        Ok(())
    }
}

impl Operator for Windows {
    fn on_batch(&mut self, _input: usize, batch: Batch, out: &mut Output) -> Result<()> {
        match batch.change {
            Change::Insert if batch.rows.num_rows() > 0 => self.insert(&batch.rows, out),
            Change::Insert => Ok(()),
            Change::Late => {
                out.count_late(batch.rows.num_rows());
                Ok(())
            }
            Change::Upsert | Change::Delete => Err(super::takes_inserts_only()),
        }
    }

    fn on_watermark(&mut self, watermark: Micros, out: &mut Output) -> Result<()> {
        self.watermark = self.watermark.max(watermark);
        while let Some((span, _)) = self.tables.first_key_value().filter(|(span, _)| span.end <= watermark) {
            self.close(*span, out)?;
        }
        Ok(())
    }

    fn on_epoch_end(&mut self, out: &mut Output) -> Result<()> {
        for span in std::mem::take(&mut self.changed) {
            self.settle(span, out)?;
        }
        Ok(())
    }

    fn state_size(&self) -> StateSize {
        self.size
    }

    fn current_window(&self) -> Option<CurrentWindow> {
        // Spans sort by their ends: the first that ends behind the newest one's start overlaps it, and is the oldest to do so.
        let Some(newest) = self.tables.last_key_value() else {
            return Some(CurrentWindow { start: MIN_TIME, end: MIN_TIME, groups: 0 });
        };
        let behind = Span { end: newest.0.start.saturating_add(1), start: MIN_TIME };
        let (span, table) = self.tables.range(behind..).next().unwrap_or(newest);
        Some(CurrentWindow { start: span.start, end: span.end, groups: table.keys.len() as u64 })
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        let mut snapshot = Snapshot::new(&mut self.next_part);
        snapshot.whole(saved::tables(self.tables.iter().map(|(span, table)| (*span, &table.sent[..])))?);
        for table in self.tables.values_mut() {
            table.keys.save(&mut snapshot)?;
            table.groups.save(&mut snapshot)?;
        }
        snapshot.finish(self.watermark)
    }

    fn restore(&mut self, state: Vec<StatePart>) -> Result<()> {
        let Some(mut state) = Restored::new(state)? else { return Ok(()) };
        (self.watermark, self.next_part) = (state.watermark, state.next);
        for (span, sent) in saved::read_tables(&state.whole()?)? {
            let mut table = Table::new(self.key_fields.clone(), &self.plan)?;
            table.keys.restore(state.section()?)?;
            table.groups.restore(state.section()?)?;
            table.sent = sent;
            self.tables.insert(span, table);
            self.settle(span, &mut Output::default())?;
        }
        state.finish()
    }
}

#[cfg(test)]
impl Windows {
    /// Groups that were written back so far.
    pub(super) fn touched(&self) -> u64 {
        self.touched
    }
}
