//! A table as a script declares it: columns, time, keys and options. The SQL crate makes it, connectors read it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};

use crate::{Error, Result};

/// A place in a script, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Location {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What a metadata column reads from the record itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metadata {
    /// The record's key, VARCHAR or BINARY.
    Key,
    /// The topic (for files: the path), VARCHAR.
    Topic,
    /// The partition, INT.
    Partition,
    /// The offset in the partition, BIGINT.
    Offset,
    /// The record's own (broker) time, TIMESTAMP.
    Timestamp,
    /// The headers, a list of structs (key VARCHAR, value BINARY or VARCHAR).
    Headers,
    /// The clock of the epoch that read the record, TIMESTAMP.
    ProcessingTime,
}

impl Metadata {
    /// All of them, by the names that scripts use.
    pub const NAMES: [(&'static str, Metadata); 7] = [
        ("key", Metadata::Key),
        ("topic", Metadata::Topic),
        ("partition", Metadata::Partition),
        ("offset", Metadata::Offset),
        ("timestamp", Metadata::Timestamp),
        ("headers", Metadata::Headers),
        ("processing_time", Metadata::ProcessingTime),
    ];
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Name, type and whether it may be NULL.
    pub field: FieldRef,
    /// Set for columns that come from the record's metadata rather than its payload.
    pub metadata: Option<Metadata>,
    /// Where it is declared.
    pub location: Location,
}

/// `WATERMARK FOR column AS column - INTERVAL delay`.
#[derive(Debug, Clone, PartialEq)]
pub struct Watermark {
    /// Index of the event-time column in [`Table::columns`].
    pub column: usize,
    /// How far the watermark trails the greatest event time seen.
    pub delay: Duration,
}

/// A table as declared.
#[derive(Debug, Clone)]
pub struct Table {
    /// Name in the script.
    pub name: String,
    /// Columns; empty for a sink whose columns the query gives.
    pub columns: Vec<Column>,
    /// Event time, for sources.
    pub watermark: Option<Watermark>,
    /// `PARTITIONED BY`: what the topic is keyed by. Column indices.
    pub partitioned_by: Vec<usize>,
    /// `PRIMARY KEY`: column names, since the columns may come from the query.
    pub primary_key: Vec<String>,
    /// `WITH (…)`.
    pub options: Options,
    /// Where `CREATE TABLE` stands.
    pub location: Location,
}

impl Table {
    /// The arrow schema of all columns, in order.
    pub fn schema(&self) -> SchemaRef {
        std::sync::Arc::new(Schema::new(self.columns.iter().map(|c| c.field.clone()).collect::<Vec<_>>()))
    }

    /// The connector's name.
    pub fn connector(&self) -> Result<String> {
        self.options.required("connector")
    }
}

/// An option's value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct OptionValue {
    /// The text, variables replaced.
    pub value: String,
    /// Where it stands.
    pub location: Location,
}

/// `WITH (name = 'value', …)`, read by name and type. Unknown names are the registry's to refuse.
#[derive(Debug, Clone, Default)]
pub struct Options {
    values: BTreeMap<String, OptionValue>,
}

impl Options {
    /// Options from names and values.
    pub fn new(values: BTreeMap<String, OptionValue>) -> Self {
        Self { values }
    }

    /// Options for tests and programs: values without a place.
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        let value = |v: &str| OptionValue { value: v.to_owned(), location: Location::default() };
        Self::new(pairs.iter().map(|(k, v)| ((*k).to_owned(), value(v))).collect())
    }

    /// The text of an option.
    pub fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).map(|v| v.value.clone())
    }

    /// The text of an option that must be there.
    pub fn required(&self, name: &str) -> Result<String> {
        self.get(name).ok_or_else(|| {
            Error::invalid(format!("the option '{name}' is missing")).hint(format!("add {name} = '…' to WITH (…)"))
        })
    }

    /// An option of any type that parses from text, such as a number or `true`/`false`.
    pub fn parse<T: FromStr>(&self, name: &str, what: &str) -> Result<Option<T>> {
        self.get(name)
            .map(|text| text.trim().parse().map_err(|_| self.error(name, &format!("'{text}' is not {what}"))))
            .transpose()
    }

    /// A duration such as `'10 seconds'`, `'5 minutes'`, `'100 ms'`, or plain milliseconds.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>> {
        self.get(name)
            .map(|text| {
                parse_duration(&text).ok_or_else(|| self.error(name, &format!("'{text}' is not a duration such as '10 seconds'")))
            })
            .transpose()
    }

    /// A size in bytes such as `'64 MiB'`, `'10 kB'` or a plain number.
    pub fn bytes(&self, name: &str) -> Result<Option<u64>> {
        self.get(name)
            .map(|text| parse_bytes(&text).ok_or_else(|| self.error(name, &format!("'{text}' is not a size such as '64 MiB'"))))
            .transpose()
    }

    /// One of a few words.
    pub fn one_of<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        if let Some((_, v)) = words.iter().find(|(w, _)| w.eq_ignore_ascii_case(text.trim())) {
            return Ok(Some(*v));
        }
        let list: Vec<_> = words.iter().map(|(w, _)| *w).collect();
        Err(self.error(name, &format!("'{text}' is not one of {}", list.join(", "))))
    }

    /// An error about an option, with its place in the script.
    pub fn error(&self, name: &str, what: &str) -> Error {
        match self.values.get(name).map(|v| v.location) {
            Some(at) if at != Location::default() => Error::invalid(format!("{at}: option '{name}': {what}")),
            _ => Error::invalid(format!("option '{name}': {what}")),
        }
    }

    /// All options, whether read or not.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &OptionValue)> {
        self.values.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// The same options with one set or replaced.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut values = self.values.clone();
        values.insert(name.to_owned(), OptionValue { value: value.to_owned(), location: Location::default() });
        Self::new(values)
    }

    /// The same options without one.
    pub fn without(&self, name: &str) -> Self {
        let mut values = self.values.clone();
        values.remove(name);
        Self::new(values)
    }
}

/// Parses `'10 seconds'`, `'1 minute'`, `'100ms'`, `'0'`: a number and a unit, milliseconds where there is none.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let seconds = match unit.as_str() {
        "" | "ms" | "millisecond" | "milliseconds" => 1e-3,
        "us" | "microsecond" | "microseconds" => 1e-6,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok()
}

/// Parses `'64 MiB'`, `'10 kB'`, `'4096'`.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let factor: f64 = match unit.as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    (number >= 0.0).then_some((number * factor) as u64)
}

fn split_unit(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    Some((text[..at].parse().ok()?, text[at..].trim().to_ascii_lowercase()))
}

/// What a connector can do with a table, for the planner.
#[derive(Debug, Clone, Default)]
pub struct Capabilities {
    /// Can be read from.
    pub source: bool,
    /// Can be written to.
    pub sink: bool,
    /// As a sink, can replace a row by key.
    pub upsert: bool,
    /// As a sink, can take a row back by key.
    pub delete: bool,
    /// Options that belong to another connector and are ignored here.
    pub ignored: Vec<String>,
}

/// How a sink wants the rows of stateful operators (the option `emit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Emit {
    /// Changed rows at each trigger.
    Update,
    /// Each row once, when it is final.
    Append,
}
