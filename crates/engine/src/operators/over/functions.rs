//! The functions of an OVER clause, resolved: which columns are kept, which rows each function looks at, what it gives.
//!
//! Invariants: kept column 0 is the event time; equal expressions, equal picks and equal frames are resolved once. A pick is
//! the one row that LAG, FIRST_VALUE or LAST_VALUE names, so those functions are index arithmetic and one gather each.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion_common::ScalarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;

use super::history::Retention;
use super::{Frame, Function, Over};
use crate::time::Micros;
use crate::{Error, Result};

/// Names one row of a key, seen from another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    /// So many rows before it (0: itself).
    Back(usize),
    /// The first row of a ROWS frame.
    RowsStart { preceding: usize, until: usize },
    /// The first row of a RANGE frame.
    RangeStart { preceding: Micros },
    /// The last row of equal time.
    LastPeer,
    /// The key's first row.
    KeyStart,
}

/// An aggregate over a frame.
#[derive(Debug, Clone)]
pub(super) struct Aggregate {
    pub(super) function: Arc<AggregateFunctionExpr>,
    /// Index in [`Functions::frames`].
    pub(super) frame: usize,
    /// Kept columns.
    pub(super) arguments: Vec<usize>,
    /// Kept column.
    pub(super) filter: Option<usize>,
}

/// How an output column is made.
#[derive(Debug, Clone)]
pub(super) enum Column {
    /// A kept column of the row that pick number `pick` names, or `default` where there is none.
    Picked { pick: usize, column: usize, default: Option<ScalarValue> },
    /// ROW_NUMBER.
    Number,
    /// Aggregate number so and so.
    Aggregate(usize),
}

/// All functions of a plan, resolved.
#[derive(Debug, Clone)]
pub(super) struct Functions {
    expressions: Vec<Arc<dyn PhysicalExpr>>,
    kept: SchemaRef,
    /// The rows that are looked up.
    pub(super) picks: Vec<Pick>,
    /// The frames that are aggregated.
    pub(super) frames: Vec<Frame>,
    /// The aggregates.
    pub(super) aggregates: Vec<Aggregate>,
    /// The output columns.
    pub(super) columns: Vec<(Column, FieldRef)>,
}

