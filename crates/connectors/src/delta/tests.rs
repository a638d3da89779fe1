//! Tests of the sink and the source against real tables: on disk, and on storage that fails when told to.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use riverrun_engine::batch::{Batch, Change};
use riverrun_engine::error::Kind;
use riverrun_engine::graph::SinkNode;
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::table::{Emit, Location, Options, Table};

use super::DeltaSink;

mod compact;
mod failing;
mod follow;
mod sink;
mod source;

/// A table declaration with these options and columns from the query.
pub(super) fn table(options: &[(&str, &str)]) -> Table {
    Table {
        name: "lake".to_owned(),
        columns: Vec::new(),
        watermark: None,
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        options: Options::of(options),
        location: Location::default(),
    }
}

/// A sink in `dir/lake` for rows of this schema.
pub(super) fn open(dir: &Path, schema: &SchemaRef, options: &[(&str, &str)]) -> riverrun_engine::Result<DeltaSink> {
    let path = dir.join("lake");
    let mut all = vec![("connector", "delta"), ("path", path.to_str().unwrap())];
    all.extend_from_slice(options);
    let node = SinkNode {
        table: table(&all),
        schema: Arc::clone(schema),
        emit: Emit::Append,
        trigger: std::time::Duration::ZERO,
        key: Vec::new(),
    };
    DeltaSink::open(&node)
}

pub(super) fn epoch(task: u32, epoch: u64, rows: RecordBatch) -> EpochOutput {
    EpochOutput { task, epoch, clock: 0, batches: vec![Batch::insert(rows)] }
}

/// `id BIGINT NOT NULL, date DATE`, of which `ids` are given and the date is 2024-01-01 plus `id % days`.
pub(super) fn ids_by_date(ids: std::ops::Range<i64>, days: i64) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("date", DataType::Date32, true)]);
    let dates = Date32Array::from_iter_values(ids.clone().map(|id| 19_723 + (id % days) as i32));
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(dates)];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

/// Three rows with a column of each type that Riverrun knows, with NULLs, and a date.
pub(super) fn all_types() -> RecordBatch {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let place = Fields::from(vec![Field::new("lat", DataType::Float64, true), Field::new("lon", DataType::Float64, true)]);
    let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("small", DataType::Int32, true),
        Field::new("amount", DataType::Float64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("flag", DataType::Boolean, true),
        Field::new("raw", DataType::Binary, true),
        Field::new("at", utc, true),
        Field::new("place", DataType::Struct(place.clone()), true),
        Field::new("merchants", DataType::List(Arc::clone(&item)), true),
        Field::new("date", DataType::Date32, true),
    ]);
    let numbers = |values: [Option<f64>; 3]| Arc::new(Float64Array::from_iter(values)) as ArrayRef;
    let places = vec![numbers([Some(1.5), None, None]), numbers([Some(-2.5), None, Some(4.0)])];
    let list = ListArray::new(
        item,
        OffsetBuffer::from_lengths([2, 0, 0]),
        Arc::new(StringArray::from(vec![Some("a"), None])),
        Some(vec![true, false, true].into()),
    );
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 2, 3])),
        Arc::new(Int32Array::from(vec![Some(7), None, Some(-7)])),
        numbers([Some(0.1), None, Some(f64::MAX)]),
        Arc::new(StringArray::from(vec![Some("Zoë"), None, Some("")])),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0, 255][..]), None, Some(&[][..])])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456), None, Some(-1)]).with_timezone("UTC")),
        Arc::new(StructArray::new(place, places, Some(vec![true, false, true].into()))),
        Arc::new(list),
        Arc::new(Date32Array::from(vec![Some(19_723), None, Some(19_724)])),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

/// All data files of the table, by their path in it.
pub(super) fn data_files(dir: &Path) -> BTreeMap<String, u64> {
    let root = dir.join("lake");
    let mut files = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "parquet") && !path.to_string_lossy().contains("_delta_log") {
                let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                files.insert(name, entry.metadata().unwrap().len());
            }
        }
    }
    files
}

#[test]
fn the_documentation_has_every_option_and_its_default() {
    let page = include_str!("../../../../docs/connectors.md");
    let section = page.split("\n## ").find(|section| section.starts_with("delta\n")).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let documented: Vec<_> =
        rows.map(|(name, rest)| (name, rest.split(" | ").next().unwrap().trim_matches(['`', '|', ' ']))).collect();
    let options = super::DESCRIPTION.options;
    assert_eq!(documented.len(), options.len() + 1, "and delta.*");
    for (option, (name, default)) in options.iter().zip(documented) {
        assert_eq!(option.name, name);
        let told = if option.required { "required" } else { option.default };
        assert!(told.is_empty() || told == default, "{name}: {told}, not {default}");
    }
}
