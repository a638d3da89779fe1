//! A script as parsed: settings, tables, views and inserts, each with its place.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::Query;
use riverrun_engine::table::{Location, OptionValue, Table};

use crate::ScriptError;
use crate::parse::Open;

/// A parsed script. Order among statements of one kind is kept; names are resolved by the planner.
///
/// Every place in it, the spans within the queries included, is one of the text that the user wrote, before variables
/// were replaced.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Name of the file, for messages.
    pub file: String,
    /// The text as the user wrote it, for messages that show the line.
    pub text: String,
    /// `SET name = value`; of several for one name, the last.
    pub settings: BTreeMap<String, OptionValue>,
    /// `CREATE TABLE`.
    pub tables: Vec<Table>,
    /// Tables whose columns a schema registry tells, by name, until it was asked ([`crate::resolve`]).
    pub(crate) open: BTreeMap<String, Open>,
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
    /// The query, `hop()` already written as a table of windows ([`crate::hop`]).
    pub query: Query,
    /// Where its name stands.
    pub location: Location,
}

/// `INSERT INTO table [(columns)] query`.
#[derive(Debug, Clone)]
pub struct Insert {
    /// The sink.
    pub table: String,
    /// Columns named, in order; empty: all.
    pub columns: Vec<String>,
    /// The query, `hop()` already written as a table of windows ([`crate::hop`]).
    pub query: Query,
    /// Where the sink's name stands.
    pub location: Location,
}

impl Script {
    /// An error at a place of this script; the default location means the script as a whole.
    pub fn error(&self, location: Location, message: impl Into<String>) -> ScriptError {
        ScriptError::new(&self.file, &self.text, location, message)
    }

    /// Checks that there is something to run.
    ///
    /// # Errors
    /// The script has no `INSERT`.
    pub fn require_insert(&self) -> Result<(), ScriptError> {
        if !self.inserts.is_empty() {
            return Ok(());
        }
        let message = "the script has no INSERT: nothing would run";
        Err(self.error(Location::default(), message).hint("add INSERT INTO <sink table> SELECT … FROM <source table or view>;"))
    }
}
