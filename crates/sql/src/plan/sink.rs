//! Matching a query to the table it is inserted into: columns by position, cast to the declared types.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast, lit};
use riverrun_engine::table::{Capabilities, Column, Emit, Location, Table};

use super::facts::Origin;
use super::refusal::{Refusal, Result};
use super::refuse;
use super::step::Stream;
use crate::suggest;

/// The table as it is written: columns that a record has from its own metadata are not.
pub(crate) fn written(table: &Table) -> Table {
    let mut sink = table.clone();
    let kept: Vec<_> = (0..table.columns.len()).filter(|i| table.columns[*i].metadata.is_none()).collect();
    sink.columns = kept.iter().map(|i| table.columns[*i].clone()).collect();
    sink.partitioned_by = table.partitioned_by.iter().filter_map(|i| kept.iter().position(|k| k == i)).collect();
    sink.watermark = None;
    sink
}

/// `emit`: as the option says, else `update` with a PRIMARY KEY.
pub(crate) fn emit(table: &Table) -> Result<Emit> {
    let default = if table.primary_key.is_empty() { Emit::Append } else { Emit::Update };
    Ok(table.options.one_of("emit", &[("update", Emit::Update), ("append", Emit::Append)])?.unwrap_or(default))
}

/// Fills the columns of `table` from the query where the script left them out.
pub(crate) fn fill_columns(table: &mut Table, plan: &LogicalPlan, named: &[String]) -> Result<()> {
    if table.columns.is_empty() {
        if !named.is_empty() && named.len() != plan.schema().fields().len() {
            return Err(count(&table.name, named, plan));
        }
        for (i, field) in plan.schema().fields().iter().enumerate() {
            let name = named.get(i).unwrap_or(field.name());
            if table.columns.iter().any(|c| c.field.name() == name) {
                return Err(Refusal::new(format!("the query gives two columns named {name} to {}", table.name))
                    .hint("name one of them otherwise: … AS other"));
            }
            let field = Field::new(name, stored_type(field.data_type()), field.is_nullable());
            table.columns.push(Column { field: Arc::new(field), metadata: None, location: Location::default() });
        }
    }
    for key in &table.primary_key {
        if !table.columns.iter().any(|c| c.field.name() == key) {
            return Err(missing_column(table, key, "PRIMARY KEY"));
        }
    }
    Ok(())
}

