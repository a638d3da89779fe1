//! Repartition topics: tables that a plan makes and no script names. Their records are the engine's; they are written with the
//! journal's transactions, by partition, and read as they are.

use std::sync::Arc;

use arrow::array::{ArrayBuilder, AsArray, BinaryArray, BinaryBuilder, Int32Array, RecordBatch};
use arrow::datatypes::{Int32Type, SchemaRef};
use riverrun_engine::source::Fetch;
use riverrun_engine::table::{Options, Table};
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

use super::config::Config;
use super::properties::is_access;

/// The option 'format' of their tables. No script can read or write it.
pub(super) const FORMAT: &str = "repartition";

/// The options of these tables: on the cluster of all sources, reached as the sinks there are, for both share a transaction.
/// `None`: the sources are not all on Kafka, or on several clusters.
pub(super) fn options(sources: &[&Table], sinks: &[&Table]) -> Result<Option<Options>> {
    let is_kafka = |table: &&&Table| table.connector().is_ok_and(|name| name == super::DESCRIPTION.name);
    let Some(first) = sources.first().filter(|_| sources.iter().all(|table| is_kafka(&table))) else { return Ok(None) };
    let config = Config::of(first, "")?;
    for source in sources {
        if Config::of(source, "")?.cluster() != config.cluster() {
            return Ok(None);
        }
    }
    let like = sinks.iter().find(is_kafka).unwrap_or(first);
    let own = ["connector", "brokers", "client_id", "compression", "replication"];
    let reaches = |name: &str| own.contains(&name) || is_access(name) || name.starts_with("kafka.");
    let values = like.options.iter().filter(|(name, _)| reaches(name)).map(|(n, v)| (n.to_owned(), v.clone())).collect();
    Ok(Some(Options::new(values).with("format", FORMAT)))
}

/// The table with all its options, if it is one of these: the pipeline's name is part of the topic's.
pub(super) fn completed(table: &Table, pipeline: &str) -> Option<Options> {
    let named = |options: &Options| {
        let topic = format!("riverrun-{pipeline}-{}", table.name);
        options.with("topic", &topic).with("starting_offsets", "latest")
    };
    is_format(&table.options).then(|| named(&table.options))
}

/// Whether these are options of a repartition topic's table.
pub(super) fn is_format(options: &Options) -> bool {
    options.get("format").as_deref() == Some(FORMAT)
}

/// Records on their way to a topic.
pub(super) struct Outgoing<'a> {
    partitions: &'a Int32Array,
    payloads: &'a BinaryArray,
}

impl<'a> Outgoing<'a> {
    pub fn of(rows: &'a RecordBatch) -> Result<Self> {
        let columns = match rows.columns() {
            [partitions, payloads] => partitions.as_primitive_opt::<Int32Type>().zip(payloads.as_binary_opt::<i32>()),
            _ => None,
        };
        let wrong = || Error::permanent("records of a repartition topic have a partition and a payload");
        let (partitions, payloads) = columns.ok_or_else(wrong)?;
        Ok(Self { partitions, payloads })
    }

    /// Partition and payload of a record.
    pub fn row(&self, row: usize) -> (i32, &[u8]) {
        (self.partitions.value(row), self.payloads.value(row))
    }
}

/// Records as they are read: each is a row of one column.
pub(super) struct Incoming {
    schema: SchemaRef,
    payloads: BinaryBuilder,
    bytes: usize,
}

impl Incoming {
    /// As rows of this table.
    pub fn new(table: &Table) -> Self {
        Self { schema: table.schema(), payloads: BinaryBuilder::new(), bytes: 0 }
    }

    /// Takes a record.
    pub fn push(&mut self, payload: &[u8]) {
        self.payloads.append_value(payload);
        self.bytes += payload.len();
    }

    /// Records taken since the last fetch.
    pub fn len(&self) -> usize {
        self.payloads.len()
    }

    /// Bytes of these.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was taken.
    pub fn fetch(&mut self, next_offset: i64, newest_record_time: Option<Micros>) -> Result<Fetch> {
        let rows = RecordBatch::try_new(self.schema.clone(), vec![Arc::new(self.payloads.finish())])?;
        Ok(Fetch { rows, bad: Vec::new(), next_offset, bytes: std::mem::take(&mut self.bytes), newest_record_time })
    }
}
