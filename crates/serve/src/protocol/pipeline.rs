//! The pipeline as a whole: what it is and what it does.

use std::sync::atomic::Ordering::Relaxed;

use riverrun_engine::progress::Timestamp;
use riverrun_engine::runtime::health::Health;
use riverrun_engine::runtime::stats::{PipelineStats, Role};
use riverrun_engine::time::Micros;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The pipeline of this process.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, ToSchema)]
pub struct PipelineInfo {
    /// `SET pipeline.name`.
    pub name: String,
    /// The name of this instance, where several share the pipeline.
    pub instance: Option<String>,
    /// Riverrun's version.
    pub version: String,
    /// `starting`, `running`, `paused`, `stopping` or `failed`.
    pub state: String,
    /// Why it has failed.
    pub failure: Option<String>,
    /// The time by the pipeline's clock.
    #[schema(value_type = String, format = DateTime)]
    pub now: Timestamp,
    /// When this run began; none while it starts.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started: Option<Timestamp>,
    /// Tasks over all instances.
    pub tasks: usize,
    /// The least watermark of this instance's tasks.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub watermark: Option<Timestamp>,
    /// Records that wait to be read.
    pub lag_records: u64,
    /// Records read in this run, bad ones included.
    pub rows_read: u64,
    /// Checkpoints of this run.
    pub checkpoints: CheckpointInfo,
}

/// Checkpoints of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq, ToSchema)]
pub struct CheckpointInfo {
    /// Whether any are kept: a bounded run keeps none.
    pub kept: bool,
    /// When the last one was written.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_written: Option<Timestamp>,
    /// How many were written, over all tasks.
    pub written: u64,
    /// How many could not be written.
    pub failures: u64,
    /// Bytes of the last one, of one task.
    pub last_bytes: u64,
}

impl PipelineInfo {
    /// One that is still opening its sources.
    pub fn starting(name: &str, instance: Option<String>, now: Micros) -> Self {
        Self {
            name: name.to_owned(),
            instance,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: "starting".to_owned(),
            failure: None,
            now: Timestamp(now),
            started: None,
            tasks: 0,
            watermark: None,
            lag_records: 0,
            rows_read: 0,
            checkpoints: CheckpointInfo::default(),
        }
    }

    /// The same, of one that runs, in this state; `kept`: it keeps checkpoints.
    #[must_use]
    pub fn runs(self, state: &str, stats: &PipelineStats, kept: bool) -> Self {
        let checkpoints = &stats.checkpoints;
        Self {
            state: state.to_owned(),
            failure: stats.failure().map(str::to_owned),
            started: Some(Timestamp(stats.started)),
            tasks: stats.tasks.len(),
            watermark: stats.watermark().map(Timestamp),
            lag_records: stats.lag(),
            rows_read: stats.role(Role::Source).map(|n| n.rows_in.load(Relaxed)).sum(),
            checkpoints: CheckpointInfo {
                kept,
                last_written: checkpoints.last_success().map(Timestamp),
                written: checkpoints.written.load(Relaxed),
                failures: checkpoints.failures.load(Relaxed),
                last_bytes: checkpoints.last_bytes.load(Relaxed),
            },
            ..self
        }
    }
}

/// Whether the pipeline lives and is ready, and what is wrong.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, ToSchema)]
pub struct HealthInfo {
    /// It has not failed, and no thread of it is stuck.
    pub live: bool,
    /// It lives, has reached all that it reads, and nothing has been in trouble for long.
    pub ready: bool,
    /// As in the pipeline.
    pub state: String,
    /// What is wrong.
    pub problems: Vec<String>,
}

impl HealthInfo {
    /// Of a pipeline in this state.
    pub fn of(health: &Health, state: String) -> Self {
        let problems = health.dead.iter().chain(&health.not_ready).cloned().collect();
        Self { live: health.is_live(), ready: health.is_ready(), state, problems }
    }
}

/// What an action led to.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, ToSchema)]
pub struct Acted {
    /// As in the pipeline.
    pub state: String,
    /// Checkpoint: how many tasks have written one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<usize>,
    /// Checkpoint: how long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}
