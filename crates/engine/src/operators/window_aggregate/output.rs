//! What groups look like on their way out: keys with their window, values, HAVING.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StructArray, TimestampMicrosecondArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, FieldRef, SchemaRef, TimeUnit, TimestampMicrosecondType};
use datafusion_physical_expr::PhysicalExpr;

use crate::operator::Output;
use crate::time::Micros;
use crate::{Error, Result};

/// The most rows of a final batch.
pub(super) const MAX_ROWS: usize = 8192;

/// A batch that may have no columns.
pub(super) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// The start and the end of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    /// First, so that spans sort by it.
    pub(super) end: Micros,
    pub(super) start: Micros,
}

/// How a key carries its window.
#[derive(Debug, Clone)]
pub(super) enum WindowKey {
    /// A struct (start, end) at this key.
    Struct { key: usize, fields: arrow::datatypes::Fields, start: usize, end: usize },
    /// A timestamp at this key; the window ends `size` later.
    Timestamp { key: usize, size: Micros, field: FieldRef },
    /// None does: one span for all rows.
    Nothing,
}

impl WindowKey {
    /// # Errors
    /// The key is no struct (start, end) of timestamps in microseconds.
    pub(super) fn of_struct(key: usize, field: &FieldRef) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!("the window {} is no struct (start, end) of timestamps in microseconds", field.name()))
                .hint("group by tumble(…), hop(…) or session(…), or by a timestamp that one of them gave")
        };
        let DataType::Struct(fields) = field.data_type() else { return Err(wrong()) };
        let place = |name: &str| fields.iter().position(|f| f.name() == name && is_micros(f.data_type())).ok_or_else(wrong);
        if fields.len() != 2 {
            return Err(wrong());
        }
        Ok(Self::Struct { key, fields: fields.clone(), start: place("start")?, end: place("end")? })
    }

    /// # Errors
    /// The key is no timestamp in microseconds.
    pub(super) fn of_timestamp(key: usize, size: Micros, field: &FieldRef) -> Result<Self> {
        if !is_micros(field.data_type()) {
            return Err(Error::invalid(format!("the window {} is no timestamp in microseconds", field.name())));
        }
        Ok(Self::Timestamp { key, size, field: field.clone() })
    }

    /// The key that carries the window.
    pub(super) fn key(&self) -> Option<usize> {
        match self {
            Self::Struct { key, .. } | Self::Timestamp { key, .. } => Some(*key),
            Self::Nothing => None,
        }
    }

    /// The window of each row; `None` where the key or its start or end is NULL.
    pub(super) fn spans(&self, column: &ArrayRef) -> Result<Vec<Option<Span>>> {
        Ok(match self {
            Self::Struct { start, end, .. } => {
                let window = column.as_struct_opt().ok_or_else(|| Error::permanent("the window key is no struct"))?;
                let (starts, ends) = (micros(window.column(*start))?, micros(window.column(*end))?);
                let rows = starts.iter().zip(ends).enumerate();
                rows.map(|(row, span)| match span {
                    (Some(start), Some(end)) if window.is_valid(row) => Some(Span { end, start }),
                    _ => None,
                })
                .collect()
            }
            Self::Timestamp { size, .. } => {
                let span = |start: Micros| Span { end: start.saturating_add(*size), start };
                micros(column)?.iter().map(|start| start.map(span)).collect()
            }
            Self::Nothing => Vec::new(),
        })
    }

    /// The key column of some windows.
    pub(super) fn column(&self, spans: &[Span]) -> Option<ArrayRef> {
        let starts = || times(spans.iter().map(|s| s.start));
        match self {
            Self::Struct { fields, start, .. } => {
                let ends = times(spans.iter().map(|s| s.end));
                let pair = if *start == 0 { [starts(), ends] } else { [ends, starts()] };
                let columns = pair.into_iter().zip(fields).map(|(times, f)| zoned(times, f.data_type())).collect();
                Some(Arc::new(StructArray::new(fields.clone(), columns, None)))
            }
            Self::Timestamp { field, .. } => Some(zoned(starts(), field.data_type())),
            Self::Nothing => None,
        }
    }
}

fn is_micros(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _))
}

/// A column of times, checked.
pub(super) fn micros(column: &ArrayRef) -> Result<&TimestampMicrosecondArray> {
    let times = column.as_primitive_opt::<TimestampMicrosecondType>();
    times.ok_or_else(|| Error::permanent(format!("event time is {}, not a timestamp in microseconds", column.data_type())))
}

fn times(values: impl Iterator<Item = Micros>) -> TimestampMicrosecondArray {
    TimestampMicrosecondArray::from_iter_values(values)
}

fn zoned(times: TimestampMicrosecondArray, data_type: &DataType) -> ArrayRef {
    match data_type {
        DataType::Timestamp(_, Some(zone)) => Arc::new(times.with_timezone(zone.clone())),
        _ => Arc::new(times),
    }
}

/// Which rows HAVING lets out; `None`: all.
pub(super) fn passing(having: Option<&Arc<dyn PhysicalExpr>>, rows: &RecordBatch) -> Result<Option<BooleanArray>> {
    let mask = having.map(|having| crate::operators::filter::passes(having, rows)).transpose()?;
    Ok(mask.filter(|mask| mask.true_count() < rows.num_rows()))
}

/// Gives final rows, HAVING applied, in batches of at most [`MAX_ROWS`].
pub(super) fn append(having: Option<&Arc<dyn PhysicalExpr>>, rows: &RecordBatch, out: &mut Output) -> Result<()> {
    for offset in (0..rows.num_rows()).step_by(MAX_ROWS) {
        let rows = rows.slice(offset, MAX_ROWS.min(rows.num_rows() - offset));
        match passing(having, &rows)? {
            Some(mask) => out.append(filter_record_batch(&rows, &mask)?),
            None => out.append(rows),
        }
    }
    Ok(())
}
