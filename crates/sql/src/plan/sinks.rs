//! The sinks of a script and what flows to them: queries, late rows, dead letters.

use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use riverrun_engine::batch::Port;
use riverrun_engine::connect::Connectors;
use riverrun_engine::dead_letter;
use riverrun_engine::graph::{Edge, Exchange, Node, NodeKind, SinkNode};
use riverrun_engine::operators::project::Project;
use riverrun_engine::table::{Column, Emit, Location, Table};

use super::lower::Lowering;
use super::optimize::optimize;
use super::refusal::{Refusal, Result};
use super::repartition::Topics;
use super::step::{Op, Reading, Step};
use super::steps::Steps;
use super::{Query, Tables, sink};

/// A sink with all that flows to it.
struct Sink {
    table: Table,
    emit: Emit,
    key: Vec<usize>,
    trigger: Duration,
    /// From steps.
    inputs: Vec<Edge>,
}

/// The sinks so far, in the order in which they were first named.
pub(crate) struct Sinks<'a> {
    tables: &'a Tables,
    connectors: &'a dyn Connectors,
    sinks: Vec<Sink>,
}

impl<'a> Sinks<'a> {
    pub fn new(tables: &'a Tables, connectors: &'a dyn Connectors) -> Self {
        Self { tables, connectors, sinks: Vec::new() }
    }

    /// Adds one INSERT.
    pub fn insert(&mut self, query: Query, steps: &mut Steps, state: &SessionState) -> Result<()> {
        let (table, can) = self.tables.sink(&query.sink)?;
        let number = self.number(table)?;
        let plan = optimize(query.plan, state)?;
        let sink = &mut self.sinks[number];
        sink::fill_columns(&mut sink.table, &plan, &query.columns)?;
        sink.key = key(&sink.table)?;
        let plan = optimize(sink::fit(plan, &sink.table, &query.columns)?, state)?;
        steps.start_at(sink.table.options.get("start"));
        let stream = steps.add(&plan, sink.emit, &sink.table.name)?;
        sink::check_updates(&sink.table, &sink.key, &stream, can)?;
        sink.inputs.push(stream.edge);
        Ok(())
    }

    /// Adds what sources give besides rows: late rows and dead letters, where their options ask for them.
    pub fn sources(&mut self, steps: &mut Steps) -> Result<()> {
        let read: Vec<_> = readings(&steps.steps).map(|reading| (reading.of.clone(), reading.start.clone())).collect();
        for (name, start) in read {
            let table = &self.tables.by_name[&name];
            if !self.tables.can[&name].source {
                let what = format!("{name} can't be read: connector '{}' only writes", table.connector()?);
                return Err(Refusal::new(what).or_at(table.location));
            }
            steps.start_at(start);
            self.late_rows(table, steps).map_err(|e| e.or_at(table.location))?;
            self.dead_letters(table, steps).map_err(|e| e.or_at(table.location))?;
        }
        Ok(())
    }

    /// Where a query begins is said by the table that it writes.
    pub fn check_starts(&self, steps: &[Step]) -> Result<()> {
        let is_written = |name: &str| self.sinks.iter().any(|sink| sink.table.name == name);
        for Reading { of: name, .. } in readings(steps) {
            let (table, can) = (&self.tables.by_name[name], &self.tables.can[name]);
            if can.sink && !is_written(name) && table.options.get("start").is_some() {
                let what = format!("{name} is read, and its option 'start' says where queries begin that write to it");
                return Err(Refusal::new(what)
                    .hint("where a table's own reading begins is said by starting_offsets")
                    .or_at(table.location));
            }
        }
        Ok(())
    }

    fn late_rows(&mut self, source: &Table, steps: &mut Steps) -> Result<()> {
        let Some(name) = source.options.get("late_rows") else { return Ok(()) };
        if source.watermark.is_none() {
            return Err(Refusal::new(format!("late_rows of {}: without WATERMARK FOR no row is late", source.name)));
        }
        let (table, _) =
            self.tables.sink(&name).map_err(|e| e.hint(format!("late_rows names a table: CREATE TABLE {name} WITH (…)")))?;
        let number = self.number(table)?;
        let scan = datafusion::logical_expr::logical_plan::builder::table_scan(Some(&source.name), &source.schema(), None)?;
        let sink = &mut self.sinks[number];
        let plan = by_name(scan, &sink.table)?;
        sink::fill_columns(&mut sink.table, &plan, &[])?;
        sink.key = key(&sink.table)?;
        let plan = sink::fit(plan, &sink.table, &[])?;
        sink.inputs.push(steps.add_late(&plan, &sink.table.name)?.edge);
        Ok(())
    }

