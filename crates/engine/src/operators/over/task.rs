//! The operator of one task: updates at once, final rows behind the watermark.
//!
//! Invariants: the two outputs do not share state. Updates are evaluated in the order of arrival. Final rows wait until the
//! watermark has passed them, are sorted, and are then evaluated in the order of event time: what they see is complete.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::{filter, filter_record_batch};
use datafusion_common::cast::as_timestamp_microsecond_array;
use datafusion_physical_expr::PhysicalExpr;

use super::Over;
use super::evaluator::{Evaluator, Order};
use super::functions::Functions;
use super::waiting::{Row, Waiting};
use crate::batch::{Batch, Change, Port};
use crate::operator::{Operator, Output, StatePart, StateSize};
use crate::state::Backend;
use crate::state::parts::{Restored, Snapshot};
use crate::time::{MIN_TIME, Micros};
use crate::{Error, Result};

/// Final rows go out in batches of so many rows and what is of equal time with the last.
const CHUNK: usize = 32 * 1024;

/// Final rows: those that wait, and the functions over those that no longer do.
struct Final {
    waiting: Waiting,
    evaluator: Evaluator,
}

/// See the module.
pub(super) struct Task {
    time: Arc<dyn PhysicalExpr>,
    watermark: Micros,
    update: Option<Evaluator>,
    append: Option<Final>,
    /// The number of the next part of a snapshot.
    next_part: u64,
}

impl Task {
    /// With empty state, for the outputs that somebody takes.
    pub(super) fn new(over: &Over, ports: &[Port], backend: &Backend) -> Result<Self> {
        let functions = Arc::new(Functions::new(over)?);
        let evaluator = |order| Evaluator::new(over, functions.clone(), order, backend);
        let update = ports.contains(&Port::Update).then(|| evaluator(Order::Arrival)).transpose()?;
        let append = ports.contains(&Port::Rows).then(|| evaluator(Order::Time)).transpose()?;
        let append = append.map(|evaluator| Final { waiting: Waiting::new(over.input.clone()), evaluator });
        Ok(Self { time: over.time.clone(), watermark: MIN_TIME, update, append, next_part: 0 })
    }

    /// Event times of the rows, and the rows without those that have none or are behind the watermark.
    fn in_time(&self, rows: RecordBatch, out: &mut Output) -> Result<(RecordBatch, TimestampMicrosecondArray)> {
        let times = self.time.evaluate(&rows)?.into_array(rows.num_rows())?;
        let micros = as_timestamp_microsecond_array(&times)?;
        if micros.null_count() == 0 && micros.values().iter().all(|time| *time >= self.watermark) {
            return Ok((rows, micros.clone()));
        }
        let in_time: BooleanArray = micros.iter().map(|time| Some(time.is_some_and(|t| t >= self.watermark))).collect();
        out.count_late(in_time.false_count());
        let times: ArrayRef = filter(&times, &in_time)?;
        Ok((filter_record_batch(&rows, &in_time)?, times.as_primitive().clone()))
    }
}

impl Operator for Task {
    fn on_batch(&mut self, _input: usize, batch: Batch, out: &mut Output) -> Result<()> {
        match batch.change {
            Change::Insert => {}
            Change::Late => {
                out.count_late(batch.rows.num_rows());
                return Ok(());
            }
            Change::Upsert | Change::Delete => return Err(Error::permanent("OVER was given updates; it takes final rows only")),
        }
        let (rows, times) = self.in_time(batch.rows, out)?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        if let Some(update) = &mut self.update {
            out.push(Port::Update, Batch::insert(update.evaluate(&rows, &times)?));
        }
        if let Some(append) = &mut self.append {
            append.waiting.push(rows, times.values());
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Micros, out: &mut Output) -> Result<()> {
        if watermark <= self.watermark {
            return Ok(());
        }
        self.watermark = watermark;
        if let Some(update) = &mut self.update {
            update.advance(watermark)?;
        }
        if let Some(append) = &mut self.append {
            append.release(watermark, &self.time, out)?;
        }
        Ok(())
    }

    fn state_size(&self) -> StateSize {
        let update = self.update.as_ref().map(Evaluator::size);
        let append = self.append.as_ref().map(|a| [a.waiting.size(), a.evaluator.size()]);
        update.into_iter().chain(append.into_iter().flatten()).fold(StateSize::default(), |sum, part| sum + part)
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        let mut snapshot = Snapshot::new(&mut self.next_part);
        if let Some(update) = &mut self.update {
            update.save(&mut snapshot)?;
        }
        if let Some(append) = &mut self.append {
            append.evaluator.save(&mut snapshot)?;
            append.waiting.save(&mut snapshot)?;
        }
        snapshot.finish(self.watermark)
    }

    fn restore(&mut self, state: Vec<StatePart>) -> Result<()> {
        let Some(mut state) = Restored::new(state)? else { return Ok(()) };
        (self.watermark, self.next_part) = (state.watermark, state.next);
        if let Some(update) = &mut self.update {
            update.restore(&mut state, self.watermark)?;
        }
        if let Some(append) = &mut self.append {
            append.evaluator.restore(&mut state, self.watermark)?;
            for part in state.section()? {
                let rows = part.rows.load()?;
                let times = self.time.evaluate(&rows)?.into_array(rows.num_rows())?;
                append.waiting.restore((part.number, rows), as_timestamp_microsecond_array(&times)?.values(), self.watermark)?;
            }
        }
        state.finish()
    }
}

impl Final {
    fn release(&mut self, watermark: Micros, time: &Arc<dyn PhysicalExpr>, out: &mut Output) -> Result<()> {
        let ripe = self.waiting.ripe(watermark);
        let mut rest = ripe.as_slice();
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(chunk_end(rest));
            let rows = self.waiting.take(chunk)?;
            let times = time.evaluate(&rows)?.into_array(rows.num_rows())?;
            out.append(self.evaluator.evaluate(&rows, as_timestamp_microsecond_array(&times)?)?);
            rest = after;
        }
        self.evaluator.advance(watermark)
    }
}

/// Where to cut: never between rows of equal time, which see each other.
fn chunk_end(rows: &[Row]) -> usize {
    let Some(last) = rows.get(CHUNK - 1).filter(|_| rows.len() > CHUNK) else { return rows.len() };
    CHUNK + rows[CHUNK..].iter().take_while(|row| row.time == last.time).count()
}
