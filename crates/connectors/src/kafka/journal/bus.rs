//! Which tables of a graph the journal takes, and the cluster that they are on.
//!
//! Invariant: all that one transaction must hold is on one cluster and reached as one user; else it is refused.

use riverrun_engine::connect::Context;
use riverrun_engine::graph::{Graph, NodeId, SinkNode};
use riverrun_engine::{Error, Result};

use super::entries::DEFAULT_INSTANCE;
use crate::format::RowEncoder;
use crate::kafka::config::Config;
use crate::kafka::connect::written;
use crate::kafka::key::Key;

/// A pipeline's sinks on Kafka.
pub(in crate::kafka) struct Bus {
    /// The pipeline's name.
    pub pipeline: String,
    /// This instance's name.
    pub instance: String,
    /// Names this run of it.
    pub owner: String,
    /// The options of the first sink, by which the cluster is reached.
    pub config: Config,
    /// The sinks: place in the graph, options, key.
    pub sinks: Vec<(NodeId, Config, Key)>,
    /// How each of them encodes its rows; `None`: it is a repartition topic.
    pub encoders: Vec<Option<RowEncoder>>,
    /// The sources: place among the graph's sources, place in the graph, options.
    pub sources: Vec<(usize, NodeId, Config)>,
}

impl Bus {
    /// The Kafka sinks of a graph; `None`: there are none.
    pub fn of(graph: &Graph, context: &Context) -> Result<Option<Self>> {
        let mut sinks: Vec<(NodeId, Config, Key)> = Vec::new();
        let mut first: Option<&SinkNode> = None;
        let mut encoders = Vec::new();
        for (id, node) in graph.sinks().filter(|(_, node)| is_kafka(node.table.connector())) {
            let of_table = |e: Error| e.within(format!("sink {}", node.table.name));
            let (config, key) = written(node, &context.pipeline).map_err(of_table)?;
            config.check().map_err(of_table)?;
            if let (Some(first), Some((_, theirs, _))) = (first, sinks.first()) {
                same_bus((&first.table.name, theirs), (&node.table.name, &config))?;
            }
            first = first.or(Some(node));
            let encoder = (!config.is_repartition).then(|| RowEncoder::connect(node, context)).transpose();
            encoders.push(encoder.map_err(of_table)?);
            sinks.push((id, config, key));
        }
        let (Some(first), Some((_, config, _))) = (first, sinks.first()) else { return Ok(None) };
        let mut sources = Vec::new();
        for (index, (id, node)) in graph.sources().enumerate().filter(|(_, (_, node))| is_kafka(node.table.connector())) {
            let theirs = Config::of(&node.table, &context.pipeline)?;
            same_cluster((&first.table.name, config), (&node.table.name, &theirs))?;
            sources.push((index, id, theirs));
        }
        let owner = format!("{}-{}", std::process::id(), context.clock.now());
        let instance = context.instance.clone().unwrap_or_else(|| DEFAULT_INSTANCE.into());
        let (pipeline, config) = (context.pipeline.clone(), config.clone());
        Ok(Some(Self { pipeline, instance, owner, config, sinks, encoders, sources }))
    }
}

fn is_kafka(connector: Result<String>) -> bool {
    connector.is_ok_and(|name| name == crate::kafka::DESCRIPTION.name)
}

/// Refuses tables on different clusters.
fn same_cluster(first: (&str, &Config), second: (&str, &Config)) -> Result<()> {
    if first.1.cluster() == second.1.cluster() {
        return Ok(());
    }
    let what = format!(
        "tables {} (brokers {}) and {} (brokers {}) are on different Kafka clusters, and a transaction is on one: refused for now",
        first.0, first.1.brokers, second.0, second.1.brokers
    );
    Err(Error::invalid(what)
        .hint("if it is one cluster, name the same 'brokers' everywhere; else let a second pipeline carry rows to the other"))
}

/// Refuses sinks that one producer cannot write to; says what else it does not do for each.
fn same_bus(first: (&str, &Config), second: (&str, &Config)) -> Result<()> {
    same_cluster(first, second)?;
    if first.1.access() != second.1.access() {
        let (a, b) = (first.0, second.0);
        let what = format!("tables {a} and {b} reach Kafka in different ways, and a transaction is one user's: refused for now");
        return Err(Error::invalid(what)
            .hint("give both the same security_protocol, sasl_* and ssl_* options, or let a second pipeline write to one"));
    }
    if first.1.producer().config_map() != second.1.producer().config_map() {
        tracing::warn!(
            "tables {} and {} share a producer: compression and kafka.* properties are those of {0}",
            first.0,
            second.0
        );
    }
    Ok(())
}
