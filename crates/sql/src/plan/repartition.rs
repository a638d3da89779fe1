//! The repartition topics of a plan: whether there can be any, and what their tables are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;
use riverrun_engine::connect::Connectors;
use riverrun_engine::graph::{SinkNode, SourceNode};
use riverrun_engine::operators::repartition::record_schema;
use riverrun_engine::table::{Column, Emit, Location, Options, Table};

use super::refusal::{Refusal, Result};
use super::settings::Settings;
use super::{Query, Tables};

/// What the tables of repartition topics are like; `None`: there are none.
pub(crate) struct Topics(Option<Options>);

impl Topics {
    /// For these queries.
    pub fn of(queries: &[Query], tables: &Tables, settings: &Settings, connectors: &dyn Connectors) -> Result<Self> {
        if settings.repartition == 0 {
            return Ok(Self(None));
        }
        let mut sources = BTreeSet::new();
        for query in queries {
            scanned(&query.plan, &mut sources)?;
        }
        let named = |name: &str| tables.by_name.get(name);
        let sources: Vec<_> = sources.iter().filter_map(|name| named(name)).collect();
        let sinks: Vec<_> = queries.iter().filter_map(|query| named(&query.sink)).collect();
        let options = connectors.repartition(&sources, &sinks)?;
        Ok(Self(options.map(|options| options.with("partitions", &settings.repartition.to_string()))))
    }

    /// Whether there can be any.
    pub fn possible(&self) -> bool {
        self.0.is_some()
    }

    /// The table of the topic with this name, as one stage writes and the next one reads it.
    pub fn table(&self, name: &str) -> Result<(SinkNode, SourceNode)> {
        let options = self.0.as_ref().ok_or_else(|| Refusal::new("there is no bus for a repartition topic"))?;
        let field = Field::new("payload", DataType::Binary, false);
        let table = Table {
            name: name.to_owned(),
            columns: vec![Column { field: Arc::new(field), metadata: None, location: Location::default() }],
            watermark: None,
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
            options: options.clone(),
            location: Location::default(),
        };
        let source = SourceNode { schema: table.schema(), table: table.clone() };
        let sink = SinkNode { table, schema: record_schema(), emit: Emit::Append, trigger: Duration::ZERO, key: Vec::new() };
        Ok((sink, source))
    }
}

/// The tables that a query reads.
fn scanned(plan: &LogicalPlan, names: &mut BTreeSet<String>) -> Result<()> {
    plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            names.insert(scan.table_name.table().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}
