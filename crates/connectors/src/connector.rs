//! What a connector is: a description that is always compiled in, and an implementation behind a cargo feature.
//!
//! Each connector has a folder: `mod.rs` (its [`Description`] and its [`Connector`]), `config.rs` (its options, parsed),
//! `source.rs`, `sink.rs`. Descriptions are compiled in whatever the features, so that a script which names the options of
//! a connector that this program was built without is still understood.

use std::sync::Arc;
use std::time::Duration;

use riverrun_engine::connect::Context;
use riverrun_engine::graph::{Graph, SinkNode, SourceNode};
use riverrun_engine::journal::Journal;
use riverrun_engine::sink::Sink;
use riverrun_engine::source::{OnBadRecord, Source};
use riverrun_engine::table::{Capabilities, Options, Table};
use riverrun_engine::{Error, Result};

use crate::redelivery::Redelivery;

/// An option of `WITH (…)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionDescription {
    /// Its name.
    pub name: &'static str,
    /// Its value where the script gives none, as a script would write it; empty where there is no default.
    pub default: &'static str,
    /// What it does, in one sentence.
    pub what: &'static str,
    /// Whether a table of this connector must have it.
    pub required: bool,
}

/// An option with a default (`""`: none).
pub const fn option(name: &'static str, default: &'static str, what: &'static str) -> OptionDescription {
    OptionDescription { name, default, what, required: false }
}

/// An option that must be there.
pub const fn required(name: &'static str, what: &'static str) -> OptionDescription {
    OptionDescription { name, default: "", what, required: true }
}

/// What people and the registry read about a connector.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// The word in `connector = '…'`.
    pub name: &'static str,
    /// The cargo feature that compiles it in; `None`: always there.
    pub feature: Option<&'static str>,
    /// What it is, in one or two sentences.
    pub docs: &'static str,
    /// Its own options, besides those of all tables ([`COMMON`]).
    pub options: &'static [OptionDescription],
    /// Options that start with this are passed on to the client library (`Some("kafka.")`).
    pub pass_through: Option<&'static str>,
}

impl Description {
    /// Whether `name` is an option of this connector.
    pub fn has_option(&self, name: &str) -> bool {
        self.options.iter().any(|o| o.name == name) || self.pass_through.is_some_and(|prefix| name.starts_with(prefix))
    }
}

/// Turns tables into sources and sinks.
pub trait Connector: Send + Sync {
    /// Checks a declaration without I/O. Names of options, required ones and the common ones were checked before;
    /// [`Capabilities::ignored`] is filled in afterwards.
    fn check(&self, table: &Table) -> Result<Capabilities>;

    /// The options of a repartition topic's table, where this connector is a bus that the graph's sources are on.
    fn repartition(&self, sources: &[&Table], sinks: &[&Table]) -> Result<Option<Options>> {
        let _ = (sources, sinks);
        Ok(None)
    }

    /// The table, as a query reads it that begins at `start` with a reading of its own.
    fn starting(&self, table: &Table, start: &str) -> Result<Table> {
        match start {
            "earliest" => Ok(table.clone()),
            _ => {
                let what = format!("connector '{}' reads {} from its first row on", table.connector()?, table.name);
                Err(Error::invalid(what).hint("start = 'earliest' reads all of it again"))
            }
        }
    }

    /// Whether what a table names is there. A connector that cannot tell without connecting says yes.
    fn is_there(&self, table: &Table, context: &Context) -> Result<bool> {
        let _ = (table, context);
        Ok(true)
    }

    /// Connects a source. May do I/O. Only called where [`check`](Connector::check) says that it can be read from.
    fn source(&self, node: &SourceNode, context: &Context) -> Result<Arc<dyn Source>> {
        let _ = context;
        Err(Error::invalid(format!("{} cannot be read from", node.table.name)))
    }

    /// Connects a sink. May do I/O. Only called where [`check`](Connector::check) says that it can be written to.
    fn sink(&self, node: &SinkNode, context: &Context) -> Result<Box<dyn Sink>> {
        let _ = context;
        Err(Error::invalid(format!("{} cannot be written to", node.table.name)))
    }

    /// Connects what gives bad records of a table to it again. May do I/O; may make a place for what was given.
    fn redelivery(&self, table: &Table, context: &Context) -> Result<Box<dyn Redelivery>> {
        let _ = context;
        let connector = table.connector()?;
        Err(Error::invalid(format!("records of {} cannot be given again: connector '{connector}' has no topics", table.name))
            .hint("--out FILE writes them to a file, one a line: put it where the pipeline reads, or let a script read it"))
    }

    /// The pipeline's journal, where this connector is a bus that can hold it and the graph's tables are on it. May do I/O.
    fn journal(&self, graph: &Graph, context: &Context) -> Result<Option<Box<dyn Journal>>> {
        let _ = (graph, context);
        Ok(None)
    }
}

