//! From steps to the engine's nodes: expressions become physical, columns that nobody reads are left out.
//!
//! A column is live when some consumer, over all queries, reads it. Projections give live columns only; before an operator
//! that copies or keeps whole rows (unnest, OVER, union) a projection drops the dead ones. Sources give all columns.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, logical_plan as plan};
use datafusion::physical_expr::aggregate::{LoweredAggregate, LoweredAggregateBuilder};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use riverrun_engine::graph::{Edge, Exchange, Node, NodeKind, SourceNode, digest};
use riverrun_engine::operator::OperatorSpecRef;
use riverrun_engine::operators::filter::Filter;
use riverrun_engine::operators::over::{Function, Over};
use riverrun_engine::operators::project::Project;
use riverrun_engine::operators::repartition::{Gather, Scatter};
use riverrun_engine::operators::union::Union;
use riverrun_engine::operators::unnest::Unnest;
use riverrun_engine::operators::window_aggregate::{Aggregate, Window, WindowAggregate};

use super::aggregate::WindowKey;
use super::live;
use super::over::{Call, OverPlan};
use super::refusal::Result;
use super::repartition::Topics;
use super::step::{Op, Step};

/// A step as a node: which of its logical columns the node gives, and where.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub edge: Edge,
    /// The logical columns, in the order in which the node gives them.
    pub columns: Vec<usize>,
    pub schema: SchemaRef,
}

/// Makes nodes of steps.
pub(crate) struct Lowering<'a> {
    pub nodes: Vec<Node>,
    /// The repartition topics.
    pub exchanges: Vec<Exchange>,
    topics: &'a Topics,
    state: &'a SessionState,
    ttl: Option<std::time::Duration>,
    live: Vec<BTreeSet<usize>>,
    placed: Vec<Placed>,
    pruned: HashMap<(Edge, Vec<usize>), Placed>,
    names: HashSet<String>,
}

