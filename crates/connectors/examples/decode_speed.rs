//! How many transactions a core decodes in a second, as JSON and as Avro, and how many the filesystem source gives.
//!
//! `cargo run --release -p riverrun-connectors --example decode_speed [records] [bad per mille]`

use std::io::Write as _;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use riverrun_connectors::format::{Decoder, RawRecord};
use riverrun_connectors::registry::Registry;
use riverrun_engine::connect::{Connectors as _, Context};
use riverrun_engine::graph::SourceNode;
use riverrun_engine::source::{Limit, Poll};
use riverrun_engine::table::{Column, Location, Options, Table, Watermark};
use riverrun_engine::time::{Stopwatch, SystemClock};
use riverrun_engine::{Error, Result};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter_map(|a| a.parse::<u64>().ok());
    let count = arguments.next().unwrap_or(1_000_000);
    let bad = arguments.next().unwrap_or(0);
    let path = std::env::temp_dir().join("riverrun-decode-speed.jsonl");
    let lines: Vec<String> = (0..count).map(|n| line(n, n % 1000 < bad)).collect();
    let mut file = std::fs::File::create(&path).map_err(|e| Error::permanent(e.to_string()))?;
    let text = lines.join("\n");
    file.write_all(text.as_bytes()).map_err(|e| Error::permanent(e.to_string()))?;

    let table = table(&path.to_string_lossy());
    decode("JSON, one thread", Decoder::new(&table, "topic", 0)?, lines.iter().map(String::as_bytes))?;
    let avro = Options::of(&[("format", "avro"), ("schema_registry", "http://not-asked"), ("bad_records", "drop")]);
    let avro = Table { options: avro, ..table.clone() };
    for (what, versions) in [("Avro, one thread", 1), ("Avro, three schemas", 3)] {
        let records: Vec<_> = (0..count).map(|n| avro_record(n, (n % versions) as u32, n % 1000 < bad)).collect();
        let schemas: Vec<_> = (0..versions as u32).map(|id| (id, SCHEMA)).collect();
        decode(what, Decoder::with_schemas(&avro, "topic", 0, &schemas)?, records.iter().map(Vec::as_slice))?;
    }

    let watch = Stopwatch::start();
    let context = Context::new("speed", std::env::temp_dir(), Arc::new(SystemClock));
    let source = Registry::default().source(&SourceNode { schema: table.schema(), table }, &context)?;
    let mut reader = source.open(0, 0, None)?;
    let mut rows = 0;
    loop {
        match reader.poll(Limit::new(65_536, 1 << 24), i64::MAX)? {
            Poll::Ready(fetch) => rows += fetch.rows.num_rows(),
            Poll::Pending => {}
            Poll::End => break,
        }
    }
    report("filesystem source", rows, text.len(), &watch);
    std::fs::remove_file(&path).map_err(|e| Error::permanent(e.to_string()))
}

fn decode<'a>(what: &str, mut decoder: Decoder, records: impl Iterator<Item = &'a [u8]>) -> Result<()> {
    let watch = Stopwatch::start();
    let (mut rows, mut bytes, mut next) = (0, 0, 0);
    for record in records {
        if decoder.ready(Some(record))? {
            decoder.push(&RawRecord { offset: next, payload: Some(record), ..RawRecord::default() })?;
        }
        next += 1;
        bytes += record.len();
        if decoder.len() == 8192 {
            rows += decoder.finish(next)?.into_fetch(i64::MAX)?.rows.num_rows();
        }
    }
    rows += decoder.finish(next)?.into_fetch(i64::MAX)?.rows.num_rows();
    report(what, rows, bytes, &watch);
    Ok(())
}

const SCHEMA: &str = r#"{"type": "record", "name": "Transaction", "fields": [
    {"name": "transaction_id", "type": "string"}, {"name": "user_id", "type": "string"}, {"name": "amount", "type": "double"},
    {"name": "merchant", "type": ["null", "string"]}, {"name": "category", "type": ["null", "string"]},
    {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "location", "type": ["null", {"type": "record", "name": "Place", "fields": [
        {"name": "lat", "type": "double"}, {"name": "lon", "type": "double"}]}]},
    {"name": "device_type", "type": ["null", "string"]}]}"#;

/// The transaction of [`line`], as Avro by a schema's id.
fn avro_record(n: u64, id: u32, bad: bool) -> Vec<u8> {
    let mut record = vec![0];
    record.extend(id.to_be_bytes());
    let text = |record: &mut Vec<u8>, text: &str| {
        long(record, text.len() as i64);
        record.extend(text.as_bytes());
    };
    text(&mut record, &format!("txn_{}.{:06}", 1_714_564_800 + n / 1000, n % 1_000_000));
    text(&mut record, &format!("user_{}", n % 100_000));
    record.extend(((n % 4990 + 10) as f64 + (n % 100) as f64 / 100.0).to_le_bytes());
    for name in ["Walmart", "Groceries"] {
        long(&mut record, 1);
        text(&mut record, name);
    }
    long(&mut record, 1_714_564_800_000_000 + (n % 3_600_000_000) as i64);
    long(&mut record, 1);
    record.extend(40.7128_f64.to_le_bytes());
    record.extend((-74.0060_f64).to_le_bytes());
    long(&mut record, 1);
    text(&mut record, "mobile");
    if bad {
        record.truncate(40);
    }
    record
}

/// A zigzag number.
fn long(record: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        record.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    record.push(rest as u8);
}

fn report(what: &str, rows: usize, bytes: usize, watch: &Stopwatch) {
    let seconds = watch.nanos() as f64 / 1e9;
    println!(
        "{what}: {rows} rows in {seconds:.2} s = {:.0} rows/s, {:.0} MB/s",
        rows as f64 / seconds,
        bytes as f64 / seconds / 1e6
    );
}

fn line(n: u64, bad: bool) -> String {
    let amount = if bad { "\"a lot\"".to_owned() } else { format!("{}.{:02}", n % 4990 + 10, n % 100) };
    format!(
        "{{\"transaction_id\":\"txn_{}.{:06}\",\"user_id\":\"user_{}\",\"amount\":{amount},\"merchant\":\"Walmart\",\
         \"category\":\"Groceries\",\"timestamp\":\"2024-05-01T12:{:02}:{:02}.{:06}\",\"location\":{{\"lat\":40.7128,\
         \"lon\":-74.0060}},\"device_type\":\"mobile\"}}",
        1_714_564_800 + n / 1000,
        n % 1_000_000,
        n % 100_000,
        n / 60 % 60,
        n % 60,
        n % 1_000_000
    )
}

fn table(path: &str) -> Table {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let place = ["lat", "lon"].map(|n| Field::new(n, DataType::Float64, true));
    let columns = [
        ("transaction_id", DataType::Utf8, false),
        ("user_id", DataType::Utf8, false),
        ("amount", DataType::Float64, false),
        ("merchant", DataType::Utf8, true),
        ("category", DataType::Utf8, true),
        ("timestamp", time, false),
        ("location", DataType::Struct(place.into_iter().collect()), true),
        ("device_type", DataType::Utf8, true),
    ];
    let column = |(name, data_type, nullable): (&str, DataType, bool)| Column {
        field: Arc::new(Field::new(name, data_type, nullable)),
        metadata: None,
        location: Location::default(),
    };
    Table {
        name: "transactions".into(),
        columns: columns.into_iter().map(column).collect(),
        watermark: Some(Watermark { column: 5, delay: std::time::Duration::from_secs(600) }),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        options: Options::of(&[("connector", "filesystem"), ("path", path), ("bad_records", "drop")]),
        location: Location::default(),
    }
}
