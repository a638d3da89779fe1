//! Metrics that a script declares: a name of its own for one of [`METRICS`], narrowed by labels.
//!
//! ```sql
//! SET metric.transactions_processed_total = 'riverrun_source_rows_total{source="transactions"}';
//! ```
//!
//! What stands on the right is a selector as in PromQL. The declared metric has the type and help of the one it selects,
//! one label, `pipeline`, and is the sum over all series that fit.

use riverrun_engine::runtime::stats::HistogramCounts;
use riverrun_engine::{Error, Result};

use super::family::{Family, Sample, Value};
use super::list::{Kind, METRICS, Metric, find};

/// A declared metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    name: String,
    metric: &'static Metric,
    labels: Vec<(&'static str, String)>,
    selector: String,
}

impl Declared {
    /// Parses a declaration; `values` gives the values that a label can have in this pipeline, where that is known.
    ///
    /// # Errors
    /// What is wrong with the name or the selector.
    pub fn parse(name: &str, selector: &str, values: &dyn Fn(&str) -> Option<Vec<String>>) -> Result<Self> {
        let (metric, pairs) = match selector.trim().split_once('{') {
            None => (selector.trim(), ""),
            Some((metric, rest)) => {
                let rest = rest.strip_suffix('}').ok_or_else(|| Error::invalid("the closing '}' is missing"))?;
                (metric.trim(), rest)
            }
        };
        let metric = find(metric).ok_or_else(|| {
            Error::invalid(format!("there is no metric '{metric}'")).hint(match nearest(metric) {
                Some(near) => format!("did you mean {near}? docs/metrics.md lists all"),
                None => "docs/metrics.md lists all".to_owned(),
            })
        })?;
        let mut labels = Vec::new();
        for (label, value) in matchers(pairs)? {
            let known = metric.labels.iter().find(|l| **l == label).ok_or_else(|| {
                let list = if metric.labels.is_empty() { "none".to_owned() } else { metric.labels.join(", ") };
                Error::invalid(format!("{} has no label '{label}'", metric.name)).hint(format!("its labels: {list}"))
            })?;
            if let Some(values) = values(known).filter(|values| !values.contains(&value)) {
                return Err(Error::invalid(format!("there is no {known} '{value}'"))
                    .hint(format!("there are {} (riverrun explain names them all)", values.join(", "))));
            }
            labels.push((*known, value));
        }
        let declared = Self { name: name.to_owned(), metric, labels, selector: selector.trim().to_owned() };
        declared.check_name()?;
        declared.check_sum()?;
        Ok(declared)
    }

    fn check_name(&self) -> Result<()> {
        let Self { name, metric, .. } = self;
        let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !letters || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(Error::invalid(format!(
                "'{name}' is no name for a metric: letters, digits and _, beginning with a letter"
            )));
        }
        if ["riverrun_", "process_"].iter().any(|prefix| name.starts_with(prefix)) {
            return Err(Error::invalid(format!("'{name}': names that begin with riverrun_ or process_ are taken")));
        }
        let reserved = ["_bucket", "_count", "_sum", "_info", "_created"];
        if let Some(end) = reserved.iter().find(|end| name.ends_with(**end)) {
            return Err(Error::invalid(format!("'{name}': a name that ends with {end} means something else to Prometheus")));
        }
        if (metric.kind == Kind::Counter) != name.ends_with("_total") {
            let must = if metric.kind == Kind::Counter { "must" } else { "must not" };
            return Err(Error::invalid(format!(
                "'{name}': {} is a {}, so its name {must} end with _total",
                metric.name,
                metric.kind.name()
            )));
        }
        Ok(())
    }

    /// Points in time and delays cannot be summed: such a gauge must be narrowed to one series.
    fn check_sum(&self) -> Result<()> {
        let Self { metric, labels, .. } = self;
        let open: Vec<_> = metric.labels.iter().filter(|l| !labels.iter().any(|(n, _)| n == *l)).copied().collect();
        if metric.kind == Kind::Gauge && metric.unit == "seconds" && !open.is_empty() {
            return Err(Error::invalid(format!("{} cannot be summed: choose one {}", metric.name, open.join(" and "))));
        }
        Ok(())
    }

    /// The metric's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value, from what was collected.
    pub(super) fn family(&self, pipeline: &str, families: &[Family]) -> Family {
        let fits = |s: &&Sample| self.labels.iter().all(|(name, value)| s.label(name) == Some(value));
        let selected = families.iter().filter(|f| f.name == self.metric.name).flat_map(|f| &f.samples).filter(fits);
        let sum = selected.fold(None, |sum, sample| {
            Some(match (sum, &sample.value) {
                (Some(Value::Number(a)), Value::Number(b)) => Value::Number(a + b),
                (Some(Value::Histogram(mut a)), Value::Histogram(b)) => {
                    HistogramCounts::add(&mut a, b);
                    Value::Histogram(a)
                }
                (_, value) => value.clone(),
            })
        });
        let labels = || vec![("pipeline", pipeline.to_owned())];
        Family {
            name: self.name.clone(),
            kind: self.metric.kind,
            help: format!("{} This is {}.", self.metric.help, self.selector),
            samples: sum.into_iter().map(|value| Sample { labels: labels(), value }).collect(),
        }
    }
}

/// `label="value", …` as pairs.
fn matchers(text: &str) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let wrong = || {
            Error::invalid(format!("'{rest}' is not label=\"value\"")).hint("write a selector such as name{source=\"orders\"}")
        };
        let (label, after) = rest.split_once('=').ok_or_else(wrong)?;
        let (value, after) = after.trim_start().strip_prefix('"').and_then(|a| a.split_once('"')).ok_or_else(wrong)?;
        pairs.push((label.trim().to_owned(), value.to_owned()));
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if after.is_empty() => after,
            None => return Err(wrong()),
        };
    }
    Ok(pairs)
}

/// The metric whose name is most like `name`.
fn nearest(name: &str) -> Option<&'static str> {
    let like = |m: &&Metric| (strsim::jaro_winkler(m.name, name) * 1000.0) as u64;
    METRICS.iter().max_by_key(like).filter(|m| like(m) > 800).map(|m| m.name)
}
