//! The decoder of a table: raw records in, full batches out.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use riverrun_engine::dead_letter::KEPT_OF_TOO_LARGE;
use riverrun_engine::source::{BadRecord, Header, OnBadRecord};
use riverrun_engine::table::{Metadata, Table};
use riverrun_engine::{Error, Result};

use super::decoded::{Decoded, mask};
use super::json::JsonPayload;
use super::metadata::{self, Origin};
use super::payload::{self, CHUNK, Payload};
use super::records::Records;
use super::text::{self, Fault};
use super::{DecoderOptions, JsonEncoder, RawRecord, reason, sql_type};
use crate::connector::on_bad_record;
#[cfg(feature = "avro")]
use crate::schema_registry::SchemaRegistry;

/// What holds for all batches of a decoder.
pub(super) struct Plan {
    /// All columns of the table.
    pub schema: SchemaRef,
    /// The columns that come from the payload, as declared.
    pub payload: SchemaRef,
    /// For each column of the table: which metadata it is, or `None`: the next one of the payload.
    pub metadata: Vec<Option<Metadata>>,
    /// The column that is the event time.
    pub event_time: Option<usize>,
    /// Whether headers are kept: a column shows them, or dead letters hold them.
    pub with_headers: bool,
    /// What the table's options say.
    pub options: DecoderOptions,
}

/// Turns the records of one partition into batches of its table.
///
/// ```text
/// push, push, …  ->  finish(next offset)  ->  Decoded::into_fetch(clock)
/// ```
/// Everything but what needs the epoch's clock happens before [`Decoded`], so that a reader thread can run ahead.
pub struct Decoder {
    plan: Arc<Plan>,
    origin: Origin,
    payload: Box<dyn Payload>,
    records: Records,
    /// Records that are in `batches` or in `bad` already.
    decoded: usize,
    batches: Vec<RecordBatch>,
    bad: Vec<BadRecord>,
    pushed: usize,
    bytes: usize,
}

impl Decoder {
    /// A decoder for a table; `topic` and `partition` are the values of these metadata columns.
    pub fn new(table: &Table, topic: &str, partition: u32) -> Result<Self> {
        Self::with_csv_header(table, topic, partition, None)
    }

