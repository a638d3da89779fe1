//! The parts of a [`Progress`](super::Progress).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use crate::runtime::stats::HistogramCounts;

/// A number for each partition of a source.
pub type ByPartition<T> = BTreeMap<u32, T>;

/// Milliseconds of threads' time by phase. Several threads work at once: a sum may be longer than the interval.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durations {
    /// All that tasks did in epochs, and their waiting for sinks: the next five together.
    pub trigger_execution: u64,
    /// Reading and decoding.
    pub get_batch: u64,
    /// Operators.
    pub add_batch: u64,
    /// Handing outputs to the queues of the sinks.
    pub hand_over: u64,
    /// Taking the state for a checkpoint.
    pub state_snapshot: u64,
    /// Waiting since a sink's queue was full.
    pub backpressure: u64,
    /// Sinks: writing and making safe, on threads of their own.
    pub write_sinks: u64,
    /// Writing checkpoints, on a thread of its own.
    pub write_checkpoint: u64,
    /// Keeping positions at the sources, on the same thread.
    pub commit_offsets: u64,
}

/// Event time over all sources that have it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTime {
    /// The oldest of the interval.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub min: Option<Timestamp>,
    /// The newest of the interval.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max: Option<Timestamp>,
    /// The mean of the interval.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub avg: Option<Timestamp>,
    /// The least watermark of all tasks; none before the first event.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub watermark: Option<Timestamp>,
}

/// An operator that keeps state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateOperator {
    /// Its name in the graph.
    pub operator_name: String,
    /// Rows (groups, kept rows) that it holds now.
    pub num_rows_total: u64,
    /// Bytes in memory, about, that it holds now.
    pub memory_used_bytes: u64,
    /// Late rows that it dropped in the interval.
    pub num_rows_dropped_by_watermark: u64,
    /// The same since the run began.
    pub num_rows_dropped_by_watermark_total: u64,
}

/// Any operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorProgress {
    /// Its name in the graph.
    pub operator_name: String,
    /// Rows taken.
    pub num_input_rows: u64,
    /// Rows taken since the run began.
    pub num_input_rows_total: u64,
    /// Rows given.
    pub num_output_rows: u64,
    /// Rows given since the run began.
    pub num_output_rows_total: u64,
    /// Milliseconds of tasks' time.
    pub busy_ms: u64,
}

/// A source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceProgress {
    /// Connector and table: `kafka[transactions]`.
    pub description: String,
    /// The table's name.
    pub name: String,
    /// By partition: where the interval began to read.
    pub start_offset: ByPartition<i64>,
    /// By partition: where it will read next.
    pub end_offset: ByPartition<i64>,
    /// By partition: the offset behind the newest record, where it is known.
    pub latest_offset: ByPartition<i64>,
    /// By partition: its watermark, once it has one.
    pub watermark: ByPartition<Timestamp>,
    /// Records that wait to be read, where it is known.
    pub lag: u64,
    /// Rows read, bad records included.
    pub num_input_rows: u64,
    /// The same since the run began.
    pub num_input_rows_total: u64,
    /// Rows read per second of the interval.
    pub input_rows_per_second: f64,
    /// Rows read per second that the tasks worked or waited for sinks.
    pub processed_rows_per_second: f64,
    /// Bytes of raw records.
    pub num_input_bytes: u64,
    /// The same since the run began.
    pub num_input_bytes_total: u64,
    /// Late rows.
    pub num_late_rows: u64,
    /// The same since the run began.
    pub num_late_rows_total: u64,
    /// Milliseconds of tasks' time: reading and decoding.
    pub busy_ms: u64,
    /// Records that could not become rows, by reason, since the run began.
    pub bad_records_total: BTreeMap<String, u64>,
}

/// A sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SinkProgress {
    /// Connector and table: `delta[lake]`.
    pub description: String,
    /// The table's name.
    pub name: String,
    /// Rows made safe.
    pub num_output_rows: u64,
    /// The same since the run began.
    pub num_output_rows_total: u64,
    /// Rows made safe per second of the interval.
    pub output_rows_per_second: f64,
    /// From the time of an epoch's newest record to the sink's acknowledgement; none if it acknowledged nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latency_ms: Option<Latency>,
    /// Milliseconds of its own thread's time.
    pub busy_ms: u64,
    /// Bytes that wait for it now.
    pub queue_bytes: u64,
    /// Times that it was tried again, since the run began.
    pub retries_total: u64,
}

/// End-to-end latency in milliseconds, from a histogram: interpolated within its buckets, 5 minutes at most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the epochs took no longer.
    pub p50: f64,
    /// 95 of 100.
    pub p95: f64,
    /// 99 of 100.
    pub p99: f64,
}

impl Latency {
    /// Of what a histogram counted.
    pub(super) fn of(counts: &HistogramCounts) -> Option<Self> {
        let millis = |quantile| counts.quantile(quantile).map(|seconds| seconds * 1e3);
        Some(Self { p50: millis(0.5)?, p95: millis(0.95)?, p99: millis(0.99)? })
    }
}
