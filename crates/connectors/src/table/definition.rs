//! What the store keeps of a table: its columns and its key, as JSON. Types are written as arrow writes them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use riverrun_engine::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::format::sql_type;

/// The form of rows and of this definition: 1 = arrow's row encoding of key and value.
const VERSION: u32 = 1;

/// The columns and the key of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Definition {
    version: u32,
    columns: Vec<(String, String)>,
    key: Vec<String>,
}

impl Definition {
    /// The definition of a table whose rows have `schema` and whose key is `key` (column indices).
    pub(super) fn of(schema: &Schema, key: &[usize]) -> Result<Self> {
        if key.is_empty() {
            return Err(Error::invalid("a table needs a PRIMARY KEY: by which key are its rows replaced?")
                .hint("add PRIMARY KEY (column, …) to CREATE TABLE"));
        }
        let column = |field: &Arc<Field>| {
            let text = field.data_type().to_string();
            // Read back when the table is opened without a script.
            match text.parse::<DataType>() {
                Ok(parsed) if parsed == *field.data_type() => Ok((field.name().clone(), text)),
                _ => Err(Error::invalid(format!(
                    "column {} is a {}, which a table cannot keep",
                    field.name(),
                    sql_type(field.data_type())
                ))),
            }
        };
        let columns = schema.fields().iter().map(column).collect::<Result<_>>()?;
        let key = key.iter().map(|c| schema.field(*c).name().clone()).collect();
        Ok(Self { version: VERSION, columns, key })
    }

    /// Reads what [`write`](Self::write) wrote.
    pub(super) fn read(name: &str, bytes: &[u8]) -> Result<Self> {
        let damaged = |e: serde_json::Error| Error::permanent(format!("the definition of table {name} is damaged: {e}"));
        let definition: Self = serde_json::from_slice(bytes).map_err(damaged)?;
        match definition.version {
            VERSION => Ok(definition),
            other => Err(Error::permanent(format!("table {name} is of version {other}; this program reads version {VERSION}"))
                .hint("use the program that wrote it, or a newer one")),
        }
    }

    pub(super) fn write(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::permanent(format!("the definition of a table: {e}")))
    }

    /// The schema of its rows.
    pub(super) fn schema(&self) -> Result<SchemaRef> {
        let field = |(name, text): &(String, String)| Ok(Field::new(name, text.parse::<DataType>()?, true));
        Ok(Arc::new(Schema::new(self.columns.iter().map(field).collect::<Result<Vec<_>>>()?)))
    }

    /// The names of the key's columns.
    pub(super) fn key(&self) -> &[String] {
        &self.key
    }

    /// The indices of the key's columns.
    pub(super) fn key_columns(&self) -> Vec<usize> {
        self.key.iter().filter_map(|k| self.columns.iter().position(|(name, _)| name == k)).collect()
    }

    /// Refuses a table `name` that is another one than this, which is kept already, by what differs.
    pub(super) fn check_same(&self, name: &str, other: &Self) -> Result<()> {
        if self == other {
            return Ok(());
        }
        let mut differences = Vec::new();
        for (column, kept) in &self.columns {
            match other.columns.iter().find(|(c, _)| c == column) {
                None => differences.push(format!("column {column} is kept but no longer written")),
                Some((_, now)) if now != kept => differences.push(format!("column {column} was {kept} and is now {now}")),
                Some(_) => {}
            }
        }
        let new = other.columns.iter().filter(|(column, _)| !self.columns.iter().any(|(c, _)| c == column));
        differences.extend(new.map(|(column, _)| format!("column {column} is new")));
        if self.key != other.key {
            differences.push(format!("the key was ({}) and is now ({})", self.key.join(", "), other.key.join(", ")));
        }
        if differences.is_empty() {
            differences.push("its columns stand in another order".to_owned());
        }
        Err(Error::invalid(format!("table {name} is kept already, and it is another: {}", differences.join("; ")))
            .hint("keep the columns, or write to a table of another name (option 'table')"))
    }
}
