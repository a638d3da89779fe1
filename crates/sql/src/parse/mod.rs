//! Parses a script: variables, then SQL's own statements by sqlparser, and by hand the body of `CREATE TABLE`, of which
//! sqlparser knows neither METADATA nor WATERMARK.
//!
//! Invariant: tokens carry the places of the text that the user wrote, so every error and every span of a query does too.

mod create_table;
mod fault;
mod open;
mod options;
mod reader;
mod statement;
#[cfg(test)]
mod tests;
mod types;
mod typo;
mod variables;

use datafusion::sql::sqlparser::ast::Query;

pub(crate) use create_table::Open;
pub(crate) use fault::{Fault, place};
pub use open::resolve;
pub(crate) use types::arrow_type;

use crate::ScriptError;
use crate::hop;
use crate::script::Script;
use reader::Reader;

/// Parses the script `text` of the file `file`; `variables` gives the values of `${NAME}`.
///
/// # Errors
/// The first mistake: its place in `text`, the reason, and what to write instead.
pub fn parse(file: &str, text: &str, variables: &dyn Fn(&str) -> Option<String>) -> Result<Script, ScriptError> {
    let mut script = Script { file: file.to_owned(), text: text.to_owned(), ..Script::default() };
    parse_into(&mut script, text, variables).map_err(|fault| fault.into_error(file, text))?;
    Ok(script)
}

fn parse_into(script: &mut Script, text: &str, variables: &dyn Fn(&str) -> Option<String>) -> fault::Result<()> {
    let mut reader = Reader::new(&variables::replace(text, variables)?)?;
    while reader.next_statement() {
        let parsed = statement::parse(&mut reader, script).and_then(|()| reader.end_of_statement());
        parsed.map_err(|fault| typo::explain(fault, &reader))?;
    }
    Ok(())
}

/// Parses one query, such as one typed at a prompt, with `hop()` rewritten ([`crate::hop`]).
///
/// # Errors
/// As [`parse`]; text that is no single query.
pub fn parse_query(file: &str, text: &str) -> Result<Query, ScriptError> {
    let read = || {
        let mut reader = Reader::new(&variables::replace(text, &|_| None)?)?;
        let query = statement::query(&mut reader).and_then(|query| reader.end_of_statement().map(|()| query));
        let query = query.map_err(|fault| typo::explain(fault, &reader))?;
        if reader.next_statement() {
            return Err(Fault::at(reader.place(), "one query at a time"));
        }
        Ok(query)
    };
    read().map_err(|fault| fault.into_error(file, text))
}

fn rewrite_hop(mut query: Query) -> fault::Result<Query> {
    hop::rewrite_node(&mut query)?;
    Ok(query)
}
