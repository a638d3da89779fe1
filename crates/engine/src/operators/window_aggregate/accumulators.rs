//! The accumulators of a plan's aggregates, side by side, and the columns of their intermediate states.
//!
//! Invariant: a state row is, for each aggregate in order, what `GroupsAccumulator::state` gave for one group; merging it
//! into fresh accumulators restores the group. That is DataFusion's own contract between its partial and final stages, so
//! it holds for every aggregate that DataFusion can run in two stages.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::GroupsAccumulatorAdapter;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;

use super::Aggregate;
use crate::Result;

/// What the aggregates of a plan are computed from, and how their states look.
#[derive(Debug)]
pub(super) struct Layout {
    aggregates: Vec<Aggregate>,
    /// Arguments of each aggregate: its own, then what it orders by.
    arguments: Vec<Vec<Arc<dyn PhysicalExpr>>>,
    /// Columns of each aggregate's state in `state`.
    columns: Vec<Range<usize>>,
    state: SchemaRef,
}

impl Layout {
    /// # Errors
    /// An aggregate that cannot say what its state looks like.
    pub(super) fn new(aggregates: Vec<Aggregate>) -> Result<Self> {
        let mut fields: Vec<FieldRef> = Vec::new();
        let mut columns = Vec::new();
        for aggregate in &aggregates {
            let from = fields.len();
            // A group that no row passed the FILTER of has a NULL state whatever the field says.
            let nullable = |f: FieldRef| Arc::new(f.as_ref().clone().with_nullable(true));
            fields.extend(aggregate.function.state_fields()?.into_iter().map(nullable));
            columns.push(from..fields.len());
        }
        let arguments = aggregates.iter().map(|a| {
            let order = a.function.order_bys().iter().map(|o| o.expr.clone());
            a.function.expressions().into_iter().chain(order).collect()
        });
        let arguments = arguments.collect();
        Ok(Self { aggregates, arguments, columns, state: Arc::new(Schema::new(fields)) })
    }

    /// The schema of state rows.
    pub(super) fn state(&self) -> &SchemaRef {
        &self.state
    }

    /// Fresh accumulators.
    pub(super) fn accumulators(&self) -> Result<Accumulators> {
        let each = self.aggregates.iter().map(|a| accumulator(&a.function)).collect::<Result<_>>()?;
        Ok(Accumulators { each, groups: 0 })
    }

    /// Evaluates arguments and filters over rows of the input.
    pub(super) fn arguments(&self, rows: &RecordBatch) -> Result<Arguments> {
        let each = self.aggregates.iter().zip(&self.arguments).map(|(aggregate, arguments)| {
            let values = arguments.iter().map(|e| Ok(e.evaluate(rows)?.into_array(rows.num_rows())?)).collect::<Result<_>>()?;
            let filter = aggregate.filter.as_ref().map(|f| crate::operators::filter::passes(f, rows)).transpose()?;
            Ok((values, filter))
        });
        Ok(Arguments(each.collect::<Result<_>>()?))
    }
}

/// DataFusion's vectorized accumulator, or its adapter around one accumulator per group.
fn accumulator(function: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
    if function.groups_accumulator_supported() {
        return Ok(function.create_groups_accumulator()?);
    }
    let function = function.clone();
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
}

/// Arguments and filter of each aggregate over some rows.
#[derive(Debug)]
pub(super) struct Arguments(Vec<(Vec<ArrayRef>, Option<BooleanArray>)>);

impl Arguments {
    /// The same for the rows `order`, in that order.
    pub(super) fn take(self, order: &UInt32Array) -> Result<Self> {
        // Aggregates of the same column share its array: it is taken once.
        let mut taken: Vec<(ArrayRef, ArrayRef)> = Vec::new();
        let mut once = |array: ArrayRef| -> Result<ArrayRef> {
            if let Some((_, copy)) = taken.iter().find(|(from, _)| Arc::ptr_eq(from, &array)) {
                return Ok(copy.clone());
            }
            let copy = take(&array, order, None)?;
            taken.push((array, copy.clone()));
            Ok(copy)
        };
        let each = self.0.into_iter().map(|(values, filter)| {
            let values = values.into_iter().map(&mut once).collect::<Result<_>>()?;
            let filter = filter.map(|f| Ok::<_, crate::Error>(take(&f, order, None)?.as_boolean().clone())).transpose()?;
            Ok((values, filter))
        });
        Ok(Self(each.collect::<Result<_>>()?))
    }

    /// The same for `length` rows from `offset` on, without a copy.
    pub(super) fn slice(&self, offset: usize, length: usize) -> Self {
        let slice = |(values, filter): &(Vec<ArrayRef>, Option<BooleanArray>)| {
            let values = values.iter().map(|v| v.slice(offset, length)).collect();
            (values, filter.as_ref().map(|f| f.slice(offset, length)))
        };
        Self(self.0.iter().map(slice).collect())
    }
}

/// One accumulator per aggregate, over the same groups.
pub(super) struct Accumulators {
    each: Vec<Box<dyn GroupsAccumulator>>,
    groups: usize,
}

impl Accumulators {
    /// Adds rows: row `i` to group `indices[i]`; there are `groups` groups by now.
    pub(super) fn update(&mut self, arguments: &Arguments, indices: &[usize], groups: usize) -> Result<()> {
        self.groups = groups;
        for (accumulator, (values, filter)) in self.each.iter_mut().zip(&arguments.0) {
            accumulator.update_batch(values, indices, filter.as_ref(), groups)?;
        }
        Ok(())
    }

    /// Adds state rows: row `i` to group `indices[i]`; there are `groups` groups by now.
    pub(super) fn merge(&mut self, layout: &Layout, states: &RecordBatch, indices: &[usize], groups: usize) -> Result<()> {
        self.groups = groups;
        if indices.is_empty() {
            return Ok(());
        }
        for (accumulator, columns) in self.each.iter_mut().zip(&layout.columns) {
            accumulator.merge_batch(&states.columns()[columns.clone()], indices, groups)?;
        }
        Ok(())
    }

    /// The states of all groups, which are then gone from here.
    pub(super) fn take_states(&mut self, layout: &Layout) -> Result<RecordBatch> {
        let mut columns = Vec::with_capacity(layout.state.fields().len());
        for accumulator in &mut self.each {
            columns.extend(accumulator.state(EmitTo::All)?);
        }
        let fields = layout.state.fields().iter();
        // Some accumulators name the element of a list otherwise than their state's field does.
        let typed = |(column, field): (ArrayRef, &FieldRef)| {
            if column.data_type() == field.data_type() { Ok(column) } else { cast(&column, field.data_type()) }
        };
        let columns = columns.into_iter().zip(fields).map(typed).collect::<Result<_, _>>()?;
        super::output::batch(&layout.state, columns, std::mem::take(&mut self.groups))
    }

    /// The values of all groups, which are then gone from here.
    pub(super) fn take_values(&mut self) -> Result<Vec<ArrayRef>> {
        self.groups = 0;
        Ok(self.each.iter_mut().map(|a| a.evaluate(EmitTo::All)).collect::<Result<_, _>>()?)
    }

    /// Bytes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.each.iter().map(|a| a.size()).sum()
    }
}
