//! `CREATE TABLE name [(columns and clauses)] [PARTITIONED BY (…)] WITH (…)`.
//!
//! `*` among the columns stands for those that a schema registry tells ([`Open`]).

use std::sync::Arc;
use std::time::Duration;

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::sql::sqlparser::ast::{BinaryOperator, DataType as SqlType, Expr, Interval, Value, ValueWithSpan};
use datafusion::sql::sqlparser::tokenizer::Token;
use riverrun_engine::table::{Column, Location, Metadata, Options, Table, Watermark};

use super::fault::{Fault, Result};
use super::options;
use super::reader::{Reader, normal};
use super::types::{arrow_type, timestamp};
use crate::suggest;

/// What is left of a table whose columns a schema registry tells, until it was asked.
#[derive(Debug, Clone)]
pub struct Open {
    /// Where its columns stand among those that are declared.
    pub at: usize,
    /// Whether `*` asks for them; otherwise the table has no columns, and may also be one that takes a query's.
    pub asked: bool,
    clauses: Clauses,
}

impl Open {
    /// Resolves the clauses that name columns, once all are there.
    pub fn resolve(self, table: &mut Table) -> Result<()> {
        self.clauses.resolve(table)
    }
}

/// Reads a table, from behind its name on; whether columns of it are to be asked for.
pub fn parse(reader: &mut Reader, name: String, location: Location) -> Result<(Table, Option<Open>)> {
    let options = Options::default();
    let mut table = Table {
        name,
        columns: Vec::new(),
        watermark: None,
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        options,
        location,
    };
    let mut clauses = Clauses::default();
    if reader.parser.peek_token_ref().token == Token::LParen {
        reader.list("table", |r| element(r, &mut table, &mut clauses))?;
    }
    if reader.takes(&["partitioned", "by"]) {
        reader.list("partition key", |r| name_into(r, &mut clauses.partitioned_by))?;
    }
    if !reader.takes(&["with"]) {
        return Err(reader.expected("WITH").hint("say where the rows are: WITH (connector = '…', …)"));
    }
    table.options = options::with(reader)?;
    let is_avro = table.options.get("format").is_some_and(|format| format.trim().eq_ignore_ascii_case("avro"));
    match clauses.star {
        Some((_, at)) if !is_avro => {
            let what = "'*' stands for the columns of a schema registry, and the table has none";
            return Err(Fault::at(at, what).hint("name the columns; or add format = 'avro', schema_registry = 'http://…'"));
        }
        None if !is_avro || !table.columns.is_empty() => {}
        star => {
            let (at, asked) = (star.map_or(0, |(at, _)| at), star.is_some());
            return Ok((table, Some(Open { at, asked, clauses })));
        }
    }
    clauses.resolve(&mut table)?;
    Ok((table, None))
}

/// Clauses that name columns, which may stand before the columns do.
#[derive(Debug, Clone, Default)]
struct Clauses {
    /// `*`: how many columns stand before it, and where it stands.
    star: Option<(usize, Location)>,
    watermark: Option<(String, Location, Duration)>,
    primary_key: Vec<(String, Location)>,
    partitioned_by: Vec<(String, Location)>,
}

impl Clauses {
    fn resolve(self, table: &mut Table) -> Result<()> {
        if let Some((name, at, delay)) = self.watermark {
            let column = column(table, &name, at)?;
            let data_type = table.columns[column].field.data_type();
            if *data_type != timestamp() {
                let message = format!("the watermark needs a TIMESTAMP, and {name} is {}", sql_name(data_type));
                return Err(Fault::at(at, message).hint(format!("declare it as {name} TIMESTAMP, or name another column")));
            }
            table.watermark = Some(Watermark { column, delay });
        }
        for (name, at) in self.primary_key {
            if !table.columns.is_empty() {
                column(table, &name, at)?;
            }
            table.primary_key.push(name);
        }
        for (name, at) in self.partitioned_by {
            let column = column(table, &name, at)?;
            table.partitioned_by.push(column);
        }
        Ok(())
    }
}

fn column(table: &Table, name: &str, at: Location) -> Result<usize> {
    table.columns.iter().position(|c| c.field.name() == name).ok_or_else(|| {
        let names: Vec<_> = table.columns.iter().map(|c| c.field.name().as_str()).collect();
        let hint = match names.is_empty() {
            true => format!("declare it: CREATE TABLE {} ({name} …)", table.name),
            false => suggest::hint(name, names),
        };
        Fault::at(at, format!("table {} has no column {name}", table.name)).hint(hint)
    })
}

