//! The windows in a checkpoint, besides their keys and groups: a row per window.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, Int64Array, PrimitiveArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::Int64Type;

use super::output::Span;
use crate::Result;
use crate::state::parts::foreign;

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

/// Column `i`, of this type.
pub(super) fn column<T: ArrowPrimitiveType>(rows: &RecordBatch, i: usize) -> Result<&PrimitiveArray<T>> {
    rows.columns().get(i).and_then(|c| c.as_primitive_opt::<T>()).ok_or_else(foreign)
}
