//! The pipelines that are simulated: SQL, planned once per process.

use std::sync::{Arc, LazyLock};

use riverrun_engine::connect::{Connectors, Context};
use riverrun_engine::graph::{Graph, SinkNode, SourceNode};
use riverrun_engine::sink::Sink;
use riverrun_engine::source::Source;
use riverrun_engine::table::{Capabilities, Location, Options, Table};
use riverrun_engine::{Error, Result};

const EVENTS: &str = "
CREATE TABLE events (
    k VARCHAR NOT NULL, v BIGINT NOT NULL, ts TIMESTAMP NOT NULL, part INT METADATA FROM 'partition',
    off BIGINT METADATA FROM 'offset', read_at TIMESTAMP METADATA FROM 'processing_time',
    WATERMARK FOR ts AS ts - INTERVAL '2 seconds'
) PARTITIONED BY (k) WITH (connector = 'sim', late_rows = 'late', letters = 'letters', idle_timeout = '3 seconds');
CREATE TABLE late WITH (connector = 'sim');
CREATE TABLE raw WITH (connector = 'sim');
INSERT INTO raw SELECT k, v, part, off, read_at FROM events;
";

/// Windows by the key that the source is partitioned by.
const WINDOWS: &str = "
CREATE TABLE sums (PRIMARY KEY (k, start)) WITH (connector = 'sim');
CREATE TABLE totals WITH (connector = 'sim');
CREATE VIEW windows AS SELECT k, tumble(ts, INTERVAL '5 seconds')['start'] AS start, count(*) AS n, sum(v) AS total
    FROM events GROUP BY k, tumble(ts, INTERVAL '5 seconds');
INSERT INTO sums SELECT * FROM windows;
INSERT INTO totals SELECT * FROM windows;
";

/// Windows over all keys: one task over all partitions, with groups that come and go.
const SINGLE: &str = "
CREATE TABLE sums (PRIMARY KEY (start)) WITH (connector = 'sim');
CREATE TABLE totals WITH (connector = 'sim');
INSERT INTO sums SELECT tumble(ts, INTERVAL '4 seconds')['start'] AS start, sum(v) AS total
    FROM events GROUP BY tumble(ts, INTERVAL '4 seconds') HAVING sum(v) > 20;
INSERT INTO totals SELECT hop(ts, INTERVAL '8 seconds', INTERVAL '4 seconds')['start'] AS start, count(*) AS n
    FROM events GROUP BY hop(ts, INTERVAL '8 seconds', INTERVAL '4 seconds');
";

/// Functions over the rows of a key, at once and in order of event time.
const OVER: &str = "
CREATE TABLE steps WITH (connector = 'sim', emit = 'update');
CREATE TABLE ordered WITH (connector = 'sim', emit = 'append');
CREATE VIEW lagged AS SELECT k, off, v, lag(v) OVER (PARTITION BY k ORDER BY ts) AS before FROM events;
INSERT INTO steps SELECT * FROM lagged;
INSERT INTO ordered SELECT * FROM lagged;
";

/// Sessions, which grow and merge.
const SESSIONS: &str = "
CREATE TABLE open (PRIMARY KEY (k, start)) WITH (connector = 'sim');
CREATE TABLE closed WITH (connector = 'sim');
CREATE VIEW sessions AS SELECT k, session(ts, INTERVAL '3 seconds')['start'] AS start, count(*) AS n, max(v) AS greatest
    FROM events GROUP BY k, session(ts, INTERVAL '3 seconds');
INSERT INTO open SELECT * FROM sessions;
INSERT INTO closed SELECT * FROM sessions;
";

/// Windows and rows by what is not the source's key, and over the windows by nothing at all: two more stages of tasks.
const STAGED: &str = "
SET repartition.partitions = 3;
CREATE TABLE sums (PRIMARY KEY (bucket, start)) WITH (connector = 'sim');
CREATE TABLE totals WITH (connector = 'sim');
CREATE TABLE overall WITH (connector = 'sim');
CREATE TABLE steps WITH (connector = 'sim', emit = 'update');
CREATE VIEW windows AS SELECT v % 4 AS bucket, tumble(ts, INTERVAL '5 seconds')['start'] AS start, count(*) AS n, sum(v) AS total
    FROM events GROUP BY v % 4, tumble(ts, INTERVAL '5 seconds');
INSERT INTO sums SELECT * FROM windows;
INSERT INTO totals SELECT * FROM windows;
INSERT INTO overall SELECT start, sum(n) AS n FROM windows GROUP BY start;
INSERT INTO steps SELECT part, off, lag(v) OVER (PARTITION BY v % 4 ORDER BY ts) AS before FROM events;
";

/// The graphs of all pipelines.
pub static GRAPHS: LazyLock<Vec<Graph>> = LazyLock::new(|| {
    let plan = |script: &&str| {
        let script = riverrun_sql::parse("simulated.sql", &format!("{EVENTS}{script}"), &|_| None);
        let planned = script.and_then(|script| riverrun_sql::plan::plan(&script, &Planning));
        planned.map(|planned| planned.graph).unwrap_or_else(|error| panic!("a simulated script: {error}"))
    };
    [WINDOWS, SINGLE, OVER, SESSIONS, STAGED].iter().map(plan).collect()
});

/// What the planner asks. Sources and sinks are bound by hand.
struct Planning;

impl Connectors for Planning {
    fn check(&self, _table: &Table) -> Result<Capabilities> {
        Ok(Capabilities { source: true, sink: true, upsert: true, delete: true, ignored: Vec::new() })
    }

    fn dead_letters(&self, table: &Table) -> Result<Option<Table>> {
        Ok(table.options.get("letters").map(|name| Table {
            name,
            columns: Vec::new(),
            watermark: None,
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
            options: Options::of(&[("connector", "sim")]),
            location: Location::default(),
        }))
    }

    fn repartition(&self, _sources: &[&Table], _sinks: &[&Table]) -> Result<Option<Options>> {
        Ok(Some(Options::of(&[("connector", "sim")])))
    }

    fn source(&self, _node: &SourceNode, _context: &Context) -> Result<Arc<dyn Source>> {
        Err(Error::permanent("planning opens nothing"))
    }

    fn sink(&self, _node: &SinkNode, _context: &Context) -> Result<Box<dyn Sink>> {
        Err(Error::permanent("planning opens nothing"))
    }
}
