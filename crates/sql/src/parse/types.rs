//! SQL types as Riverrun means them: columns of tables and casts in queries alike.
//!
//! VARCHAR = Utf8, DOUBLE = Float64, TIMESTAMP = microseconds in UTC.

use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Field, Fields, TimeUnit};
use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, DataType as SqlType, ExactNumberInfo, ObjectName, StructField};
use riverrun_engine::table::Location;

use super::fault::{Fault, Result, place};
use super::reader::normal;
use crate::suggest;

/// Types by their names, for hints.
const NAMES: [&str; 23] = [
    "VARCHAR",
    "STRING",
    "TEXT",
    "CHAR",
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INT",
    "INTEGER",
    "BIGINT",
    "FLOAT",
    "REAL",
    "DOUBLE",
    "DECIMAL",
    "NUMERIC",
    "DATE",
    "TIMESTAMP",
    "BINARY",
    "VARBINARY",
    "BYTEA",
    "ARRAY",
    "STRUCT",
    "MAP",
];

/// TIMESTAMP.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The arrow type of an SQL type that stands at `at`.
///
/// # Errors
/// The type is unknown: the nearest known one is told.
pub fn arrow_type(sql: &SqlType, at: Location) -> Result<DataType> {
    Ok(match sql {
        SqlType::Varchar(_) | SqlType::Nvarchar(_) | SqlType::Char(_) | SqlType::Character(_) => DataType::Utf8,
        SqlType::CharacterVarying(_) | SqlType::CharVarying(_) | SqlType::Text | SqlType::String(_) => DataType::Utf8,
        SqlType::Boolean | SqlType::Bool => DataType::Boolean,
        SqlType::TinyInt(_) => DataType::Int8,
        SqlType::SmallInt(_) | SqlType::Int2(_) => DataType::Int16,
        SqlType::Int(_) | SqlType::Integer(_) | SqlType::Int4(_) => DataType::Int32,
        SqlType::BigInt(_) | SqlType::Int8(_) => DataType::Int64,
        SqlType::TinyIntUnsigned(_) => DataType::UInt8,
        SqlType::SmallIntUnsigned(_) | SqlType::Int2Unsigned(_) => DataType::UInt16,
        SqlType::IntUnsigned(_) | SqlType::IntegerUnsigned(_) | SqlType::Int4Unsigned(_) => DataType::UInt32,
        SqlType::BigIntUnsigned(_) | SqlType::Int8Unsigned(_) => DataType::UInt64,
        SqlType::Float(_) | SqlType::Real | SqlType::Float4 => DataType::Float32,
        SqlType::Double(ExactNumberInfo::None) | SqlType::DoublePrecision | SqlType::Float8 => DataType::Float64,
        SqlType::Decimal(info) | SqlType::Numeric(info) | SqlType::Dec(info) => decimal(info, at)?,
        SqlType::Date => DataType::Date32,
        SqlType::Timestamp(Some(digits), _) if *digits > 6 => {
            return Err(Fault::at(at, format!("TIMESTAMP({digits}): times are kept in microseconds")).hint("write TIMESTAMP"));
        }
        SqlType::Timestamp(..) => timestamp(),
        SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Bytea => DataType::Binary,
        SqlType::Array(ArrayElemTypeDef::AngleBracket(item) | ArrayElemTypeDef::SquareBracket(item, None)) => {
            DataType::new_list(arrow_type(item, at)?, true)
        }
        SqlType::Struct(fields, _) => DataType::Struct(struct_fields(fields, at)?),
        SqlType::Map(key, value) => map(arrow_type(key, at)?, arrow_type(value, at)?),
        SqlType::Custom(name, _) => return Err(unknown(name, at)),
        other => return Err(Fault::at(at, format!("unknown type {other}")).hint(format!("one of {}", NAMES.join(", ")))),
    })
}

fn struct_fields(fields: &[StructField], at: Location) -> Result<Fields> {
    let mut names = std::collections::BTreeSet::new();
    let field = |field: &StructField| {
        let Some(ident) = &field.field_name else {
            return Err(Fault::at(at, "a field of a STRUCT has no name").hint("write STRUCT<name TYPE, …>"));
        };
        let name = normal(ident);
        if !names.insert(name.clone()) {
            return Err(Fault::at(place(ident.span.start), format!("the STRUCT has two fields {name}")));
        }
        Ok(Arc::new(Field::new(name, arrow_type(&field.field_type, place(ident.span.start))?, true)))
    };
    fields.iter().map(field).collect()
}

fn map(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

/// DECIMAL is DECIMAL(38, 10), as in DataFusion; DECIMAL(p) is DECIMAL(p, 0).
fn decimal(info: &ExactNumberInfo, at: Location) -> Result<DataType> {
    let (precision, scale) = match *info {
        ExactNumberInfo::None => (u64::from(DECIMAL128_MAX_PRECISION), 10),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    let wrong = || {
        let message =
            format!("DECIMAL({precision}, {scale}): 1 to {DECIMAL256_MAX_PRECISION} digits, and not more behind the point");
        Fault::at(at, message).hint("such as DECIMAL(18, 2)")
    };
    let digits = u8::try_from(precision).ok().filter(|p| (1..=DECIMAL256_MAX_PRECISION).contains(p)).ok_or_else(wrong)?;
    let places = i8::try_from(scale).ok().filter(|s| (0..=i64::from(digits)).contains(&i64::from(*s))).ok_or_else(wrong)?;
    let small = digits <= DECIMAL128_MAX_PRECISION;
    Ok(if small { DataType::Decimal128(digits, places) } else { DataType::Decimal256(digits, places) })
}

fn unknown(name: &ObjectName, at: Location) -> Fault {
    let at = name.0.first().and_then(|part| part.as_ident()).map_or(at, |ident| place(ident.span.start));
    let name = name.to_string();
    Fault::at(at, format!("unknown type {name}")).hint(match name.to_uppercase().as_str() {
        "DATETIME" | "TIMESTAMP_LTZ" => "write TIMESTAMP".to_owned(),
        "BYTES" => "write BINARY".to_owned(),
        "ROW" => "write STRUCT<name TYPE, …>".to_owned(),
        upper => suggest::hint(upper, NAMES),
    })
}
