//! Computes the functions of rows as they come, over the rows of their key that came before.
//!
//! Invariants: a row takes part in the history of its key from the moment it is inserted; nothing is freed before the
//! columns that look at it are made; memory is what [`Retention`](super::history::Retention) asks for, plus the rows
//! younger than the watermark. Kept rows end with two columns of ours, the slot of their key and their number in the order
//! of arrival, so that histories can be made again from the rows of a checkpoint.

use std::mem::size_of;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimestampMicrosecondType, UInt32Type, UInt64Type};
use datafusion_physical_expr::PhysicalExpr;

use super::Over;
use super::functions::Functions;
use super::history::{History, NONE, Purged};
use super::lookup::{Current, Lookup};
use crate::Result;
use crate::operator::StateSize;
use crate::state::Backend;
use crate::state::keys::Keys;
use crate::state::latest::Latest;
use crate::state::parts::{Restored, Snapshot};
use crate::state::row_store::{RowRef, RowStore};
use crate::time::{MIN_TIME, Micros};

/// Rows of a state on disk that are sorted at once when it is taken up.
const ROWS_AT_ONCE: usize = if cfg!(test) { 16 } else { 1 << 20 };

/// Which rows a row sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Rows come in any order; each sees the rows before it in event time that came before it.
    Arrival,
    /// Rows come in the order of event time, all of equal time in one batch; each sees its peers too.
    Time,
}

/// The functions of a plan, with their state.
pub(super) struct Evaluator {
    order: Order,
    functions: Arc<Functions>,
    partition_by: Vec<Arc<dyn PhysicalExpr>>,
    output: SchemaRef,
    keys: Keys,
    history: History,
    store: RowStore,
    watermark: Micros,
    /// How many rows came before; numbers them.
    arrived: u64,
    /// What keys remember of purged rows, as the last snapshot had it; by slot.
    purged: Latest,
    /// Rows that are sorted at once when a state is taken up.
    rows_at_once: usize,
    slots: Vec<u32>,
    ids: Vec<u32>,
}

