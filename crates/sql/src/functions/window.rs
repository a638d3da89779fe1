//! The struct (start, end) that a window is, and how its columns are made.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, StructArray, TimestampMicrosecondArray};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::ColumnarValue;
use riverrun_engine::time::Micros;

static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Fields::from(vec![Field::new("start", time.clone(), false), Field::new("end", time, false)])
});

/// start and end, both TIMESTAMP. Neither is NULL but in a window that is NULL itself.
pub fn fields() -> Fields {
    FIELDS.clone()
}

/// The type of a window.
pub fn window_type() -> DataType {
    DataType::Struct(fields())
}

/// The beginning of the window of length `size` that holds `time`: floor division, so that times before 1970 fall into the
/// window that began before them.
pub fn start(time: Micros, size: Micros) -> Micros {
    time.saturating_sub(time.rem_euclid(size))
}

/// Windows of length `size` from their starts; those that `nulls` marks are NULL, and so are their fields.
pub fn windows(starts: Vec<Micros>, size: Micros, nulls: Option<NullBuffer>) -> Result<StructArray> {
    let ends: Vec<_> = starts.iter().map(|start| start.saturating_add(size)).collect();
    let column = |values: Vec<Micros>| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::new(ScalarBuffer::from(values), nulls.clone()).with_timezone("UTC"))
    };
    Ok(StructArray::try_new(fields(), vec![column(starts), column(ends)], nulls.clone())?)
}

/// Computes a function of the times in `time`, column by column; a constant gives a constant.
pub fn over_times(
    time: &ColumnarValue,
    compute: impl FnOnce(&TimestampMicrosecondArray) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    let array = match time {
        ColumnarValue::Array(array) => Arc::clone(array),
        ColumnarValue::Scalar(scalar) => scalar.to_array()?,
    };
    let times = array
        .as_primitive_opt::<TimestampMicrosecondType>()
        .ok_or_else(|| exec_datafusion_err!("a time came as {} rather than TIMESTAMP", array.data_type()))?;
    let result = compute(times)?;
    Ok(match time {
        ColumnarValue::Array(_) => ColumnarValue::Array(result),
        ColumnarValue::Scalar(_) => ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?),
    })
}
