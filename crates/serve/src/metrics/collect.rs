//! Reads the counts of a pipeline as families of [`METRICS`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use riverrun_engine::runtime::health::Health;
use riverrun_engine::runtime::stats::{
    HistogramCounts, NodeStats, PartitionStats, Phase, PipelineStats, Role, SinkStats, TaskStats, ThreadRole, ThreadState,
    ThreadStats,
};
use riverrun_engine::source::BAD_RECORD_REASONS;
use riverrun_engine::time::Micros;

use super::declared::Declared;
use super::family::{Family, Sample, Value};
use super::list::{METRICS, Metric, find, of_process};
use super::process::{self, Process};

/// A pipeline, looked at.
pub struct Observed<'a> {
    /// Its name.
    pub pipeline: &'a str,
    /// Its counts.
    pub stats: &'a PipelineStats,
    /// Wall time.
    pub now: Micros,
    /// What its script declares.
    pub declared: &'a [Declared],
}

/// The families while they are filled.
struct Families<'a> {
    pipeline: &'a str,
    families: Vec<Family>,
}

/// What is known of a pipeline that is starting: that it lives and is not ready, and the process.
pub fn starting(pipeline: &str) -> Vec<Family> {
    let mut families = Families::new(pipeline);
    families.number("riverrun_live", &[], 1.0);
    families.number("riverrun_ready", &[], 0.0);
    families.of_process();
    families.families
}

