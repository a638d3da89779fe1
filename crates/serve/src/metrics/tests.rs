//! The list, the texts, and declared metrics, over counts set by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use riverrun_engine::Result;
use riverrun_engine::batch::Port;
use riverrun_engine::graph::{Edge, Graph, Node, NodeKind, Parallelism, SinkNode, SourceNode};
use riverrun_engine::operator::{Operator, OperatorSpec};
use riverrun_engine::runtime::stats::PipelineStats;
use riverrun_engine::state::Backend;
use riverrun_engine::table::{Emit, Options, Table};

use super::Observed;
use super::declared::Declared;
use super::family::{Family, Format, Sample, Value, render};
use super::list::{Kind, METRICS, find, markdown, of_process};

struct Nothing;

impl OperatorSpec for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::empty())
    }

    fn describe(&self) -> Vec<String> {
        Vec::new()
    }

    fn create(&self, _ports: &[Port], _backend: &Backend) -> Result<Box<dyn Operator>> {
        Err(riverrun_engine::Error::permanent("never run"))
    }
}

fn table(name: &str) -> Table {
    Table {
        name: name.into(),
        columns: Vec::new(),
        watermark: None,
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        options: Options::default(),
        location: Default::default(),
    }
}

/// Two sources of two partitions, an operator and a sink, with some counts.
fn stats() -> PipelineStats {
    let schema = Arc::new(Schema::empty());
    let source = |name: &str| NodeKind::Source(SourceNode { table: table(name), schema: schema.clone() });
    let (emit, trigger) = (Emit::Append, Duration::ZERO);
    let sink = NodeKind::Sink(SinkNode { table: table("alerts"), schema: schema.clone(), emit, trigger, key: Vec::new() });
    let node = |name: &str, from: &[usize], kind| {
        let inputs = from.iter().map(|from| Edge { from: *from, port: Port::Rows }).collect();
        Node { name: name.into(), inputs, kind, identity: String::new() }
    };
    let nodes = vec![
        node("a", &[], source("a")),
        node("b", &[], source("b")),
        node("view.filter", &[0, 1], NodeKind::Operator(Arc::new(Nothing))),
        node("alerts", &[2], sink),
    ];
    let graph = Graph { nodes, parallelism: Parallelism::Partitioned, ignored_options: Vec::new() };
    let stats = PipelineStats::new(&graph, &[(0, 0), (0, 1), (1, 0), (1, 1)], 2, 1 << 20, 5_000_000);
    stats.nodes[0].rows_in.store(40, Relaxed);
    stats.nodes[1].rows_in.store(2, Relaxed);
    stats.nodes[0].late.store(7, Relaxed);
    stats.sinks[0].queue_bytes.store(12_345, Relaxed);
    stats.sinks[0].backpressure_nanos.store(1_500_000_000, Relaxed);
    stats.sinks[0].latency.observe(20_000_000);
    stats.sinks[0].latency.observe_many(400_000_000_000, 3);
    stats
}

fn families(stats: &PipelineStats, declared: &[Declared]) -> Vec<Family> {
    Observed { pipeline: "p\"1\"", stats, now: 9_000_000, declared }.families()
}

/// The series of a text by name and labels, read strictly: each family begins with HELP and TYPE, its lines stand together.
fn read(text: &str, format: Format) -> BTreeMap<String, f64> {
    let (mut series, mut families, mut current) = (BTreeMap::new(), BTreeSet::new(), (String::new(), String::new()));
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" {
            assert_eq!((format, lines.peek()), (Format::OpenMetrics, None));
            return series;
        }
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (family, help) = help.split_once(' ').unwrap();
            assert!(!help.is_empty() && families.insert(family.to_owned()), "{line}");
            let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {family} ")).unwrap();
            current = (family.to_owned(), kind.to_owned());
            if let Some(unit) = lines.next_if(|l| l.starts_with("# UNIT ")) {
                let unit = unit.strip_prefix(&format!("# UNIT {family} ")).unwrap();
                assert!(format == Format::OpenMetrics && family.ends_with(&format!("_{unit}")), "{line}");
            }
            continue;
        }
        let (name_and_labels, value) = line.rsplit_once(' ').unwrap();
        let name = name_and_labels.split('{').next().unwrap();
        let endings: &[&str] = match (current.1.as_str(), format) {
            ("histogram", _) => &["_bucket", "_sum", "_count"],
            ("counter", Format::OpenMetrics) => &["_total"],
            _ => &[""],
        };
        assert!(endings.iter().any(|end| name == format!("{}{end}", current.0)), "{line} in {current:?}");
        assert!(name_and_labels.ends_with('}') != (name == name_and_labels), "{line}");
        assert!(series.insert(name_and_labels.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
    }
    assert_eq!(format, Format::Text, "no # EOF");
    series
}

