//! Computes the functions of rows as they come, over the rows of their key that came before.
//!
//! Invariants: a row takes part in the history of its key from the moment it is inserted; nothing is freed before the
//! columns that look at it are made; memory is what [`Retention`](super::history::Retention) asks for, plus the rows
//! younger than the watermark.

use std::mem::size_of;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimestampMicrosecondType, UInt32Type, UInt64Type};
use datafusion_physical_expr::PhysicalExpr;

use super::Over;
use super::functions::Functions;
use super::history::{History, NONE};
use super::lookup::{Current, Lookup};
use crate::operator::StateSize;
use crate::state::keys::Keys;
use crate::state::row_store::{RowRef, RowStore};
use crate::time::{MIN_TIME, Micros};
use crate::{Error, Result};

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
    key_schema: SchemaRef,
    row_schema: SchemaRef,
    keys: Keys,
    history: History,
    store: RowStore,
    watermark: Micros,
    slots: Vec<u32>,
    ids: Vec<u32>,
}

impl Evaluator {
    /// With empty state.
    pub(super) fn new(over: &Over, functions: Arc<Functions>, order: Order) -> Result<Self> {
        let keys = over.partition_by.iter().enumerate();
        let keys = keys.map(|(i, e)| Ok(Arc::new(Field::new(format!("key_{i}"), e.data_type(&over.input)?, true))));
        let keys: Vec<FieldRef> = keys.collect::<Result<_>>()?;
        let of_key = [Field::new("purged", DataType::UInt64, false), Field::new("pinned", DataType::Boolean, false)];
        let of_row = std::iter::once(Arc::new(Field::new("key", DataType::UInt32, false)));
        let ttl = over.ttl.map(|ttl| i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX));
        Ok(Self {
            order,
            partition_by: over.partition_by.clone(),
            output: over.output.clone(),
            key_schema: schema(keys.iter().cloned().chain(of_key.map(Arc::new))),
            row_schema: schema(of_row.chain(functions.kept().fields().iter().cloned())),
            keys: Keys::new(keys)?,
            history: History::new(functions.retention(ttl)),
            store: RowStore::new(functions.kept()),
            functions,
            watermark: MIN_TIME,
            slots: Vec::new(),
            ids: Vec::new(),
        })
    }

    /// Gives the rows with the columns of the functions. `times` are their event times, none NULL.
    pub(super) fn evaluate(&mut self, rows: &RecordBatch, times: &TimestampMicrosecondArray) -> Result<RecordBatch> {
        let count = rows.num_rows();
        let keys = self.partition_by.iter().map(|e| Ok(e.evaluate(rows)?.into_array(count)?)).collect::<Result<Vec<_>>>()?;
        self.keys.insert(&keys, count, &mut self.slots)?;
        self.history.reserve(count, &mut self.ids);
        let kept = self.functions.keep(rows, Arc::new(times.clone()))?;
        let segment = self.store.append(kept, &self.ids)?;
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
            let number = self.history.insert(*slot, *id, *time, RowRef { segment, row: row as u32 });
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
        let numbers: Vec<_> = rows.map(insert).collect();
        let needs_peers = self.functions.needs_peers();
        // Peers of one key often stand side by side: (key, time, last of them).
        let mut peers = (NONE, MIN_TIME, NONE);
        for (((slot, id), time), number) in self.slots.iter().zip(&self.ids).zip(times).zip(numbers) {
            if needs_peers && (peers.0, peers.1) != (*slot, *time) {
                peers = (*slot, *time, last_peer(&self.history, *id));
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
        let due = self.history.take_due(self.watermark);
        self.purge(&due)
    }

    fn purge(&mut self, slots: &[u32]) -> Result<()> {
        for slot in slots {
            if self.history.purge(*slot, self.watermark, &mut |row| self.store.free(row)) {
                self.keys.remove(*slot);
            }
        }
        self.store.compact(&mut |id, _, to| self.history.moved(id, to))
    }

    /// What is held.
    pub(super) fn size(&self) -> StateSize {
        let stored = self.store.size();
        let scratch = (self.slots.capacity() + self.ids.capacity()) * size_of::<u32>();
        StateSize { rows: stored.rows, bytes: stored.bytes + (self.history.size() + self.keys.bytes() + scratch) as u64 }
    }

    /// The keys, and their rows from the oldest on.
    pub(super) fn snapshot(&self) -> Result<[RecordBatch; 2]> {
        let slots = self.history.slots();
        let (mut owners, mut refs) = (Vec::new(), Vec::new());
        for (key, slot) in slots.iter().enumerate() {
            refs.extend(self.history.entries(*slot).map(|id| self.history.row(id)));
            owners.resize(refs.len(), key as u32);
        }
        let (purged, pinned): (Vec<_>, Vec<_>) = slots.iter().map(|slot| self.history.purged(*slot)).unzip();
        let mut keys = self.keys.columns(slots.iter().copied())?;
        keys.push(Arc::new(UInt64Array::from(purged)));
        keys.push(Arc::new(BooleanArray::from(pinned)));
        let mut rows: Vec<ArrayRef> = vec![Arc::new(UInt32Array::from(owners))];
        rows.extend_from_slice(self.store.gather(&refs)?.columns());
        Ok([RecordBatch::try_new(self.key_schema.clone(), keys)?, RecordBatch::try_new(self.row_schema.clone(), rows)?])
    }

    /// Takes up what [`snapshot`](Evaluator::snapshot) gave.
    pub(super) fn restore(&mut self, keys: &RecordBatch, rows: &RecordBatch, watermark: Micros) -> Result<()> {
        if keys.schema().fields() != self.key_schema.fields() || rows.schema().fields() != self.row_schema.fields() {
            return Err(Error::permanent("OVER: the state to restore has other columns than this query keeps"));
        }
        self.watermark = watermark;
        let (columns, of_key) = keys.columns().split_at(self.partition_by.len());
        let mut slots = Vec::new();
        self.keys.insert(columns, keys.num_rows(), &mut slots)?;
        let (purged, pinned) = (of_key[0].as_primitive::<UInt64Type>(), of_key[1].as_boolean());
        self.history.reserve(rows.num_rows(), &mut self.ids);
        let kept = RecordBatch::try_new(self.functions.kept(), rows.columns()[1..].to_vec())?;
        let segment = self.store.append(kept, &self.ids)?;
        let owners = rows.column(0).as_primitive::<UInt32Type>().values();
        let times = rows.column(1).as_primitive::<TimestampMicrosecondType>().values();
        for (row, ((key, id), time)) in owners.iter().zip(&self.ids).zip(times).enumerate() {
            let key = *key as usize;
            self.history.insert(slots[key], *id, *time, RowRef { segment, row: row as u32 });
            // A pinned row comes first among those of its key.
            if row == 0 || owners[row - 1] as usize != key {
                self.history.restore_purged(slots[key], purged.value(key), pinned.value(key));
            }
        }
        self.purge(&slots)
    }
}

fn schema(fields: impl Iterator<Item = FieldRef>) -> SchemaRef {
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The last entry of the same time.
fn last_peer(history: &History, mut id: u32) -> u32 {
    loop {
        match history.newer(id) {
            newer if newer != NONE && history.time(newer) == history.time(id) => id = newer,
            _ => return id,
        }
    }
}
