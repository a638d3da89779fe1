//! OVER on a raw stream: functions of a row and the rows of its key before it in event time.
//!
//! TODO(owner): invariants of the implementation.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion_common::ScalarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;

use crate::Result;
use crate::batch::Port;
use crate::operator::{Operator, OperatorSpec};
use crate::time::Micros;

/// Where a frame begins; it always ends at the current row (with its peers of equal time where it is a RANGE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// `ROWS BETWEEN n PRECEDING AND m PRECEDING` (`m` = 0: CURRENT ROW).
    Rows {
        /// Rows before the current one at which the frame begins.
        preceding: usize,
        /// Rows before the current one at which it ends.
        until: usize,
    },
    /// `RANGE BETWEEN INTERVAL … PRECEDING AND CURRENT ROW`, microseconds of event time.
    Range {
        /// Microseconds.
        preceding: Micros,
    },
    /// From the key's first row to the current one (the default frame).
    Unbounded,
}

/// One function of an OVER clause.
#[derive(Debug, Clone)]
pub enum Function {
    /// `LAG(value, offset, default)`.
    Lag {
        /// Over the input.
        value: Arc<dyn PhysicalExpr>,
        /// Rows back, at least 1.
        offset: usize,
        /// Where there is no such row; NULL of the value's type by default.
        default: ScalarValue,
    },
    /// `ROW_NUMBER()`.
    RowNumber,
    /// `FIRST_VALUE(value)` of the frame.
    FirstValue {
        /// Over the input.
        value: Arc<dyn PhysicalExpr>,
        /// Rows that are looked at.
        frame: Frame,
    },
    /// `LAST_VALUE(value)` of the frame.
    LastValue {
        /// Over the input.
        value: Arc<dyn PhysicalExpr>,
        /// Rows that are looked at.
        frame: Frame,
    },
    /// Any aggregate over a bounded frame.
    Aggregate {
        /// DataFusion's function.
        function: Arc<AggregateFunctionExpr>,
        /// `FILTER (WHERE …)`.
        filter: Option<Arc<dyn PhysicalExpr>>,
        /// Rows that are looked at.
        frame: Frame,
    },
}

/// Plan of the functions that share one PARTITION BY and ORDER BY.
#[derive(Debug, Clone)]
pub struct Over {
    /// Schema of the input.
    pub input: SchemaRef,
    /// PARTITION BY, over the input. Empty: one key.
    pub partition_by: Vec<Arc<dyn PhysicalExpr>>,
    /// ORDER BY: the event time, ascending, over the input.
    pub time: Arc<dyn PhysicalExpr>,
    /// The functions with their output columns.
    pub functions: Vec<(Function, FieldRef)>,
    /// How long the newest row of a silent key is kept (`SET state.ttl`), by event time. `None`: for ever.
    pub ttl: Option<Duration>,
    output: SchemaRef,
}

impl Over {
    /// The output is the input's columns, then one column per function.
    pub fn new(
        input: SchemaRef,
        partition_by: Vec<Arc<dyn PhysicalExpr>>,
        time: Arc<dyn PhysicalExpr>,
        functions: Vec<(Function, FieldRef)>,
        ttl: Option<Duration>,
    ) -> Self {
        let fields = input.fields().iter().cloned().chain(functions.iter().map(|(_, f)| f.clone()));
        let output = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Self { input, partition_by, time, functions, ttl, output }
    }
}

impl OperatorSpec for Over {
    fn name(&self) -> &'static str {
        "over"
    }

    fn schema(&self) -> SchemaRef {
        self.output.clone()
    }

    fn describe(&self) -> Vec<String> {
        Vec::new()
    }

    fn create(&self, _ports: &[Port]) -> Result<Box<dyn Operator>> {
        Err(crate::Error::permanent("owner: implement"))
    }
}
