//! Errors, named by what the caller must do about them.

use std::fmt;

/// What a caller must do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Unreachable, overloaded, timed out: try again with backoff, tell once.
    Transient,
    /// Wrong password, type mismatch, disk full: the pipeline stops with this message.
    Permanent,
    /// What the user wrote cannot be carried out: wrong option, unsupported query. Found before anything runs.
    Invalid,
}

/// An error of the engine, a source or a sink: what was wrong, where, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

/// The result type of the engine and of connectors.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error that may pass by itself.
    pub fn transient(message: impl Into<String>) -> Self {
        Self { kind: Kind::Transient, message: message.into(), hint: None }
    }

    /// An error that stops the pipeline.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { kind: Kind::Permanent, message: message.into(), hint: None }
    }

    /// A fault in the script or the options.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { kind: Kind::Invalid, message: message.into(), hint: None }
    }

    /// Adds what the user can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts where it happened before the message: `"sink aggregates: …"`.
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// What the caller must do.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        self.kind == Kind::Transient
    }

    /// The message without the hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the user can do, where known.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(e: arrow::error::ArrowError) -> Self {
        Error::permanent(e.to_string())
    }
}

impl From<datafusion_common::DataFusionError> for Error {
    fn from(e: datafusion_common::DataFusionError) -> Self {
        Error::permanent(e.strip_backtrace())
    }
}
