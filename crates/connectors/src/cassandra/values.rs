//! Rows that were read, as arrow's columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, ListArray, MapArray, RecordBatch, RecordBatchOptions, StringArray, StructArray,
    TimestampMicrosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use riverrun_engine::{Error, Result};
use scylla::value::{CqlValue, Row};

/// Days before 1970 in Cassandra's count of them.
const EPOCH_DAY: i64 = 1 << 31;

/// Rows of this schema; a row that is not there is all NULL.
pub(super) fn batch(schema: &SchemaRef, rows: Vec<Option<Row>>) -> Result<RecordBatch> {
    let count = rows.len();
    let mut columns: Vec<Vec<Option<CqlValue>>> = (0..schema.fields().len()).map(|_| Vec::with_capacity(count)).collect();
    for row in rows {
        let mut values = row.map(|row| row.columns.into_iter());
        for column in &mut columns {
            column.push(values.as_mut().and_then(Iterator::next).flatten());
        }
    }
    let arrays = columns
        .into_iter()
        .zip(schema.fields())
        .map(|(values, field)| array(field.data_type(), values).map_err(|e| e.within(format!("column {}", field.name()))));
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    Ok(RecordBatch::try_new_with_options(schema.clone(), arrays.collect::<Result<_>>()?, &options)?)
}

/// Takes each value by `take`, which gives it back where it is of another type.
fn each<T>(values: Vec<Option<CqlValue>>, take: impl Fn(CqlValue) -> Result<T, CqlValue>) -> Result<Vec<Option<T>>> {
    let one = |value: Option<CqlValue>| match value.map(&take) {
        None | Some(Err(CqlValue::Empty)) => Ok(None),
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(other)) => Err(Error::permanent(format!("a value of another type came: {other:?}"))),
    };
    values.into_iter().map(one).collect()
}

macro_rules! native {
    ($array:ty, $values:expr, $($value:pat => $give:expr),+) => {
        Arc::new(<$array>::from(each($values, |value| match value { $($value => Ok($give),)+ other => Err(other) })?)) as ArrayRef
    };
}

fn array(data_type: &DataType, values: Vec<Option<CqlValue>>) -> Result<ArrayRef> {
    use CqlValue as V;
    Ok(match data_type {
        DataType::Boolean => native!(BooleanArray, values, V::Boolean(v) => v),
        DataType::Int8 => native!(Int8Array, values, V::TinyInt(v) => v),
        DataType::Int16 => native!(Int16Array, values, V::SmallInt(v) => v),
        DataType::Int32 => native!(Int32Array, values, V::Int(v) => v),
        DataType::Int64 => native!(Int64Array, values, V::BigInt(v) => v),
        DataType::UInt8 => native!(UInt8Array, values, V::SmallInt(v) => v as u8),
        DataType::UInt16 => native!(UInt16Array, values, V::Int(v) => v as u16),
        DataType::UInt32 => native!(UInt32Array, values, V::BigInt(v) => v as u32),
        DataType::UInt64 => native!(UInt64Array, values, V::Varint(v) => wide(v.as_signed_bytes_be_slice()) as u64),
        DataType::Float32 => native!(Float32Array, values, V::Float(v) => v),
        DataType::Float64 => native!(Float64Array, values, V::Double(v) => v),
        DataType::Utf8 => native!(StringArray, values, V::Text(v) => v, V::Ascii(v) => v),
        DataType::Binary => {
            let values = each(values, |value| if let V::Blob(v) = value { Ok(v) } else { Err(value) })?;
            Arc::new(BinaryArray::from_iter(values)) as ArrayRef
        }
        DataType::Date32 => native!(Date32Array, values, V::Date(v) => (i64::from(v.0) - EPOCH_DAY) as i32),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let values = each(values, |value| match value {
                V::Timestamp(v) => Ok(v.0.saturating_mul(1000)),
                V::BigInt(v) => Ok(v),
                other => Err(other),
            })?;
            Arc::new(TimestampMicrosecondArray::from(values).with_timezone_opt(zone.clone()))
        }
        DataType::Decimal128(precision, scale) => decimals(values, *precision, *scale)?,
        DataType::List(item) => lists(item, values)?,
        DataType::Map(entries, sorted) => maps(entries, *sorted, values)?,
        DataType::Struct(fields) => structs(fields, values)?,
        other => return Err(Error::permanent(format!("a {other} cannot be read from Cassandra"))),
    })
}

