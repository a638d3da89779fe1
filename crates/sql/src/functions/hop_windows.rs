//! `hop_windows(time, size, slide)`: all windows of length `size`, one every `slide`, that hold the time. SQL's `hop(…)` is
//! the unnested list ([`crate::hop`]), and so the messages here speak of `hop`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, TimestampMicrosecondArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, internal_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use riverrun_engine::time::Micros;

use super::{interval, tumble::constant, window};

/// A row is repeated once per window: more than this is a slip in the units.
const MOST_WINDOWS: i64 = 10_000;

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct HopWindows {
    signature: Signature,
}

impl Default for HopWindows {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for HopWindows {
    fn name(&self) -> &str {
        "hop_windows"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        interval::coerce("hop", &["the size", "the slide"], types)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        internal_err!("hop_windows says its type by return_field_from_args")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        size_and_slide(args.scalar_arguments[1], args.scalar_arguments[2])?;
        let list = DataType::List(item_field());
        Ok(Arc::new(Field::new("hop_windows", list, args.arg_fields[0].is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (size, slide) = size_and_slide(constant(&args.args[1]), constant(&args.args[2]))?;
        window::over_times(&args.args[0], |times| hop_windows(times, size, slide))
    }
}

fn item_field() -> FieldRef {
    Arc::new(Field::new_list_field(window::window_type(), true))
}

fn size_and_slide(size: Option<&ScalarValue>, slide: Option<&ScalarValue>) -> Result<(Micros, Micros)> {
    let (size, slide) = (interval::micros("hop", "size", size)?, interval::micros("hop", "slide", slide)?);
    if size / slide > MOST_WINDOWS {
        let windows = size / slide;
        return plan_err!("hop(): every row would be in {windows} windows, and {MOST_WINDOWS} is the most: use a longer slide");
    }
    Ok((size, slide))
}

fn hop_windows(times: &TimestampMicrosecondArray, size: Micros, slide: Micros) -> Result<ArrayRef> {
    let mut starts = Vec::with_capacity(times.len() * (size / slide + 1) as usize);
    let mut offsets = Vec::with_capacity(times.len() + 1);
    offsets.push(0_i32);
    for (row, time) in times.values().iter().enumerate() {
        if times.is_valid(row) {
            let first = starts.len();
            // Windows that would begin before the first time there is are left out.
            let grid = std::iter::successors(Some(window::start(*time, slide)), |start| start.checked_sub(slide));
            starts.extend(grid.take_while(|start| time.saturating_sub(*start) < size));
            starts[first..].reverse();
        }
        let end = i32::try_from(starts.len()).map_err(|_| exec_datafusion_err!("hop(): too many windows in one batch"))?;
        offsets.push(end);
    }
    let windows = Arc::new(window::windows(starts, size, None)?);
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok(Arc::new(ListArray::try_new(item_field(), offsets, windows, times.nulls().cloned())?))
}
