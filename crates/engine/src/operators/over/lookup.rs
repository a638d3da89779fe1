//! Finds the rows that the functions look at, and makes the functions' columns of one batch from them.
//!
//! Invariants: rows are visited in the order of the batch; the rows of a frame are in the order (event time, arrival). Frames
//! are aggregated in portions of a bounded number of rows, so that a batch of long frames does not need them all at once.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt64Array, new_empty_array};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{cast, filter};
use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;

use super::Frame;
use super::functions::{Aggregate, Column, Functions, Pick};
use super::history::{History, NONE};
use crate::Result;
use crate::state::row_store::{RowRef, RowStore, View};

/// Rows of frames that are gathered at once, about.
const PORTION: usize = 64 * 1024;

/// A row whose functions are to be computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Current {
    /// Slot of its key.
    pub(super) slot: u32,
    /// Its entry.
    pub(super) id: u32,
    /// The entry of its last peer: the row of equal time that comes last, or the row itself.
    pub(super) last_peer: u32,
    /// Its number among the rows of its key, from 1.
    pub(super) number: u64,
}

/// The rows of frames, one frame behind the other.
#[derive(Debug, Default)]
struct Frames {
    rows: Vec<RowRef>,
    ends: Vec<usize>,
}

/// What the rows visited so far look at.
pub(super) struct Lookup<'a> {
    functions: &'a Functions,
    picks: Vec<Vec<Option<RowRef>>>,
    numbers: Vec<u64>,
    frames: Vec<Frames>,
    aggregated: Vec<Vec<ScalarValue>>,
}

impl<'a> Lookup<'a> {
    /// Nothing visited yet; `rows` will be.
    pub(super) fn new(functions: &'a Functions, rows: usize) -> Self {
        Self {
            functions,
            picks: functions.picks.iter().map(|_| Vec::with_capacity(rows)).collect(),
            numbers: Vec::with_capacity(rows),
            frames: functions.frames.iter().map(|_| Frames::default()).collect(),
            aggregated: functions.aggregates.iter().map(|_| Vec::with_capacity(rows)).collect(),
        }
    }

    /// Finds what the functions of one row look at.
    pub(super) fn visit(&mut self, row: Current, history: &History, store: &RowStore) -> Result<()> {
        for (pick, found) in self.functions.picks.iter().zip(&mut self.picks) {
            let id = find(*pick, row, history)?;
            found.push((id != NONE).then(|| history.row(id)).transpose()?);
        }
        self.numbers.push(row.number);
        for (frame, found) in self.functions.frames.iter().zip(&mut self.frames) {
            found.push(*frame, row, history)?;
        }
        if self.frames.iter().any(|f| f.rows.len() >= PORTION) {
            self.aggregate(store)?;
        }
        Ok(())
    }

    /// Aggregates the frames that were collected.
    fn aggregate(&mut self, store: &RowStore) -> Result<()> {
        let views = self.frames.iter().map(|frames| store.view(frames.rows.iter().copied().map(Some)));
        let views = views.collect::<Result<Vec<_>>>()?;
        for (aggregate, values) in self.functions.aggregates.iter().zip(&mut self.aggregated) {
            let frames = &self.frames[aggregate.frame];
            if !frames.ends.is_empty() {
                frames.aggregate(aggregate, &views[aggregate.frame], values)?;
            }
        }
        for frames in &mut self.frames {
            frames.rows.clear();
            frames.ends.clear();
        }
        Ok(())
    }

    /// The functions' columns for all rows visited.
    pub(super) fn columns(mut self, store: &RowStore) -> Result<Vec<ArrayRef>> {
        self.aggregate(store)?;
        let views = self.picks.iter().map(|rows| store.view(rows.iter().copied())).collect::<Result<Vec<_>>>()?;
        let columns = self.functions.columns.iter().map(|(column, field)| {
            let array: ArrayRef = match column {
                Column::Picked { pick, column, default } => {
                    let found = views[*pick].column(*column)?;
                    or_default(found, &self.picks[*pick], default.as_ref())?
                }
                Column::Number => std::sync::Arc::new(UInt64Array::from(self.numbers.clone())),
                Column::Aggregate(i) => scalars(std::mem::take(&mut self.aggregated[*i]), field.data_type())?,
            };
            Ok(if array.data_type() == field.data_type() { array } else { cast(&array, field.data_type())? })
        });
        columns.collect()
    }
}

