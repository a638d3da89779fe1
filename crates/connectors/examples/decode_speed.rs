//! How many JSON transactions a core decodes in a second, and how many the filesystem source gives.
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
    let watch = Stopwatch::start();
    let (mut rows, mut decoder) = (0, Decoder::new(&table, "topic", 0)?);
    for (n, line) in lines.iter().enumerate() {
        decoder.push(&RawRecord { offset: n as i64, payload: Some(line.as_bytes()), ..RawRecord::default() })?;
        if decoder.len() == 8192 {
            rows += decoder.finish(n as i64 + 1)?.into_fetch(i64::MAX)?.rows.num_rows();
        }
    }
    rows += decoder.finish(count as i64)?.into_fetch(i64::MAX)?.rows.num_rows();
    report("decoder, one thread", rows, text.len(), &watch);

    let watch = Stopwatch::start();
    let context =
        Context { pipeline: "speed".into(), instance: None, data_dir: std::env::temp_dir(), clock: Arc::new(SystemClock) };
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
