//! The plan of all queries as one graph of steps over logical expressions: what is the same is one step.
//!
//! Two subplans are the same when their operators, expressions (columns by position, names of columns left out) and inputs
//! are: a view that two queries read is computed once, whatever aliases they give it. A step is only ever added behind its
//! inputs, so steps stand in topological order.

use std::collections::HashMap;
use std::fmt::Write as _;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::logical_expr::{Expr, LogicalPlan, logical_plan as plan};
use riverrun_engine::batch::Port;
use riverrun_engine::connect::Connectors;
use riverrun_engine::graph::{Edge, digest, readable};
use riverrun_engine::table::{Emit, Table};

use super::aggregate::{self, WindowKey};
use super::facts::{self, Fact, Time};
use super::over;
use super::refusal::{Refusal, Result};
use super::step::{Identity, Op, Reading, Step, Stream, Update, What, canonical_table};
use super::{Tables, refuse};

/// All steps so far.
pub(crate) struct Steps<'a> {
    pub steps: Vec<Step>,
    /// Why one task must see all partitions, if so.
    pub single: Option<String>,
    /// Whether rows can be repartitioned.
    repartitions: bool,
    tables: &'a HashMap<String, Table>,
    views: &'a [String],
    known: HashMap<Identity, usize>,
    connectors: &'a dyn Connectors,
    /// Which output of sources the plan at hand reads.
    port: Port,
    /// Where the query at hand begins, if it says so: then it has a reading of its sources of its own.
    start: Option<String>,
}

impl<'a> Steps<'a> {
    /// No steps. `tables` can be scanned; aliases among `views` name the steps beneath them.
    /// With `repartitions` rows go by key to a next stage of tasks where a stateful step needs that.
    pub fn new(tables: &'a Tables, views: &'a [String], repartitions: bool, connectors: &'a dyn Connectors) -> Self {
        let (steps, known, tables) = (Vec::new(), HashMap::new(), &tables.by_name);
        Self { steps, single: None, repartitions, tables, views, known, connectors, port: Port::Rows, start: None }
    }

    /// The queries that are added from now on begin there in their sources.
    pub fn start_at(&mut self, start: Option<String>) {
        self.start = start;
    }

