//! Which columns of each step somebody reads.

use std::collections::{BTreeSet, HashSet};

use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Expr, logical_plan as plan};

use super::refusal::Result;
use super::step::{Op, Step};

/// The live columns of every step; those of the steps in `wanted` are all live.
pub(crate) fn columns(steps: &[Step], wanted: &[usize]) -> Result<Vec<BTreeSet<usize>>> {
    let mut live = vec![BTreeSet::new(); steps.len()];
    for id in wanted {
        live[*id] = (0..width(&steps[*id].op)).collect();
    }
    // Consumers stand behind what they consume.
    for id in (0..steps.len()).rev() {
        let needed = inputs(&steps[id].op, &live[id])?;
        for edge in &steps[id].inputs {
            live[edge.from].extend(&needed);
        }
    }
    Ok(live)
}

/// What OVER reads of its input, for the output columns in `live`.
pub(crate) fn over_input(live: &BTreeSet<usize>, window: &plan::Window) -> Result<BTreeSet<usize>> {
    let schema = window.input.schema();
    let width = schema.fields().len();
    let mut needed = read(&window.window_expr, schema)?;
    needed.extend(live.iter().filter(|c| **c < width));
    Ok(needed)
}

/// What goes over a repartition topic for the output columns in `live`: some column in any case, since rows without columns are
/// nothing.
pub(crate) fn repartition_input(live: &BTreeSet<usize>, schema: &DFSchema, keys: &[Expr]) -> Result<BTreeSet<usize>> {
    let mut needed = read(keys, schema)?;
    needed.extend(live);
    if needed.is_empty() {
        needed.insert(0);
    }
    Ok(needed)
}

fn inputs(op: &Op, live: &BTreeSet<usize>) -> Result<BTreeSet<usize>> {
    match op {
        Op::Source(_) => Ok(BTreeSet::new()),
        Op::Filter { plan, .. } => {
            let mut needed = read(std::slice::from_ref(&plan.predicate), plan.input.schema())?;
            needed.extend(live);
            Ok(needed)
        }
        Op::Project(plan) => {
            let expressions: Vec<_> = live.iter().map(|i| plan.expr[*i].clone()).collect();
            read(&expressions, plan.input.schema())
        }
        Op::Unnest { column, .. } => Ok(live.iter().copied().chain([*column]).collect()),
        Op::Aggregate { plan, .. } => {
            let mut needed = read(&plan.group_expr, plan.input.schema())?;
            needed.extend(read(&plan.aggr_expr, plan.input.schema())?);
            Ok(needed)
        }
        Op::Over { plan, .. } => over_input(live, plan),
        Op::Union(_) => Ok(live.clone()),
        Op::Repartition { schema, keys, .. } => repartition_input(live, schema, keys),
    }
}

/// How many columns a step gives.
fn width(op: &Op) -> usize {
    match op {
        Op::Source(reading) => reading.table.columns.len(),
        Op::Filter { plan, .. } => plan.input.schema().fields().len(),
        Op::Project(plan) => plan.expr.len(),
        Op::Unnest { plan, .. } => plan.schema.fields().len(),
        Op::Aggregate { plan, .. } => plan.schema.fields().len(),
        Op::Over { plan, .. } => plan.schema.fields().len(),
        Op::Union(plan) => plan.schema.fields().len(),
        Op::Repartition { schema, .. } => schema.fields().len(),
    }
}

/// The columns that expressions read, by position.
fn read(expressions: &[Expr], schema: &DFSchema) -> Result<BTreeSet<usize>> {
    let columns: HashSet<&Column> = expressions.iter().flat_map(Expr::column_refs).collect();
    columns.into_iter().map(|c| Ok(schema.index_of_column(c)?)).collect()
}
