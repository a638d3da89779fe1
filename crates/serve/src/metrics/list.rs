//! Every metric that Riverrun gives: the one list that `/metrics`, `docs/metrics.md`, dashboards and alert rules are made
//! from or held against.
//!
//! Names follow <https://prometheus.io/docs/practices/naming/>: base units (seconds, bytes), `_total` for counters. Labels
//! are bounded by the script (pipeline, source, operator, sink), the topic (partition) or a fixed list (reason, phase).

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; falls to 0 with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations by bucket.
    Histogram,
}

impl Kind {
    /// The word of the exposition formats.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name as it is queried, but for the `_bucket`, `_sum` and `_count` of a histogram.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// `seconds` or `bytes`; empty: it is a number of things.
    pub unit: &'static str,
    /// Labels, besides `pipeline`, which all but `process_…` have.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, unit: unit(name), labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit: unit(name), labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, unit: unit(name), labels, help }
}

/// The unit that a name ends with, `_total` aside.
pub const fn unit(name: &str) -> &'static str {
    if ends(name, "_seconds") || ends(name, "_seconds_total") {
        "seconds"
    } else if ends(name, "_bytes") || ends(name, "_bytes_total") {
        "bytes"
    } else {
        ""
    }
}

/// `str::ends_with`, which is not const.
const fn ends(name: &str, end: &str) -> bool {
    let (name, end) = (name.as_bytes(), end.as_bytes());
    if name.len() < end.len() {
        return false;
    }
    let mut i = 0;
    while i < end.len() {
        if name[name.len() - end.len() + i] != end[i] {
            return false;
        }
        i += 1;
    }
    true
}

const SOURCE: &[&str] = &["source"];
const PARTITION: &[&str] = &["source", "partition"];
const OPERATOR: &[&str] = &["operator"];
const SINK: &[&str] = &["sink"];

