//! A script as parsed: settings, tables, views and inserts, each with its place.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::Query;
use riverrun_engine::table::{Location, OptionValue, Table};

/// A parsed script. Order among statements of one kind is kept; names are resolved by the planner.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Name of the file, for messages.
    pub file: String,
    /// The text after variables were replaced, for messages that show the line.
    pub text: String,
    /// `SET name = value`.
    pub settings: BTreeMap<String, OptionValue>,
    /// `CREATE TABLE`.
    pub tables: Vec<Table>,
    /// `CREATE VIEW`.
    pub views: Vec<View>,
    /// `INSERT INTO … SELECT`.
    pub inserts: Vec<Insert>,
}

/// `CREATE VIEW name AS query`.
#[derive(Debug, Clone)]
pub struct View {
    /// Its name.
    pub name: String,
    /// The query, window functions hop() already written as unnest.
    pub query: Query,
    /// Where it stands.
    pub location: Location,
}

/// `INSERT INTO table [(columns)] query`.
#[derive(Debug, Clone)]
pub struct Insert {
    /// The sink.
    pub table: String,
    /// Columns named, in order; empty: all.
    pub columns: Vec<String>,
    /// The query.
    pub query: Query,
    /// Where it stands.
    pub location: Location,
}
