//! Metrics with their values at one moment, and their text in both exposition formats.
//!
//! Written by hand rather than through a client library: those keep values of their own, while ours stand in the engine's
//! counts, and none writes both formats.

use std::fmt::Write;

use riverrun_engine::runtime::stats::HistogramCounts;
use riverrun_engine::runtime::stats::histogram::BOUNDS_NANOS;

use super::list::{Kind, unit};

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, version 0.0.4: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
    Text,
    /// OpenMetrics, version 1.0.0: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
    OpenMetrics,
}

impl Format {
    /// The value of Content-Type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The value of one series.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a counter or gauge.
    Number(f64),
    /// Of a histogram.
    Histogram(HistogramCounts),
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Labels by name, in the order in which they are written.
    pub labels: Vec<(&'static str, String)>,
    /// Its value.
    pub value: Value,
}

impl Sample {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }
}

/// All series of one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// The metric's name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What it says.
    pub help: String,
    /// The series.
    pub samples: Vec<Sample>,
}

/// The text of `families` in `format`.
pub fn render(families: &[Family], format: Format) -> String {
    let mut text = String::with_capacity(families.len() * 256);
    for family in families.iter().filter(|f| !f.samples.is_empty()) {
        family.render(format, &mut text);
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

impl Family {
    fn render(&self, format: Format, text: &mut String) {
        let Self { name, kind, help, samples } = self;
        // In OpenMetrics a counter's family is named without the suffix of its one sample.
        let family = match format {
            Format::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
            Format::Text => name,
        };
        let _ = writeln!(text, "# HELP {family} {}", escaped(help, format == Format::OpenMetrics));
        let _ = writeln!(text, "# TYPE {family} {}", kind.name());
        if format == Format::OpenMetrics && !unit(name).is_empty() {
            let _ = writeln!(text, "# UNIT {family} {}", unit(name));
        }
        for sample in samples {
            match &sample.value {
                Value::Number(number) => line(text, name, &sample.labels, None, *number),
                Value::Histogram(counts) => histogram(text, name, &sample.labels, counts),
            }
        }
    }
}

fn histogram(text: &mut String, name: &str, labels: &[(&'static str, String)], counts: &HistogramCounts) {
    let bucket = format!("{name}_bucket");
    let mut below = 0;
    for (i, count) in counts.buckets.iter().enumerate() {
        below += count;
        // One way to write bounds in both formats, so that the series are the same whichever is scraped.
        let bound = BOUNDS_NANOS.get(i).map_or_else(|| "+Inf".to_owned(), |nanos| format!("{:?}", *nanos as f64 / 1e9));
        line(text, &bucket, labels, Some(&bound), below as f64);
    }
    line(text, &format!("{name}_sum"), labels, None, counts.sum_nanos as f64 / 1e9);
    line(text, &format!("{name}_count"), labels, None, below as f64);
}

fn line(text: &mut String, name: &str, labels: &[(&'static str, String)], bound: Option<&str>, value: f64) {
    text.push_str(name);
    let pairs = labels.iter().map(|(n, v)| (*n, v.as_str())).chain(bound.map(|b| ("le", b)));
    for (i, (name, value)) in pairs.enumerate() {
        text.push(if i == 0 { '{' } else { ',' });
        let _ = write!(text, "{name}=\"{}\"", escaped(value, true));
    }
    if !labels.is_empty() || bound.is_some() {
        text.push('}');
    }
    let _ = writeln!(text, " {value}");
}

/// Backslashes and line feeds escaped, and quotes where the format has them so.
fn escaped(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}
