//! A step of the plan, what flows out of it, and what tells it from others.

use std::fmt::Write as _;

use datafusion::common::DFSchemaRef;
use datafusion::logical_expr::{Expr, logical_plan as plan};
use riverrun_engine::graph::Edge;
use riverrun_engine::table::Table;

use super::aggregate::WindowKey;
use super::facts::Fact;
use super::over::OverPlan;

/// One node of the plan. `inputs[..].from` is a place in [`Steps::steps`].
#[derive(Debug)]
pub(crate) struct Step {
    pub op: Op,
    pub inputs: Vec<Edge>,
    /// The view or sink that it was first needed for.
    pub owner: String,
    /// What it computes, told apart over runs and scripts: see [`Steps::step`].
    pub identity: String,
}

/// What a step does. The plan nodes keep the names that expressions are written in.
#[derive(Debug)]
pub(crate) enum Op {
    Source(Box<Reading>),
    Filter {
        plan: plan::Filter,
        over_keys: bool,
    },
    Project(plan::Projection),
    Unnest {
        plan: plan::Unnest,
        column: usize,
    },
    Aggregate {
        plan: plan::Aggregate,
        having: Option<Expr>,
        window: WindowKey,
    },
    Over {
        plan: plan::Window,
        over: OverPlan,
    },
    Union(plan::Union),
    /// Hands rows to the next stage of tasks by key.
    Repartition {
        schema: DFSchemaRef,
        keys: Vec<Expr>,
        reason: String,
    },
}

/// A table as it is read.
#[derive(Debug)]
pub(crate) struct Reading {
    /// The table, under a name of this reading.
    pub table: Table,
    /// The table's own name.
    pub of: String,
    /// Where queries that have a reading of their own begin.
    pub start: Option<String>,
}

/// What flows along an edge.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub edge: Edge,
    /// Per column.
    pub facts: Vec<Fact>,
    /// Names of the source's PARTITIONED BY columns, or of what it was repartitioned by; [`Fact::partition`] counts in them.
    pub partitioned_by: Vec<String>,
    /// How often it was repartitioned.
    pub stage: usize,
    /// Set where upserts and deletes of groups flow.
    pub update: Option<Update>,
}

/// The groups whose newest versions flow.
#[derive(Debug, Clone)]
pub(crate) struct Update {
    /// The names of the group's keys; [`facts::Origin::Key`] counts in them.
    pub keys: Vec<String>,
    /// Why rows may be taken back, if they may.
    pub retracts: Option<&'static str>,
}

/// What makes two steps the same.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub what: What,
    pub inputs: Vec<Edge>,
}

/// What a step does, as far as it tells it from others.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Source(String),
    Filter(Expr, bool),
    Project(Vec<Expr>),
    Unnest(usize),
    Aggregate(Vec<Expr>, Vec<Expr>, Option<Expr>),
    Over(Vec<Expr>),
    Union,
    Repartition(Vec<Expr>),
}

impl What {
    /// A text that is the same for the same work, whatever the version of DataFusion keeps beside it.
    pub fn canonical(&self) -> String {
        let list = |of: &[Expr]| of.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Source(name) => format!("source {name}"),
            Self::Filter(predicate, over_keys) => format!("filter {predicate}{}", if *over_keys { " over keys" } else { "" }),
            Self::Project(expressions) => format!("project {}", list(expressions)),
            Self::Unnest(column) => format!("unnest #{column}"),
            Self::Aggregate(keys, aggregates, having) => {
                let having = having.as_ref().map(|h| format!(" having {h}")).unwrap_or_default();
                format!("aggregate {} by {}{having}", list(aggregates), list(keys))
            }
            Self::Over(calls) => format!("over {}", list(calls)),
            Self::Union => "union".to_owned(),
            Self::Repartition(keys) => format!("repartition by {}", list(keys)),
        }
    }
}

/// What makes a table's rows these rows: where they come from, and how they are read.
pub(crate) fn canonical_table(table: &Table) -> String {
    let mut text = String::new();
    for option in ["connector", "topic", "topic_pattern", "path"] {
        if let Some(value) = table.options.get(option) {
            let _ = write!(text, "\n{option} {value}");
        }
    }
    for column in &table.columns {
        let _ = write!(text, "\n{} {} {:?}", column.field.name(), column.field.data_type(), column.metadata);
    }
    if let Some(watermark) = &table.watermark {
        let _ = write!(text, "\nwatermark {} {:?}", watermark.column, watermark.delay);
    }
    let _ = write!(text, "\npartitioned by {:?}", table.partitioned_by);
    text
}
