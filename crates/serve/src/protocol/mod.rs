//! What goes over the wire: JSON, but for rows in Arrow and metrics. The paths under `/api/v1` are described in
//! [`openapi`](crate::api::openapi) and in `docs/http.md`; those that the command line asks are older:
//!
//! | request | answer |
//! |---|---|
//! | `POST /sql`, body [`SqlRequest`] | Arrow IPC stream (`application/vnd.apache.arrow.stream`) |
//! | `GET /log` | `[`[`TopicInfo`]`]` |
//! | `GET /log/{topic}?partition=&offset=&limit=` | `[`[`LogRecord`]`]` |
//! | `GET /stats` | [`Stats`] |
//! | `GET /progress` | the newest report: [`Progress`](riverrun_engine::progress::Progress), or `null` before the first |
//! | `GET /progress?n=100` | the newest reports, oldest first; 100 are kept |
//! | `GET /progress/live` | a `Progress` of the last two seconds |
//! | `GET /metrics` | Prometheus text 0.0.4 or OpenMetrics 1.0.0, by Accept |
//! | `GET /livez`, `GET /readyz` | [`Status`]; 503 if it does not live, or is not ready |
//!
//! A failure is a status of 400 or above and [`Failure`].

mod dropped;
mod graph;
mod live;
mod pipeline;
mod replay;
mod tables;

pub use dropped::{BadSample, DeadLetters, LateRows, LateSource, SourceOfBad};
pub use graph::{EdgeInfo, GraphInfo, NodeInfo, PartitionInfo};
pub use live::{Recent, RowLine, lines};
pub use pipeline::{Acted, CheckpointInfo, HealthInfo, PipelineInfo};
pub use replay::{ReplayOutcome, ReplayWanted, Replayed, ReplayedRecord, ReplayedSource};
pub use tables::{Answer, ColumnInfo, QueryRequest, RowsAnswer, RowsWanted, TableInfo};

use riverrun_engine::runtime::health::Health;
use riverrun_engine::runtime::stats::{PipelineStats, Role};
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::Relaxed;
use utoipa::ToSchema;

/// A query to run.
#[derive(Debug, Serialize, Deserialize)]
pub struct SqlRequest {
    /// One SELECT, DESCRIBE or SHOW TABLES.
    pub query: String,
}

/// Why a request failed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// For a person.
    pub error: String,
}

/// Whether the pipeline lives, or is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// `ok` or `unavailable`.
    pub status: String,
    /// Why it is not.
    #[serde(default)]
    pub problems: Vec<String>,
}

impl Status {
    /// The answer of `/livez`.
    pub fn live(health: &Health) -> Self {
        Self::new(health.dead.clone())
    }

    /// The answer of `/readyz`.
    pub fn ready(health: &Health) -> Self {
        Self::new(health.dead.iter().chain(&health.not_ready).cloned().collect())
    }

    fn new(problems: Vec<String>) -> Self {
        let status = if problems.is_empty() { "ok" } else { "unavailable" };
        Self { status: status.to_owned(), problems }
    }

    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// A topic of the embedded log.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, ToSchema)]
pub struct TopicInfo {
    /// Its name.
    pub topic: String,
    /// First offset that is there and offset behind the last, by partition.
    #[schema(value_type = Vec<Vec<i64>>)]
    pub partitions: Vec<(i64, i64)>,
}

/// Which records of a topic.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(default)]
pub struct LogRange {
    /// Partition; 0 by default.
    pub partition: u32,
    /// From here on; 0 by default.
    pub offset: i64,
    /// At most so many; 100 by default.
    pub limit: usize,
}

impl Default for LogRange {
    fn default() -> Self {
        Self { partition: 0, offset: 0, limit: 100 }
    }
}

/// A record of the embedded log.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, ToSchema)]
pub struct LogRecord {
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: i64,
    /// Microseconds since 1970.
    pub timestamp: i64,
    /// The key, as text.
    pub key: Option<String>,
    /// The value, as text; `None`: a tombstone.
    pub value: Option<String>,
}

/// Counts of one node of the graph.
#[derive(Debug, Serialize, Deserialize)]
pub struct NodeCounts {
    /// Its name.
    pub name: String,
    /// `source`, `operator` or `sink`.
    pub role: String,
    /// Rows taken.
    pub rows_in: u64,
    /// Rows given.
    pub rows_out: u64,
    /// Late rows.
    pub late: u64,
    /// Bad records by reason.
    pub bad: std::collections::BTreeMap<String, u64>,
    /// Rows of state.
    pub state_rows: u64,
    /// Bytes of state.
    pub state_bytes: u64,
    /// Bytes that wait for a sink.
    pub queue_bytes: u64,
    /// Seconds of work.
    pub busy_seconds: f64,
}

/// Counts of the running pipeline.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stats {
    /// The pipeline's name.
    pub pipeline: String,
    /// Least watermark, microseconds since 1970.
    pub watermark: Option<i64>,
    /// Records that wait to be read.
    pub lag: u64,
    /// By node.
    pub nodes: Vec<NodeCounts>,
}

impl Stats {
    /// The counts of now.
    pub fn of(pipeline: &str, stats: &PipelineStats) -> Self {
        let nodes = stats.nodes.iter().map(|n| NodeCounts {
            name: n.name.clone(),
            role: match n.role {
                Role::Source => "source",
                Role::Operator => "operator",
                Role::Sink => "sink",
            }
            .to_owned(),
            rows_in: n.rows_in.load(Relaxed),
            rows_out: n.rows_out.load(Relaxed),
            late: n.late.load(Relaxed),
            bad: n.bad().into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            state_rows: n.state().rows,
            state_bytes: n.state().bytes,
            queue_bytes: stats.sink(&n.name).map_or(0, |s| s.queue_bytes.load(Relaxed)),
            busy_seconds: n.busy_nanos.load(Relaxed) as f64 / 1e9,
        });
        Self { pipeline: pipeline.to_owned(), watermark: stats.watermark(), lag: stats.lag(), nodes: nodes.collect() }
    }
}
