//! The Grafana dashboard: panels in rows, by the five questions that the live dashboard asks too. A query, its unit and its description
//! follow from what the list says of the metric.

use serde_json::{Value, json};

use self::Show::{Ago, Growth, Now, Quantile, Rate};
use crate::metrics::list::{Kind, Metric, find, of_process};

/// What of a metric is shown.
#[derive(Clone, Copy)]
pub enum Show {
    /// A counter: growth per second. A word for what it counts; empty where it counts seconds or bytes.
    Rate(&'static str),
    /// A counter: growth within the time that Grafana shows.
    Growth,
    /// A gauge: `sum`, `min` or `max` of it.
    Now(&'static str),
    /// A gauge of a moment: how long ago.
    Ago,
    /// A histogram: one quantile.
    Quantile(f64),
}

struct Panel {
    title: &'static str,
    metric: &'static str,
    by: &'static [&'static str],
    shows: &'static [Show],
}

const fn panel(title: &'static str, metric: &'static str, by: &'static [&'static str], shows: &'static [Show]) -> Panel {
    Panel { title, metric, by, shows }
}

const QUANTILES: &[Show] = &[Quantile(0.5), Quantile(0.95), Quantile(0.99)];
const P99: &[Show] = &[Quantile(0.99)];
const PARTITION: &[&str] = &["source", "partition"];

/// One number each, at the top.
const LOOK: &[Panel] = &[
    panel("Ready", "riverrun_ready", &["pipeline"], &[Now("min")]),
    panel("Read", "riverrun_source_records_total", &[], &[Rate("records")]),
    panel("Lag", "riverrun_source_lag_records", &[], &[Now("sum")]),
    panel("Latency p99", "riverrun_sink_latency_seconds", &["sink"], P99),
    panel("Watermark behind now", "riverrun_source_watermark_lag_seconds", &[], &[Now("max")]),
    panel("Late rows", "riverrun_late_rows_total", &[], &[Growth]),
    panel("Dead letters", "riverrun_dead_letters_total", &[], &[Growth]),
    panel("Oldest checkpoint", "riverrun_checkpoint_last_success_timestamp_seconds", &[], &[Ago]),
];

