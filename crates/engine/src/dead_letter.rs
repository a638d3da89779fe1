//! Dead letters: bad records as rows, and such rows as the records that they were.
//!
//! Invariant: what a record held (key, payload, headers) can be had back byte for byte, but for the payload of one that was too
//! large to be kept whole ([`DeadLetter::is_cut`]). Bytes that are no UTF-8, or that would be taken for such, are written as
//! `base64:` and their base64.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StringBuilder, StructArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::source::{BadRecord, Header};
use crate::time::Micros;
use crate::{Error, Result};

/// The most of a record that is too large that is kept.
pub const KEPT_OF_TOO_LARGE: usize = 64 << 10;

/// What stands before bytes that are written as base64.
const ENCODED: &str = "base64:";

/// The columns of a table of dead letters: `source, partition, offset, record_time, reason, detail, key, payload, headers,
/// read_time`. The last two may be missing in rows of earlier versions.
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            Field::new("source", DataType::Utf8, false),
            Field::new("partition", DataType::Int32, false),
            Field::new("offset", DataType::Int64, false),
            Field::new("record_time", time.clone(), true),
            Field::new("reason", DataType::Utf8, false),
            Field::new("detail", DataType::Utf8, false),
            Field::new("key", DataType::Utf8, true),
            Field::new("payload", DataType::Utf8, true),
            Field::new_list("headers", Field::new_list_field(DataType::Struct(header_fields()), true), true),
            Field::new("read_time", time, true),
        ]))
    });
    SCHEMA.clone()
}

fn header_fields() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, true), Field::new("value", DataType::Utf8, true)])
}

/// Bad records of a partition as rows of [`schema`]; `clock` is that of the epoch which read them.
///
/// # Errors
/// None that a bad record could cause.
pub fn rows(source: &str, partition: u32, clock: Micros, bad: &[BadRecord]) -> Result<RecordBatch> {
    let payload = |bad: &BadRecord| (!bad.tombstone).then(|| text(&bad.payload));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(bad.iter().map(|_| source))),
        Arc::new(Int32Array::from_iter_values(bad.iter().map(|_| partition as i32))),
        Arc::new(Int64Array::from_iter_values(bad.iter().map(|b| b.offset))),
        Arc::new(TimestampMicrosecondArray::from_iter(bad.iter().map(|b| b.timestamp)).with_timezone("UTC")),
        Arc::new(StringArray::from_iter_values(bad.iter().map(|b| b.reason))),
        Arc::new(StringArray::from_iter_values(bad.iter().map(|b| b.detail.as_str()))),
        Arc::new(StringArray::from_iter(bad.iter().map(|b| b.key.as_ref().map(|key| text(key))))),
        Arc::new(StringArray::from_iter(bad.iter().map(payload))),
        Arc::new(headers(bad)?),
        Arc::new(TimestampMicrosecondArray::from_value(clock, bad.len()).with_timezone("UTC")),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// The headers of records; NULL where there are none.
fn headers(bad: &[BadRecord]) -> Result<ListArray> {
    let (mut names, mut values) = (StringBuilder::new(), StringBuilder::new());
    for (name, value) in bad.iter().flat_map(|b| &b.headers) {
        names.append_value(name);
        values.append_option(value.as_ref().map(|value| text(value)));
    }
    let entries = StructArray::try_new(header_fields(), vec![Arc::new(names.finish()), Arc::new(values.finish())], None)?;
    let item = Arc::new(Field::new_list_field(DataType::Struct(header_fields()), true));
    let lengths = OffsetBuffer::from_lengths(bad.iter().map(|b| b.headers.len()));
    let nulls: NullBuffer = bad.iter().map(|b| !b.headers.is_empty()).collect();
    Ok(ListArray::try_new(item, lengths, Arc::new(entries), Some(nulls))?)
}

fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with(ENCODED) => text.to_owned(),
        _ => format!("{ENCODED}{}", STANDARD.encode(bytes)),
    }
}

/// The bytes that [`text`] wrote. What is no base64 was written before such text was encoded, and means itself.
fn bytes(text: &str) -> Bytes {
    match text.strip_prefix(ENCODED).and_then(|encoded| STANDARD.decode(encoded).ok()) {
        Some(bytes) => bytes.into(),
        None => Bytes::copy_from_slice(text.as_bytes()),
    }
}