/// One item between the parentheses: a column or a clause. Clauses are told from columns of the same name by the word
/// behind: columns may be called `watermark` or `primary`.
fn element(reader: &mut Reader, table: &mut Table, clauses: &mut Clauses) -> Result<()> {
    let at = reader.place();
    if reader.sees_nth(1, "for") {
        reader.expect_word("WATERMARK")?;
        reader.expect_word("FOR")?;
        return watermark(reader, clauses, at);
    }
    if reader.sees_nth(1, "key") {
        reader.expect_word("PRIMARY")?;
        reader.expect_word("KEY")?;
        if !clauses.primary_key.is_empty() {
            return Err(
                Fault::at(at, "the table has two primary keys").hint("name all columns of the key in one PRIMARY KEY (a, b)")
            );
        }
        reader.list("primary key", |r| name_into(r, &mut clauses.primary_key))?;
        reader.takes(&["not", "enforced"]);
        return Ok(());
    }
    if reader.parser.consume_token(&Token::Mul) {
        return match clauses.star.replace((table.columns.len(), at)) {
            None => Ok(()),
            Some(_) => Err(Fault::at(at, "the table has '*' twice")),
        };
    }
    let (name, location) = reader.name("a column's name")?;
    if table.columns.iter().any(|c| *c.field.name() == name) {
        return Err(Fault::at(location, format!("table {} has two columns {name}", table.name)));
    }
    table.columns.push(new_column(reader, name, location, clauses)?);
    Ok(())
}

/// A type. sqlparser knows `MAP(KEY, VALUE)`; Flink and Spark write `MAP<KEY, VALUE>`.
fn type_of(reader: &mut Reader) -> Result<SqlType> {
    if !reader.sees_nth(0, "map") || reader.parser.peek_nth_token_ref(1).token != Token::Lt {
        return Ok(reader.parser.parse_data_type()?);
    }
    reader.parser.advance_token();
    reader.parser.advance_token();
    let key = reader.parser.parse_data_type()?;
    reader.parser.expect_token(&Token::Comma)?;
    let value = reader.parser.parse_data_type()?;
    reader.parser.expect_token(&Token::Gt)?;
    Ok(SqlType::Map(Box::new(key), Box::new(value)))
}

/// A column, from behind its name on: its type, then NOT NULL, METADATA and PRIMARY KEY in any order.
fn new_column(reader: &mut Reader, name: String, location: Location, clauses: &mut Clauses) -> Result<Column> {
    let at = reader.place();
    if matches!(reader.parser.peek_token_ref().token, Token::Comma | Token::RParen) {
        return Err(reader.expected(&format!("the type of column {name}")).hint(format!("such as {name} VARCHAR")));
    }
    let data_type = arrow_type(&type_of(reader)?, at)?;
    let (mut nullable, mut metadata) = (true, None);
    loop {
        if reader.takes(&["not", "null"]) {
            nullable = false;
        } else if reader.takes(&["metadata"]) {
            metadata = Some(metadata_of(reader, &name, &data_type, location)?);
        } else if reader.takes(&["primary", "key"]) {
            clauses.primary_key.push((name.clone(), location));
        } else {
            break;
        }
    }
    if !matches!(reader.parser.peek_token_ref().token, Token::Comma | Token::RParen) {
        return Err(reader.expected("NOT NULL, METADATA, ',' or ')' behind the column's type"));
    }
    Ok(Column { field: Arc::new(Field::new(name, data_type, nullable)), metadata, location })
}

/// `METADATA [FROM 'name']`: without FROM, the column's own name.
fn metadata_of(reader: &mut Reader, column: &str, data_type: &DataType, at: Location) -> Result<Metadata> {
    let (mut name, mut at) = (column.to_owned(), at);
    if reader.takes(&["from"]) {
        at = reader.place();
        match &reader.parser.peek_token_ref().token {
            Token::SingleQuotedString(text) => name.clone_from(text),
            _ => return Err(reader.expected("a metadata name in single quotes").hint("such as METADATA FROM 'offset'")),
        }
        reader.parser.advance_token();
    }
    let Some((_, metadata)) = Metadata::NAMES.iter().find(|(n, _)| *n == name) else {
        let hint = suggest::hint(&name, Metadata::NAMES.iter().map(|(n, _)| *n));
        return Err(Fault::at(at, format!("unknown metadata '{name}'")).hint(hint));
    };
    let (fits, right) = metadata_type(*metadata, data_type);
    match fits {
        true => Ok(*metadata),
        false => Err(Fault::at(at, format!("metadata '{name}' is {right}, not {}", sql_name(data_type)))),
    }
}