    /// As [`new`](Decoder::new), for a CSV file with a header line.
    pub fn with_csv_header(table: &Table, topic: &str, partition: u32, csv_header: Option<&[u8]>) -> Result<Self> {
        let options = DecoderOptions::of(table)?;
        for column in &table.columns {
            if let Some(metadata) = column.metadata {
                metadata::check(&column.field, metadata).map_err(|e| e.within(column.location))?;
            }
        }
        let schema = table.schema();
        let payload = table.columns.iter().filter(|c| c.metadata.is_none()).map(|c| Arc::clone(&c.field));
        let payload = Arc::new(Schema::new(payload.collect::<Vec<_>>()));
        let event_time = table.watermark.as_ref().map(|w| w.column);
        if let Some(field) = event_time.map(|c| schema.field(c))
            && !matches!(field.data_type(), arrow::datatypes::DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, _))
        {
            let found = sql_type(field.data_type());
            return Err(Error::invalid(format!("the event time {} is a {found}, not a TIMESTAMP", field.name())));
        }
        let metadata: Vec<_> = table.columns.iter().map(|c| c.metadata).collect();
        let dead_letters = on_bad_record(&table.options)? == OnBadRecord::DeadLetter;
        let with_headers = dead_letters || metadata.contains(&Some(Metadata::Headers));
        Ok(Self {
            payload: payload_of(table, &payload, csv_header)?,
            plan: Arc::new(Plan { schema, payload, metadata, event_time, with_headers, options }),
            origin: Origin { topic: topic.into(), partition },
            records: Records::default(),
            decoded: 0,
            batches: Vec::new(),
            bad: Vec::new(),
            pushed: 0,
            bytes: 0,
        })
    }

    /// A decoder for rows that come typed, as from Parquet: only [`rows`](Decoder::rows) is used.
    pub fn of_rows(table: &Table, topic: &str, partition: u32) -> Result<Self> {
        let table = Table { options: table.options.with("format", "json"), ..table.clone() };
        Self::with_csv_header(&table, topic, partition, None)
    }

    /// The columns that come from the payload, as declared.
    pub fn payload_schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.payload)
    }

    /// Takes rows that come typed; their offsets ascend by one. A bad row's payload is its JSON.
    pub fn rows(&mut self, rows: &RecordBatch, first_offset: i64) -> Result<Decoded> {
        let encoded = JsonEncoder::default();
        for offset in first_offset..first_offset + rows.num_rows() as i64 {
            self.records.push(&RawRecord { offset, ..RawRecord::default() }, &[], false);
        }
        self.decoded = self.records.len();
        let mut faults = Vec::new();
        let typed = text::to_columns(rows, &self.plan.payload, self.plan.options.timestamp_format, &mut faults)?;
        let known_bad = self.bad.len();
        self.accept(&typed, 0..rows.num_rows(), faults)?;
        for bad in &mut self.bad[known_bad..] {
            let row = (bad.offset - first_offset) as usize;
            bad.payload = Bytes::copy_from_slice(encoded.encode(&rows.slice(row, 1))?.row(0));
        }
        let mut decoded = self.finish(first_offset + rows.num_rows() as i64)?;
        decoded.typed = true;
        Ok(decoded)
    }

    /// A decoder that knows the schemas of records by their ids and asks nobody.
    #[cfg(feature = "avro")]
    pub fn with_schemas(table: &Table, topic: &str, partition: u32, schemas: &[(u32, &str)]) -> Result<Self> {
        let mut decoder = Self::new(table, topic, partition)?;
        decoder.connect(&SchemaRegistry::of_known(table, schemas)?);
        Ok(decoder)
    }

    /// Where the schemas of records come from, for formats whose records only name them.
    #[cfg(feature = "avro")]
    pub(crate) fn connect(&mut self, registry: &Arc<SchemaRegistry>) {
        self.payload.connect(registry);
    }

    /// Whether a record with this payload can be [pushed](Decoder::push) now; otherwise it is asked again later: its schema is
    /// on its way. Never waits.
    ///
    /// # Errors
    /// Transient: who knows its schema cannot be reached. Nothing was taken.
    pub fn ready(&mut self, payload: Option<&[u8]>) -> Result<bool> {
        payload.map_or(Ok(true), |payload| self.payload.prepare(payload))
    }

    /// Whether headers are of use, in a column or in dead letters: otherwise a source need not hand them over.
    pub fn wants_headers(&self) -> bool {
        self.plan.with_headers
    }

    fn wants(&self, metadata: Metadata) -> bool {
        self.plan.metadata.contains(&Some(metadata))
    }

    /// Records pushed since the last [`finish`](Decoder::finish).
    pub fn len(&self) -> usize {
        self.pushed
    }

    /// Whether nothing was pushed since the last [`finish`](Decoder::finish).
    pub fn is_empty(&self) -> bool {
        self.pushed == 0
    }

    /// Bytes of keys and payloads pushed since the last [`finish`](Decoder::finish).
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the next record. Offsets ascend.
    pub fn push(&mut self, record: &RawRecord<'_>) -> Result<()> {
        let payload = record.payload.unwrap_or_default();
        self.pushed += 1;
        self.bytes += payload.len() + record.key.map_or(0, <[u8]>::len);
        if let Some((reason, detail)) = self.refuse(record, payload) {
            self.bad.push(BadRecord {
                reason,
                detail,
                offset: record.offset,
                timestamp: record.timestamp,
                key: record.key.map(Bytes::copy_from_slice),
                payload: Bytes::copy_from_slice(&payload[..payload.len().min(self.kept(payload.len()))]),
                tombstone: record.payload.is_none(),
                headers: self.kept_headers(record),
            });
            return Ok(());
        }
        let with_headers = self.wants_headers();
        self.records.push(record, payload, with_headers);
        if self.records.len() - self.decoded >= CHUNK {
            self.decode_chunk()?;
        }
        Ok(())
    }

    /// Why a record is bad at first sight.
    fn refuse(&self, record: &RawRecord<'_>, payload: &[u8]) -> Option<(&'static str, String)> {
        let largest = self.plan.options.max_record_bytes;
        if record.payload.is_none() {
            return Some((reason::EMPTY, "the record has no value (a tombstone)".into()));
        }
        if payload.len() > largest {
            let kept = self.kept(payload.len());
            let what = format!("{} bytes, more than max_record_bytes = {largest}; the first {kept} are kept here", payload.len());
            return Some((reason::TOO_LARGE, what));
        }
        if self.wants(Metadata::Key) && record.key.is_some_and(|key| std::str::from_utf8(key).is_err()) && self.key_is_text() {
            return Some((reason::WRONG_TYPE, "the key is not UTF-8; declare its column BINARY".into()));
        }
        self.payload.refuse(payload)
    }

    fn kept(&self, bytes: usize) -> usize {
        if bytes > self.plan.options.max_record_bytes { bytes.min(KEPT_OF_TOO_LARGE) } else { bytes }
    }

    fn kept_headers(&self, record: &RawRecord<'_>) -> Vec<Header> {
        let headers = if self.plan.with_headers { record.headers } else { &[] };
        headers.iter().map(|(name, value)| ((*name).to_owned(), value.map(Bytes::copy_from_slice))).collect()
    }

    fn key_is_text(&self) -> bool {
        let columns = self.plan.metadata.iter().zip(self.plan.schema.fields());
        columns.into_iter().any(|(m, f)| *m == Some(Metadata::Key) && f.data_type() == &arrow::datatypes::DataType::Utf8)
    }

    /// Decodes the records that wait: their rows go to `batches`, those without a row to `bad`.
    fn decode_chunk(&mut self) -> Result<()> {
        let range = self.decoded..self.records.len();
        self.decoded = range.end;
        let mut faults = Vec::new();
        let text = payload::decode(self.payload.as_mut(), &self.records, range.clone(), &mut faults)?;
        self.reject(&mut faults);

        let typed = text::to_columns(&text, &self.plan.payload, self.plan.options.timestamp_format, &mut faults)?;
        self.accept(&typed, range, faults)
    }

    /// Takes the rows of a range of records without those that have faults, which are numbered by row.
    fn accept(&mut self, typed: &RecordBatch, range: Range<usize>, mut faults: Vec<Fault>) -> Result<()> {
        let rows = typed.num_rows();
        if faults.is_empty() {
            self.batches.push(text::declare(typed, &self.plan.payload)?);
            return Ok(());
        }
        let records: Vec<usize> = self.records.good(range).map(|(record, _)| record).collect();
        text::first_per_record(&mut faults);
        let keep = mask(rows, faults.iter().map(|f| f.record));
        for fault in &mut faults {
            fault.record = records[fault.record];
        }
        self.reject(&mut faults);
        self.batches.push(text::declare(&filter_record_batch(typed, &keep)?, &self.plan.payload)?);
        Ok(())
    }

    fn reject(&mut self, faults: &mut Vec<Fault>) {
        for fault in faults.drain(..) {
            self.bad.push(self.records.reject(fault.record, fault.reason, fault.detail));
        }
    }

    /// Gives what was pushed since the last call, decoded. `next_offset` is the position behind it.
    pub fn finish(&mut self, next_offset: i64) -> Result<Decoded> {
        if self.records.len() > self.decoded {
            self.decode_chunk()?;
        }
        let payload = match self.batches.len() {
            1 => self.batches.remove(0),
            _ => concat_batches(&self.plan.payload, &self.batches)?,
        };
        self.batches.clear();
        self.decoded = 0;
        self.pushed = 0;
        self.bytes = 0;
        let records = std::mem::take(&mut self.records);
        let mut bad = std::mem::take(&mut self.bad);
        bad.sort_by_key(|b| b.offset);
        Ok(Decoded {
            plan: Arc::clone(&self.plan),
            origin: self.origin.clone(),
            payload,
            left: 0..records.len(),
            records,
            bad,
            next_offset,
            typed: false,
        })
    }
}