/// Lines over time.
const ROWS: &[(&str, &[Panel])] = &[
    (
        "Is it keeping up?",
        &[
            panel("Records read", "riverrun_source_records_total", &["source"], &[Rate("records")]),
            panel("Lag by partition", "riverrun_source_lag_records", PARTITION, &[Now("sum")]),
            panel("Waiting for sinks", "riverrun_backpressure_seconds_total", &["sink"], &[Rate("")]),
            panel("Rows made safe", "riverrun_sink_rows_total", &["sink"], &[Rate("rows")]),
            panel("Sinks' queues", "riverrun_sink_queue_bytes", &["sink"], &[Now("sum")]),
            panel("Operators' rows", "riverrun_operator_rows_in_total", &["operator"], &[Rate("rows")]),
        ],
    ),
    (
        "How late is it?",
        &[
            panel("Latency by sink", "riverrun_sink_latency_seconds", &["sink"], QUANTILES),
            panel("Watermark behind now, by partition", "riverrun_source_watermark_lag_seconds", PARTITION, &[Now("max")]),
            panel("Idle partitions", "riverrun_source_idle", &["source"], &[Now("sum")]),
            panel("Epochs", "riverrun_epoch_duration_seconds", &[], QUANTILES),
            panel("Journal commits", "riverrun_journal_commit_duration_seconds", &[], QUANTILES),
            panel("Flushes", "riverrun_sink_flush_duration_seconds", &["sink"], P99),
        ],
    ),
    (
        "What did it drop, and why?",
        &[
            panel("Late rows", "riverrun_late_rows_total", &["source"], &[Rate("rows")]),
            panel("Late rows that operators dropped", "riverrun_operator_late_rows_total", &["operator"], &[Rate("rows")]),
            panel("Dead letters", "riverrun_dead_letters_total", &["source", "reason"], &[Rate("records")]),
        ],
    ),
    (
        "What is in trouble?",
        &[
            panel("Sources that cannot be read", "riverrun_source_failing", PARTITION, &[Now("max")]),
            panel("Sinks that cannot be written", "riverrun_sink_failing", &["sink"], &[Now("max")]),
            panel("Sinks' retries", "riverrun_sink_retries_total", &["sink"], &[Rate("retries")]),
            panel("Journal's retries", "riverrun_journal_retries_total", &["instance"], &[Rate("retries")]),
            panel("Failed checkpoints", "riverrun_checkpoint_failures_total", &["instance"], &[Rate("checkpoints")]),
            panel("Rebalances", "riverrun_rebalances_total", &["instance"], &[Rate("rebalances")]),
            panel("Paused", "riverrun_paused", &["pipeline", "instance"], &[Now("max")]),
        ],
    ),
    (
        "What does it cost?",
        &[
            panel("CPU", "process_cpu_seconds_total", &["instance"], &[Rate("")]),
            panel("Memory", "process_resident_memory_bytes", &["instance"], &[Now("sum")]),
            panel("Tasks' time by phase", "riverrun_epoch_phase_seconds_total", &["phase"], &[Rate("")]),
            panel("Operators' time", "riverrun_operator_busy_seconds_total", &["operator"], &[Rate("")]),
            panel("State in memory", "riverrun_state_bytes", &["operator"], &[Now("sum")]),
            panel("State on disk", "riverrun_state_disk_bytes", &["operator"], &[Now("sum")]),
            panel("Rows of state", "riverrun_state_rows", &["operator"], &[Now("sum")]),
            panel("Age of the last checkpoint", "riverrun_checkpoint_last_success_timestamp_seconds", &["instance"], &[Ago]),
            panel("Writing a checkpoint", "riverrun_checkpoint_duration_seconds", &[], QUANTILES),
            panel("Checkpoints written", "riverrun_checkpoint_written_bytes_total", &["instance"], &[Rate("")]),
        ],
    ),
];

