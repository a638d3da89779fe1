//! What the statements of a session are, and which are refused.
//!
//! Invariant: whatever is not known to change nothing but the session itself is refused.

use datafusion::sql::sqlparser::ast::{Set, Statement};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};

/// Settings of PostgreSQL that clients set and that change nothing here.
const WITHOUT_EFFECT: [&str; 9] = [
    "client_encoding",
    "client_min_messages",
    "default_transaction_read_only",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "row_security",
    "standard_conforming_strings",
    "transaction_read_only",
    "synchronize_seqscans",
];

/// Settings that change how rows are written, or for how long a query may run.
const WITH_EFFECT: [&str; 7] =
    ["statement_timeout", "datestyle", "bytea_output", "intervalstyle", "application_name", "extra_float_digits", "search_path"];

/// What a statement is to a connection that only reads.
pub(super) enum Kind {
    /// Reads tables.
    Query,
    /// Sets something of the session.
    Setting,
    /// Shows a setting.
    Show,
    /// Begins or ends a transaction.
    Transaction,
    /// Forgets what a session keeps: there is nothing.
    Forget(&'static str),
}

/// A refusal with a code of PostgreSQL's (its appendix A).
pub(super) fn refuse(code: &str, why: String) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), code.to_owned(), why)))
}

/// What a statement is, or why it is refused.
pub(super) fn kind(statement: &Statement) -> PgWireResult<Kind> {
    match statement {
        Statement::Query(_)
        | Statement::Explain { .. }
        | Statement::ExplainTable { .. }
        | Statement::ShowTables { .. }
        | Statement::ShowColumns { .. } => Ok(Kind::Query),
        Statement::Set(set) => check_setting(set).map(|()| Kind::Setting),
        Statement::ShowVariable { .. } | Statement::ShowStatus { .. } | Statement::ShowCatalogs { .. } => Ok(Kind::Show),
        Statement::StartTransaction { .. } | Statement::Commit { .. } | Statement::Rollback { .. } => Ok(Kind::Transaction),
        Statement::Discard { .. } => Ok(Kind::Forget("DISCARD ALL")),
        Statement::Deallocate { .. } => Ok(Kind::Forget("DEALLOCATE")),
        other => {
            let text = other.to_string();
            let words = text.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            Err(refuse("25006", format!("cannot execute {words}: tables are written by the pipeline, here they are only read")))
        }
    }
}

/// A session may set what concerns itself: the rest is the program's, and shared.
fn check_setting(set: &Set) -> PgWireResult<()> {
    let name = match set {
        Set::SingleAssignment { hivevar: false, variable, .. } => variable.to_string().to_lowercase(),
        Set::SetTimeZone { .. } | Set::SetNames { .. } | Set::SetNamesDefault {} | Set::SetTransaction { .. } => return Ok(()),
        other => return Err(refuse("42501", format!("{other} is not for a session to set"))),
    };
    let known = WITH_EFFECT.iter().chain(&WITHOUT_EFFECT).any(|known| *known == name);
    match known || name == "timezone" {
        true => Ok(()),
        false => Err(refuse("42501", format!("{name} is not for a session to set"))),
    }
}

/// A setting that the library would hand on to DataFusion, where it is everyone's.
pub(super) fn without_effect(set: &Set) -> bool {
    match set {
        Set::SingleAssignment { scope: Some(_), .. } => true,
        Set::SingleAssignment { variable, .. } => !WITH_EFFECT.contains(&variable.to_string().to_lowercase().as_str()),
        Set::SetTimeZone { .. } => false,
        _ => true,
    }
}
