//! OVER on a raw stream: functions of a row and the rows of its key before it in event time.
//!
//! A row is computed in one of two orders. On [`Port::Update`] it goes out at once, over the rows of its key that stand before
//! it in (event time, arrival) among those that came before it. On [`Port::Rows`] it waits ([`waiting`]) until the watermark
//! has passed it, and then equals batch SQL ordered by (event time, arrival). Both use the same [`evaluator`], which finds the
//! key of a row, links the row into the key's kept rows ([`history`]), and looks up what the functions
//! ([`functions`], [`lookup`]) see from there.
//!
//! Invariants: rows behind the watermark, and rows without event time, are counted as late and dropped; kept rows hold only
//! the columns that functions read; memory is bounded by the keys (until [`Over::ttl`]), times what the functions look back
//! on, plus the rows younger than the watermark.

mod evaluator;
mod functions;
mod history;
mod lookup;
mod task;
#[cfg(test)]
mod tests;
mod waiting;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion_common::ScalarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;

use self::functions::Functions;
use self::task::Task;
use crate::Result;
use crate::batch::Port;
use crate::operator::{Operator, OperatorSpec};
use crate::state::Backend;
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
    /// From the key's first row to the current one and its peers (the default frame, RANGE UNBOUNDED PRECEDING). For
    /// FIRST_VALUE the same as ROWS UNBOUNDED PRECEDING; LAST_VALUE over that one is `Rows { preceding: 0, until: 0 }`.
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
        let names: Vec<_> = self.partition_by.iter().map(ToString::to_string).collect();
        let partition = if names.is_empty() { "one key for all rows".to_owned() } else { format!("key {}", names.join(", ")) };
        let functions = self.functions.iter().map(|(function, field)| format!("{} = {function}", field.name()));
        let mut lines = vec![format!("{partition}, ordered by {}", self.time)];
        lines.extend(functions);
        match Functions::new(self) {
            Ok(functions) => lines.extend(self.describe_state(&functions)),
            Err(e) => lines.push(e.to_string()),
        }
        lines
    }

    fn create(&self, ports: &[Port], backend: &Backend) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Task::new(self, ports, backend)?))
    }
}

impl Over {
    fn describe_state(&self, functions: &Functions) -> Vec<String> {
        let kept: Vec<_> = std::iter::once(&self.time).chain(functions.values()).map(ToString::to_string).collect();
        let retention = functions.retention(None);
        let mut lines = vec![format!("kept: {} of rows younger than the watermark", kept.join(", "))];
        if let Some(range) = retention.range.filter(|range| *range > 0) {
            lines.push(format!("kept: rows up to {:?} older than the watermark", Duration::from_micros(range.unsigned_abs())));
        }
        let newest = match retention.rows {
            0 => return lines,
            1 => "newest row".to_owned(),
            rows => format!("newest {rows} rows"),
        };
        let first = if retention.first { ", and its first," } else { "" };
        lines.push(match self.ttl {
            Some(ttl) => format!("{newest} per key{first} kept until the key is silent for {ttl:?}"),
            None => format!("{newest} per key{first} kept for ever; SET state.ttl to bound it"),
        });
        lines
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Frame::Rows { preceding, until: 0 } => write!(f, "ROWS {preceding} PRECEDING"),
            Frame::Rows { preceding, until } => write!(f, "ROWS BETWEEN {preceding} AND {until} PRECEDING"),
            Frame::Range { preceding } => write!(f, "RANGE {:?} PRECEDING", Duration::from_micros(preceding.unsigned_abs())),
            Frame::Unbounded => f.write_str("all rows of the key"),
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Function::Lag { value, offset, default } if default.is_null() => write!(f, "lag({value}, {offset})"),
            Function::Lag { value, offset, default } => write!(f, "lag({value}, {offset}, {default})"),
            Function::RowNumber => f.write_str("row_number()"),
            Function::FirstValue { value, frame } => write!(f, "first_value({value}) over {frame}"),
            Function::LastValue { value, frame } => write!(f, "last_value({value}) over {frame}"),
            Function::Aggregate { function, filter: None, frame } => write!(f, "{} over {frame}", call(function)),
            Function::Aggregate { function, filter: Some(filter), frame } => {
                write!(f, "{} where {filter} over {frame}", call(function))
            }
        }
    }
}

fn call(function: &AggregateFunctionExpr) -> String {
    let arguments: Vec<_> = function.expressions().iter().map(ToString::to_string).collect();
    let distinct = if function.is_distinct() { "distinct " } else { "" };
    format!("{}({distinct}{})", function.fun().name(), arguments.join(", "))
}
