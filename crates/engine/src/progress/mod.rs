//! Progress: what a pipeline did in an interval, for people, programs and logs.
//!
//! [`Progress`] is what `StreamingQueryProgress` is in Spark, with its names in lower snake case, as all names that come
//! from Spark are written here (`starting_offsets`, `max_offsets_per_trigger`): one rule for SQL, options, JSON and
//! metrics. Where Spark reports a micro-batch, this reports an interval (`SET progress.interval`).
//!
//! All numbers come from one place, [`PipelineStats`](crate::runtime::stats::PipelineStats), which metrics read too. Names
//! ending in `_total` count since the run began, and equal the metrics' counters; others count in the interval.
//!
//! A [`Reporter`] takes a [`Sample`] of the counts every second. What lies between two samples makes a [`Progress`]: for
//! [`Listener`]s every interval, for `riverrun top` over the last seconds ([`Recent`]).

mod identity;
mod listener;
mod log;
mod parts;
mod recent;
mod reporter;
mod sample;
mod timestamp;

use serde::{Deserialize, Serialize};

pub use identity::Identity;
pub use listener::{Idle, Listener, Listeners, Started, Terminated};
pub use log::{JSON_FIELDS, ProgressLog};
pub use parts::{ByPartition, Durations, EventTime, Latency, OperatorProgress, SinkProgress, SourceProgress, StateOperator};
pub use recent::Recent;
pub(crate) use reporter::Reporter;
pub use timestamp::Timestamp;

/// What a pipeline did in an interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Which pipeline, and which run of it.
    #[serde(flatten)]
    pub identity: Identity,
    /// When the interval began.
    pub timestamp: Timestamp,
    /// The newest epoch that any task ended; tasks number their own.
    pub batch_id: u64,
    /// Length of the interval, in milliseconds.
    pub batch_duration: u64,
    /// Rows read, bad records included.
    pub num_input_rows: u64,
    /// Rows read per second of the interval.
    pub input_rows_per_second: f64,
    /// Rows read per second that the tasks worked or waited for sinks: what they could do at most. As long as it stands
    /// above `input_rows_per_second`, the pipeline keeps up.
    pub processed_rows_per_second: f64,
    /// What threads did with the interval.
    pub duration_ms: Durations,
    /// Event time over all sources.
    pub event_time: EventTime,
    /// Operators that keep state.
    pub state_operators: Vec<StateOperator>,
    /// All operators, in the order that rows go through them.
    pub operators: Vec<OperatorProgress>,
    /// What was read.
    pub sources: Vec<SourceProgress>,
    /// What was written.
    pub sinks: Vec<SinkProgress>,
}
