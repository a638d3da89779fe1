//! Rows into JSON: one object a row, in one buffer.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;

use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow_json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};
use riverrun_engine::Result;

/// Writes rows as JSON objects: timestamps as `2024-05-01T12:00:00.000000Z`, NULL as `null`, NaN and infinities as `null`
/// (JSON has no word for them), binary as hexadecimal text; structs, maps and lists nest.
#[derive(Debug, Clone)]
pub struct JsonEncoder {
    options: EncoderOptions,
}

impl Default for JsonEncoder {
    fn default() -> Self {
        let options = EncoderOptions::default().with_explicit_nulls(true).with_encoder_factory(Arc::new(IsoTimestamps));
        Self { options }
    }
}

/// The records of a batch, by row.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct EncodedRows {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl EncodedRows {
    /// Rows that stand in `bytes` one behind the other, each up to its end.
    pub(crate) fn new(bytes: Vec<u8>, ends: Vec<usize>) -> Self {
        Self { bytes, ends }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The record of a row.
    pub fn row(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.bytes[start..self.ends[row]]
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|row| self.row(row))
    }
}

impl JsonEncoder {
    /// Encodes a batch. Fails on types that JSON cannot show (maps with keys that are no text, intervals of some kinds).
    pub fn encode(&self, rows: &RecordBatch) -> Result<EncodedRows> {
        let mut out = EncodedRows { bytes: Vec::new(), ends: Vec::with_capacity(rows.num_rows()) };
        self.each(rows, |encoder, row| {
            encoder.encode(row, &mut out.bytes);
            out.ends.push(out.bytes.len());
        })?;
        Ok(out)
    }

    /// Appends a batch to `out` as JSON lines.
    pub fn encode_lines(&self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        self.each(rows, |encoder, row| {
            encoder.encode(row, out);
            out.push(b'\n');
        })
    }

    fn each(&self, rows: &RecordBatch, mut take: impl FnMut(&mut NullableEncoder<'_>, usize)) -> Result<()> {
        let array = StructArray::from(rows.clone());
        let field: FieldRef = Arc::new(Field::new("row", array.data_type().clone(), false));
        let mut encoder = make_encoder(&field, &array, &self.options)?;
        (0..rows.num_rows()).for_each(|row| take(&mut encoder, row));
        Ok(())
    }
}

/// Makes arrow-json write microsecond timestamps in one way, whatever the fraction.
struct IsoTimestamps;

impl fmt::Debug for IsoTimestamps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IsoTimestamps")
    }
}

impl EncoderFactory for IsoTimestamps {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let DataType::Timestamp(TimeUnit::Microsecond, _) = array.data_type() else { return Ok(None) };
        let times = array.as_primitive::<TimestampMicrosecondType>();
        Ok(Some(NullableEncoder::new(Box::new(IsoTimestamp(times)), times.nulls().cloned())))
    }
}

struct IsoTimestamp<'a>(&'a PrimitiveArray<TimestampMicrosecondType>);

impl Encoder for IsoTimestamp<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        match chrono::DateTime::from_timestamp_micros(self.0.value(row)) {
            Some(time) => {
                use chrono::{Datelike as _, Timelike as _};
                let (year, month, day) = (time.year(), time.month(), time.day());
                let (hour, minute, second) = (time.hour(), time.minute(), time.second());
                let micros = time.nanosecond() / 1000;
                // Writing to a Vec cannot fail.
                let _ = write!(out, "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z\"");
            }
            None => out.extend_from_slice(b"null"),
        }
    }
}