/// All of them.
pub const METRICS: &[Metric] = &[
    // Sources.
    counter("riverrun_source_records_total", SOURCE, "Records read, undecodable ones included."),
    counter("riverrun_source_rows_total", SOURCE, "Records that became rows and went to the queries, late ones included."),
    counter("riverrun_source_bytes_total", SOURCE, "Bytes of records read, about; before decoding."),
    counter("riverrun_source_batches_total", SOURCE, "Batches that records were read in."),
    counter("riverrun_source_busy_seconds_total", SOURCE, "Time of worker threads spent reading and decoding."),
    gauge("riverrun_source_offset", PARTITION, "Offset to be read next."),
    gauge("riverrun_source_end_offset", PARTITION, "Offset behind the last record that is there, where the source tells it."),
    gauge(
        "riverrun_source_lag_records",
        PARTITION,
        "Records that wait to be read: end offset less offset, where the source tells it.",
    ),
    gauge("riverrun_source_watermark_seconds", PARTITION, "Watermark, in event time, as seconds since 1970."),
    gauge(
        "riverrun_source_watermark_lag_seconds",
        PARTITION,
        "Wall time less the watermark: how far event time is behind, the delay that WATERMARK allows included.",
    ),
    gauge("riverrun_source_last_record_timestamp_seconds", PARTITION, "When a record was last read, as seconds since 1970."),
    gauge("riverrun_source_idle", PARTITION, "1 while the partition is silent for longer than its idle timeout, else 0."),
    gauge(
        "riverrun_source_assigned",
        PARTITION,
        "1 while a task of this instance reads the partition, 0 while another instance does.",
    ),
    gauge("riverrun_source_failing", PARTITION, "1 while reading fails and is tried again, else 0."),
    counter("riverrun_late_rows_total", SOURCE, "Rows behind the watermark of their partition when they were read."),
    counter(
        "riverrun_dead_letters_total",
        &["source", "reason"],
        "Records that could not be decoded, by reason; bad_records says whether they are written down, dropped, or stop the pipeline.",
    ),
    counter(
        "riverrun_rebalances_total",
        SOURCE,
        "Times that partitions came to this instance or went from it, where instances share them.",
    ),
    // Operators.
    counter("riverrun_operator_rows_in_total", OPERATOR, "Rows taken."),
    counter("riverrun_operator_rows_out_total", OPERATOR, "Rows given."),
    counter("riverrun_operator_batches_total", OPERATOR, "Batches taken."),
    counter("riverrun_operator_busy_seconds_total", OPERATOR, "Time of worker threads spent in the operator."),
    counter("riverrun_operator_late_rows_total", OPERATOR, "Rows that a stateful operator dropped: they came too late for it."),
    gauge("riverrun_state_rows", OPERATOR, "Rows (groups, kept rows) in the operator's state."),
    gauge("riverrun_state_bytes", OPERATOR, "Bytes of the operator's state in memory, about."),
    gauge(
        "riverrun_state_disk_bytes",
        OPERATOR,
        "Bytes of the operator's state on disk, about; 0 with state.backend = 'memory'.",
    ),
    gauge(
        "riverrun_window_groups",
        OPERATOR,
        "Groups (distinct values of the keys) in the current window: of the windows that hold the newest event time, the one that has been open for longest.",
    ),
    // Sinks.
    counter("riverrun_sink_rows_total", SINK, "Rows that the sink has made safe: they survive kill -9."),
    counter("riverrun_sink_bytes_total", SINK, "Bytes of those rows in memory, about."),
    counter(
        "riverrun_sink_written_rows_total",
        SINK,
        "Rows given to the sink, safe or not yet; those written again count again.",
    ),
    counter("riverrun_sink_written_bytes_total", SINK, "Bytes of those rows in memory, about."),
    counter("riverrun_sink_batches_total", SINK, "Batches given to the sink."),
    counter("riverrun_sink_write_seconds_total", SINK, "Time spent writing, encoding included."),
    histogram("riverrun_sink_flush_duration_seconds", SINK, "How long a flush took that made everything safe."),
    histogram(
        "riverrun_sink_latency_seconds",
        SINK,
        "End-to-end latency: from the time of the newest record of an epoch (as the topic has it) to the sink's acknowledgement; one observation an epoch that read records with a time.",
    ),
    gauge(
        "riverrun_sink_last_acknowledged_timestamp_seconds",
        SINK,
        "When the sink last made safe all that it had taken, as seconds since 1970.",
    ),
    gauge("riverrun_sink_queue_bytes", SINK, "Bytes that wait for the sink."),
    gauge("riverrun_sink_queue_limit_bytes", SINK, "The bound of the sink's queue; when it is reached, reading waits."),
    counter(
        "riverrun_backpressure_seconds_total",
        SINK,
        "Time that workers waited for room in the sink's queue, all workers together.",
    ),
    counter("riverrun_sink_retries_total", SINK, "Times that writing or flushing failed and was put off to be tried again."),
    gauge("riverrun_sink_failing", SINK, "1 while writing fails and is tried again, else 0."),
    // The pipeline.
    counter("riverrun_epochs_total", &[], "Epochs handed to the sinks, over all tasks."),
    histogram(
        "riverrun_epoch_duration_seconds",
        &[],
        "How long an epoch took from its first read to its hand-over, waiting for sinks not counted.",
    ),
    counter(
        "riverrun_epoch_phase_seconds_total",
        &["phase"],
        "Time of epochs by phase: read (and decode), operators, hand_over (to the sinks' queues), checkpoint (taking the state).",
    ),
    counter("riverrun_journal_commits_total", &[], "Commits to the journal; one takes all epochs that wait."),
    counter("riverrun_journal_epochs_total", &[], "Epochs committed to the journal."),
    counter("riverrun_journal_repeated_epochs_total", &[], "Epochs that were run again from the journal when the run began."),
    counter("riverrun_journal_retries_total", &[], "Commits to the journal that failed and were tried again."),
    gauge("riverrun_journal_queue_bytes", &[], "Bytes of outputs that wait for their epoch's commit."),
    histogram(
        "riverrun_journal_commit_duration_seconds",
        &[],
        "How long a commit to the journal took, with the rows of the Kafka sinks.",
    ),
    counter("riverrun_checkpoints_total", &[], "Checkpoints written, one a task."),
    gauge(
        "riverrun_checkpoint_interval_seconds",
        &[],
        "How long after a checkpoint a task takes the next one, at least (checkpoint.interval); a run that keeps none does not give it.",
    ),
    counter("riverrun_checkpoint_failures_total", &[], "Checkpoints that could not be written; the next one is tried."),
    counter("riverrun_checkpoint_written_bytes_total", &[], "Bytes of checkpoints written."),
    gauge("riverrun_checkpoint_size_bytes", &[], "Bytes of the checkpoint of a task that was written last."),
    histogram("riverrun_checkpoint_duration_seconds", &[], "How long writing the checkpoint of a task took."),
    gauge(
        "riverrun_checkpoint_last_success_timestamp_seconds",
        &[],
        "When a checkpoint was last written, as seconds since 1970.",
    ),
    histogram(
        "riverrun_commit_duration_seconds",
        &[],
        "How long it took to keep positions at a source (Kafka: the group's offsets).",
    ),
    counter("riverrun_commit_failures_total", &[], "Times that positions could not be kept at a source; the next ones are."),
    gauge("riverrun_tasks", &[], "Tasks."),
    gauge("riverrun_workers", &[], "Worker threads that run."),
    gauge("riverrun_live", &[], "1 if /livez answers 200, else 0."),
    gauge("riverrun_ready", &[], "1 if /readyz answers 200, else 0."),
    gauge("riverrun_paused", &[], "1 while the pipeline is paused: nothing is read, so lag grows; else 0."),
    gauge("riverrun_start_timestamp_seconds", &[], "When the pipeline was started, as seconds since 1970."),
    gauge("riverrun_build_info", &["version"], "Always 1; the label tells the version."),
    // The process, as all Prometheus clients name it. Linux only.
    gauge("process_start_time_seconds", &[], "When the process was started, as seconds since 1970."),
    counter("process_cpu_seconds_total", &[], "User and system CPU time of the process."),
    gauge("process_resident_memory_bytes", &[], "Resident memory of the process."),
    gauge("process_virtual_memory_bytes", &[], "Virtual memory of the process."),
    gauge("process_open_fds", &[], "Open file descriptors."),
    gauge("process_threads", &[], "Threads of the process."),
];

/// A metric by its name.
pub fn find(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|m| m.name == name)
}

/// Whether a metric is of the process rather than of a pipeline.
pub fn of_process(name: &str) -> bool {
    name.starts_with("process_")
}

/// The list as the table of `docs/metrics.md`.
pub fn markdown() -> String {
    let mut text = String::from("| metric | type | labels | what it says |\n|---|---|---|---|\n");
    for Metric { name, kind, labels, help, .. } in METRICS {
        let labels: Vec<_> = labels.iter().map(|l| format!("`{l}`")).collect();
        text += &format!("| `{name}` | {} | {} | {help} |\n", kind.name(), labels.join(", "));
    }
    text
}
