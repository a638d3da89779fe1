//! `tumble(time, size)`: the window of length `size` that holds the time.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use riverrun_engine::time::Micros;

use super::{interval, window};

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Tumble {
    signature: Signature,
}

impl Default for Tumble {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Tumble {
    fn name(&self) -> &str {
        "tumble"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        interval::coerce("tumble", &["the size"], types)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        internal_err!("tumble says its type by return_field_from_args")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        interval::micros("tumble", "size", args.scalar_arguments[1])?;
        Ok(Arc::new(Field::new("tumble", window::window_type(), args.arg_fields[0].is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let size = interval::micros("tumble", "size", constant(&args.args[1]))?;
        window::over_times(&args.args[0], |times| tumble(times, size))
    }
}

/// The value of an argument that must be a constant.
pub fn constant(argument: &ColumnarValue) -> Option<&ScalarValue> {
    match argument {
        ColumnarValue::Scalar(value) => Some(value),
        ColumnarValue::Array(_) => None,
    }
}

fn tumble(times: &TimestampMicrosecondArray, size: Micros) -> Result<ArrayRef> {
    // Neighbours mostly share a window: comparing is several times cheaper than dividing.
    let mut start = window::start(times.values().first().copied().unwrap_or_default(), size);
    let next = |time: &Micros| {
        if time.wrapping_sub(start) as u64 >= size as u64 {
            start = window::start(*time, size);
        }
        start
    };
    let starts = times.values().iter().map(next).collect();
    Ok(Arc::new(window::windows(starts, size, times.nulls().cloned())?))
}