    /// Adds what `plan` needs beyond what is there; what comes out of it flows in the returned stream. With
    /// [`Emit::Update`] the topmost stateful steps give updates, all below give what is final.
    pub fn add(&mut self, plan: &LogicalPlan, emit: Emit, owner: &str) -> Result<Stream> {
        refuse::expressions(plan)?;
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => {
                let name = alias.alias.table();
                self.add(&alias.input, emit, if self.views.iter().any(|v| v == name) { name } else { owner })
            }
            LogicalPlan::Projection(p) => self.project(p, emit, owner),
            LogicalPlan::Filter(f) => self.filter(f, emit, owner),
            LogicalPlan::Unnest(u) => self.unnest(u, emit, owner),
            LogicalPlan::Union(u) => self.union(u, emit, owner),
            LogicalPlan::Aggregate(a) => self.aggregate(a, None, emit, owner),
            LogicalPlan::Window(w) => self.over(w, emit, owner),
            other => Err(refuse::node(other)),
        }
    }

    /// Adds a plan that reads late rows of its source, not the rows in time.
    pub fn add_late(&mut self, plan: &LogicalPlan, owner: &str) -> Result<Stream> {
        self.port = Port::Late;
        let stream = self.add(plan, Emit::Append, owner);
        self.port = Port::Rows;
        stream
    }

    /// The stream of a table that is read.
    pub fn source(&mut self, name: &str) -> Result<Stream> {
        let table = self.tables.get(name).ok_or_else(|| Refusal::new(format!("{name} is no table of this script")))?;
        let mut facts = vec![Fact::default(); table.columns.len()];
        if let Some(watermark) = &table.watermark {
            facts[watermark.column].time = Some(Time::SOURCE);
        }
        for (number, column) in table.partitioned_by.iter().enumerate() {
            facts[*column].partition = Some(number);
        }
        let partitioned_by = table.partitioned_by.iter().map(|i| table.columns[*i].field.name().clone()).collect();
        let reading = match &self.start {
            None => Table { options: table.options.without("start"), ..table.clone() },
            Some(start) => {
                let starting = self.connectors.starting(table, start);
                let starting = starting.map_err(|e| e.within(format!("start = '{start}': table {name}")))?;
                Table { name: format!("{name}@{start}"), ..starting }
            }
        };
        let named = reading.name.clone();
        let identity = Identity { what: What::Source(named.clone()), inputs: Vec::new() };
        let reading = Reading { table: reading, of: name.to_owned(), start: self.start.clone() };
        let edge = Edge { port: self.port, ..self.step(identity, Op::Source(Box::new(reading)), &named) };
        Ok(Stream { edge, facts, partitioned_by, stage: 0, update: None })
    }

    fn scan(&mut self, scan: &plan::TableScan) -> Result<Stream> {
        if scan.projection.is_some() || !scan.filters.is_empty() || scan.fetch.is_some() {
            return Err(Refusal::new(format!("the plan over {} was optimised already", scan.table_name))
                .hint("give the DataFrame's logical plan as it was built"));
        }
        self.source(scan.table_name.table())
    }

    fn project(&mut self, p: &plan::Projection, emit: Emit, owner: &str) -> Result<Stream> {
        let mut stream = self.add(&p.input, emit, owner)?;
        let schema = p.input.schema();
        let expressions = positional(&p.expr, schema)?;
        stream.facts = p.expr.iter().map(|e| facts::of(e, schema, &stream.facts)).collect();
        let renames = expressions.iter().enumerate().all(|(i, e)| *e == position(i));
        if !renames || expressions.len() != schema.fields().len() {
            let identity = Identity { what: What::Project(expressions), inputs: vec![stream.edge] };
            stream.edge = self.step(identity, Op::Project(p.clone()), owner);
        }
        Ok(stream)
    }

    fn filter(&mut self, f: &plan::Filter, emit: Emit, owner: &str) -> Result<Stream> {
        if let LogicalPlan::Aggregate(a) = &*f.input
            && !aggregate::only_group_keys(&f.predicate, a)
        {
            return self.aggregate(a, Some(&f.predicate), emit, owner);
        }
        let mut stream = self.add(&f.input, emit, owner)?;
        let schema = f.input.schema();
        let mut over_keys = false;
        if let Some(update) = &mut stream.update {
            over_keys = facts::only_keys(&f.predicate, schema, &stream.facts);
            if !over_keys {
                update.retracts = Some("a group that passed WHERE may fail it later");
            }
        }
        let predicate = positional(std::slice::from_ref(&f.predicate), schema)?.remove(0);
        let identity = Identity { what: What::Filter(predicate, over_keys), inputs: vec![stream.edge] };
        stream.edge = self.step(identity, Op::Filter { plan: f.clone(), over_keys }, owner);
        Ok(stream)
    }

    fn unnest(&mut self, u: &plan::Unnest, emit: Emit, owner: &str) -> Result<Stream> {
        let mut stream = self.add(&u.input, emit, owner)?;
        let [(column, list)] = u.list_type_columns.as_slice() else {
            return Err(Refusal::new("unnest of a struct, or of several lists at once").hint("unnest one list column at a time"));
        };
        let in_place = u.dependency_indices.iter().enumerate().all(|(out, input)| out == *input);
        if list.depth != 1 || !u.struct_type_columns.is_empty() || !in_place {
            return Err(Refusal::new("unnest of a list of lists at once").hint("unnest one level at a time, in a view each"));
        }
        if stream.update.is_some() {
            return Err(Refusal::new("unnest above an aggregate whose groups are updated")
                .hint("emit = 'append' gives each group once, when it is final"));
        }
        let identity = Identity { what: What::Unnest(*column), inputs: vec![stream.edge] };
        stream.edge = self.step(identity, Op::Unnest { plan: u.clone(), column: *column }, owner);
        Ok(stream)
    }

    fn union(&mut self, u: &plan::Union, emit: Emit, owner: &str) -> Result<Stream> {
        let streams = u.inputs.iter().map(|i| self.add(i, emit, owner)).collect::<Result<Vec<_>>>()?;
        if streams.iter().any(|s| s.update.is_some()) {
            return Err(Refusal::new("UNION ALL above aggregates whose groups are updated: their keys could meet")
                .hint("write one INSERT for each side, or emit = 'append'"));
        }
        let inputs: Vec<_> = streams.iter().map(|s| s.edge).collect();
        if streams.iter().any(|s| s.stage != streams[0].stage) {
            let mixed = "UNION ALL of rows before and behind a repartition: write an INSERT for each side to have several tasks";
            self.single.get_or_insert_with(|| mixed.to_owned());
        }
        let stream = streams.into_iter().reduce(union_facts).ok_or_else(|| Refusal::new("UNION ALL of nothing"))?;
        let edge = self.step(Identity { what: What::Union, inputs }, Op::Union(u.clone()), owner);
        Ok(Stream { edge, ..stream })
    }

    fn aggregate(&mut self, a: &plan::Aggregate, having: Option<&Expr>, emit: Emit, owner: &str) -> Result<Stream> {
        let input = self.add(&a.input, Emit::Append, owner)?;
        let (window, mut facts) = aggregate::read(a, &input)?;
        if emit == Emit::Append && window == WindowKey::None {
            return Err(aggregate::never_final(a, &input));
        }
        let schema = a.input.schema();
        let having_identity =
            having.map(|h| positional(std::slice::from_ref(h), &a.schema)).transpose()?.map(|mut h| h.remove(0));
        let what = What::Aggregate(positional(&a.group_expr, schema)?, positional(&a.aggr_expr, schema)?, having_identity);
        let keys: Vec<_> = (0..a.group_expr.len()).map(|i| readable(a.schema.field(i).name())).collect();
        let (input, by) = match self.missing_key(&input, &facts[..keys.len()], "GROUP BY", &keys) {
            Some(reason) => self.repartition(input, &a.group_expr, schema, reason, owner)?,
            None => (input, None),
        };
        if let Some(by) = by {
            facts.iter_mut().zip(&a.group_expr).for_each(|(fact, key)| fact.partition = by.iter().position(|e| e == key));
        }
        let retracts = match (having, &window) {
            (Some(_), _) => Some("a group that passed HAVING may fail it later"),
            (None, WindowKey::Session { .. }) => Some("sessions merge, and what was sent of either is then wrong"),
            _ => None,
        };
        let op = Op::Aggregate { plan: a.clone(), having: having.cloned(), window };
        let mut edge = self.step(Identity { what, inputs: vec![input.edge] }, op, owner);
        let update = (emit == Emit::Update).then_some(Update { keys, retracts });
        if update.is_some() {
            edge.port = Port::Update;
        }
        Ok(Stream { edge, facts, partitioned_by: input.partitioned_by, stage: input.stage, update })
    }

    fn over(&mut self, w: &plan::Window, emit: Emit, owner: &str) -> Result<Stream> {
        let mut stream = self.add(&w.input, Emit::Append, owner)?;
        let schema = w.input.schema();
        let place = || w.window_expr.iter().find_map(refuse::place);
        let over = over::read(w, &stream.facts).map_err(|e| e.or_at_some(place()))?;
        let keys: Vec<_> = over.partition_by.iter().map(|e| facts::of(e, schema, &stream.facts)).collect();
        let names: Vec<_> = over.partition_by.iter().map(|e| readable(&e.schema_name().to_string())).collect();
        if let Some(reason) = self.missing_key(&stream, &keys, "PARTITION BY", &names) {
            (stream, _) = self.repartition(stream, &over.partition_by, schema, reason, owner)?;
        }
        let what = What::Over(positional(&w.window_expr, schema)?);
        stream.edge = self.step(Identity { what, inputs: vec![stream.edge] }, Op::Over { plan: w.clone(), over }, owner);
        if emit == Emit::Update {
            stream.edge.port = Port::Update;
        }
        stream.facts.resize(w.schema.fields().len(), Fact::default());
        Ok(stream)
    }

    /// Why a stateful step needs rows that are in several tasks, if it does: its keys lack what they are partitioned by.
    fn missing_key(&self, input: &Stream, keys: &[Fact], clause: &str, names: &[String]) -> Option<String> {
        let by = &input.partitioned_by;
        let missing = (0..by.len()).find(|n| !keys.iter().any(|k| k.partition == Some(*n)));
        let clause = if names.is_empty() { format!("no {clause}") } else { format!("{clause} {}", names.join(", ")) };
        match missing {
            Some(n) if input.stage > 0 => Some(format!("{clause} does not contain {}, by which rows were repartitioned", by[n])),
            Some(n) => Some(format!("{clause} does not contain {}, by which the source is partitioned", by[n])),
            // Behind a repartition without keys one task has all rows.
            None if by.is_empty() && input.stage == 0 => {
                Some(format!("{clause}, and the source does not say what it is PARTITIONED BY"))
            }
            None => None,
        }
    }

    /// Rows by those of `keys` that are no times: windows come and go, so rows are told apart by what stays. Gives these; `None`
    /// where it cannot be, and one task has to see all partitions.
    fn repartition(
        &mut self,
        input: Stream,
        keys: &[Expr],
        schema: &DFSchemaRef,
        reason: String,
        owner: &str,
    ) -> Result<(Stream, Option<Vec<Expr>>)> {
        if !self.repartitions {
            self.single.get_or_insert(reason);
            return Ok((input, None));
        }
        let is_time = |key: &&Expr| facts::time(key, schema, &input.facts).is_some() || facts::session(key).is_some();
        let keys: Vec<Expr> = keys.iter().filter(|key| !is_time(key)).cloned().collect();
        let of_column = |column: usize| {
            let is = |key: &Expr| matches!(facts::strip(key), Expr::Column(c) if schema.maybe_index_of_column(c) == Some(column));
            keys.iter().position(is)
        };
        let columns = input.facts.iter().enumerate();
        let facts = columns.map(|(i, fact)| Fact { partition: of_column(i), ..fact.clone() }).collect();
        let partitioned_by = keys.iter().map(|key| readable(&key.schema_name().to_string())).collect();
        let identity = Identity { what: What::Repartition(positional(&keys, schema)?), inputs: vec![input.edge] };
        let op = Op::Repartition { schema: schema.clone(), keys: keys.clone(), reason };
        let edge = self.step(identity, op, owner);
        Ok((Stream { edge, facts, partitioned_by, stage: input.stage + 1, update: None }, Some(keys)))
    }

    /// The step of an identity. Over runs a step is known by its own text and those of all that feed it, down to the tables:
    /// not by its place in the script, nor by what else the script holds.
    fn step(&mut self, identity: Identity, op: Op, owner: &str) -> Edge {
        let Self { known, steps, .. } = self;
        let inputs = identity.inputs.clone();
        let from = *known.entry(identity).or_insert_with_key(|identity| {
            let mut text = identity.what.canonical();
            if let Op::Source(reading) = &op {
                text.push_str(&canonical_table(&reading.table));
            }
            for edge in &inputs {
                // Where its rows come by is no part of what a step computes.
                let from = match &steps[edge.from] {
                    Step { op: Op::Repartition { .. }, inputs, .. } => inputs[0],
                    _ => *edge,
                };
                let _ = write!(text, "\n<- {:?} {}", from.port, steps[from.from].identity);
            }
            steps.push(Step { op, inputs, owner: owner.to_owned(), identity: digest(&text) });
            steps.len() - 1
        });
        Edge { from, port: Port::Rows }
    }
}