impl<'a> Lowering<'a> {
    /// Makes the nodes of all steps. Of the steps in `wanted` all columns are read from outside.
    pub fn run(
        steps: &[Step],
        wanted: &[usize],
        (state, ttl): (&'a SessionState, Option<std::time::Duration>),
        topics: &'a Topics,
    ) -> Result<Self> {
        let live = live::columns(steps, wanted)?;
        let (placed, pruned) = (Vec::with_capacity(steps.len()), HashMap::new());
        let (nodes, exchanges, names) = (Vec::new(), Vec::new(), HashSet::new());
        let mut lowering = Self { nodes, exchanges, topics, state, ttl, live, placed, pruned, names };
        for (id, step) in steps.iter().enumerate() {
            let placed = lowering.step(id, step)?;
            lowering.placed.push(placed);
        }
        Ok(lowering)
    }

    /// Where the output of a step is to be had, on the port of `edge`.
    pub fn output(&self, edge: Edge) -> Placed {
        let placed = &self.placed[edge.from];
        Placed { edge: Edge { from: placed.edge.from, port: edge.port }, ..placed.clone() }
    }

    /// Adds a node. Its name is made unique.
    pub fn node(&mut self, name: &str, inputs: Vec<Edge>, kind: NodeKind) -> usize {
        let mut unique = name.to_owned();
        let mut number = 2;
        while !self.names.insert(unique.clone()) {
            unique = format!("{name}_{number}");
            number += 1;
        }
        self.nodes.push(Node { name: unique, inputs, kind, identity: String::new() });
        self.nodes.len() - 1
    }

    fn step(&mut self, id: usize, step: &Step) -> Result<Placed> {
        let input = step.inputs.first().map(|e| self.output(*e));
        match (&step.op, input) {
            (Op::Source(reading), _) => {
                let (table, schema) = (&reading.table, reading.table.schema());
                let source = SourceNode { table: table.clone(), schema: schema.clone() };
                let columns = (0..schema.fields().len()).collect();
                let from = self.node(&table.name, Vec::new(), NodeKind::Source(source));
                self.nodes[from].identity.clone_from(&step.identity);
                Ok(Placed { edge: Edge { from, port: riverrun_engine::batch::Port::Rows }, columns, schema })
            }
            (Op::Filter { plan, over_keys }, Some(input)) => {
                let predicate = self.expression(&plan.predicate, &names(plan.input.schema(), &input)?)?;
                let filter = Filter::new(input.schema.clone(), predicate);
                let filter = if *over_keys { filter.over_keys() } else { filter };
                Ok(self.operator(step, vec![input.edge], input.columns, Arc::new(filter)))
            }
            (Op::Project(plan), Some(input)) => self.project(id, step, plan, input),
            (Op::Unnest { plan, column }, Some(input)) => {
                let mut keep = self.live[id].clone();
                keep.insert(*column);
                let input = self.prune(input, &keep, &step.owner)?;
                let place = input.columns.iter().position(|c| c == column).unwrap_or_default();
                let unnest = Unnest::new(&input.schema, place, &plain_name(plan.schema.field(*column).name()))?;
                Ok(self.operator(step, vec![input.edge], input.columns, Arc::new(unnest)))
            }
            (Op::Aggregate { plan, having, window }, Some(input)) => self.aggregate(step, plan, having.as_ref(), window, input),
            (Op::Over { plan, over }, Some(input)) => self.over(id, step, plan, over, input),
            (Op::Union(_), _) => self.union(id, step),
            (Op::Repartition { schema, keys, reason }, Some(input)) => self.repartition(id, step, (schema, keys, reason), input),
            (op, None) => Err(super::refusal::Refusal::new(format!("a step without input: {op:?}"))),
        }
    }

    fn project(&mut self, id: usize, step: &Step, plan: &plan::Projection, input: Placed) -> Result<Placed> {
        let schema = names(plan.input.schema(), &input)?;
        let columns: Vec<_> = self.live[id].iter().copied().collect();
        let expressions = columns.iter().map(|i| {
            let name = plain_name(plan.schema.field(*i).name());
            Ok((self.expression(&plan.expr[*i], &schema)?, name))
        });
        let project = Project::new(&input.schema, expressions.collect::<Result<_>>()?)?;
        Ok(self.operator(step, vec![input.edge], columns, Arc::new(project)))
    }

    fn aggregate(
        &mut self,
        step: &Step,
        plan: &plan::Aggregate,
        having: Option<&Expr>,
        window: &WindowKey,
        input: Placed,
    ) -> Result<Placed> {
        let schema = names(plan.input.schema(), &input)?;
        let keys = plan.group_expr.iter().enumerate().map(|(i, e)| {
            let expression = self.expression(e, &schema)?;
            let (data_type, nullable) = (expression.data_type(&input.schema)?, expression.nullable(&input.schema)?);
            Ok((expression, Arc::new(Field::new(plan.schema.field(i).name(), data_type, nullable))))
        });
        let keys = keys.collect::<Result<_>>()?;
        let first = plan.group_expr.len();
        let aggregates = plan.aggr_expr.iter().enumerate();
        let aggregates = aggregates.map(|(i, e)| self.function(e, plan.schema.field(first + i).name(), &schema));
        let aggregates = aggregates.collect::<Result<_>>()?;
        let window = match window {
            WindowKey::Struct { key } => Window::Struct { key: *key },
            WindowKey::Timestamp { key, size } => Window::Timestamp { key: *key, size: *size },
            WindowKey::Session { key, time, gap } => {
                Window::Session { key: *key, time: self.expression(time, &schema)?, gap: *gap }
            }
            WindowKey::None => Window::None,
        };
        let having = having.map(|h| self.expression(h, &plan.schema)).transpose()?;
        let spec = WindowAggregate::new(input.schema.clone(), keys, window, aggregates, having)?;
        let columns = (0..plan.schema.fields().len()).collect();
        Ok(self.operator(step, vec![input.edge], columns, Arc::new(spec)))
    }

    fn function(&self, expr: &Expr, name: &str, schema: &DFSchema) -> Result<Aggregate> {
        let (props, context) = (self.state.execution_props(), PhysicalPlanningContext::default());
        let builder = LoweredAggregateBuilder::new(expr, schema, schema.as_arrow(), props, &context);
        let LoweredAggregate { aggregate: function, filter, .. } = builder.with_name(name).build()?;
        Ok(Aggregate { function, filter })
    }

    fn over(&mut self, id: usize, step: &Step, plan: &plan::Window, over: &OverPlan, input: Placed) -> Result<Placed> {
        let width = plan.input.schema().fields().len();
        let keep = live::over_input(&self.live[id], plan)?;
        let input = self.prune(input, &keep, &step.owner)?;
        let schema = names(plan.input.schema(), &input)?;
        let partition_by = over.partition_by.iter().map(|e| self.expression(e, &schema)).collect::<Result<_>>()?;
        let time = self.expression(&over.time, &schema)?;
        let calls = over.calls.iter().enumerate().map(|(i, call)| {
            let field = plan.schema.field(width + i);
            let name = plain_name(field.name());
            let field = Arc::new(Field::new(name, field.data_type().clone(), field.is_nullable()));
            Ok((self.call(call, field.name(), &schema)?, field))
        });
        let calls = calls.collect::<Result<_>>()?;
        let spec = Over::new(input.schema.clone(), partition_by, time, calls, self.ttl);
        let columns = input.columns.iter().copied().chain(width..width + over.calls.len()).collect();
        Ok(self.operator(step, vec![input.edge], columns, Arc::new(spec)))
    }

    fn call(&self, call: &Call, name: &str, schema: &DFSchema) -> Result<Function> {
        Ok(match call {
            Call::Lag { value, offset, default } => {
                Function::Lag { value: self.expression(value, schema)?, offset: *offset, default: default.clone() }
            }
            Call::RowNumber => Function::RowNumber,
            Call::FirstValue { value, frame } => Function::FirstValue { value: self.expression(value, schema)?, frame: *frame },
            Call::LastValue { value, frame } => Function::LastValue { value: self.expression(value, schema)?, frame: *frame },
            Call::Aggregate { function, frame } => {
                let Aggregate { function, filter } = self.function(function, name, schema)?;
                Function::Aggregate { function, filter, frame: *frame }
            }
        })
    }

    fn union(&mut self, id: usize, step: &Step) -> Result<Placed> {
        let live = self.live[id].clone();
        let inputs = step.inputs.iter().map(|e| self.prune(self.output(*e), &live, &step.owner)).collect::<Result<Vec<_>>>()?;
        let fields = inputs[0].schema.fields().iter().enumerate().map(|(i, f)| {
            let nullable = inputs.iter().any(|input| input.schema.field(i).is_nullable());
            f.as_ref().clone().with_nullable(nullable)
        });
        let schema: SchemaRef = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
        let edges = inputs.iter().map(|i| i.edge).collect();
        Ok(self.operator(step, edges, live.into_iter().collect(), Arc::new(Union::new(schema))))
    }

    /// A topic that the stage before writes and the next one reads. What it is known by is all that decides what lies in it.
    fn repartition(
        &mut self,
        id: usize,
        step: &Step,
        (schema, keys, reason): (&DFSchema, &[Expr], &str),
        input: Placed,
    ) -> Result<Placed> {
        let keep = live::repartition_input(&self.live[id], schema, keys)?;
        let input = self.prune(input, &keep, &step.owner)?;
        let names = names(schema, &input)?;
        let keys = keys.iter().map(|key| self.expression(key, &names)).collect::<Result<_>>()?;
        let columns = input.schema.fields().iter().map(|f| format!("{} {} {}", f.name(), f.data_type(), f.is_nullable()));
        let what = format!("{}\n{}", step.identity, columns.collect::<Vec<_>>().join("\n"));
        let identity = format!("{}{}", Exchange::PREFIX, digest(&what));
        let (sink, source) = self.topics.table(&identity)?;
        let scatter = self.place(&step.owner, vec![input.edge], Vec::new(), Arc::new(Scatter::new(input.schema.clone(), keys)?));
        let sink = self.node(&identity, vec![scatter.edge], NodeKind::Sink(sink));
        let source = self.node(&identity, Vec::new(), NodeKind::Source(source));
        let edge = Edge { from: source, port: riverrun_engine::batch::Port::Rows };
        let gather = self.place(&step.owner, vec![edge], input.columns, Arc::new(Gather::new(input.schema)?));
        let (scatter, reason) = (scatter.edge.from, reason.to_owned());
        for node in [scatter, sink, source, gather.edge.from] {
            self.nodes[node].identity.clone_from(&identity);
        }
        self.exchanges.push(Exchange { scatter, sink, source, gather: gather.edge.from, reason });
        Ok(gather)
    }

    /// The columns in `keep` alone, in order: by a projection if there are others.
    fn prune(&mut self, input: Placed, keep: &BTreeSet<usize>, owner: &str) -> Result<Placed> {
        let columns: Vec<_> = keep.iter().copied().collect();
        if input.columns == columns {
            return Ok(input);
        }
        if let Some(placed) = self.pruned.get(&(input.edge, columns.clone())) {
            return Ok(placed.clone());
        }
        let expressions = columns.iter().filter_map(|c| {
            let place = input.columns.iter().position(|have| have == c)?;
            let name = input.schema.field(place).name().clone();
            Some((Arc::new(Column::new(&name, place)) as Arc<dyn PhysicalExpr>, name))
        });
        let project = Project::new(&input.schema, expressions.collect())?;
        let placed = self.place(owner, vec![input.edge], columns.clone(), Arc::new(project));
        self.pruned.insert((input.edge, columns), placed.clone());
        Ok(placed)
    }

    fn operator(&mut self, step: &Step, inputs: Vec<Edge>, columns: Vec<usize>, spec: OperatorSpecRef) -> Placed {
        let placed = self.place(&step.owner, inputs, columns, spec);
        self.nodes[placed.edge.from].identity.clone_from(&step.identity);
        placed
    }

    fn place(&mut self, owner: &str, inputs: Vec<Edge>, columns: Vec<usize>, spec: OperatorSpecRef) -> Placed {
        let schema = spec.schema();
        let name = format!("{owner}.{}", spec.name().replace(' ', "_"));
        let from = self.node(&name, inputs, NodeKind::Operator(spec));
        Placed { edge: Edge { from, port: riverrun_engine::batch::Port::Rows }, columns, schema }
    }

    fn expression(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(create_physical_expr(expr, schema, self.state.execution_props(), &PhysicalPlanningContext::default())?)
    }
}

/// A column's name without what DataFusion puts around an unnest and behind an OVER.
fn plain_name(name: &str) -> String {
    let name = name.split(" PARTITION BY [").next().unwrap_or(name);
    match name.strip_prefix("__unnest_placeholder(") {
        Some(rest) => rest.strip_suffix(",depth=1)").or(rest.strip_suffix(')')).unwrap_or(rest).to_owned(),
        None => name.to_owned(),
    }
}

/// The names that expressions over a step use, for the columns that its node gives.
fn names(logical: &DFSchema, placed: &Placed) -> Result<DFSchema> {
    let fields = placed.columns.iter().zip(placed.schema.fields()).map(|(column, field)| {
        let (qualifier, name) = logical.qualified_field(*column);
        (qualifier.cloned(), Arc::new(field.as_ref().clone().with_name(name.name())))
    });
    Ok(DFSchema::new_with_metadata(fields.collect(), HashMap::new())?)
}
