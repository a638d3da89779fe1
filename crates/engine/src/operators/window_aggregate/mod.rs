//! GROUP BY over an unbounded input: any DataFusion aggregate per key, per window, freed when the window closes.
//!
//! TODO(owner): invariants of the implementation.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;

use crate::Result;
use crate::batch::Port;
use crate::operator::{Operator, OperatorSpec};
use crate::time::Micros;

/// What makes a group final.
#[derive(Debug, Clone)]
pub enum Window {
    /// Key number `key` is a struct whose field `end` (TIMESTAMP micros) closes the group once the watermark reaches it:
    /// tumble, hop, or the window that an earlier aggregate gave.
    Struct {
        /// Index in [`WindowAggregate::keys`].
        key: usize,
    },
    /// Key number `key` is a timestamp (a start or an end of a window, a truncated event time); the group closes once the
    /// watermark reaches it plus `size`.
    Timestamp {
        /// Index in [`WindowAggregate::keys`].
        key: usize,
        /// Microseconds from the key's value to the close.
        size: Micros,
    },
    /// `session(time, gap)`: key number `key` is the struct (start, end) that this operator makes: rows of the other keys
    /// whose times are less than `gap` apart share a session; its end is the greatest time plus `gap`.
    Session {
        /// Index in [`WindowAggregate::keys`]; the key's expression is a placeholder that is never evaluated.
        key: usize,
        /// Event time over the input.
        time: Arc<dyn PhysicalExpr>,
        /// Microseconds.
        gap: Micros,
    },
    /// No key carries time: groups are kept for ever, only updates are given.
    None,
}

/// One aggregate: the function over its arguments, and its FILTER.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// DataFusion's function, arguments, DISTINCT and ORDER BY included.
    pub function: Arc<AggregateFunctionExpr>,
    /// `FILTER (WHERE …)`, boolean over the input.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

/// Plan of a windowed aggregation.
#[derive(Debug, Clone)]
pub struct WindowAggregate {
    /// Schema of the input.
    pub input: SchemaRef,
    /// GROUP BY expressions over the input, with their column names.
    pub keys: Vec<(Arc<dyn PhysicalExpr>, Arc<Field>)>,
    /// Which key carries time.
    pub window: Window,
    /// The aggregates.
    pub aggregates: Vec<Aggregate>,
    /// HAVING, over the output: groups that fail it do not go out; one that went out and fails it later is deleted.
    pub having: Option<Arc<dyn PhysicalExpr>>,
    output: SchemaRef,
}

impl WindowAggregate {
    /// The output is the keys, then the aggregates under their names.
    pub fn new(
        input: SchemaRef,
        keys: Vec<(Arc<dyn PhysicalExpr>, Arc<Field>)>,
        window: Window,
        aggregates: Vec<Aggregate>,
        having: Option<Arc<dyn PhysicalExpr>>,
    ) -> Result<Self> {
        let fields = keys.iter().map(|(_, f)| f.clone()).chain(aggregates.iter().map(|a| a.function.field()));
        let output = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(Self { input, keys, window, aggregates, having, output })
    }
}

impl OperatorSpec for WindowAggregate {
    fn name(&self) -> &'static str {
        "window aggregate"
    }

    fn schema(&self) -> SchemaRef {
        self.output.clone()
    }

    fn describe(&self) -> Vec<String> {
        Vec::new()
    }

    fn update_key(&self) -> Vec<usize> {
        (0..self.keys.len()).collect()
    }

    fn create(&self, _ports: &[Port]) -> Result<Box<dyn Operator>> {
        Err(crate::Error::permanent("owner: implement"))
    }
}