/// The payload format that a table's options name.
fn payload_of(table: &Table, columns: &Schema, csv_header: Option<&[u8]>) -> Result<Box<dyn Payload>> {
    match table.options.one_of("format", &[("json", Format::Json), ("csv", Format::Csv), ("avro", Format::Avro)])? {
        None | Some(Format::Json) => Ok(Box::new(JsonPayload::new(columns)?)),
        Some(Format::Csv) => csv_payload(table, columns, csv_header),
        Some(Format::Avro) => avro_payload(table, columns),
    }
}

/// The formats of single records.
#[derive(Debug, Clone, Copy)]
enum Format {
    Json,
    Csv,
    Avro,
}

#[cfg(feature = "avro")]
fn avro_payload(table: &Table, columns: &Schema) -> Result<Box<dyn Payload>> {
    let config = crate::schema_registry::Config::of(table)?;
    let times = DecoderOptions::of(table)?.timestamp_format;
    let payload = super::avro::AvroPayload::new(columns, times, config.reader_schema.as_deref());
    Ok(Box::new(payload.map_err(|why| table.options.error("reader_schema", &why))?))
}

#[cfg(not(feature = "avro"))]
fn avro_payload(table: &Table, _: &Schema) -> Result<Box<dyn Payload>> {
    Err(super::no_avro(table))
}

#[cfg(feature = "filesystem")]
fn csv_payload(table: &Table, columns: &Schema, header: Option<&[u8]>) -> Result<Box<dyn Payload>> {
    let mut payload = super::csv::CsvPayload::new(columns, super::csv_delimiter(&table.options)?)?;
    header.map(|header| payload.set_header(header)).transpose()?;
    Ok(Box::new(payload))
}

#[cfg(not(feature = "filesystem"))]
fn csv_payload(table: &Table, _: &Schema, _: Option<&[u8]>) -> Result<Box<dyn Payload>> {
    Err(table.options.error("format", "csv was not compiled into this program").hint("build with --features filesystem"))
}