/// A bad record, as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// The table that read it; behind a `/` the topic, where the table reads several.
    pub source: String,
    /// Its partition (of the topic, where the table reads several).
    pub partition: u32,
    /// Its offset in the partition.
    pub offset: i64,
    /// Its own time.
    pub record_time: Option<Micros>,
    /// One of [`crate::source::BAD_RECORD_REASONS`].
    pub reason: String,
    /// What was wrong, for a person.
    pub detail: String,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None`: a tombstone.
    pub payload: Option<Bytes>,
    /// Its headers.
    pub headers: Vec<Header>,
    /// When it was read.
    pub read_time: Option<Micros>,
}

impl DeadLetter {
    /// Names the record: where it stood, and a digest of what it held, since a topic may be made anew.
    pub fn id(&self) -> String {
        let mut content = self.key.as_deref().unwrap_or_default().to_vec();
        content.push(0);
        content.extend_from_slice(self.payload.as_deref().unwrap_or_default());
        format!("{}/{:016x}", self.place(), twox_hash::XxHash3_64::oneshot(&content))
    }

    /// Where it stood: `source/partition/offset`.
    pub fn place(&self) -> String {
        format!("{}/{}/{}", self.source, self.partition, self.offset)
    }

    /// Whether this is a record of the table.
    pub fn is_of(&self, table: &str) -> bool {
        self.source.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The topic, where the table reads several.
    pub fn topic(&self, table: &str) -> Option<&str> {
        self.source.strip_prefix(table)?.strip_prefix('/')
    }

    /// Whether only the beginning of the payload was kept.
    pub fn is_cut(&self) -> bool {
        self.reason == "too_large" && self.payload.as_ref().is_some_and(|payload| payload.len() >= KEPT_OF_TOO_LARGE)
    }
}

/// Reads rows of [`schema`].
///
/// # Errors
/// A column is missing, or is of another type.
pub fn letters(rows: &RecordBatch) -> Result<Vec<DeadLetter>> {
    let column = |name: &str| {
        let column =
            rows.column_by_name(name).filter(|c| schema().field_with_name(name).is_ok_and(|f| f.data_type() == c.data_type()));
        column.ok_or_else(|| Error::permanent(format!("a table of dead letters has no column {name}, or of another type")))
    };
    let string = |name: &str| column(name).map(|c| c.as_string::<i32>());
    let time = |name: &str| column(name).map(|c| c.as_primitive::<TimestampMicrosecondType>());
    let (sources, reasons, details) = (string("source")?, string("reason")?, string("detail")?);
    let (keys, payloads) = (string("key")?, string("payload")?);
    let (partitions, offsets) = (column("partition")?.as_primitive::<Int32Type>(), column("offset")?.as_primitive::<Int64Type>());
    let (record_times, read_times) = (time("record_time")?, time("read_time")?);
    let headers = column("headers")?.as_list::<i32>();
    let some = |column: &StringArray, row: usize| column.is_valid(row).then(|| bytes(column.value(row)));
    let moment = |column: &TimestampMicrosecondArray, row: usize| column.is_valid(row).then(|| column.value(row));
    let letter = |row: usize| DeadLetter {
        source: sources.value(row).to_owned(),
        partition: partitions.value(row).unsigned_abs(),
        offset: offsets.value(row),
        record_time: moment(record_times, row),
        reason: reasons.value(row).to_owned(),
        detail: details.value(row).to_owned(),
        key: some(keys, row),
        payload: some(payloads, row),
        headers: if headers.is_valid(row) { entries(&headers.value(row)) } else { Vec::new() },
        read_time: moment(read_times, row),
    };
    Ok((0..rows.num_rows()).map(letter).collect())
}

fn entries(list: &ArrayRef) -> Vec<Header> {
    let entries = list.as_struct();
    let (names, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
    let value = |row: usize| values.is_valid(row).then(|| bytes(values.value(row)));
    (0..entries.len()).map(|row| (names.value(row).to_owned(), value(row))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(key: Option<&[u8]>, payload: Option<&[u8]>, headers: &[(&str, Option<&[u8]>)]) -> BadRecord {
        BadRecord {
            reason: "malformed",
            detail: "why".into(),
            offset: 7,
            timestamp: Some(5),
            key: key.map(Bytes::copy_from_slice),
            payload: payload.map(Bytes::copy_from_slice).unwrap_or_default(),
            tombstone: payload.is_none(),
            headers: headers.iter().map(|(n, v)| ((*n).to_owned(), v.map(Bytes::copy_from_slice))).collect(),
        }
    }

    #[test]
    fn a_record_comes_back_byte_for_byte() {
        let records = [
            bad(Some(b"k"), Some(b"{"), &[]),
            bad(None, Some(b"\xff\x00"), &[("trace", Some(b"\xfe")), ("trace", None)]),
            bad(Some(b""), Some(b""), &[("", Some(b""))]),
            bad(Some(b"\xff"), None, &[]),
            // Text that looks like encoded bytes, and would be decoded.
            bad(Some(b"base64:aGk="), Some(b"base64:%"), &[("h", Some(b"base64:"))]),
        ];
        let rows = rows("t/topic", 3, 11, &records).unwrap();
        let letters = letters(&rows).unwrap();
        assert_eq!(letters.len(), records.len());
        for (letter, record) in letters.iter().zip(&records) {
            assert_eq!(letter.key, record.key);
            assert_eq!(letter.payload, (!record.tombstone).then(|| record.payload.clone()));
            assert_eq!(letter.headers, record.headers);
            assert_eq!((letter.record_time, letter.read_time, letter.offset, letter.partition), (Some(5), Some(11), 7, 3));
        }
        assert_eq!((letters[0].place().as_str(), letters[0].topic("t")), ("t/topic/3/7", Some("topic")));
        assert!(letters[0].is_of("t") && !letters[0].is_of("t/to") && !letters[0].is_of("other"));
        assert_ne!(letters[0].id(), letters[1].id(), "another record at the same place");
    }

    #[test]
    fn what_earlier_versions_wrote_as_text_stays_text() {
        assert_eq!(bytes("base64:not base64!"), Bytes::from_static(b"base64:not base64!"));
        assert_eq!(bytes("base64:aGk="), Bytes::from_static(b"hi"));
    }
}