impl Panel {
    fn metric(&self) -> &'static Metric {
        find(self.metric).unwrap_or_else(|| panic!("{}: there is no metric {}", self.title, self.metric))
    }

    fn query(&self, show: Show) -> String {
        let Metric { name, kind, .. } = self.metric();
        let by = |labels: &[&str]| if labels.is_empty() { " ".to_owned() } else { format!(" by ({}) ", labels.join(", ")) };
        let of =
            if of_process(name) { r#"{instance=~"$instance"}"# } else { r#"{pipeline=~"$pipeline", instance=~"$instance"}"# };
        let fits = match show {
            Rate(_) | Growth => *kind == Kind::Counter,
            Now(_) | Ago => *kind == Kind::Gauge,
            Quantile(_) => *kind == Kind::Histogram,
        };
        assert!(fits, "{}: {name} is a {}", self.title, kind.name());
        match show {
            Rate(_) => format!("sum{}(rate({name}{of}[$__rate_interval]))", by(self.by)),
            Growth => format!("sum{}(increase({name}{of}[$__range]))", by(self.by)),
            Now(aggregate) => format!("{aggregate}{}({name}{of})", by(self.by)),
            Ago => format!("time() - min{}({name}{of})", by(self.by)),
            Quantile(q) => {
                let labels: Vec<&str> = ["le"].iter().chain(self.by).copied().collect();
                format!("histogram_quantile({q}, sum{}(rate({name}_bucket{of}[$__rate_interval])))", by(&labels))
            }
        }
    }

    /// As Grafana names units.
    fn unit(&self) -> String {
        match (self.shows[0], self.metric().unit) {
            (Rate(_), "seconds") => "percentunit".to_owned(),
            (Rate(_), "bytes") => "binBps".to_owned(),
            (Rate(what), _) => format!("suffix: {what}/s"),
            (_, "seconds") => "s".to_owned(),
            (_, "bytes") => "bytes".to_owned(),
            _ => "short".to_owned(),
        }
    }

    fn targets(&self) -> Vec<Value> {
        let labels: Vec<_> = self.by.iter().map(|l| format!("{{{{{l}}}}}")).collect();
        let target = |(i, show): (usize, &Show)| {
            let name = match show {
                Quantile(q) if self.shows.len() > 1 => format!("{} p{}", labels.join(" "), q * 100.0).trim().to_owned(),
                _ if labels.is_empty() => self.title.to_owned(),
                _ => labels.join(" "),
            };
            json!({ "refId": char::from(b'A' + i as u8).to_string(), "expr": self.query(*show), "legendFormat": name, "datasource": source() })
        };
        self.shows.iter().enumerate().map(target).collect()
    }

    fn json(&self, kind: &str, [x, y, w, h]: [usize; 4]) -> Value {
        let ready = self.metric == "riverrun_ready";
        let names = json!([{ "type": "value", "options": { "0": { "text": "not ready", "color": "red" }, "1": { "text": "ready", "color": "green" } } }]);
        let lines = json!({ "drawStyle": "line", "lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "spanNulls": false });
        let options = if kind == "stat" {
            json!({ "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false }, "colorMode": if ready { "value" } else { "none" }, "graphMode": "area", "textMode": "auto" })
        } else {
            json!({ "legend": { "displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"] }, "tooltip": { "mode": "multi", "sort": "desc" } })
        };
        json!({
            "type": kind, "title": self.title, "description": self.metric().help, "datasource": source(), "options": options,
            "gridPos": { "x": x, "y": y, "w": w, "h": h }, "targets": self.targets(),
            "fieldConfig": {
                "defaults": { "unit": self.unit(), "min": 0, "mappings": if ready { names } else { json!([]) }, "custom": if kind == "stat" { json!({}) } else { lines } },
                "overrides": [],
            },
        })
    }
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

/// The dashboard.
pub fn dashboard() -> Value {
    let mut panels: Vec<Value> = LOOK.iter().enumerate().map(|(i, p)| p.json("stat", [i * 3, 0, 3, 4])).collect();
    let mut y = 4;
    for (title, row) in ROWS {
        panels.push(json!({ "type": "row", "title": title, "collapsed": false, "panels": [], "gridPos": { "x": 0, "y": y, "w": 24, "h": 1 } }));
        panels.extend(row.iter().enumerate().map(|(i, p)| p.json("timeseries", [i % 3 * 8, y + 1 + i / 3 * 8, 8, 8])));
        y += 1 + row.len().div_ceil(3) * 8;
    }
    for (id, panel) in panels.iter_mut().enumerate() {
        panel["id"] = json!(id + 1);
    }
    json!({
        "title": "Riverrun", "uid": "riverrun", "tags": ["riverrun"], "editable": true, "schemaVersion": 39, "version": 1,
        "description": "Is it keeping up, how late is it, what did it drop and why, what does it cost. Made from Riverrun's list of metrics.",
        "time": { "from": "now-30m", "to": "now" }, "refresh": "10s", "timezone": "utc", "graphTooltip": 1, "links": [], "annotations": { "list": [] },
        "templating": { "list": [
            { "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {} },
            variable("pipeline", "label_values(riverrun_live, pipeline)"),
            variable("instance", "label_values(riverrun_live{pipeline=~\"$pipeline\"}, instance)"),
        ] },
        "panels": panels,
    })
}

fn variable(name: &str, query: &str) -> Value {
    json!({
        "name": name, "label": name, "type": "query", "datasource": source(), "definition": query, "query": { "query": query, "refId": name },
        "multi": true, "includeAll": true, "current": { "text": ["All"], "value": ["$__all"] }, "refresh": 2, "sort": 1,
    })
}