/// The entry that `pick` names, or [`NONE`].
fn find(pick: Pick, row: Current, history: &History) -> Result<u32> {
    match pick {
        Pick::Back(rows) => back(row.id, rows, history),
        Pick::RowsStart { preceding, until } => {
            let mut id = back(row.id, until, history)?;
            for _ in until..preceding {
                match if id == NONE { NONE } else { history.older(id)? } {
                    NONE => break,
                    older => id = older,
                }
            }
            Ok(id)
        }
        Pick::RangeStart { preceding } => {
            let from = history.time(row.id)?.saturating_sub(preceding);
            let mut id = row.id;
            loop {
                match history.older(id)? {
                    older if older != NONE && history.time(older)? >= from => id = older,
                    _ => break Ok(id),
                }
            }
        }
        Pick::LastPeer => Ok(row.last_peer),
        Pick::KeyStart => history.first(row.slot),
    }
}

fn back(mut id: u32, rows: usize, history: &History) -> Result<u32> {
    for _ in 0..rows {
        if id == NONE {
            break;
        }
        id = history.older(id)?;
    }
    Ok(id)
}

impl Frames {
    fn push(&mut self, frame: Frame, row: Current, history: &History) -> Result<()> {
        let start = self.rows.len();
        let (mut id, most, from) = match frame {
            Frame::Rows { preceding, until } => {
                (back(row.id, until, history)?, preceding.saturating_add(1).saturating_sub(until), i64::MIN)
            }
            Frame::Range { preceding } => (row.last_peer, usize::MAX, history.time(row.id)?.saturating_sub(preceding)),
            // Refused when the functions were resolved.
            Frame::Unbounded => (NONE, 0, i64::MIN),
        };
        while id != NONE && self.rows.len() - start < most && history.time(id)? >= from {
            self.rows.push(history.row(id)?);
            id = history.older(id)?;
        }
        self.rows[start..].reverse();
        self.ends.push(self.rows.len());
        Ok(())
    }

    fn aggregate(&self, aggregate: &Aggregate, rows: &View<'_>, values: &mut Vec<ScalarValue>) -> Result<()> {
        let arguments = aggregate.arguments.iter().map(|column| rows.column(*column)).collect::<Result<Vec<_>>>()?;
        let passing = aggregate.filter.map(|column| rows.column(column)).transpose()?;
        let passing: Option<&BooleanArray> = passing.as_ref().map(|p| p.as_boolean());
        let mut start = 0;
        for end in &self.ends {
            let mut frame: Vec<_> = arguments.iter().map(|a| a.slice(start, end - start)).collect();
            if let Some(passing) = passing {
                let passing = passing.slice(start, end - start);
                frame = frame.iter().map(|a| filter(a, &passing)).collect::<Result<_, _>>()?;
            }
            let mut accumulator = aggregate.function.create_accumulator()?;
            accumulator.update_batch(&frame)?;
            values.push(accumulator.evaluate()?);
            start = *end;
        }
        Ok(())
    }
}

/// A column of the rows found, with `default` where there is none.
fn or_default(found: ArrayRef, rows: &[Option<RowRef>], default: Option<&ScalarValue>) -> Result<ArrayRef> {
    let Some(default) = default else { return Ok(found) };
    let is_there = BooleanArray::from_iter(rows.iter().map(|row| Some(row.is_some())));
    Ok(zip(&is_there, &found, &default.to_scalar()?)?)
}

fn scalars(values: Vec<ScalarValue>, empty: &DataType) -> Result<ArrayRef> {
    if values.is_empty() {
        return Ok(new_empty_array(empty));
    }
    Ok(ScalarValue::iter_to_array(values)?)
}
