//! What the planner refuses: the reason, what to write instead, and where it stands once somebody knows.

use datafusion::common::{DataFusionError, SchemaError};
use riverrun_engine::table::Location;

use crate::error::ScriptError;
use crate::script::Script;
use crate::suggest;

/// The result type of planning.
pub(crate) type Result<T, E = Refusal> = std::result::Result<T, E>;

/// An error that does not know its script yet.
#[derive(Debug)]
pub(crate) struct Refusal {
    message: String,
    hint: Option<String>,
    at: Option<Location>,
}

impl Refusal {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, at: None }
    }

    /// What to write instead.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The place, unless a more exact one is known.
    pub(crate) fn or_at(mut self, location: Location) -> Self {
        self.at = self.at.or(Some(location)).filter(|at| at.line > 0);
        self
    }

    /// The place, where one is known.
    pub(crate) fn or_at_some(self, location: Option<Location>) -> Self {
        match location {
            Some(location) => self.or_at(location),
            None => self,
        }
    }

    /// The error as users see it: with the file and the line.
    pub(crate) fn into_error(self, script: &Script) -> ScriptError {
        ScriptError { hint: self.hint, ..script.error(self.at.unwrap_or_default(), self.message) }
    }

    /// Puts what it is about before the message.
    pub(crate) fn within(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Names the table that was meant, where a query names one that is not there.
    pub(crate) fn suggest_table<'a>(self, names: impl Iterator<Item = &'a str>) -> Self {
        let missing = self.message.strip_prefix("table '").and_then(|m| m.strip_suffix("' not found"));
        match missing.and_then(|name| suggest::nearest(name, names)) {
            Some(near) => {
                let hint = format!("did you mean {near}?");
                self.hint(hint)
            }
            None => self,
        }
    }
}

impl From<DataFusionError> for Refusal {
    fn from(error: DataFusionError) -> Self {
        let root = error.find_root();
        let (message, hint) = match root {
            DataFusionError::SchemaError(e, _) => schema_error(e),
            other => (first_line(&other.message()), None),
        };
        let Some(diagnostic) = error.diagnostic() else { return Self { message, hint, at: None } };
        let at = diagnostic.span.map(|span| Location { line: span.start.line, column: span.start.column });
        let notes = diagnostic.notes.iter().map(|n| &n.message).chain(diagnostic.helps.iter().map(|h| &h.message));
        let notes: Vec<_> = notes.map(String::as_str).collect();
        let hint = hint.or_else(|| (!notes.is_empty()).then(|| notes.join("; ")));
        Self { message: diagnostic.message.clone(), hint, at }
    }
}

/// A column that is not there, with the nearest one that is; or one that is there twice.
fn schema_error(error: &SchemaError) -> (String, Option<String>) {
    let twice = |name: &str| (format!("two columns are named {name}"), Some("name one of them otherwise: … AS other".to_owned()));
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let hint = suggest::hint(&field.name, valid_fields.iter().map(|c| c.name.as_str()));
            (format!("column '{}' not found", field.name), Some(hint))
        }
        SchemaError::AmbiguousReference { field } => twice(&field.name),
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => twice(name),
    }
}

/// DataFusion explains on further lines what only its own authors need.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

impl From<riverrun_engine::Error> for Refusal {
    fn from(error: riverrun_engine::Error) -> Self {
        let (at, message) = match leading_location(error.message()) {
            Some((at, rest)) => (Some(at), rest.to_owned()),
            None => (None, error.message().to_owned()),
        };
        Self { message, hint: error.hint_text().map(str::to_owned), at }
    }
}

/// Options put their place before the message: `12:5: option 'x': …`.
fn leading_location(message: &str) -> Option<(Location, &str)> {
    let (line, rest) = message.split_once(':')?;
    let (column, rest) = rest.split_once(": ")?;
    Some((Location { line: line.parse().ok()?, column: column.parse().ok()? }, rest))
}
