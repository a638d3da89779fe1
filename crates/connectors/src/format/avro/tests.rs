//! Avro in and out, without a registry that answers: schemas are known beforehand.

mod bad;
mod read;
mod round_trip;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field};
use riverrun_engine::source::Fetch;
use riverrun_engine::table::{Column, Location, Options, Table};

use crate::format::{Decoder, RawRecord};

/// A table of Avro records with these columns (name, type, nullable).
fn table(columns: &[(&str, DataType, bool)], options: &[(&str, &str)]) -> Table {
    let given = [("connector", "log"), ("topic", "t"), ("format", "avro"), ("schema_registry", "http://nobody:1")];
    Table {
        name: "t".into(),
        columns: columns
            .iter()
            .map(|(name, data_type, nullable)| Column {
                field: Arc::new(Field::new(*name, data_type.clone(), *nullable)),
                metadata: None,
                location: Location::default(),
            })
            .collect(),
        watermark: None,
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        options: Options::of(&[&given, options].concat()),
        location: Location::default(),
    }
}

/// Decodes records that come in these chunks, with these schemas.
fn decode(table: &Table, schemas: &[(u32, &str)], records: &[Vec<u8>]) -> Fetch {
    let mut decoder = Decoder::with_schemas(table, "t", 0, schemas).unwrap();
    for (offset, record) in records.iter().enumerate() {
        assert!(decoder.ready(Some(record)).unwrap());
        decoder.push(&RawRecord { offset: offset as i64, payload: Some(record), ..RawRecord::default() }).unwrap();
    }
    decoder.finish(records.len() as i64).unwrap().into_fetch(i64::MAX / 2).unwrap()
}

/// The record of a schema's id and a body.
fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], body].concat()
}

/// A zigzag number.
fn long(value: i64) -> Vec<u8> {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

fn text(value: &str) -> Vec<u8> {
    [long(value.len() as i64), value.as_bytes().to_vec()].concat()
}

/// The rows as JSON lines.
fn lines(rows: &RecordBatch) -> Vec<String> {
    let encoded = crate::format::JsonEncoder::default().encode(rows).unwrap();
    encoded.iter().map(|row| String::from_utf8(row.to_vec()).unwrap()).collect()
}

fn times() -> DataType {
    DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()))
}
