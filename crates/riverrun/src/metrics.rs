//! The metrics that a script declares, held against the script's graph.

use riverrun_engine::graph::{Graph, NodeKind};
use riverrun_engine::runtime::stats::Phase;
use riverrun_engine::source::BAD_RECORD_REASONS;
use riverrun_serve::metrics::declared::Declared;
use riverrun_sql::ScriptError;
use riverrun_sql::plan::Settings;
use riverrun_sql::script::Script;

/// Every `SET metric.NAME = 'selector'` of a script.
///
/// # Errors
/// What is wrong with one, with its place.
pub fn declared(script: &Script, graph: &Graph) -> Result<Vec<Declared>, ScriptError> {
    let mut metrics = Vec::new();
    for (setting, value) in &script.settings {
        let Some(name) = setting.strip_prefix(Settings::METRIC) else { continue };
        let parsed = Declared::parse(name, &value.value, &|label| values(graph, label)).map_err(|e| {
            let error = script.error(value.location, format!("SET {setting}: {}", e.message()));
            match e.hint_text() {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })?;
        metrics.push(parsed);
    }
    Ok(metrics)
}

/// The values that a label can have; `None`: not known before the pipeline runs.
fn values(graph: &Graph, label: &str) -> Option<Vec<String>> {
    let is: fn(&NodeKind) -> bool = match label {
        "source" => |kind| matches!(kind, NodeKind::Source(_)),
        "operator" => |kind| matches!(kind, NodeKind::Operator(_)),
        "sink" => |kind| matches!(kind, NodeKind::Sink(_)),
        "reason" => return Some(BAD_RECORD_REASONS.map(str::to_owned).to_vec()),
        "phase" => return Some(Phase::ALL.map(|p| p.name().to_owned()).to_vec()),
        _ => return None,
    };
    Some(graph.nodes.iter().filter(|n| is(&n.kind)).map(|n| n.name.clone()).collect())
}