#[test]
fn both_formats_give_the_same_series_and_numbers() {
    let families = families(&stats(), &[]);
    let (text, open) = (render(&families, Format::Text), render(&families, Format::OpenMetrics));
    let series = read(&text, Format::Text);
    assert_eq!(series, read(&open, Format::OpenMetrics));
    for (name, value) in [
        (r#"riverrun_source_records_total{pipeline="p\"1\"",source="a"}"#, 40.0),
        (r#"riverrun_late_rows_total{pipeline="p\"1\"",source="a"}"#, 7.0),
        (r#"riverrun_dead_letters_total{pipeline="p\"1\"",source="b",reason="malformed"}"#, 0.0),
        (r#"riverrun_sink_queue_bytes{pipeline="p\"1\"",sink="alerts"}"#, 12_345.0),
        (r#"riverrun_backpressure_seconds_total{pipeline="p\"1\"",sink="alerts"}"#, 1.5),
        (r#"riverrun_sink_latency_seconds_bucket{pipeline="p\"1\"",sink="alerts",le="0.01"}"#, 0.0),
        (r#"riverrun_sink_latency_seconds_bucket{pipeline="p\"1\"",sink="alerts",le="0.025"}"#, 1.0),
        (r#"riverrun_sink_latency_seconds_bucket{pipeline="p\"1\"",sink="alerts",le="300.0"}"#, 1.0),
        (r#"riverrun_sink_latency_seconds_bucket{pipeline="p\"1\"",sink="alerts",le="+Inf"}"#, 4.0),
        (r#"riverrun_sink_latency_seconds_count{pipeline="p\"1\"",sink="alerts"}"#, 4.0),
        (r#"riverrun_sink_latency_seconds_sum{pipeline="p\"1\"",sink="alerts"}"#, 1200.02),
        (r#"riverrun_start_timestamp_seconds{pipeline="p\"1\""}"#, 5.0),
    ] {
        assert_eq!(series.get(name), Some(&value), "{name}");
    }
    assert!(open.contains("# TYPE riverrun_late_rows counter\n") && text.contains("# TYPE riverrun_late_rows_total counter\n"));
    assert!(open.contains("# UNIT riverrun_backpressure_seconds seconds\n") && !text.contains("# UNIT"));
}

#[test]
fn all_that_is_given_stands_in_the_list_with_its_labels() {
    let given = families(&stats(), &[]);
    let names: Vec<_> = given.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, METRICS.iter().map(|m| m.name).collect::<Vec<_>>());
    for family in &given {
        let metric = find(&family.name).unwrap();
        for sample in &family.samples {
            let labels: Vec<_> = sample.labels.iter().map(|(name, _)| *name).filter(|n| *n != "pipeline").collect();
            assert_eq!(labels, metric.labels, "{}", family.name);
            assert_eq!(sample.label("pipeline").is_none(), of_process(&family.name));
            assert_eq!(matches!(sample.value, Value::Histogram(_)), family.kind == Kind::Histogram);
        }
    }
    // What needs data to be there: a run gives it (crates/riverrun/tests).
    let silent: BTreeSet<_> = given.iter().filter(|f| f.samples.is_empty()).map(|f| f.name.as_str()).collect();
    let expected =
        ["offset", "end_offset", "lag_records", "watermark_seconds", "watermark_lag_seconds", "last_record_timestamp_seconds"];
    let mut expected: BTreeSet<_> = expected.iter().map(|n| format!("riverrun_source_{n}")).collect();
    expected.extend(
        [
            "window_groups",
            "sink_last_acknowledged_timestamp_seconds",
            "checkpoint_interval_seconds",
            "checkpoint_size_bytes",
            "checkpoint_last_success_timestamp_seconds",
        ]
        .map(|n| format!("riverrun_{n}")),
    );
    assert_eq!(silent, expected.iter().map(String::as_str).collect());
}

#[test]
fn names_follow_the_practice() {
    let mut seen = BTreeSet::new();
    for metric in METRICS {
        assert!(seen.insert(metric.name), "{} stands twice", metric.name);
        assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
        assert!(metric.kind != Kind::Histogram || metric.unit == "seconds", "{}", metric.name);
        assert!(metric.name.starts_with("riverrun_") || of_process(metric.name));
        assert!(metric.help.ends_with('.') && !metric.help.contains(['|', '\n']), "{}", metric.help);
    }
}

#[test]
fn the_documentation_has_the_list() {
    let page = include_str!("../../../../docs/metrics.md");
    assert!(page.contains(&markdown()), "docs/metrics.md is not up to date; put this table there:\n{}", markdown());
}

fn declare(name: &str, selector: &str) -> Result<Declared> {
    Declared::parse(name, selector, &|label| (label == "source").then(|| vec!["a".to_owned(), "b".to_owned()]))
}

#[test]
fn a_declared_metric_is_the_sum_of_what_it_selects() {
    let stats = stats();
    stats.tasks[0].epoch_duration.observe(1);
    let value = |name: &str, selector: &str| {
        let declared = declare(name, selector).unwrap();
        let family = families(&stats, &[declared]).pop().unwrap();
        assert_eq!((family.name.as_str(), family.samples.len()), (name, 1));
        assert_eq!(family.samples[0].labels, [("pipeline", "p\"1\"".to_owned())]);
        assert!(family.help.ends_with(&format!("This is {selector}.")), "{}", family.help);
        family.samples[0].value.clone()
    };
    assert_eq!(value("all_total", "riverrun_source_records_total"), Value::Number(42.0));
    assert_eq!(value("a_total", "riverrun_source_records_total{source=\"a\"}"), Value::Number(40.0));
    assert_eq!(value("queue", "riverrun_sink_queue_bytes{ sink = \"alerts\" , }"), Value::Number(12_345.0));
    let latency = value("processing_latency_seconds", "riverrun_sink_latency_seconds{sink=\"alerts\"}");
    assert_eq!(latency, Value::Histogram(stats.sinks[0].latency.counts()));
    let nowhere = families(&stats, &[declare("quick", "riverrun_sink_queue_bytes{sink=\"x\"}").unwrap()]).pop().unwrap();
    assert_eq!(nowhere.samples, Vec::<Sample>::new());
}

#[test]
fn a_wrong_declaration_is_refused_with_the_reason() {
    for (name, selector, message) in [
        ("x_total", "riverrun_source_record_total", "there is no metric 'riverrun_source_record_total'"),
        ("x_total", "riverrun_source_records_total{sink=\"a\"}", "riverrun_source_records_total has no label 'sink'"),
        ("x_total", "riverrun_source_records_total{source=\"c\"}", "there is no source 'c'"),
        ("x_total", "riverrun_source_records_total{source=\"a\"", "the closing '}' is missing"),
        ("x_total", "riverrun_source_records_total{source=a}", "'source=a' is not label=\"value\""),
        ("x_total", "riverrun_source_records_total{source=\"a\" source=\"b\"}", "is not label=\"value\""),
        (
            "x",
            "riverrun_source_records_total",
            "'x': riverrun_source_records_total is a counter, so its name must end with _total",
        ),
        (
            "x_total",
            "riverrun_sink_queue_bytes",
            "'x_total': riverrun_sink_queue_bytes is a gauge, so its name must not end with _total",
        ),
        ("riverrun_x", "riverrun_sink_queue_bytes", "'riverrun_x': names that begin with riverrun_ or process_ are taken"),
        ("x_count", "riverrun_sink_queue_bytes", "'x_count': a name that ends with _count means something else to Prometheus"),
        ("9x", "riverrun_sink_queue_bytes", "'9x' is no name for a metric: letters, digits and _, beginning with a letter"),
        (
            "x",
            "riverrun_source_watermark_seconds{source=\"a\"}",
            "riverrun_source_watermark_seconds cannot be summed: choose one partition",
        ),
    ] {
        let error = declare(name, selector).unwrap_err();
        assert!(error.message().contains(message), "{}", error.message());
    }
    let error = declare("x_total", "riverrun_source_record_total").unwrap_err();
    assert_eq!(error.hint_text(), Some("did you mean riverrun_source_records_total? docs/metrics.md lists all"));
}