fn metadata_type(metadata: Metadata, data_type: &DataType) -> (bool, &'static str) {
    match metadata {
        Metadata::Key => (matches!(data_type, DataType::Utf8 | DataType::Binary), "VARCHAR or BINARY"),
        Metadata::Topic => (*data_type == DataType::Utf8, "VARCHAR"),
        Metadata::Partition => (*data_type == DataType::Int32, "INT"),
        Metadata::Offset => (*data_type == DataType::Int64, "BIGINT"),
        Metadata::Timestamp | Metadata::ProcessingTime => (*data_type == timestamp(), "TIMESTAMP"),
        Metadata::Headers => (is_headers(data_type), "STRUCT<key VARCHAR, value BINARY>[] or MAP<VARCHAR, BINARY>"),
    }
}

fn is_headers(data_type: &DataType) -> bool {
    let (DataType::List(item) | DataType::Map(item, _)) = data_type else { return false };
    let DataType::Struct(fields) = item.data_type() else { return false };
    let is = |i: usize, name: &str, types: &[DataType]| {
        fields.get(i).is_some_and(|f| f.name() == name && types.contains(f.data_type()))
    };
    fields.len() == 2 && is(0, "key", &[DataType::Utf8]) && is(1, "value", &[DataType::Utf8, DataType::Binary])
}

/// `WATERMARK FOR column AS column [- INTERVAL '…']`, from behind FOR on.
fn watermark(reader: &mut Reader, clauses: &mut Clauses, at: Location) -> Result<()> {
    if clauses.watermark.is_some() {
        return Err(Fault::at(at, "the table has two watermarks").hint("a table has one event time: remove one"));
    }
    let (name, column_at) = reader.name("the event-time column")?;
    reader.expect_word("AS")?;
    let expr_at = reader.place();
    let delay = delay(&reader.parser.parse_expr()?, &name).ok_or_else(|| {
        Fault::at(expr_at, "a watermark trails its column by a fixed time, in days or less")
            .hint(format!("write WATERMARK FOR {name} AS {name} - INTERVAL '10 minutes'"))
    })?;
    clauses.watermark = Some((name, column_at, delay));
    Ok(())
}

fn delay(expr: &Expr, column: &str) -> Option<Duration> {
    let is_column = |e: &Expr| matches!(e, Expr::Identifier(ident) if normal(ident) == column);
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::Minus, right } if is_column(left) => match right.as_ref() {
            Expr::Interval(interval) => interval_length(interval),
            _ => None,
        },
        other => is_column(other).then_some(Duration::ZERO),
    }
}

/// The length of `INTERVAL '10 minutes'` or `INTERVAL '10' MINUTE`; none for months and for negative ones.
fn interval_length(interval: &Interval) -> Option<Duration> {
    let text = match interval.value.as_ref() {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text) | Value::Number(text, _), .. }) => text,
        _ => return None,
    };
    let text = match &interval.leading_field {
        Some(unit) => format!("{text} {unit}"),
        None => text.clone(),
    };
    let parts = parse_interval_month_day_nano(&text).ok().filter(|parts| parts.months == 0)?;
    let nanos = i128::from(parts.days) * 86_400_000_000_000 + i128::from(parts.nanoseconds);
    Some(Duration::from_micros(u64::try_from(nanos / 1000).ok()?))
}

fn name_into(reader: &mut Reader, names: &mut Vec<(String, Location)>) -> Result<()> {
    let (name, at) = reader.name("a column's name")?;
    if names.iter().any(|(n, _)| *n == name) {
        return Err(Fault::at(at, format!("column {name} is named twice")));
    }
    names.push((name, at));
    Ok(())
}

/// How a script writes an arrow type, for messages.
fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 => "VARCHAR".to_owned(),
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "FLOAT".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Binary => "BINARY".to_owned(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => "TIMESTAMP".to_owned(),
        DataType::List(item) => format!("{}[]", sql_name(item.data_type())),
        DataType::Struct(_) => "a STRUCT".to_owned(),
        other => other.to_string(),
    }
}
