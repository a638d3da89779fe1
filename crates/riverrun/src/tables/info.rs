//! What the tables of a program are, for people who ask.

use arrow::datatypes::{DataType, Field};
use riverrun_connectors::format::sql_type;
use riverrun_engine::Error;
use riverrun_engine::connect::Connectors;
use riverrun_engine::table::Table;
use riverrun_serve::protocol::{ColumnInfo, TableInfo};

use super::all;
use crate::Program;

/// All tables of the graph; `missing` could not be opened.
pub fn tables(program: &Program, missing: &[(String, Error)]) -> Vec<TableInfo> {
    let table = |table: &Table| {
        let connector = table.connector().unwrap_or_default();
        let problem = match missing.iter().find(|(name, _)| *name == table.name) {
            Some((_, why)) => Some(why.to_string()),
            None if program.registry.check(table).is_ok_and(|can| can.source) => None,
            None => Some(format!("what goes to {connector} cannot be read back")),
        };
        let role = if program.graph.sources().any(|(_, s)| s.table.name == table.name) { "source" } else { "sink" };
        TableInfo {
            name: table.name.clone(),
            connector,
            role: role.to_owned(),
            primary_key: table.primary_key.clone(),
            time: time(table),
            columns: table.columns.iter().map(|c| column(&c.field)).collect(),
            readable: problem.is_none(),
            problem,
        }
    };
    all(program).iter().map(table).collect()
}

/// A column as people write it.
pub fn column(field: &Field) -> ColumnInfo {
    ColumnInfo { name: field.name().clone(), data_type: sql_type(field.data_type()), nullable: field.is_nullable() }
}

/// The column that tells when: of the watermark, else the first time of the key, else the first time.
fn time(table: &Table) -> Option<String> {
    if let Some(watermark) = &table.watermark {
        return Some(table.columns[watermark.column].field.name().clone());
    }
    let mut times = table.columns.iter().filter(|c| matches!(c.field.data_type(), DataType::Timestamp(..)));
    let of_key = times.clone().find(|c| table.primary_key.contains(c.field.name()));
    of_key.or_else(|| times.next()).map(|c| c.field.name().clone())
}
