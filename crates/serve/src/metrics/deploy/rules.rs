//! Alert rules. What they watch is what users of streams are bitten by: lag, watermarks, drops, checkpoints, sinks.

use std::fmt::Write as _;

/// An alert.
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// PromQL, with `$` for `riverrun_`.
    query: &'static str,
    /// How long it must hold.
    hold: &'static str,
    /// `critical`: somebody is woken; `warning`: somebody looks in the morning.
    pub severity: &'static str,
    /// One line, for a phone.
    pub summary: &'static str,
    /// With the values of the series.
    description: &'static str,
    /// What to look at first.
    pub look: &'static str,
}

impl Rule {
    /// The query.
    pub fn expr(&self) -> String {
        self.query.replace('$', "riverrun_")
    }
}

/// All of them.
pub const RULES: &[Rule] = &[
    Rule {
        name: "RiverrunInstanceDown",
        query: r#"up{job="riverrun"} == 0"#,
        hold: "1m",
        severity: "critical",
        summary: "an instance does not answer",
        description: "{{ $labels.instance }} has not answered Prometheus for a minute: the process has ended, hangs, or cannot be reached.",
        look: "whether the process runs, and the last lines of its log",
    },
    Rule {
        name: "RiverrunNotLive",
        query: "$live == 0",
        hold: "1m",
        severity: "critical",
        summary: "a pipeline has failed, or a thread of it is stuck",
        description: "{{ $labels.pipeline }} on {{ $labels.instance }}: /livez answers 503.",
        look: "GET /livez, which says why",
    },
    Rule {
        name: "RiverrunNotReady",
        query: "$ready == 0",
        hold: "5m",
        severity: "warning",
        summary: "a pipeline is not ready for minutes",
        description: "{{ $labels.pipeline }} on {{ $labels.instance }}: /readyz answers 503.",
        look: "GET /readyz, which says what it waits for",
    },
    Rule {
        name: "RiverrunLagGrowing",
        query: "sum by (pipeline, source) ($source_lag_records) > 1000\nand sum by (pipeline, source) (deriv($source_lag_records[5m])) > 0",
        hold: "10m",
        severity: "warning",
        summary: "more comes than is read",
        description: "{{ $labels.pipeline }}, source {{ $labels.source }}: {{ $value | humanize }} records wait, and it has been growing for 10 minutes.",
        look: "whether a sink holds it back (RiverrunBackpressure), then which operator is busy",
    },
    Rule {
        name: "RiverrunWatermarkStuck",
        query: "min by (pipeline, source) ($source_watermark_seconds and on (instance, pipeline, source, partition) $source_assigned == 1)\n<= min by (pipeline, source) ($source_watermark_seconds offset 5m and on (instance, pipeline, source, partition) $source_assigned offset 5m == 1)\nand sum by (pipeline, source) (rate($source_records_total[5m])) > 0",
        hold: "1m",
        severity: "warning",
        summary: "records come, but event time stands still",
        description: "{{ $labels.pipeline }}, source {{ $labels.source }}: the watermark has stood still for 5 minutes at {{ $value | humanizeTimestamp }}. Windows do not close, and their rows do not go out.",
        look: "which partition has the least watermark, and whether it is silent",
    },
    Rule {
        name: "RiverrunLateRows",
        query: "sum by (pipeline, source) (rate($late_rows_total[10m]))\n> 0.01 * sum by (pipeline, source) (rate($source_rows_total[10m]))",
        hold: "10m",
        severity: "warning",
        summary: "more than 1 % of rows come late",
        description: "{{ $labels.pipeline }}, source {{ $labels.source }}: {{ $value | humanize }} rows a second are behind the watermark.",
        look: "how late they are: the table that late_rows names, or /api/v1/late-rows",
    },
    Rule {
        name: "RiverrunDeadLetters",
        query: "sum by (pipeline, source, reason) (increase($dead_letters_total[10m])) > 0",
        hold: "0m",
        severity: "warning",
        summary: "records could not become rows",
        description: "{{ $labels.pipeline }}, source {{ $labels.source }}: about {{ $value | humanize }} records in 10 minutes, {{ $labels.reason }}.",
        look: "samples with reason and position: the dashboard, or /api/v1/dead-letters",
    },
    Rule {
        name: "RiverrunCheckpointOld",
        // From the last one, or where there was none from the start, on; not for a run that keeps none: it has no interval.
        query: "time() - ($checkpoint_last_success_timestamp_seconds or on (instance, pipeline) $start_timestamp_seconds)\n> on (instance, pipeline) (600 + 2 * $checkpoint_interval_seconds)\nand on (instance, pipeline) rate($epochs_total[10m]) > 0",
        hold: "1m",
        severity: "warning",
        summary: "no checkpoint was written for 10 minutes",
        description: "{{ $labels.pipeline }} on {{ $labels.instance }}: the last checkpoint, or the start if there was none since, is {{ $value | humanizeDuration }} ago. Nothing is lost, but a restart takes as long to catch up.",
        look: "RiverrunCheckpointFailing, then how long writing one takes",
    },
    Rule {
        name: "RiverrunCheckpointFailing",
        query: "increase($checkpoint_failures_total[15m]) > 0",
        hold: "0m",
        severity: "warning",
        summary: "checkpoints cannot be written",
        description: "{{ $labels.pipeline }} on {{ $labels.instance }}: about {{ $value | humanize }} checkpoints failed in 15 minutes.",
        look: "the log, which says why; then the place of checkpoint.location",
    },
    Rule {
        name: "RiverrunSourceFailing",
        query: "max by (instance, pipeline, source, partition) ($source_failing) == 1",
        hold: "2m",
        severity: "critical",
        summary: "a partition cannot be read",
        description: "{{ $labels.pipeline }}, source {{ $labels.source }}, partition {{ $labels.partition }}: reading fails, and is tried again for ever.",
        look: "the log, which says why; then the broker",
    },
    Rule {
        name: "RiverrunSinkFailing",
        query: "$sink_failing == 1",
        hold: "2m",
        severity: "critical",
        summary: "a sink cannot be written",
        description: "{{ $labels.pipeline }}, sink {{ $labels.sink }}: writing fails, and is tried again for ever; reading stops once its queue is full.",
        look: "the log, which says why; then the system that the sink writes to",
    },
    Rule {
        name: "RiverrunSinkRetrying",
        query: "increase($sink_retries_total[15m]) > 5",
        hold: "0m",
        severity: "warning",
        summary: "a sink fails again and again",
        description: "{{ $labels.pipeline }}, sink {{ $labels.sink }}: about {{ $value | humanize }} attempts failed in 15 minutes.",
        look: "the log, which says why; then the system that the sink writes to",
    },
    Rule {
        name: "RiverrunJournalRetrying",
        query: "increase($journal_retries_total[15m]) > 5",
        hold: "0m",
        severity: "warning",
        summary: "commits to the journal fail again and again",
        description: "{{ $labels.pipeline }} on {{ $labels.instance }}: about {{ $value | humanize }} commits failed in 15 minutes; no sink sees new rows meanwhile.",
        look: "the log, which says why; then the broker, or the disk of the journal",
    },
    Rule {
        name: "RiverrunBackpressure",
        query: "rate($backpressure_seconds_total[10m]) > 0.5",
        hold: "10m",
        severity: "warning",
        summary: "reading waits for a sink",
        description: "{{ $labels.pipeline }}, sink {{ $labels.sink }}: workers waited {{ $value | humanizePercentage }} of a thread's time for room in its queue.",
        look: "how busy the sink's thread is, and how fast the system behind it takes rows",
    },
];

/// The file of rules.
pub fn yaml() -> String {
    let mut text = String::from(
        "# Alert rules for Riverrun, made from its list of metrics: crates/serve/src/metrics/deploy/rules.rs writes this file, a test\n\
         # holds it to that. What to do about each: docs/alerts.md. They expect the job name \"riverrun\".\n\
         groups:\n  - name: riverrun\n    rules:\n",
    );
    for rule in RULES {
        let Rule { name, hold, severity, summary, description, look, .. } = rule;
        let expr = rule.expr().replace('\n', "\n          ");
        let anchor = name.to_lowercase();
        let _ = write!(
            text,
            "      - alert: {name}\n        expr: |-\n          {expr}\n        for: {hold}\n        labels:\n          severity: {severity}\n        \
             annotations:\n          summary: '{}: {summary}'\n          description: '{}'\n          runbook: 'docs/alerts.md#{anchor}: look at {}'\n",
            if name.ends_with("InstanceDown") { "{{ $labels.instance }}" } else { "{{ $labels.pipeline }}" },
            description.replace('\'', "''"),
            look.replace('\'', "''"),
        );
    }
    text
}