/// The options that every table may have.
pub const COMMON: &[OptionDescription] = &[
    required("connector", "which connector reads or writes the table"),
    option("format", "json", "how records are written: json; topics also avro, files also csv and parquet"),
    option("emit", "", "sink: 'update' = changed rows at each trigger, 'append' = each row once; default by PRIMARY KEY"),
    option("trigger", "0", "sink: rounds of output are at least this far apart, such as '30 seconds'"),
    option("starting_offsets", "latest", "source: where a pipeline without a position starts: earliest, latest, …"),
    option("start", "", "sink: where a query that is added to a script begins in its sources: earliest, latest or a time"),
    option("max_offsets_per_trigger", "", "source: the most records that one round reads"),
    option("bad_records", "fail", "source: what a record that cannot be decoded does: fail, drop or dead_letter"),
    option("dead_letter_topic", "", "source: the topic (of the same connector) that takes bad records"),
    option("dead_letter_path", "", "source: the file or folder that takes bad records as JSON lines"),
    option("late_rows", "", "source: the table that takes rows behind the watermark"),
    option("max_ahead", "1 day", "source: an event time further than this past the record's own time is a bad record"),
    option("max_record_bytes", "1 MiB", "source: a larger record is a bad record"),
    option("timestamp_format", "iso8601", "source: how times are written: iso8601, unix_s, unix_ms or unix_us"),
    option("fail_on_data_loss", "true", "source: whether records that are gone before they were read stop the pipeline"),
    option("idle_timeout", "", "source: a partition without records for this long stops holding back the watermark"),
];

/// A table of topics that is read from `start` on, beside another reading of it.
pub fn starting_at(table: &Table, start: &str) -> Table {
    Table { options: table.options.with("starting_offsets", start).with("start", start), ..table.clone() }
}

/// The group under which positions are kept: that of the table, or of the pipeline; a reading with a start has one of its own.
pub fn group(options: &Options, pipeline: &str) -> String {
    let group = options.get("group").unwrap_or_else(|| pipeline.to_owned());
    match options.get("start") {
        Some(start) => format!("{group}@{start}"),
        None => group,
    }
}

/// Checks that the values of common options are well-formed.
pub fn check_common(options: &Options) -> Result<()> {
    options.one_of("emit", &[("update", ()), ("append", ())])?;
    check_format(options)?;
    options.one_of("timestamp_format", &[("iso8601", ()), ("unix_s", ()), ("unix_ms", ()), ("unix_us", ())])?;
    options.parse::<bool>("fail_on_data_loss", "true or false")?;
    for name in ["trigger", "max_ahead", "idle_timeout"] {
        options.duration(name)?;
    }
    if options.bytes("max_record_bytes")? == Some(0) {
        return Err(options.error("max_record_bytes", "must be more than 0"));
    }
    if options.parse::<u64>("max_offsets_per_trigger", "a number of records")? == Some(0) {
        return Err(options.error("max_offsets_per_trigger", "must be more than 0"));
    }
    on_bad_record(options).map(|_| ())
}

/// Formats that there are; those that users may look for are refused with what to write instead.
fn check_format(options: &Options) -> Result<()> {
    let asked = options.get("format").unwrap_or_default().trim().to_ascii_lowercase().replace('-', "_");
    let refused = |what: &str, hint: &str| Err(options.error("format", what).hint(hint));
    match asked.as_str() {
        "avro_confluent" | "confluent_avro" | "debezium_avro_confluent" => refused(
            "Avro with a schema registry is called 'avro' here",
            "write format = 'avro', schema_registry = 'http://host:8081'",
        ),
        "json_schema" | "jsonschema" | "json_sr" => refused(
            "records with a JSON Schema of a registry are not read or written: they have 5 bytes before the JSON",
            "let producers write Avro (format = 'avro'), or JSON without a registry (format = 'json')",
        ),
        "protobuf" | "proto" | "protobuf_confluent" => {
            refused("Protobuf is not read or written", "let producers write Avro (format = 'avro') or JSON (format = 'json')")
        }
        _ => options.one_of("format", &[("json", ()), ("csv", ()), ("parquet", ()), ("avro", ())]).map(drop),
    }
}

/// What a bad record does: the option `bad_records`; where only a dead-letter place is named, that.
pub fn on_bad_record(options: &Options) -> Result<OnBadRecord> {
    let place = options.get("dead_letter_path").or_else(|| options.get("dead_letter_topic"));
    let words = [("fail", OnBadRecord::Fail), ("drop", OnBadRecord::Drop), ("dead_letter", OnBadRecord::DeadLetter)];
    match (options.one_of("bad_records", &words)?, place) {
        (None, None) => Ok(OnBadRecord::Fail),
        (None, Some(_)) => Ok(OnBadRecord::DeadLetter),
        (Some(OnBadRecord::DeadLetter), None) => Err(options
            .error("bad_records", "'dead_letter' needs a place for them")
            .hint("add dead_letter_topic = '…' or dead_letter_path = '…'")),
        (Some(on), _) => Ok(on),
    }
}

/// How far an event time may be past the record's own time (the option `max_ahead`).
pub fn max_ahead(options: &Options) -> Result<Duration> {
    Ok(options.duration("max_ahead")?.unwrap_or(Duration::from_secs(86_400)))
}
