//! Looks through a PromQL query for metrics and labels that are not there. No parser of PromQL: names, what stands in braces, and what
//! follows `by` and `on`. (Whether it is PromQL at all, promtool tells: `services/tests/test_alert_rules.py`.)

use crate::metrics::list::{Kind, Metric, find, of_process};

/// Labels that Prometheus adds to all series of a target.
const TARGET: &[&str] = &["job", "instance"];

/// The first thing in a query that no metric has.
pub fn fault(query: &str) -> Option<String> {
    let mut found = Vec::new();
    for (start, end) in words(query) {
        let (name, rest) = (&query[start..end], &query[end..]);
        if !(name.starts_with("riverrun_") || of_process(name)) || inside_quotes(query, start) {
            continue;
        }
        let Some(metric) = metric(name) else { return Some(format!("there is no metric {name}")) };
        let selector = rest.strip_prefix('{').and_then(|r| r.split('}').next()).unwrap_or_default();
        for matcher in selector.split(',').filter(|m| !m.trim().is_empty()) {
            let label = matcher.split(['=', '!']).next().unwrap_or_default().trim();
            if !has(metric, label) {
                return Some(format!("{name} has no label {label}"));
            }
        }
        found.push(metric);
    }
    let grouped = ["by (", "on ("].iter().flat_map(|word| query.split(word).skip(1)).filter_map(|after| after.split(')').next());
    let labels = grouped.flat_map(|group| group.split(',')).map(str::trim);
    labels
        .filter(|l| *l != "le" && !TARGET.contains(l))
        .find(|l| !found.iter().any(|m| has(m, l)))
        .map(|l| format!("no metric of the query has the label {l}"))
}

fn words(query: &str) -> Vec<(usize, usize)> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = query.char_indices().filter(|(i, c)| part(*c) && !query[..*i].ends_with(part)).map(|(i, _)| i);
    starts.map(|start| (start, query[start..].find(|c| !part(c)).map_or(query.len(), |length| start + length))).collect()
}

fn inside_quotes(query: &str, place: usize) -> bool {
    query[..place].matches('"').count() % 2 == 1
}

/// The metric that a series is of.
fn metric(series: &str) -> Option<&'static Metric> {
    let histogram = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|end| find(series.strip_suffix(end)?))
        .filter(|m| m.kind == Kind::Histogram);
    histogram.or_else(|| find(series).filter(|m| m.kind != Kind::Histogram))
}

fn has(metric: &Metric, label: &str) -> bool {
    metric.labels.contains(&label) || TARGET.contains(&label) || (label == "pipeline" && !of_process(metric.name))
}
