//! Columns as arrow-avro gives them, made into the columns that a table declares.
//!
//! All of it is over whole columns. A value that does not fit (an `int` too large for a SMALLINT, a NaN, a time past what a
//! TIMESTAMP holds) is an error of the whole column: the caller looks for its record.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, ListArray, MapArray, StructArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::kernels::cast_utils::Parser;
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Date32Type, Float32Type, Float64Type, Int64Type};

use super::schema::Type;
use crate::format::text;
use crate::format::{TimestampFormat, snippet};

/// The column of type `to` that holds the values of an array of type `from`. [`misfit`](super::columns::misfit) has said that it
/// can.
pub(super) fn column(array: &ArrayRef, from: &Type, to: &DataType, times: TimestampFormat) -> Result<ArrayRef, String> {
    match (from.value(), to) {
        (Type::Record(record), DataType::Struct(fields)) => {
            let rows = array.as_struct();
            let columns = fields.iter().map(|f| match record.fields.iter().position(|inside| inside.name == *f.name()) {
                Some(at) => {
                    column(rows.column(at), &record.fields[at].kind, f.data_type(), times).map_err(|e| within(f.name(), e))
                }
                None => Ok(new_null_array(f.data_type(), rows.len())),
            });
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            made(StructArray::try_new_with_length(fields.clone(), columns, rows.nulls().cloned(), rows.len()))
        }
        (Type::Array(item), DataType::List(field)) => {
            let lists = array.as_list::<i32>();
            let items = column(lists.values(), item, field.data_type(), times)?;
            made(ListArray::try_new(Arc::clone(field), lists.offsets().clone(), items, lists.nulls().cloned()))
        }
        (Type::Map(value), DataType::Map(entries, sorted)) => {
            let maps = array.as_map();
            let DataType::Struct(entry) = entries.data_type() else { return Err("a map has entries".into()) };
            let values = column(maps.values(), value, entry[1].data_type(), times)?;
            let pairs = made_struct(StructArray::try_new(entry.clone(), vec![Arc::clone(maps.keys()), values], None))?;
            made(MapArray::try_new(Arc::clone(entries), maps.offsets().clone(), pairs, maps.nulls().cloned(), *sorted))
        }
        (Type::Timestamp(unit), DataType::Timestamp(..)) => from_number(array, *unit, to),
        (Type::Int | Type::Long, DataType::Timestamp(..)) => match times {
            TimestampFormat::Unix(micros) => from_number(array, micros * 1000, to),
            TimestampFormat::Iso8601 => Err("a number is no time".into()),
        },
        (Type::Text, DataType::Timestamp(..)) => {
            let texts = array.as_string::<i32>();
            let parsed =
                texts.iter().map(|text| text.map(|t| text::timestamp(t, times).ok_or_else(|| no(t, "TIMESTAMP"))).transpose());
            let parsed: TimestampMicrosecondArray = parsed.collect::<Result<_, _>>()?;
            Ok(Arc::new(parsed.with_data_type(to.clone())))
        }
        (Type::Text, DataType::Date32) => {
            let texts = array.as_string::<i32>();
            let parsed = texts.iter().map(|text| text.map(|t| Date32Type::parse(t).ok_or_else(|| no(t, "DATE"))).transpose());
            Ok(Arc::new(parsed.collect::<Result<arrow::array::Date32Array, _>>()?))
        }
        _ => simple(array, to),
    }
}

fn simple(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    let made = match array.data_type() == to {
        true => Arc::clone(array),
        false => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(array, to, &options).map_err(|e| bare(&e))?
        }
    };
    let finite = match to {
        DataType::Float32 => made.as_primitive::<Float32Type>().iter().flatten().all(f32::is_finite),
        DataType::Float64 => made.as_primitive::<Float64Type>().iter().flatten().all(f64::is_finite),
        _ => true,
    };
    if finite { Ok(made) } else { Err("NaN and infinities are no DOUBLE".into()) }
}

/// Times from numbers of so many nanoseconds.
fn from_number(array: &ArrayRef, unit: i64, to: &DataType) -> Result<ArrayRef, String> {
    let numbers = cast(array, &DataType::Int64).map_err(|e| bare(&e))?;
    let numbers: &Int64Array = numbers.as_primitive::<Int64Type>();
    let micros = |number: i64| match unit {
        1..1000 => Some(number.div_euclid(1000 / unit)),
        _ => number.checked_mul(unit / 1000),
    };
    let times = numbers.iter().map(|number| match number.map(|n| (n, micros(n))) {
        None => Ok(None),
        Some((_, Some(micros))) => Ok(Some(micros)),
        Some((number, None)) => Err(no(&number.to_string(), "TIMESTAMP")),
    });
    let times: TimestampMicrosecondArray = times.collect::<Result<_, _>>()?;
    Ok(Arc::new(times.with_data_type(to.clone())))
}

fn made<A: Array + 'static>(array: Result<A, arrow::error::ArrowError>) -> Result<ArrayRef, String> {
    array.map(|array| Arc::new(array) as ArrayRef).map_err(|e| bare(&e))
}

fn made_struct(array: Result<StructArray, arrow::error::ArrowError>) -> Result<StructArray, String> {
    array.map_err(|e| bare(&e))
}

fn no(value: &str, what: &str) -> String {
    format!("'{}' is no {what}", snippet(value.as_bytes()))
}

/// An error inside a field: `field a.b: …`.
pub(super) fn within(name: &str, error: String) -> String {
    match error.strip_prefix("field ") {
        Some(inside) => format!("field {name}.{inside}"),
        None => format!("field {name}: {error}"),
    }
}

/// The text of an error of arrow, without its kind.
pub(super) fn bare(error: &arrow::error::ArrowError) -> String {
    let text = error.to_string();
    text.split_once(" error: ").map_or(text.clone(), |(_, rest)| rest.to_owned())
}