impl Evaluator {
    /// With empty state.
    pub(super) fn new(over: &Over, functions: Arc<Functions>, order: Order, backend: &Backend) -> Result<Self> {
        let keys = over.partition_by.iter().enumerate();
        let keys = keys.map(|(i, e)| Ok(Arc::new(Field::new(format!("key_{i}"), e.data_type(&over.input)?, true))));
        let keys: Vec<FieldRef> = keys.collect::<Result<_>>()?;
        let ttl = over.ttl.map(|ttl| i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX));
        let ours = [Field::new("key", DataType::UInt32, false), Field::new("arrival", DataType::UInt64, false)];
        let kept = schema(functions.kept().fields().iter().cloned().chain(ours.map(Arc::new)));
        let purged = [Field::new("rows", DataType::UInt64, false), Field::new("first", DataType::UInt32, false)];
        Ok(Self {
            order,
            partition_by: over.partition_by.clone(),
            output: over.output.clone(),
            keys: Keys::new(keys, backend)?,
            history: History::new(functions.retention(ttl), backend),
            store: RowStore::new(kept, backend)?,
            functions,
            watermark: MIN_TIME,
            arrived: 0,
            purged: Latest::new(schema(purged.map(Arc::new).into_iter()), backend)?,
            rows_at_once: if backend.is_disk() { ROWS_AT_ONCE } else { usize::MAX },
            slots: Vec::new(),
            ids: Vec::new(),
        })
    }

    /// Gives the rows with the columns of the functions. `times` are their event times, none NULL.
    pub(super) fn evaluate(&mut self, rows: &RecordBatch, times: &TimestampMicrosecondArray) -> Result<RecordBatch> {
        let count = rows.num_rows();
        let keys = self.partition_by.iter().map(|e| Ok(e.evaluate(rows)?.into_array(count)?)).collect::<Result<Vec<_>>>()?;
        self.keys.insert(&keys, count, &mut self.slots)?;
        self.history.reserve(count, &mut self.ids)?;
        let mut kept = self.functions.keep(rows, Arc::new(times.clone()))?;
        kept.push(Arc::new(UInt32Array::from(self.slots.clone())));
        kept.push(Arc::new(UInt64Array::from_iter_values((self.arrived..).take(count))));
        self.arrived += count as u64;
        let segment = self.store.append(RecordBatch::try_new(self.store.schema().clone(), kept)?, &self.ids)?;
        let functions = self.functions.clone();
        let mut lookup = Lookup::new(&functions, count);
        match self.order {
            Order::Arrival => self.visit_as_inserted(segment, times.values(), &mut lookup)?,
            Order::Time => self.insert_then_visit(segment, times.values(), &mut lookup)?,
        }
        let columns = lookup.columns(&self.store)?;
        let columns = rows.columns().iter().cloned().chain(columns).collect();
        self.purge_touched(times.values().last().copied())?;
        Ok(RecordBatch::try_new(self.output.clone(), columns)?)
    }

    fn visit_as_inserted(&mut self, segment: u32, times: &[Micros], lookup: &mut Lookup<'_>) -> Result<()> {
        for (row, ((slot, id), time)) in self.slots.iter().zip(&self.ids).zip(times).enumerate() {
            let number = self.history.insert(*slot, *id, *time, RowRef { segment, row: row as u32 })?;
            let current = Current { slot: *slot, id: *id, last_peer: *id, number };
            lookup.visit(current, &self.history, &self.store)?;
        }
        Ok(())
    }

    fn insert_then_visit(&mut self, segment: u32, times: &[Micros], lookup: &mut Lookup<'_>) -> Result<()> {
        let rows = self.slots.iter().zip(&self.ids).zip(times).enumerate();
        let insert = |(row, ((slot, id), time)): (usize, ((&u32, &u32), &Micros))| {
            self.history.insert(*slot, *id, *time, RowRef { segment, row: row as u32 })
        };
        let numbers = rows.map(insert).collect::<Result<Vec<_>>>()?;
        let needs_peers = self.functions.needs_peers();
        // Peers of one key often stand side by side: (key, time, last of them).
        let mut peers = (NONE, MIN_TIME, NONE);
        for (((slot, id), time), number) in self.slots.iter().zip(&self.ids).zip(times).zip(numbers) {
            if needs_peers && (peers.0, peers.1) != (*slot, *time) {
                peers = (*slot, *time, last_peer(&self.history, *id)?);
            }
            let last_peer = if needs_peers { peers.2 } else { *id };
            lookup.visit(Current { slot: *slot, id: *id, last_peer, number }, &self.history, &self.store)?;
        }
        Ok(())
    }

    /// Frees what the keys of the last batch no longer need.
    fn purge_touched(&mut self, newest: Option<Micros>) -> Result<()> {
        if let (Order::Time, Some(newest)) = (self.order, newest) {
            // What comes is younger than what came.
            self.watermark = self.watermark.max(newest.saturating_add(1));
        }
        let slots = std::mem::take(&mut self.slots);
        self.purge(&slots)?;
        self.slots = slots;
        Ok(())
    }

    /// The watermark moved: frees what no row can look at any more.
    pub(super) fn advance(&mut self, watermark: Micros) -> Result<()> {
        self.watermark = self.watermark.max(watermark);
        let due = self.history.take_due(self.watermark)?;
        self.purge(&due)
    }

    fn purge(&mut self, slots: &[u32]) -> Result<()> {
        for slot in slots {
            if self.history.purge(*slot, self.watermark, &mut |row| self.store.free(row))? {
                self.keys.remove(*slot)?;
            }
        }
        self.store.compact(&mut |id, _, to| self.history.moved(id, to))
    }

    /// What is held.
    pub(super) fn size(&self) -> StateSize {
        let scratch = (self.slots.capacity() + self.ids.capacity()) * size_of::<u32>();
        let scratch = StateSize { bytes: scratch as u64, ..StateSize::default() };
        let all = self.store.size() + self.purged.size() + self.history.size() + self.keys.size() + scratch;
        StateSize { rows: self.store.size().rows, ..all }
    }

    /// Adds keys, rows and what keys remember to a snapshot, a section each.
    pub(super) fn save(&mut self, snapshot: &mut Snapshot<'_>) -> Result<()> {
        let (there, gone) = self.history.take_changed()?;
        gone.into_iter().try_for_each(|slot| self.purged.free(slot))?;
        let (slots, purged): (Vec<_>, Vec<_>) = there.into_iter().unzip();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from_iter_values(purged.iter().map(|p| p.rows))),
            Arc::new(UInt32Array::from_iter_values(purged.iter().map(|p| p.first))),
        ];
        self.purged.write(&slots, RecordBatch::try_new(self.purged.schema().clone(), columns)?)?;
        self.keys.save(snapshot)?;
        self.store.save(snapshot)?;
        self.purged.save(snapshot)
    }

    /// Takes up what [`save`](Evaluator::save) gave.
    pub(super) fn restore(&mut self, state: &mut Restored, watermark: Micros) -> Result<()> {
        self.watermark = watermark;
        self.keys.restore(state.section()?)?;
        self.store.restore(state.section()?)?;
        let history = &mut self.history;
        self.purged.restore(state.section()?, &mut |slots, purged| {
            let (rows, first) = (purged.column(0).as_primitive::<UInt64Type>(), purged.column(1).as_primitive::<UInt32Type>());
            let purged = rows.values().iter().zip(first.values()).map(|(rows, first)| Purged { rows: *rows, first: *first });
            slots.iter().zip(purged).try_for_each(|(slot, purged)| history.restore_purged(*slot, purged))
        })?;
        let keys = self.keys.slots();
        // As many times through all rows as it takes to sort those of some keys at once.
        let passes = (self.store.size().rows as usize).div_ceil(self.rows_at_once).max(1) as u32;
        let width = keys.div_ceil(passes).max(1);
        for from in (0..keys).step_by(width as usize) {
            self.restore_rows(from..from.saturating_add(width))?;
        }
        self.history.restored()
    }

    /// Takes up the rows of some keys, each key's in their order.
    fn restore_rows(&mut self, keys: Range<u32>) -> Result<()> {
        let ours = self.store.schema().fields().len() - 2;
        let mut all = Vec::new();
        self.store.for_each_live(&mut |refs, ids| {
            let rows = self.store.view(refs.iter().copied().map(Some))?;
            let (times, slots, arrivals) = (rows.column(0)?, rows.column(ours)?, rows.column(ours + 1)?);
            let times = times.as_primitive::<TimestampMicrosecondType>().values().iter();
            let slots = slots.as_primitive::<UInt32Type>().values().iter();
            let arrivals = arrivals.as_primitive::<UInt64Type>().values().iter();
            for ((((row, id), time), slot), arrival) in refs.iter().zip(ids).zip(times).zip(slots).zip(arrivals) {
                self.arrived = self.arrived.max(arrival + 1);
                if keys.contains(slot) {
                    all.push((*slot, *time, *arrival, *id, *row));
                }
            }
            Ok(())
        })?;
        all.sort_unstable_by_key(|(slot, time, arrival, ..)| (*slot, *time, *arrival));
        all.into_iter().try_for_each(|(slot, time, _, id, row)| self.history.restore(slot, id, time, row))
    }
}

fn schema(fields: impl Iterator<Item = FieldRef>) -> SchemaRef {
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The last entry of the same time.
fn last_peer(history: &History, mut id: u32) -> Result<u32> {
    loop {
        match history.newer(id)? {
            newer if newer != NONE && history.time(newer)? == history.time(id)? => id = newer,
            _ => return Ok(id),
        }
    }
}
