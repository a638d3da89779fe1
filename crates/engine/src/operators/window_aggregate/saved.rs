//! What the operators' state holds in a checkpoint besides keys and groups.
//!
//! Windows: a row per window, which window it is and, under HAVING, which of its groups are out. Sessions: a row per open
//! session, written when it changed.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, Int64Array, PrimitiveArray, RecordBatch, UInt32Array, UInt64Array,
};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt32Type, UInt64Type};

use super::output::Span;
use crate::Result;
use crate::state::parts::{self, foreign};

/// A row per window: start, end, and a bit per group that may be out (NULL: none may be), least first.
pub(super) fn tables<'a>(tables: impl Iterator<Item = (Span, &'a [bool])>) -> Result<RecordBatch> {
    let (spans, sent): (Vec<_>, Vec<_>) = tables.unzip();
    let bits = |sent: &[bool]| (!sent.is_empty()).then(|| BooleanBuffer::from(sent).into_inner().to_vec());
    let columns: [(&str, ArrayRef); 3] = [
        ("start", Arc::new(Int64Array::from_iter_values(spans.iter().map(|s| s.start)))),
        ("end", Arc::new(Int64Array::from_iter_values(spans.iter().map(|s| s.end)))),
        ("sent", Arc::new(BinaryArray::from_iter(sent.into_iter().map(bits)))),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, name == "sent")))?)
}

/// Reads what [`tables`] wrote.
///
/// # Errors
/// The batch is of another operator.
pub(super) fn read_tables(rows: &RecordBatch) -> Result<Vec<(Span, Vec<bool>)>> {
    let (start, end) = (column::<Int64Type>(rows, 0)?, column::<Int64Type>(rows, 1)?);
    let sent: &BinaryArray = rows.columns().get(2).and_then(|c| c.as_binary_opt()).ok_or_else(foreign)?;
    let flags = |bytes: Option<&[u8]>| -> Vec<bool> {
        let bytes = bytes.unwrap_or_default();
        bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1)).collect()
    };
    let spans = start.values().iter().zip(end.values()).map(|(start, end)| Span { end: *end, start: *start });
    Ok(spans.zip(sent.iter().map(flags)).collect())
}

/// An open session in a checkpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct SavedSession {
    /// Slot of its key.
    pub(super) key: u32,
    pub(super) span: Span,
    /// Orders sessions by their first row.
    pub(super) seen: u64,
    /// The window under which it last went out as an upsert.
    pub(super) sent: Option<Span>,
}

/// The columns of open sessions.
pub(super) fn session_schema() -> SchemaRef {
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
pub(super) fn sessions(all: &[SavedSession], schema: &SchemaRef) -> Result<RecordBatch> {
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

/// Reads what [`sessions`] wrote.
///
/// # Errors
/// The batch is of another operator.
pub(super) fn read_sessions(rows: &RecordBatch) -> Result<Vec<SavedSession>> {
    parts::expect(rows, &session_schema())?;
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

fn column<T: ArrowPrimitiveType>(rows: &RecordBatch, i: usize) -> Result<&PrimitiveArray<T>> {
    rows.columns().get(i).and_then(|c| c.as_primitive_opt::<T>()).ok_or_else(foreign)
}
