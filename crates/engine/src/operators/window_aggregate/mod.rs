//! GROUP BY over an unbounded input: any DataFusion aggregate per key, per window, freed when the window closes.
//!
//! [`groups`] keeps the aggregates: groups that rows touched since the last round of updates are in live accumulators, the
//! others are rows of DataFusion's intermediate state. A group is loaded when a row first touches it and written back at
//! the end of the epoch, so an update trigger costs what changed. Where nobody takes updates, groups stay in the
//! accumulators until their window closes: plain hash aggregation. [`windows`] and [`session`] are the operators over it.
//!
//! Invariants: a group goes out once as final, when its window closes, windows in the order of their ends, groups in
//! first-seen order; at the end of an epoch each changed group goes out as an upsert, after the deletes of what is no longer
//! true; nothing is kept of a closed window; rows of closed windows and rows without a window are counted as late.

mod accumulators;
mod groups;
mod output;
mod saved;
mod session;
#[cfg(test)]
mod tests;
mod windows;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;

use self::accumulators::Layout;
use self::output::{Span, WindowKey};
use self::session::Sessions;
use self::windows::Windows;
use crate::batch::Port;
use crate::operator::{Operator, OperatorSpec};
use crate::state::Backend;
use crate::time::Micros;
use crate::{Error, Result};

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
        let window = self.window_key();
        let keys: Vec<_> = self.keys.iter().enumerate().filter(|(i, _)| Some(*i) != window).map(|(_, (_, f))| f.name()).collect();
        let name = |key: usize| self.keys[key].1.name();
        let window = match &self.window {
            Window::Struct { key } => format!("window: {}, closes when the watermark passes its end", name(*key)),
            Window::Timestamp { key, size } => {
                format!("window: {}, closes when the watermark passes it by {}", name(*key), seconds(*size))
            }
            Window::Session { key, time, gap } => format!("window: {} = session of {time}, gap {}", name(*key), seconds(*gap)),
            Window::None => "window: none".to_owned(),
        };
        let aggregates = self.aggregates.iter().map(|a| match &a.filter {
            Some(filter) => format!("{} where {filter}", a.function.name()),
            None => a.function.name().to_owned(),
        });
        let aggregates: Vec<_> = aggregates.collect();
        let mut lines = vec![format!("keys: {}", if keys.is_empty() { "none".to_owned() } else { join(&keys) }), window];
        lines.push(format!("aggregates: {}", if aggregates.is_empty() { "none".to_owned() } else { join(&aggregates) }));
        lines.extend(self.having.iter().map(|having| format!("having: {having}")));
        lines.push(match self.window {
            Window::None => "state: one row per key, kept for ever".to_owned(),
            _ => "state: one row per key and window, freed when the watermark passes the window's end".to_owned(),
        });
        lines
    }

    fn update_key(&self) -> Vec<usize> {
        (0..self.keys.len()).collect()
    }

    fn create(&self, ports: &[Port], backend: &Backend) -> Result<Box<dyn Operator>> {
        let plan = Arc::new(self.shared(ports, backend)?);
        Ok(match &self.window {
            Window::Session { key, time, gap } => {
                let window = WindowKey::of_struct(*key, &self.keys[*key].1)?;
                Box::new(Sessions::new(plan, window, time.clone(), *gap)?)
            }
            _ => Box::new(Windows::new(plan, self.window()?)?),
        })
    }
}

impl WindowAggregate {
    fn window_key(&self) -> Option<usize> {
        match self.window {
            Window::Struct { key } | Window::Timestamp { key, .. } | Window::Session { key, .. } => Some(key),
            Window::None => None,
        }
    }

    fn window(&self) -> Result<WindowKey> {
        match &self.window {
            Window::Struct { key } | Window::Session { key, .. } => WindowKey::of_struct(*key, &self.keys[*key].1),
            Window::Timestamp { key, size } => WindowKey::of_timestamp(*key, *size, &self.keys[*key].1),
            Window::None => Ok(WindowKey::Nothing),
        }
    }

    fn shared(&self, ports: &[Port], backend: &Backend) -> Result<Shared> {
        Ok(Shared {
            keys: self.keys.clone(),
            layout: Arc::new(Layout::new(self.aggregates.clone())?),
            having: self.having.clone(),
            output: self.output.clone(),
            finals: ports.contains(&Port::Rows),
            updates: ports.contains(&Port::Update),
            backend: backend.clone(),
        })
    }
}

fn seconds(micros: Micros) -> String {
    format!("{:?}", Duration::from_micros(micros.unsigned_abs()))
}

fn join(parts: &[impl AsRef<str>]) -> String {
    parts.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
}

/// What the operators of a plan share.
struct Shared {
    keys: Vec<(Arc<dyn PhysicalExpr>, Arc<Field>)>,
    layout: Arc<Layout>,
    having: Option<Arc<dyn PhysicalExpr>>,
    output: SchemaRef,
    /// Whether somebody takes final rows.
    finals: bool,
    /// Whether somebody takes updates.
    updates: bool,
    /// Where state is kept.
    backend: Backend,
}

impl Shared {
    /// The keys but the one that carries the window.
    fn key_fields(&self, window: Option<usize>) -> Vec<FieldRef> {
        self.keys.iter().enumerate().filter(|(i, _)| Some(*i) != window).map(|(_, (_, field))| field.clone()).collect()
    }

    /// Their values over rows of the input.
    fn evaluate_keys(&self, window: Option<usize>, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let keys = self.keys.iter().enumerate().filter(|(i, _)| Some(*i) != window);
        keys.map(|(_, (key, _))| Ok(key.evaluate(rows)?.into_array(rows.num_rows())?)).collect()
    }

    /// Rows of the output: group `i` has window `spans[i]`.
    fn rows(&self, window: &WindowKey, spans: &[Span], keys: Vec<ArrayRef>, values: Vec<ArrayRef>) -> Result<RecordBatch> {
        let mut columns = keys;
        if let Some((key, column)) = window.key().zip(window.column(spans)) {
            columns.insert(key, column);
        }
        columns.extend(values);
        output::batch(&self.output, columns, spans.len())
    }
}

fn takes_inserts_only() -> Error {
    Error::permanent("a window aggregate takes new rows only, not updates of another operator")
        .hint("a stateful operator that feeds another one gives its final rows (Port::Rows)")
}
