//! Progress as structured log lines.
//!
//! Each line has a message for people and one field, `progress`, `started`, `idle` or `terminated`, with the whole event as
//! JSON: a subscriber that writes JSON puts it in as it is, one for people leaves it out.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde::Serialize;

use super::{Idle, Listener, Progress, Started, Terminated};

/// The names of the fields that hold an event as JSON.
pub const JSON_FIELDS: [&str; 4] = ["started", "progress", "idle", "terminated"];

/// Writes every event as a line of the log (`tracing`, level info; an error that ended the pipeline: level error). Of
/// idle intervals in a row, only the first is told at level info, others at level debug.
#[derive(Debug, Default)]
pub struct ProgressLog {
    idle: AtomicBool,
}

impl Listener for ProgressLog {
    fn started(&self, event: &Started) {
        tracing::info!(started = %json(event), "pipeline {} started, run {}", event.identity.name, event.identity.run_id);
    }

    fn progress(&self, progress: &Progress) {
        self.idle.store(false, Relaxed);
        tracing::info!(progress = %json(progress), "{}", line(progress));
    }

    fn idle(&self, event: &Idle) {
        if self.idle.swap(true, Relaxed) {
            tracing::debug!(idle = %json(event), "still idle");
        } else {
            tracing::info!(idle = %json(event), "idle: nothing came; told once");
        }
    }

    fn terminated(&self, event: &Terminated) {
        let name = &event.identity.name;
        match &event.error {
            Some(error) => tracing::error!(terminated = %json(event), "pipeline {name} failed: {error}"),
            None => tracing::info!(terminated = %json(event), "pipeline {name} ended"),
        }
    }
}

fn json(event: &impl Serialize) -> String {
    // Plain structs with text keys: nothing that could fail.
    serde_json::to_string(event).unwrap_or_default()
}

/// One line for people.
fn line(progress: &Progress) -> String {
    let written: u64 = progress.sinks.iter().map(|s| s.num_output_rows).sum();
    let lag: u64 = progress.sources.iter().map(|s| s.lag).sum();
    let mut line = format!(
        "read {} rows in {:.1} s ({:.0} rows/s, could do {:.0}), wrote {written}, lag {lag}",
        progress.num_input_rows,
        progress.batch_duration as f64 / 1000.0,
        progress.input_rows_per_second,
        progress.processed_rows_per_second,
    );
    if let Some(watermark) = progress.event_time.watermark {
        line.push_str(&format!(", watermark {watermark}"));
    }
    let (rows, bytes) = progress.state_operators.iter().fold((0, 0), |(r, b), s| (r + s.num_rows_total, b + s.memory_used_bytes));
    if !progress.state_operators.is_empty() {
        line.push_str(&format!(", state {rows} rows ({:.1} MiB)", bytes as f64 / f64::from(1 << 20)));
    }
    line
}