/// A number of at most 16 bytes.
fn wide(bytes: &[u8]) -> i128 {
    let sign = if bytes.first().is_some_and(|first| *first >= 0x80) { 0xff } else { 0 };
    let mut all = [sign; 16];
    let length = bytes.len().min(16);
    all[16 - length..].copy_from_slice(&bytes[bytes.len() - length..]);
    i128::from_be_bytes(all)
}

fn decimals(values: Vec<Option<CqlValue>>, precision: u8, scale: i8) -> Result<ArrayRef> {
    let values = each(values, |value| if let CqlValue::Decimal(v) = value { Ok(v) } else { Err(value) })?;
    let scaled = values.into_iter().map(|value| {
        let Some(value) = value else { return Ok(None) };
        let (bytes, has) = value.as_signed_be_bytes_slice_and_exponent();
        let (number, missing) = (wide(bytes), i32::from(scale) - has);
        let scaled = match u32::try_from(missing) {
            Ok(up) => 10_i128.checked_pow(up).and_then(|by| number.checked_mul(by)),
            Err(_) => 10_i128.checked_pow(missing.unsigned_abs()).filter(|by| number % by == 0).map(|by| number / by),
        };
        let fits = scaled.filter(|_| bytes.len() <= 16).map(Some);
        fits.ok_or_else(|| {
            Error::permanent(format!("a decimal with {has} digits after the point is no DECIMAL({precision}, {scale})"))
        })
    });
    let values = scaled.collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale)?))
}

fn lists(item: &Arc<Field>, values: Vec<Option<CqlValue>>) -> Result<ArrayRef> {
    let lists = each(values, |value| match value {
        CqlValue::List(v) | CqlValue::Set(v) => Ok(v),
        other => Err(other),
    })?;
    let nulls = NullBuffer::from(lists.iter().map(Option::is_some).collect::<Vec<_>>());
    let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.as_ref().map_or(0, Vec::len)));
    let items = array(item.data_type(), lists.into_iter().flatten().flatten().map(Some).collect())?;
    Ok(Arc::new(ListArray::try_new(item.clone(), offsets, items, Some(nulls))?))
}

fn maps(entries: &Arc<Field>, sorted: bool, values: Vec<Option<CqlValue>>) -> Result<ArrayRef> {
    let maps = each(values, |value| if let CqlValue::Map(v) = value { Ok(v) } else { Err(value) })?;
    let DataType::Struct(fields) = entries.data_type() else { return Err(Error::permanent("a map without entries")) };
    let nulls = NullBuffer::from(maps.iter().map(Option::is_some).collect::<Vec<_>>());
    let offsets = OffsetBuffer::from_lengths(maps.iter().map(|map| map.as_ref().map_or(0, Vec::len)));
    let (keys, values): (Vec<_>, Vec<_>) = maps.into_iter().flatten().flatten().map(|(k, v)| (Some(k), Some(v))).unzip();
    let columns = vec![array(fields[0].data_type(), keys)?, array(fields[1].data_type(), values)?];
    let structs = StructArray::try_new(fields.clone(), columns, None)?;
    Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, structs, Some(nulls), sorted)?))
}

fn structs(fields: &arrow::datatypes::Fields, values: Vec<Option<CqlValue>>) -> Result<ArrayRef> {
    let mut columns: Vec<Vec<Option<CqlValue>>> = vec![Vec::with_capacity(values.len()); fields.len()];
    let mut there = Vec::with_capacity(values.len());
    for value in values {
        there.push(value.is_some());
        match value {
            None => columns.iter_mut().for_each(|column| column.push(None)),
            Some(CqlValue::UserDefinedType { fields: mut given, .. }) => {
                for (column, field) in columns.iter_mut().zip(fields) {
                    let found = given.iter_mut().find(|(name, _)| name == field.name());
                    column.push(found.and_then(|(_, value)| value.take()));
                }
            }
            Some(CqlValue::Tuple(given)) => {
                let mut given = given.into_iter();
                columns.iter_mut().for_each(|column| column.push(given.next().flatten()));
            }
            Some(other) => return Err(Error::permanent(format!("a value of another type came: {other:?}"))),
        }
    }
    let arrays = columns.into_iter().zip(fields).map(|(values, field)| array(field.data_type(), values));
    let nulls = NullBuffer::from(there);
    Ok(Arc::new(StructArray::try_new(fields.clone(), arrays.collect::<Result<_>>()?, Some(nulls))?))
}
