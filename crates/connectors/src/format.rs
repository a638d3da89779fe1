//! Formats: raw records into rows ([`Decoder`]) and rows into raw records ([`JsonEncoder`]), the same for every connector.
//!
//! One malformed record costs that record, not its batch: it becomes a [`BadRecord`](riverrun_engine::source::BadRecord)
//! with its reason and position, and whether it does never depends on its neighbours.

#[cfg(feature = "avro")]
pub(crate) mod avro;
#[cfg(feature = "filesystem")]
mod csv;
mod decode;
mod decoded;
mod decoding;
mod encode;
mod json;
mod judge;
mod metadata;
mod payload;
mod records;
mod rows;
mod text;

pub use decode::Decoder;
pub use decoded::Decoded;
pub(crate) use decoding::{Decoding, columns};
pub use encode::{EncodedRows, JsonEncoder};
pub use judge::Judge;
pub(crate) use rows::{RowEncoder, check_sink};

use std::time::Duration;

use arrow::datatypes::DataType;
use riverrun_engine::Result;
#[cfg(feature = "filesystem")]
use riverrun_engine::table::Options;
use riverrun_engine::table::Table;
use riverrun_engine::time::Micros;

use crate::connector;

/// Why a record is bad: the bounded words of [`BadRecord::reason`](riverrun_engine::source::BadRecord).
pub mod reason {
    /// Not in the format at all.
    pub const MALFORMED: &str = "malformed";
    /// A column that is NOT NULL is missing or null.
    pub const MISSING_FIELD: &str = "missing_field";
    /// A value does not fit the type of its column.
    pub const WRONG_TYPE: &str = "wrong_type";
    /// The event time is NULL, before 1970 or too far ahead.
    pub const EVENT_TIME: &str = "event_time";
    /// Larger than the option `max_record_bytes`.
    pub const TOO_LARGE: &str = "too_large";
    /// No payload: a tombstone, or nothing but white space.
    pub const EMPTY: &str = "empty";
    /// The registry has no schema of the record's id, or the schema does not fit the table.
    pub const SCHEMA: &str = "schema";
}

/// A header of a record: name and value.
pub type Header<'a> = (&'a str, Option<&'a [u8]>);

/// A record as a bus or a file gives it. Nothing is copied until it is pushed.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawRecord<'a> {
    /// Position in its partition.
    pub offset: i64,
    /// The record's own (broker) time.
    pub timestamp: Option<Micros>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub payload: Option<&'a [u8]>,
    /// Its headers; may be left empty unless [`Decoder::wants_headers`].
    pub headers: &'a [Header<'a>],
}

/// How times are written (the option `timestamp_format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimestampFormat {
    /// ISO 8601 text, with or without zone (none: UTC).
    Iso8601,
    /// A number, in units of this many microseconds, since 1970.
    Unix(i64),
}

/// The options of a table that its decoder obeys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DecoderOptions {
    pub max_ahead: Duration,
    pub max_record_bytes: usize,
    pub timestamp_format: TimestampFormat,
}

impl DecoderOptions {
    pub fn of(table: &Table) -> Result<Self> {
        let words = [
            ("iso8601", TimestampFormat::Iso8601),
            ("unix_s", TimestampFormat::Unix(1_000_000)),
            ("unix_ms", TimestampFormat::Unix(1000)),
            ("unix_us", TimestampFormat::Unix(1)),
        ];
        let options = &table.options;
        Ok(Self {
            max_ahead: connector::max_ahead(options)?,
            max_record_bytes: options.bytes("max_record_bytes")?.unwrap_or(1 << 20) as usize,
            timestamp_format: options.one_of("timestamp_format", &words)?.unwrap_or(TimestampFormat::Iso8601),
        })
    }
}

/// What separates values in CSV (the option `delimiter`).
#[cfg(feature = "filesystem")]
pub(crate) fn csv_delimiter(options: &Options) -> Result<u8> {
    match options.get("delimiter").as_deref().map(str::as_bytes) {
        None => Ok(b','),
        Some(b"\\t" | b"tab") => Ok(b'\t'),
        Some([byte]) if byte.is_ascii() && *byte != b'"' => Ok(*byte),
        Some(_) => Err(options.error("delimiter", "must be one ASCII character, or 'tab'")),
    }
}

/// Checks without I/O that records of this table can be decoded: format, column types, metadata columns.
pub fn check_source(table: &Table) -> Result<()> {
    Decoder::new(table, "", 0).map(|_| ())
}

#[cfg(not(feature = "avro"))]
fn no_avro(table: &Table) -> riverrun_engine::Error {
    table.options.error("format", "avro was not compiled into this program").hint("build with --features avro")
}

/// The name of a type as scripts write it.
pub fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "REAL".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".into(),
        DataType::Binary => "BINARY".into(),
        DataType::Date32 => "DATE".into(),
        DataType::Timestamp(..) => "TIMESTAMP".into(),
        DataType::Struct(fields) => {
            let fields: Vec<_> = fields.iter().map(|f| format!("{} {}", f.name(), sql_type(f.data_type()))).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        DataType::List(field) => format!("{}[]", sql_type(field.data_type())),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("DECIMAL({precision}, {scale})")
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(entry) => format!("MAP<{}, {}>", sql_type(entry[0].data_type()), sql_type(entry[1].data_type())),
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}

/// The beginning of a value, short enough for a message.
pub(crate) fn snippet(bytes: &[u8]) -> String {
    const LONGEST: usize = 60;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]);
    if bytes.len() > LONGEST { format!("{text}…") } else { text.into_owned() }
}

#[cfg(test)]
mod tests;
