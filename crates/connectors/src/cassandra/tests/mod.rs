//! Without a server: options, types, statements, and rows as they go over the wire, read back by the client's own decoder.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use riverrun_engine::error::Kind;
use riverrun_engine::table::{Column as Declared, Location, Options, Table};

use super::config::Config;
use super::definition::Definition;
use super::*;

mod late;
mod options;
mod rows;
mod tables;

/// A table with some options, PRIMARY KEY (user_id, category, at).
fn table(more: &[(&str, &str)]) -> Table {
    let options = more.iter().fold(Options::of(&[("connector", "cassandra"), ("keyspace", "ks")]), |o, (n, v)| o.with(n, v));
    let key = ["user_id", "category", "at"].map(str::to_owned).to_vec();
    let location = Location::default();
    Table {
        name: "totals".into(),
        columns: Vec::new(),
        watermark: None,
        partitioned_by: Vec::new(),
        primary_key: key,
        options,
        location,
    }
}

fn config(more: &[(&str, &str)]) -> Config {
    Config::of(&table(more)).unwrap()
}

fn refused(more: &[(&str, &str)]) -> String {
    let error = connector().unwrap().check(&table(more)).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
    error.to_string()
}

fn times() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn place() -> DataType {
    DataType::Struct(Fields::from(vec![Field::new("lat", DataType::Float64, true), Field::new("lon", DataType::Float64, true)]))
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

/// The key, and one column of each kind that is interesting.
fn schema() -> SchemaRef {
    let map = DataType::Map(
        Arc::new(Field::new(
            "entries",
            DataType::Struct(Fields::from(vec![
                Field::new("keys", DataType::Utf8, false),
                Field::new("values", DataType::Int32, true),
            ])),
            false,
        )),
        false,
    );
    let fields = [
        ("at", times()),
        ("user_id", DataType::Utf8),
        ("category", DataType::Utf8),
        ("n", DataType::Int64),
        ("total", DataType::Float64),
        ("price", DataType::Decimal128(18, 2)),
        ("day", DataType::Date32),
        ("flag", DataType::Boolean),
        ("raw", DataType::Binary),
        ("ordinal", DataType::UInt64),
        ("merchants", list(DataType::Utf8)),
        ("place", place()),
        ("visits", list(place())),
        ("counts", map),
    ];
    Arc::new(Schema::new(fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec()))
}

const KEY: [usize; 3] = [1, 2, 0];

fn definition(more: &[(&str, &str)]) -> Definition {
    Definition::of(&config(more), &schema(), &KEY).unwrap()
}
