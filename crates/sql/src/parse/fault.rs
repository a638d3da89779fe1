//! An error while parsing, before it knows the file: made into a [`ScriptError`] at the top.

use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{self, TokenizerError};
use riverrun_engine::table::Location;

use crate::ScriptError;

/// What is wrong, where, and what to write instead. Line 0: at the end of what was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The place.
    pub location: Location,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// The result type of the parser's parts.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

impl Fault {
    /// An error at a place.
    pub fn at(location: Location, message: impl Into<String>) -> Self {
        Self { location, message: message.into(), hint: None }
    }

    /// Adds what to write instead.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same as an error of a script.
    pub fn into_error(self, file: &str, text: &str) -> ScriptError {
        let error = ScriptError::new(file, text, self.location, self.message);
        ScriptError { hint: self.hint, ..error }
    }
}

/// A place as the tokenizer counts it is one of ours.
pub fn place(location: tokenizer::Location) -> Location {
    Location { line: location.line, column: location.column }
}

/// sqlparser writes the place into the message: `Expected: …, found: … at Line: 3, Column: 7`.
impl From<ParserError> for Fault {
    fn from(error: ParserError) -> Self {
        let text = match error {
            ParserError::ParserError(text) | ParserError::TokenizerError(text) => text,
            ParserError::RecursionLimitExceeded => "the expression is nested too deeply".to_owned(),
        };
        let (message, location) = split_place(&text).unwrap_or((&text, Location::default()));
        let message = message.replacen("Expected: ", "expected ", 1).replacen("Expected ", "expected ", 1);
        let message = message.replacen("found: EOF", "found the end of the script", 1).replacen("found: ", "found ", 1);
        Self::at(location, message)
    }
}

fn split_place(text: &str) -> Option<(&str, Location)> {
    let (message, place) = text.rsplit_once(" at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    let digits = column.find(|c: char| !c.is_ascii_digit()).unwrap_or(column.len());
    Some((message, Location { line: line.parse().ok()?, column: column[..digits].parse().ok()? }))
}

impl From<TokenizerError> for Fault {
    fn from(error: TokenizerError) -> Self {
        let fault = Self::at(place(error.location), error.message.clone());
        match error.message.as_str() {
            "Unterminated string literal" => fault.named("a text begins here and is never closed", "close it with '"),
            m if m.starts_with("Expected close delimiter") => {
                fault.named("a quoted name begins here and is never closed", "close it with \"")
            }
            _ => fault,
        }
    }
}

impl Fault {
    fn named(mut self, message: &str, hint: &str) -> Self {
        message.clone_into(&mut self.message);
        self.hint(hint)
    }
}
