//! A table as the rows need it, and how one that is there differs.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema};
use riverrun_engine::{Error, Result};
use scylla::cluster::metadata::{Column, ColumnKind, ColumnType, Table, UserDefinedType};

use super::config::Config;
use super::types::{self, Naming};

/// Columns and key of a table that can hold the rows.
pub(super) struct Definition {
    pub keyspace: String,
    pub name: String,
    /// In the order of the rows.
    pub columns: Vec<(String, ColumnType<'static>)>,
    pub partition: Vec<String>,
    pub clustering: Vec<String>,
    /// Whether the partition key was chosen, rather than the default.
    partition_is_given: bool,
}

impl Definition {
    /// For rows of this schema, by this key.
    pub fn of(config: &Config, schema: &Schema, key: &[usize]) -> Result<Self> {
        let naming = Naming { keyspace: &config.keyspace, table: &config.table, timestamps: config.timestamps };
        let column = |field: &FieldRef| Ok((field.name().clone(), naming.column(field)?));
        let columns = schema.fields().iter().map(column).collect::<Result<_>>()?;
        let key: Vec<_> = key.iter().map(|i| schema.field(*i).name().clone()).collect();
        let partition = config.partition_key.clone().unwrap_or_else(|| key[..1].to_vec());
        let clustering = key.into_iter().filter(|name| !partition.contains(name)).collect();
        let partition_is_given = config.partition_key.is_some();
        Ok(Self {
            keyspace: config.keyspace.clone(),
            name: config.table.clone(),
            columns,
            partition,
            clustering,
            partition_is_given,
        })
    }

    /// The user-defined types that the table needs, in the order in which they can be created.
    pub fn user_types(&self) -> Vec<Arc<UserDefinedType<'static>>> {
        let mut found = Vec::new();
        self.columns.iter().for_each(|(_, typ)| types::user_types(typ, &mut found));
        found
    }

    /// The types of the columns as they are in the table, in the order of the rows.
    ///
    /// # Errors
    /// Whatever the table has otherwise than the rows need it, all at once. Columns that the rows do not have may be there.
    pub fn check(&self, table: &Table) -> Result<Vec<ColumnType<'static>>> {
        let mut lines: Vec<_> = self.columns.iter().filter_map(|column| unlike(column, &table.columns)).collect();
        lines.extend(self.unlike_key(table));
        if lines.is_empty() {
            return Ok(self.columns.iter().map(|(name, _)| table.columns[name].typ.clone()).collect());
        }
        let text = format!("table {}.{} does not fit the rows:\n  {}", self.keyspace, self.name, lines.join("\n  "));
        let error = Error::invalid(text);
        Err(match lines.iter().any(|line| line.contains("timestamp in the table") || line.contains("bigint in the table")) {
            true => error.hint(
                "option 'timestamps' says what a TIMESTAMP is; or change the query, or name another table (option 'table')",
            ),
            false => error.hint("change the query or the table, or name another one (option 'table')"),
        })
    }

    fn unlike_key(&self, table: &Table) -> Vec<String> {
        let (there, here) = ((&table.partition_key, &table.clustering_key), (&self.partition, &self.clustering));
        let same_columns = |a: (&Vec<String>, &Vec<String>), b: (&Vec<String>, &Vec<String>)| {
            let has = |name: &String| b.0.contains(name) || b.1.contains(name);
            a.0.len() + a.1.len() == b.0.len() + b.1.len() && a.0.iter().chain(a.1).all(has)
        };
        let line = |what: &str, there: &[String], here: &[String]| {
            format!("{what} is ({}) in the table, ({}) here", there.join(", "), here.join(", "))
        };
        if !same_columns(there, here) {
            let all = |key: (&Vec<String>, &Vec<String>)| key.0.iter().chain(key.1).cloned().collect::<Vec<_>>();
            return vec![line("the primary key", &all(there), &all(here))];
        }
        if self.partition_is_given && self.partition != table.partition_key {
            return vec![line("the partition key", &table.partition_key, &self.partition)];
        }
        Vec::new()
    }
}

fn unlike((name, wanted): &(String, ColumnType<'static>), there: &HashMap<String, Column>) -> Option<String> {
    let Some(column) = there.get(name) else {
        return Some(format!("column {name} ({}) is not in the table", types::text(wanted)));
    };
    if column.kind == ColumnKind::Static {
        return Some(format!("column {name} is static in the table: it is not a row's own"));
    }
    types::unfit(wanted, &column.typ).map(|why| format!("column {name} {why}"))
}