/// The query with its columns named, ordered and typed as the table's.
pub(crate) fn fit(plan: LogicalPlan, table: &Table, named: &[String]) -> Result<LogicalPlan> {
    let all: Vec<_> = table.columns.iter().map(|c| c.field.name().clone()).collect();
    let targets = if named.is_empty() { &all[..] } else { named };
    if targets.len() != plan.schema().fields().len() {
        return Err(count(&table.name, targets, &plan));
    }
    if let Some(unknown) = targets.iter().find(|t| !all.contains(t)) {
        return Err(missing_column(table, unknown, "INSERT"));
    }
    // One projection does both what the query's own does and the casts.
    let (input, values) = match plan {
        LogicalPlan::Projection(p) => (Arc::unwrap_or_clone(p.input), p.expr),
        other => {
            let columns = other.schema().columns().into_iter().map(Expr::Column).collect();
            (other, columns)
        }
    };
    let columns = table.columns.iter().map(|column| {
        let name = column.field.name();
        match targets.iter().position(|t| t == name) {
            Some(i) => fit_column(&values[i], &input, column, &table.name),
            None if column.field.is_nullable() => Ok(lit(ScalarValue::try_from(column.field.data_type())?).alias(name)),
            None => Err(Refusal::new(format!("INSERT INTO {} leaves out {name}, which is NOT NULL", table.name))),
        }
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlanBuilder::from(input).project(columns)?.build()?)
}

fn fit_column(value: &Expr, input: &LogicalPlan, column: &Column, table: &str) -> Result<Expr> {
    let (from, to) = (value.get_type(input.schema())?, column.field.data_type());
    if !assignable(&from, to) {
        return Err(Refusal::new(format!(
            "column {} of {table} is {}; the query gives {} there ({})",
            column.field.name(),
            sql_type(to),
            sql_type(&from),
            value.schema_name()
        ))
        .hint("columns are matched by position; where the conversion is meant, write CAST(… AS …)")
        .or_at_some(refuse::place(value)));
    }
    let value = value.clone().unalias();
    let value = if from == *to { value } else { cast(value, to.clone()) };
    Ok(value.alias(column.field.name()))
}

fn count(table: &str, targets: &[String], plan: &LogicalPlan) -> Refusal {
    let given: Vec<_> = plan.schema().fields().iter().map(|f| f.name().as_str()).collect();
    Refusal::new(format!(
        "{table} takes {} columns ({}); the query gives {} ({})",
        targets.len(),
        targets.join(", "),
        given.len(),
        given.join(", ")
    ))
    .hint("columns are matched by position")
}

fn missing_column(table: &Table, name: &str, clause: &str) -> Refusal {
    let names: Vec<_> = table.columns.iter().map(|c| c.field.name().as_str()).collect();
    let hint = suggest::hint(name, names.iter().copied());
    Refusal::new(format!("{clause} names {name}, which is no column of {}", table.name)).hint(hint).or_at(table.location)
}

/// What SQL assigns without being told to.
fn assignable(from: &DataType, to: &DataType) -> bool {
    use DataType::{Boolean, Date32, FixedSizeBinary, LargeBinary, LargeList, List, Null, Struct, Timestamp, Utf8};
    match (from, to) {
        (a, b) if a == b => true,
        (Null, _) => true,
        (a, b) if a.is_numeric() && b.is_numeric() => true,
        (a, Utf8) => a.is_string() || a.is_numeric() || matches!(a, Boolean | Date32 | Timestamp(..)),
        (Timestamp(..) | Date32, Timestamp(..) | Date32) => true,
        (a, b) if a.is_binary() && b.is_binary() => !matches!((a, b), (LargeBinary, FixedSizeBinary(_))),
        (List(a) | LargeList(a), List(b)) => assignable(a.data_type(), b.data_type()),
        (Struct(a), Struct(b)) => {
            let same = |(x, y): (&Arc<Field>, &Arc<Field>)| x.name() == y.name() && assignable(x.data_type(), y.data_type());
            a.len() == b.len() && a.iter().zip(b).all(same)
        }
        _ => false,
    }
}

/// The types that sinks know: one text type, one timestamp type.
fn stored_type(data_type: &DataType) -> DataType {
    let field = |f: &Arc<Field>| Arc::new(f.as_ref().clone().with_data_type(stored_type(f.data_type())));
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Dictionary(_, value) => stored_type(value),
        DataType::List(f) | DataType::LargeList(f) => DataType::List(field(f)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::Null => DataType::Utf8,
        other => other.clone(),
    }
}

/// A type as scripts write it.
fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Date32 => "DATE".into(),
        DataType::Timestamp(..) => "TIMESTAMP".into(),
        DataType::List(item) => format!("{}[]", sql_type(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<_> = fields.iter().map(|f| format!("{} {}", f.name(), sql_type(f.data_type()))).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        other => other.to_string().to_uppercase(),
    }
}

/// Refuses updates that the sink can't take, or that would overwrite each other there.
pub(crate) fn check_updates(table: &Table, key: &[usize], stream: &Stream, can: &Capabilities) -> Result<()> {
    let Some(update) = &stream.update else { return Ok(()) };
    let connector = table.connector()?;
    let append = "emit = 'append' gives each group once, when it is final";
    if !can.upsert {
        return Err(Refusal::new(format!("{}: connector '{connector}' can't replace rows that change", table.name)).hint(append));
    }
    if let Some(why) = update.retracts.filter(|_| !can.delete) {
        return Err(
            Refusal::new(format!("{}: {why}, and connector '{connector}' can't take a row back", table.name)).hint(append)
        );
    }
    if key.is_empty() {
        return Ok(());
    }
    let name = |i: usize| table.columns[i].field.name();
    let in_key = |group: usize| key.iter().any(|i| stream.facts[*i].origin == Origin::Key(group));
    if let Some(group) = (0..update.keys.len()).find(|g| !in_key(*g)) {
        return Err(Refusal::new(format!(
            "the PRIMARY KEY of {} lacks {}, by which the query groups: rows of different groups would overwrite each other",
            table.name, update.keys[group]
        ))
        .hint("add a column that holds it to the PRIMARY KEY, or take it out of GROUP BY"));
    }
    if let Some(value) = key.iter().find(|i| stream.facts[**i].origin == Origin::Value) {
        return Err(Refusal::new(format!(
            "the PRIMARY KEY of {} contains {}, which changes while its group lives: each change would leave a row behind",
            table.name,
            name(*value)
        ))
        .hint("a PRIMARY KEY may hold what the query groups by"));
    }
    Ok(())
}