/// What holds for rows of either side.
fn union_facts(a: Stream, b: Stream) -> Stream {
    let same_key = a.partitioned_by.len() == b.partitioned_by.len();
    let facts = a.facts.iter().zip(&b.facts).map(|(x, y)| Fact {
        time: x.time.zip(y.time).and_then(|(x, y)| x.either(y)),
        partition: x.partition.filter(|p| same_key && y.partition == Some(*p)),
        origin: facts::Origin::Value,
    });
    let facts = facts.collect();
    let partitioned_by = match same_key {
        true => a.partitioned_by,
        false if a.stage == 0 => Vec::new(),
        // No column holds it: whoever has keys needs another repartition.
        false => vec!["the same on both sides of UNION ALL".to_owned()],
    };
    Stream { edge: a.edge, facts, partitioned_by, stage: a.stage, update: None }
}

/// The expressions with columns by position and without names.
fn positional(expressions: &[Expr], schema: &DFSchema) -> Result<Vec<Expr>> {
    let one = |e: &Expr| {
        let stripped = e.clone().unalias_nested().data;
        let placed = stripped.transform(|e| match &e {
            Expr::Column(c) => Ok(Transformed::yes(position(schema.index_of_column(c)?))),
            _ => Ok(Transformed::no(e)),
        })?;
        Ok(placed.data)
    };
    expressions.iter().map(one).collect()
}

fn position(index: usize) -> Expr {
    Expr::Column(Column::new_unqualified(format!("#{index}")))
}