impl Functions {
    /// Resolves the functions of a plan.
    ///
    /// # Errors
    /// An event time that is none, a frame that is not bounded, an expression that does not fit the input.
    pub(super) fn new(over: &Over) -> Result<Self> {
        let time = over.time.data_type(&over.input)?;
        if !matches!(time, DataType::Timestamp(TimeUnit::Microsecond, _)) {
            return Err(Error::invalid(format!("OVER: ORDER BY {} is {time}, not an event time", over.time))
                .hint("order by the column of the table's WATERMARK"));
        }
        let mut functions = Self {
            expressions: vec![over.time.clone()],
            kept: Arc::new(Schema::empty()),
            picks: Vec::new(),
            frames: Vec::new(),
            aggregates: Vec::new(),
            columns: Vec::new(),
        };
        for (function, field) in &over.functions {
            let column = functions.resolve(function, &over.input).map_err(|e| e.within(field.name()))?;
            functions.columns.push((column, field.clone()));
        }
        let fields = functions.expressions.iter().enumerate();
        let fields = fields.map(|(i, e)| Ok(Field::new(format!("kept_{i}"), e.data_type(&over.input)?, true)));
        functions.kept = Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?));
        Ok(functions)
    }

    fn resolve(&mut self, function: &Function, input: &Schema) -> Result<Column> {
        Ok(match function {
            Function::Lag { value, offset, default } => {
                let default = (!default.is_null()).then(|| default.cast_to(&value.data_type(input)?)).transpose()?;
                self.picked(Pick::Back(*offset), value, default)
            }
            Function::RowNumber => Column::Number,
            Function::FirstValue { value, frame } => {
                let pick = match *frame {
                    Frame::Rows { preceding, until } => Pick::RowsStart { preceding, until },
                    Frame::Range { preceding } => Pick::RangeStart { preceding },
                    Frame::Unbounded => Pick::KeyStart,
                };
                self.picked(pick, value, None)
            }
            Function::LastValue { value, frame } => {
                let pick = match *frame {
                    Frame::Rows { until, .. } => Pick::Back(until),
                    Frame::Range { .. } | Frame::Unbounded => Pick::LastPeer,
                };
                self.picked(pick, value, None)
            }
            Function::Aggregate { function, filter, frame } => self.aggregate(function, filter.as_ref(), *frame)?,
        })
    }

    fn picked(&mut self, pick: Pick, value: &Arc<dyn PhysicalExpr>, default: Option<ScalarValue>) -> Column {
        Column::Picked { pick: place(&mut self.picks, pick), column: place(&mut self.expressions, value.clone()), default }
    }

    fn aggregate(
        &mut self,
        function: &Arc<AggregateFunctionExpr>,
        filter: Option<&Arc<dyn PhysicalExpr>>,
        frame: Frame,
    ) -> Result<Column> {
        if frame == Frame::Unbounded {
            return Err(Error::invalid(format!("{} looks at all rows of its key since the beginning", function.name()))
                .hint("bound the frame: ROWS BETWEEN n PRECEDING AND CURRENT ROW, or RANGE BETWEEN INTERVAL '…' PRECEDING AND CURRENT ROW"));
        }
        if !function.order_bys().is_empty() {
            return Err(Error::invalid(format!(
                "{}: ORDER BY inside an aggregate over a frame is not supported",
                function.name()
            ))
            .hint("the rows of a frame come in the order of the window's ORDER BY already"));
        }
        let aggregate = Aggregate {
            function: function.clone(),
            frame: place(&mut self.frames, frame),
            arguments: function.expressions().into_iter().map(|e| place(&mut self.expressions, e)).collect(),
            filter: filter.map(|e| place(&mut self.expressions, e.clone())),
        };
        self.aggregates.push(aggregate);
        Ok(Column::Aggregate(self.aggregates.len() - 1))
    }

    /// The schema of the kept columns.
    pub(super) fn kept(&self) -> SchemaRef {
        self.kept.clone()
    }

    /// The kept expressions but for the event time.
    pub(super) fn values(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.expressions[1..]
    }

    /// The kept columns of input rows whose event time is `times`.
    pub(super) fn keep(&self, rows: &RecordBatch, times: ArrayRef) -> Result<Vec<ArrayRef>> {
        let values = self.values().iter().map(|e| Ok(e.evaluate(rows)?.into_array(rows.num_rows())?));
        std::iter::once(Ok(times)).chain(values).collect()
    }

    /// Whether some function looks at rows of equal time behind the current one.
    pub(super) fn needs_peers(&self) -> bool {
        self.picks.contains(&Pick::LastPeer) || self.frames.iter().any(|f| matches!(f, Frame::Range { .. }))
    }

    /// What of the past is needed.
    pub(super) fn retention(&self, ttl: Option<Micros>) -> Retention {
        let picks = self.picks.iter().map(|pick| match *pick {
            Pick::Back(rows) => (rows, None),
            Pick::RowsStart { preceding, .. } => (preceding, None),
            Pick::RangeStart { preceding } => (0, Some(preceding)),
            Pick::LastPeer => (0, Some(0)),
            Pick::KeyStart => (1, None),
        });
        let frames = self.frames.iter().map(|frame| match *frame {
            Frame::Rows { preceding, .. } => (preceding, None),
            Frame::Range { preceding } => (0, Some(preceding)),
            Frame::Unbounded => (0, None),
        });
        let numbers = self.columns.iter().filter(|(c, _)| matches!(c, Column::Number)).map(|_| (1, None));
        let needs = picks.chain(frames).chain(numbers);
        let (rows, range) = needs.fold((0, None), |(rows, range), (r, p)| (rows.max(r), range.max(p)));
        let first = self.picks.contains(&Pick::KeyStart);
        let counts = first || self.columns.iter().any(|(column, _)| matches!(column, Column::Number));
        Retention { rows, range, first, counts, ttl }
    }
}

/// The place of `item` in `list`, added where it is not there yet.
fn place<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    list.iter().position(|i| *i == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}
