//! Arrays without what lies around them: what is kept for long, or written to a file, must not hold on to a larger buffer.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, MutableArrayData, make_array};
use arrow::datatypes::DataType;

use crate::Result;

/// A column may hold so many bytes more than its rows need before it is copied.
const SLACK: usize = 1024;

/// The array, copied where it would hold on to much more memory than its rows need: a slice of a large batch, strings in a
/// decoder's buffer. (Views within lists keep their buffers.)
pub fn unshared(array: &ArrayRef) -> Result<ArrayRef> {
    if array.get_array_memory_size() <= 2 * needed(array) + SLACK {
        return Ok(array.clone());
    }
    Ok(match array.data_type() {
        DataType::Utf8View => Arc::new(array.as_string_view().gc()),
        DataType::BinaryView => Arc::new(array.as_binary_view().gc()),
        _ => {
            let data = array.to_data();
            let mut copy = MutableArrayData::new(vec![&data], false, data.len());
            copy.try_extend(0, 0, data.len())?;
            make_array(copy.freeze())
        }
    })
}

/// Bytes that the rows of `array` need, without what lies before and behind them in its buffers.
fn needed(array: &ArrayRef) -> usize {
    match array.data_type() {
        DataType::Utf8View => array.as_string_view().total_buffer_bytes_used() + 16 * array.len(),
        DataType::BinaryView => array.as_binary_view().total_buffer_bytes_used() + 16 * array.len(),
        DataType::Struct(_) => array.as_struct().columns().iter().map(needed).sum(),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (from, to) = (list.value_offsets()[0] as usize, list.value_offsets()[list.len()] as usize);
            needed(&list.values().slice(from, to - from)) + 4 * list.len()
        }
        _ => array.to_data().get_slice_memory_size().unwrap_or(usize::MAX / 4),
    }
}
