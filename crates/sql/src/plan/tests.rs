//! Scripts planned with connectors that open nothing.

mod graphs;
mod modes;
mod refusals;
mod stages;

use std::sync::Arc;

use riverrun_engine::connect::{Connectors, Context};
use riverrun_engine::graph::{SinkNode, SourceNode};
use riverrun_engine::sink::Sink;
use riverrun_engine::source::Source;
use riverrun_engine::table::{Capabilities, Options, Table};
use riverrun_engine::{Error, Result};

use super::{Planned, plan};
use crate::error::ScriptError;

/// `bus` reads and appends; `store` replaces and deletes by key; `upserts` replaces, but can't delete.
struct Fake;

impl Connectors for Fake {
    fn check(&self, table: &Table) -> Result<Capabilities> {
        let (source, upsert, delete) = match table.connector()?.as_str() {
            "bus" => (true, false, false),
            "upserts" => (false, true, false),
            "store" => (false, true, true),
            other => return Err(table.options.error("connector", &format!("there is no connector '{other}'"))),
        };
        let ignored = table.options.get("keyspace").map(|_| "keyspace".to_owned()).into_iter().collect();
        Ok(Capabilities { source, sink: true, upsert, delete, ignored })
    }

    fn dead_letters(&self, table: &Table) -> Result<Option<Table>> {
        Ok(table.options.get("dead_letter_topic").map(|topic| Table {
            name: topic.clone(),
            columns: Vec::new(),
            watermark: None,
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
            options: Options::of(&[("connector", "bus"), ("topic", &topic)]),
            location: table.location,
        }))
    }

    fn repartition(&self, sources: &[&Table], _sinks: &[&Table]) -> Result<Option<Options>> {
        let on_bus = sources.iter().all(|table| table.options.get("repartitions").is_some());
        Ok(on_bus.then(|| Options::of(&[("connector", "bus")])))
    }

    fn source(&self, _node: &SourceNode, _context: &Context) -> Result<Arc<dyn Source>> {
        Err(Error::permanent("planning opens nothing"))
    }

    fn sink(&self, _node: &SinkNode, _context: &Context) -> Result<Box<dyn Sink>> {
        Err(Error::permanent("planning opens nothing"))
    }
}

/// The source of the transactions pipeline.
const TRANSACTIONS: &str = "CREATE TABLE transactions (
    transaction_id VARCHAR NOT NULL, user_id VARCHAR NOT NULL, amount DOUBLE NOT NULL, merchant VARCHAR, category VARCHAR,
    timestamp TIMESTAMP NOT NULL, location STRUCT<lat DOUBLE, lon DOUBLE>, offset BIGINT METADATA FROM 'offset',
    WATERMARK FOR timestamp AS timestamp - INTERVAL '10 minutes'
) PARTITIONED BY (user_id) WITH (connector = 'bus');
";

fn try_plan(script: &str) -> Result<Planned, ScriptError> {
    let text = format!("{TRANSACTIONS}{script}");
    plan(&crate::parse("script.sql", &text, &|_| None)?, &Fake)
}

fn explained(script: &str) -> String {
    match try_plan(script) {
        Ok(planned) => planned.graph.explain(),
        Err(error) => panic!("{error}"),
    }
}

/// The message of a refused script, its line counted from the end of [`TRANSACTIONS`].
fn refused(script: &str) -> String {
    let error = match try_plan(script) {
        Ok(planned) => panic!("planned:\n{}", planned.graph.explain()),
        Err(error) => error,
    };
    let lines = TRANSACTIONS.lines().count() as u64;
    let hint = error.hint.map(|h| format!("\nhint: {h}")).unwrap_or_default();
    format!("{}:{}: {}{hint}", error.location.line.saturating_sub(lines), error.location.column, error.message)
}