    fn dead_letters(&mut self, source: &Table, steps: &mut Steps) -> Result<()> {
        let Some(mut table) = self.connectors.dead_letters(source)? else { return Ok(()) };
        let fields = dead_letter::schema();
        let column = |f: &std::sync::Arc<arrow::datatypes::Field>| Column {
            field: f.clone(),
            metadata: None,
            location: Location::default(),
        };
        table.columns = fields.fields().iter().map(column).collect();
        let edge = Edge { port: Port::DeadLetters, ..steps.source(&source.name)?.edge };
        let number = self.number(&table)?;
        self.sinks[number].inputs.push(edge);
        Ok(())
    }

    /// The place of a sink, new or known.
    fn number(&mut self, table: &Table) -> Result<usize> {
        if let Some(number) = self.sinks.iter().position(|s| s.table.name == table.name) {
            return Ok(number);
        }
        let trigger = table.options.duration("trigger")?.unwrap_or_default();
        let emit = sink::emit(table)?;
        self.sinks.push(Sink { table: sink::written(table), emit, key: Vec::new(), trigger, inputs: Vec::new() });
        Ok(self.sinks.len() - 1)
    }

    /// The nodes of the graph: the steps, then the sinks; and the repartition topics among them.
    pub fn nodes(
        self,
        steps: &[Step],
        state: (&SessionState, Option<Duration>),
        topics: &Topics,
    ) -> Result<(Vec<Node>, Vec<Exchange>)> {
        let wanted: Vec<_> = self.sinks.iter().flat_map(|s| s.inputs.iter().map(|e| e.from)).collect();
        let mut lowering = Lowering::run(steps, &wanted, state, topics)?;
        for sink in self.sinks {
            let schema = sink.table.schema();
            let inputs = sink.inputs.iter().map(|edge| declared(&mut lowering, *edge, &schema, &sink.table.name));
            let inputs = inputs.collect();
            let Sink { table, emit, key, trigger, .. } = sink;
            let name = table.name.clone();
            lowering.node(&name, inputs, NodeKind::Sink(SinkNode { table, schema, emit, trigger, key }));
        }
        Ok((lowering.nodes, lowering.exchanges))
    }
}

fn readings(steps: &[Step]) -> impl Iterator<Item = &Reading> {
    steps.iter().filter_map(|step| match &step.op {
        Op::Source(reading) => Some(reading.as_ref()),
        _ => None,
    })
}

/// What comes to a sink has exactly the schema that the sink's table declares.
fn declared(lowering: &mut Lowering, edge: Edge, schema: &SchemaRef, sink: &str) -> Edge {
    let placed = lowering.output(edge);
    if edge.port == Port::DeadLetters || placed.schema == *schema {
        return placed.edge;
    }
    let project = Project::declared(&placed.schema, schema.clone());
    let from = lowering.node(&format!("{sink}.columns"), vec![placed.edge], NodeKind::Operator(std::sync::Arc::new(project)));
    Edge { from, port: Port::Rows }
}

/// The columns of a source that a table of late rows has too; all of them where it declares none.
fn by_name(scan: LogicalPlanBuilder, table: &Table) -> Result<LogicalPlan> {
    if table.columns.is_empty() {
        return Ok(scan.build()?);
    }
    let columns = table.columns.iter().map(|c| datafusion::logical_expr::ident(c.field.name()));
    Ok(scan.project(columns.collect::<Vec<_>>())?.build()?)
}

/// The places of the PRIMARY KEY's columns.
fn key(table: &Table) -> Result<Vec<usize>> {
    let place = |name: &String| table.columns.iter().position(|c| c.field.name() == name);
    table
        .primary_key
        .iter()
        .map(|k| place(k).ok_or_else(|| Refusal::new(format!("PRIMARY KEY names {k}, which is no column of {}", table.name))))
        .collect()
}