impl Observed<'_> {
    /// All metrics, in the order of the list; those that the script declares come last.
    pub fn families(&self) -> Vec<Family> {
        let mut families = Families::new(self.pipeline);
        for (id, node) in self.stats.nodes.iter().enumerate() {
            match node.role {
                Role::Source => self.source(&mut families, id, node),
                Role::Operator => families.operator(node),
                Role::Sink => {}
            }
        }
        self.stats.sinks.iter().for_each(|sink| families.sink(sink));
        self.pipeline(&mut families);
        families.of_process();
        let declared: Vec<Family> = self.declared.iter().map(|d| d.family(self.pipeline, &families.families)).collect();
        families.families.extend(declared);
        families.families
    }

    fn source(&self, to: &mut Families<'_>, id: usize, node: &NodeStats) {
        let labels = [("source", node.name.as_str())];
        let bad = node.bad();
        let records = count(&node.rows_in);
        to.number("riverrun_source_records_total", &labels, records);
        to.number("riverrun_source_rows_total", &labels, (records - bad.values().sum::<u64>() as f64).max(0.0));
        to.number("riverrun_source_bytes_total", &labels, count(&node.bytes));
        to.number("riverrun_source_batches_total", &labels, count(&node.batches));
        to.number("riverrun_source_busy_seconds_total", &labels, nanos(&node.busy_nanos));
        to.number("riverrun_late_rows_total", &labels, count(&node.late));
        to.number("riverrun_rebalances_total", &labels, count(&node.rebalances));
        for reason in BAD_RECORD_REASONS {
            let records = bad.get(reason).copied().unwrap_or_default();
            to.number("riverrun_dead_letters_total", &[labels[0], ("reason", reason)], records as f64);
        }
        for partition in self.stats.partitions_of(id) {
            self.partition(to, &node.name, partition);
        }
    }

    fn partition(&self, to: &mut Families<'_>, source: &str, partition: &PartitionStats) {
        let number = partition.partition.to_string();
        let labels = [("source", source), ("partition", number.as_str())];
        let optional = [
            ("riverrun_source_offset", partition.offset().map(|o| o as f64)),
            ("riverrun_source_end_offset", partition.end_offset().map(|o| o as f64)),
            ("riverrun_source_lag_records", partition.lag().map(|l| l as f64)),
            ("riverrun_source_watermark_seconds", partition.watermark().map(seconds)),
            ("riverrun_source_watermark_lag_seconds", partition.watermark().map(|w| seconds(self.now.saturating_sub(w)))),
            ("riverrun_source_last_record_timestamp_seconds", partition.last_data().map(seconds)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                to.number(name, &labels, value);
            }
        }
        to.number("riverrun_source_idle", &labels, flag(&partition.idle));
        to.number("riverrun_source_assigned", &labels, f64::from(u8::from(partition.owned.load(Relaxed))));
        to.number("riverrun_source_failing", &labels, f64::from(u8::from(partition.failing_since().is_some())));
    }

    fn pipeline(&self, to: &mut Families<'_>) {
        let (stats, checkpoints) = (self.stats, &self.stats.checkpoints);
        let sum = |of: fn(&TaskStats) -> &AtomicU64| stats.tasks.iter().map(|t| count(of(t))).sum();
        to.number("riverrun_epochs_total", &[], sum(|t| &t.epochs));
        let mut durations = HistogramCounts::default();
        stats.tasks.iter().for_each(|task| durations.add(&task.epoch_duration.counts()));
        to.histogram("riverrun_epoch_duration_seconds", &[], durations);
        for phase in Phase::ALL {
            let nanos: u64 = stats.tasks.iter().map(|t| t.phase_nanos(phase)).sum();
            to.number("riverrun_epoch_phase_seconds_total", &[("phase", phase.name())], nanos as f64 / 1e9);
        }
        let journal = &stats.journal;
        to.number("riverrun_journal_commits_total", &[], count(&journal.commits));
        to.number("riverrun_journal_epochs_total", &[], count(&journal.epochs));
        to.number("riverrun_journal_repeated_epochs_total", &[], count(&journal.repeated));
        to.number("riverrun_journal_retries_total", &[], count(&journal.retries));
        to.number("riverrun_journal_queue_bytes", &[], count(&journal.queue_bytes));
        to.histogram("riverrun_journal_commit_duration_seconds", &[], journal.commit_duration.counts());
        to.number("riverrun_checkpoints_total", &[], count(&checkpoints.written));
        if let Some(interval) = checkpoints.interval() {
            to.number("riverrun_checkpoint_interval_seconds", &[], seconds(interval));
        }
        to.number("riverrun_checkpoint_failures_total", &[], count(&checkpoints.failures));
        to.number("riverrun_checkpoint_written_bytes_total", &[], count(&checkpoints.bytes));
        if let Some(last) = checkpoints.last_success() {
            to.number("riverrun_checkpoint_size_bytes", &[], count(&checkpoints.last_bytes));
            to.number("riverrun_checkpoint_last_success_timestamp_seconds", &[], seconds(last));
        }
        to.histogram("riverrun_checkpoint_duration_seconds", &[], checkpoints.write_duration.counts());
        to.histogram("riverrun_commit_duration_seconds", &[], checkpoints.commit_duration.counts());
        to.number("riverrun_commit_failures_total", &[], count(&checkpoints.commit_failures));
        let threads = stats.threads();
        let runs = |thread: &ThreadStats| thread.role == ThreadRole::Worker && thread.state() == ThreadState::Running;
        to.number("riverrun_tasks", &[], stats.tasks.len() as f64);
        to.number("riverrun_workers", &[], threads.iter().filter(|t| runs(t)).count() as f64);
        let health = Health::of(stats, self.now);
        to.number("riverrun_live", &[], f64::from(u8::from(health.is_live())));
        to.number("riverrun_ready", &[], f64::from(u8::from(health.is_ready())));
        to.number("riverrun_paused", &[], flag(&stats.paused));
        to.number("riverrun_start_timestamp_seconds", &[], seconds(stats.started));
    }
}

impl<'a> Families<'a> {
    /// Every metric of the list, without series.
    fn new(pipeline: &'a str) -> Self {
        let empty = |Metric { name, kind, help, .. }: &Metric| Family {
            name: (*name).to_owned(),
            kind: *kind,
            help: (*help).to_owned(),
            samples: Vec::new(),
        };
        Self { pipeline, families: METRICS.iter().map(empty).collect() }
    }
}

