//! What `deploy/` has for Grafana and Prometheus, made from the list of metrics. For tests only: they hold the files to what is made
//! here, and fail where a panel or a rule names a metric or a label that is not in the list. `RIVERRUN_WRITE_DEPLOY=1 cargo test -p riverrun-serve
//! deploy` writes them.

mod grafana;
mod promql;
mod rules;

use std::path::{Path, PathBuf};

use serde_json::Value;

fn place(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file)
}

/// The text of a file, after it was written if that is asked for.
fn kept(file: &str, made: &str) -> String {
    if std::env::var_os("RIVERRUN_WRITE_DEPLOY").is_some() {
        std::fs::write(place(file), made).unwrap();
    }
    std::fs::read_to_string(place(file)).unwrap()
}

const HOW: &str = "is not what the list of metrics makes: RIVERRUN_WRITE_DEPLOY=1 cargo test --release -p riverrun-serve deploy";

#[test]
fn the_grafana_dashboard_is_what_the_list_makes() {
    let made = grafana::dashboard();
    let kept = kept("grafana/riverrun.json", &format!("{made:#}\n"));
    // As values: the order of keys depends on what else is built with us.
    assert!(serde_json::from_str::<Value>(&kept).unwrap() == made, "deploy/grafana/riverrun.json {HOW}");
}

#[test]
fn the_alert_rules_are_what_the_list_makes() {
    let made = rules::yaml();
    assert!(kept("prometheus/riverrun.rules.yml", &made) == made, "deploy/prometheus/riverrun.rules.yml {HOW}");
}

/// Every query of both files is read again as text, whatever made it.
#[test]
fn no_panel_and_no_rule_names_what_is_not_in_the_list() {
    let mut queries: Vec<String> = rules::RULES.iter().map(|r| r.expr()).collect();
    let dashboard = grafana::dashboard();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    assert!(queries.len() > 40, "{}", queries.len());
    for query in queries {
        assert_eq!(promql::fault(&query), None, "{query}");
    }
}

#[test]
fn a_wrong_query_is_found() {
    for (query, fault) in [
        ("rate(riverrun_source_record_total[5m])", "there is no metric riverrun_source_record_total"),
        ("riverrun_source_records_total{sink=\"a\"} > 0", "riverrun_source_records_total has no label sink"),
        ("sum by (source, sink) (riverrun_source_lag_records)", "no metric of the query has the label sink"),
        ("riverrun_sink_latency_seconds > 1", "there is no metric riverrun_sink_latency_seconds"),
        ("riverrun_source_lag_records_bucket", "there is no metric riverrun_source_lag_records_bucket"),
        ("process_cpu_seconds_total{pipeline=\"a\"}", "process_cpu_seconds_total has no label pipeline"),
    ] {
        assert_eq!(promql::fault(query).as_deref(), Some(fault), "{query}");
    }
    assert_eq!(
        promql::fault("histogram_quantile(0.99, sum by (le, sink) (rate(riverrun_sink_latency_seconds_bucket[5m])))"),
        None
    );
}

#[test]
fn every_rule_has_a_page_for_whoever_is_woken() {
    let page = include_str!("../../../../../docs/alerts.md");
    for rule in rules::RULES {
        let section =
            page.split(&format!("\n## {}\n", rule.name)).nth(1).unwrap_or_else(|| panic!("docs/alerts.md lacks {}", rule.name));
        let section = section.split("\n## ").next().unwrap();
        assert!(
            section.contains(&format!("{} ({}", rule.summary, rule.severity)),
            "docs/alerts.md tells {} otherwise: {}",
            rule.name,
            rule.summary
        );
        assert!(section.contains(rule.look), "docs/alerts.md lacks the first look of {}: {}", rule.name, rule.look);
    }
    assert_eq!(page.matches("\n## Riverrun").count(), rules::RULES.len(), "docs/alerts.md has a rule that is not there");
}
