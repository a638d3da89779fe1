//! How the operators' state looks in a checkpoint.
//!
//! The first batch is the header: one row, the watermark. Then batches of groups, a window each (sessions: all in one), rows
//! in first-seen order: start and end of the window, start and end under which the group last went out as an upsert (NULL:
//! it is not out), the other keys (`key0` …), the columns of the intermediate states.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};

use super::output::{self, Span};
use crate::time::Micros;
use crate::{Error, Result};

/// Columns before the keys.
const FIXED: [(&str, bool); 4] = [("start", false), ("end", false), ("sent_start", true), ("sent_end", true)];

/// Groups as they were saved.
pub(super) struct Saved {
    pub(super) spans: Vec<Span>,
    pub(super) sent: Vec<Option<Span>>,
    pub(super) keys: Vec<ArrayRef>,
    pub(super) states: RecordBatch,
}

/// The header.
pub(super) fn header(watermark: Micros) -> Result<RecordBatch> {
    let schema = Schema::new(vec![Field::new("watermark", DataType::Int64, false)]);
    Ok(RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(vec![watermark]))])?)
}

/// The watermark in a header.
pub(super) fn watermark(header: &RecordBatch) -> Result<Micros> {
    let column = header.columns().first().and_then(|c| c.as_primitive_opt::<Int64Type>());
    column.filter(|c| c.len() == 1).map(|c| c.value(0)).ok_or_else(foreign)
}

/// A batch of groups.
pub(super) fn groups(
    spans: &[Span],
    sent: &[Option<Span>],
    key_fields: &[FieldRef],
    keys: Vec<ArrayRef>,
    states: &RecordBatch,
) -> Result<RecordBatch> {
    let mut fields: Vec<FieldRef> =
        FIXED.iter().map(|(name, nullable)| Arc::new(Field::new(*name, DataType::Int64, *nullable))).collect();
    let named = key_fields.iter().enumerate().map(|(i, f)| Field::new(format!("key{i}"), f.data_type().clone(), true));
    fields.extend(named.map(Arc::new));
    fields.extend(states.schema().fields().iter().cloned());
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(spans.iter().map(|s| s.start))),
        Arc::new(Int64Array::from_iter_values(spans.iter().map(|s| s.end))),
        Arc::new(Int64Array::from_iter(sent.iter().map(|s| s.map(|s| s.start)))),
        Arc::new(Int64Array::from_iter(sent.iter().map(|s| s.map(|s| s.end)))),
    ];
    columns.extend(keys);
    columns.extend(states.columns().iter().cloned());
    output::batch(&Arc::new(Schema::new(fields)), columns, spans.len())
}

/// Reads what [`groups`] wrote.
///
/// # Errors
/// The batch is of another plan.
pub(super) fn read(batch: &RecordBatch, keys: usize, state: &SchemaRef) -> Result<Saved> {
    if batch.num_columns() != FIXED.len() + keys + state.fields().len() {
        return Err(foreign());
    }
    let number = |i: usize| batch.column(i).as_primitive_opt::<Int64Type>().ok_or_else(foreign);
    let (start, end, sent_start, sent_end) = (number(0)?, number(1)?, number(2)?, number(3)?);
    let spans = start.values().iter().zip(end.values()).map(|(start, end)| Span { end: *end, start: *start }).collect();
    let sent = sent_start.iter().zip(sent_end).map(|(start, end)| Some(Span { end: end?, start: start? })).collect();
    let states = batch.columns()[FIXED.len() + keys..].to_vec();
    let states = output::batch(state, states, batch.num_rows()).map_err(|e| e.within("state of a window aggregate"))?;
    Ok(Saved { spans, sent, keys: batch.columns()[FIXED.len()..FIXED.len() + keys].to_vec(), states })
}

fn foreign() -> Error {
    Error::permanent("the checkpoint holds the state of another window aggregate")
        .hint("a changed query starts without the old state: give the pipeline a new checkpoint.location")
}