impl Families<'_> {
    fn operator(&mut self, node: &NodeStats) {
        let labels = [("operator", node.name.as_str())];
        let state = node.state();
        self.number("riverrun_operator_rows_in_total", &labels, count(&node.rows_in));
        self.number("riverrun_operator_rows_out_total", &labels, count(&node.rows_out));
        self.number("riverrun_operator_batches_total", &labels, count(&node.batches));
        self.number("riverrun_operator_busy_seconds_total", &labels, nanos(&node.busy_nanos));
        self.number("riverrun_operator_late_rows_total", &labels, count(&node.late));
        self.number("riverrun_state_rows", &labels, state.rows as f64);
        self.number("riverrun_state_bytes", &labels, state.bytes as f64);
        self.number("riverrun_state_disk_bytes", &labels, state.disk as f64);
        if let Some(groups) = node.window_groups() {
            self.number("riverrun_window_groups", &labels, groups as f64);
        }
    }

    fn sink(&mut self, sink: &SinkStats) {
        let labels = [("sink", sink.name.as_str())];
        self.number("riverrun_sink_rows_total", &labels, count(&sink.rows_safe));
        self.number("riverrun_sink_bytes_total", &labels, count(&sink.bytes_safe));
        self.number("riverrun_sink_written_rows_total", &labels, count(&sink.rows_written));
        self.number("riverrun_sink_written_bytes_total", &labels, count(&sink.bytes_written));
        self.number("riverrun_sink_batches_total", &labels, count(&sink.batches_written));
        self.number("riverrun_sink_write_seconds_total", &labels, nanos(&sink.write_nanos));
        self.histogram("riverrun_sink_flush_duration_seconds", &labels, sink.flush_duration.counts());
        self.histogram("riverrun_sink_latency_seconds", &labels, sink.latency.counts());
        if let Some(last) = sink.last_acknowledged() {
            self.number("riverrun_sink_last_acknowledged_timestamp_seconds", &labels, seconds(last));
        }
        self.number("riverrun_sink_queue_bytes", &labels, count(&sink.queue_bytes));
        self.number("riverrun_sink_queue_limit_bytes", &labels, sink.queue_bound as f64);
        self.number("riverrun_backpressure_seconds_total", &labels, nanos(&sink.backpressure_nanos));
        self.number("riverrun_sink_retries_total", &labels, count(&sink.retries));
        self.number("riverrun_sink_failing", &labels, f64::from(u8::from(sink.failing_since().is_some())));
    }

    /// The process, and what it was built from.
    fn of_process(&mut self) {
        self.number("riverrun_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        if let Some(process) = process::look() {
            self.process(&process);
        }
    }

    fn process(&mut self, process: &Process) {
        self.number("process_start_time_seconds", &[], process.start_seconds);
        self.number("process_cpu_seconds_total", &[], process.cpu_seconds);
        self.number("process_resident_memory_bytes", &[], process.resident_bytes as f64);
        self.number("process_virtual_memory_bytes", &[], process.virtual_bytes as f64);
        self.number("process_open_fds", &[], process.open_fds as f64);
        self.number("process_threads", &[], process.threads as f64);
    }

    fn number(&mut self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.add(name, labels, Value::Number(value));
    }

    fn histogram(&mut self, name: &'static str, labels: &[(&'static str, &str)], counts: HistogramCounts) {
        self.add(name, labels, Value::Histogram(counts));
    }

    fn add(&mut self, name: &'static str, labels: &[(&'static str, &str)], value: Value) {
        debug_assert!(
            find(name).is_some_and(|m| m.labels.iter().eq(labels.iter().map(|(n, _)| n))),
            "{name} is listed otherwise"
        );
        let pipeline = (!of_process(name)).then(|| ("pipeline", self.pipeline.to_owned()));
        let labels = pipeline.into_iter().chain(labels.iter().map(|(n, v)| (*n, (*v).to_owned()))).collect();
        if let Some(family) = self.families.iter_mut().find(|f| f.name == name) {
            family.samples.push(Sample { labels, value });
        }
    }
}

fn count(value: &AtomicU64) -> f64 {
    value.load(Relaxed) as f64
}

fn nanos(value: &AtomicU64) -> f64 {
    count(value) / 1e9
}

fn flag(value: &AtomicBool) -> f64 {
    f64::from(u8::from(value.load(Relaxed)))
}

fn seconds(time: Micros) -> f64 {
    time as f64 / 1e6
}
