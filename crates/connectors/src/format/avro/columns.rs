//! Which columns a field of a schema can fill, and which type each gets where the script leaves that open.

use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field as Column, Fields, TimeUnit};

use super::schema::{Field, Record, Type};
use crate::format::{TimestampFormat, sql_type};

/// Why a type of a schema cannot fill a column; nothing: it can.
///
/// What may be is what Avro's resolution of schemas allows (int to long to float to double, string to bytes and back), and what
/// loses nothing: an enum is a text, an `int` may be a SMALLINT as long as each value fits.
pub(super) fn misfit(from: &Type, to: &DataType, times: TimestampFormat) -> Option<String> {
    let fits = match (from.value(), to) {
        (Type::Boolean, DataType::Boolean) => true,
        (Type::Int, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16) => true,
        (Type::Int | Type::Long, DataType::Int64 | DataType::Float32 | DataType::Float64) => true,
        (Type::Long, DataType::UInt32 | DataType::UInt64) => true,
        (Type::Timestamp(_), DataType::Int64 | DataType::Timestamp(TimeUnit::Microsecond, _)) => true,
        (Type::Int | Type::Long, DataType::Timestamp(TimeUnit::Microsecond, _)) => matches!(times, TimestampFormat::Unix(_)),
        (Type::Text, DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Date32) => true,
        (Type::Date, DataType::Date32) => true,
        (Type::Float, DataType::Float32 | DataType::Float64) | (Type::Double, DataType::Float64) => true,
        (Type::Text | Type::Bytes, DataType::Utf8 | DataType::Binary) => true,
        (Type::Fixed(_), DataType::Binary) | (Type::Enum(_), DataType::Utf8) => true,
        (Type::Decimal(p, s, _), DataType::Decimal128(q, t) | DataType::Decimal256(q, t)) => {
            t >= s && i16::from(*q) - i16::from(*t) >= i16::from(*p) - i16::from(*s)
        }
        (Type::Array(item), DataType::List(to)) => {
            return misfit(item, to.data_type(), times).map(|why| format!("its items: {why}"));
        }
        (Type::Map(value), DataType::Map(entries, _)) => {
            let DataType::Struct(entry) = entries.data_type() else { return Some("a map has entries".into()) };
            return match (entry[0].data_type(), misfit(value, entry[1].data_type(), times)) {
                (DataType::Utf8, why) => why.map(|why| format!("its values: {why}")),
                _ => Some("the keys of a map are VARCHAR".into()),
            };
        }
        (Type::Record(record), DataType::Struct(to)) => {
            let inside = |f: &Column| {
                let why = misfit(&record.field(f.name())?.kind, f.data_type(), times)?;
                Some(format!("field {}: {why}", f.name()))
            };
            return to.iter().find_map(|f| inside(f));
        }
        _ => false,
    };
    if fits {
        return None;
    }
    let (is, wanted) = (from.value().name(), sql_type(to));
    Some(match column_type(from.value()) {
        Ok(best) if best != *to => format!("it is {is}, and the column is {wanted}; it fits {}", sql_type(&best)),
        _ => format!("it is {is}, and the column is {wanted}"),
    })
}

/// The type of the column that holds all values of a type.
///
/// # Errors
/// No column does.
pub(super) fn column_type(kind: &Type) -> Result<DataType, String> {
    let inside = |name: &str, kind: &Type| column_type(kind).map(|t| Column::new(name, t, true));
    Ok(match kind {
        Type::Boolean => DataType::Boolean,
        Type::Int => DataType::Int32,
        Type::Long => DataType::Int64,
        Type::Float => DataType::Float32,
        Type::Double => DataType::Float64,
        Type::Bytes | Type::Fixed(_) => DataType::Binary,
        Type::Text | Type::Enum(_) => DataType::Utf8,
        Type::Date => DataType::Date32,
        Type::Timestamp(_) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Type::Decimal(p, s, _) if *p <= DECIMAL128_MAX_PRECISION => DataType::Decimal128(*p, *s),
        Type::Decimal(p, s, _) => DataType::Decimal256(*p, *s),
        Type::Array(item) => DataType::List(Arc::new(inside("item", item)?)),
        Type::Map(value) => {
            let entry = Fields::from(vec![Column::new("key", DataType::Utf8, false), inside("value", value)?]);
            DataType::Map(Arc::new(Column::new("entries", DataType::Struct(entry), false)), false)
        }
        Type::Record(record) => {
            let fields = record.fields.iter().map(|f| inside(&f.name, &f.kind));
            DataType::Struct(fields.collect::<Result<_, _>>()?)
        }
        Type::Nullable(value, _) => column_type(value)?,
        Type::Null | Type::Union(_) => return Err(format!("no column can hold a {}", kind.name())),
    })
}

/// The columns of a schema, in its order, and what it leaves out: fields that no column can hold, with the reason.
pub(crate) fn columns(record: &Record) -> (Vec<Column>, Vec<String>) {
    let (mut columns, mut left_out) = (Vec::new(), Vec::new());
    for Field { name, kind, .. } in &record.fields {
        match column_type(kind) {
            Ok(data_type) => columns.push(Column::new(name, data_type, matches!(kind, Type::Nullable(..)))),
            Err(why) => left_out.push(format!("{name}: {why}")),
        }
    }
    (columns, left_out)
}
