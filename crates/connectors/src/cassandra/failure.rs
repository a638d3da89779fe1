//! The client's errors in our words: what may pass by itself, what must be corrected.
//!
//! Invariant: no message holds a password; the client never has it in one.

use riverrun_engine::Error;
use riverrun_engine::error::Kind;
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind as Setup, DbError, ExecutionError, MetadataError,
    NewSessionError, PrepareError, RequestAttemptError,
};

use super::config::Config;

/// Why no session came about.
pub(super) fn connecting(error: &NewSessionError, config: &Config) -> Error {
    let nodes = config.nodes();
    match error {
        NewSessionError::FailedToResolveAnyHostname(names) => {
            Error::transient(format!("Cassandra: no address is known for {}", names.join(", ")))
                .hint("is the name right? (option 'contact_points')")
        }
        NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
            last_connection_error,
        })) => connection(last_connection_error, config),
        other => Error::transient(format!("Cassandra at {nodes}: {other}")).hint("is it running? (option 'contact_points')"),
    }
}

/// Why a connection did not come about.
fn connection(error: &ConnectionError, config: &Config) -> Error {
    let nodes = config.nodes();
    match error {
        ConnectionError::ConnectionSetupRequestError(setup) => match setup.get_error() {
            Setup::MissingAuthentication => Error::permanent(format!("Cassandra at {nodes} asks for a login"))
                .hint("add username = '…', password = '${CASSANDRA_PASSWORD}'"),
            // It could not look the user up.
            Setup::DbError(DbError::AuthenticationError, told) if told.starts_with("Unable to perform authentication") => {
                Error::transient(format!("Cassandra at {nodes} cannot let anybody in: {told}"))
            }
            Setup::DbError(DbError::AuthenticationError, told) => {
                let user = config.login.as_ref().map_or("", |login| login.username.as_str());
                Error::permanent(format!("Cassandra at {nodes} does not let in user '{user}': {told}"))
                    .hint("correct the options 'username' and 'password'")
            }
            _ => unreachable_at(&nodes, &error.to_string(), config),
        },
        ConnectionError::IoError(io) => match io.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            Some(tls) => tls_failed(tls, &nodes),
            None => unreachable_at(&nodes, &io.to_string(), config),
        },
        other => unreachable_at(&nodes, &other.to_string(), config),
    }
}

fn unreachable_at(nodes: &str, why: &str, config: &Config) -> Error {
    let hint = match &config.tls {
        None => "is it running, and is 'contact_points' right? Where it speaks TLS only, add tls = 'true'",
        Some(tls) if tls.identity.is_none() => {
            "is it running, and is 'contact_points' right? Where it asks for a certificate, give 'ssl_certificate_location'"
        }
        Some(_) => "is it running, and is 'contact_points' right?",
    };
    Error::transient(format!("Cassandra at {nodes} cannot be reached: {}", why.trim_end_matches('.'))).hint(hint)
}

fn tls_failed(error: &rustls::Error, nodes: &str) -> Error {
    use rustls::{CertificateError as Bad, Error as Tls};
    let failed = Error::permanent(format!("Cassandra at {nodes}: TLS failed: {error}"));
    match error {
        Tls::InvalidCertificate(Bad::UnknownIssuer) => {
            failed.hint("its certificate is signed by nobody that is trusted: name who signed it (option 'ssl_ca_location')")
        }
        Tls::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            failed.hint("its certificate has expired: renew it")
        }
        Tls::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            failed.hint("its certificate is not for this address: add the address to it, or ssl_endpoint_identification = 'none'")
        }
        Tls::InvalidMessage(_) => failed.hint("does it speak TLS on this port? If not, leave out tls = 'true'"),
        Tls::AlertReceived(_) => {
            failed.hint("does it ask for a certificate? (options 'ssl_certificate_location', 'ssl_key_location')")
        }
        _ => failed,
    }
}

/// Why a statement failed.
pub(super) fn executing(error: &ExecutionError, place: &str) -> Error {
    match error {
        ExecutionError::LastAttemptError(attempt) => attempted(attempt, place),
        ExecutionError::BadQuery(bad) => {
            // The innermost cause is ours: which column, and why.
            let mut cause: &dyn std::error::Error = bad;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            let cause = cause.to_string();
            Error::permanent(format!("{place}: {}", cause.trim_start_matches("SerializationError: ")))
        }
        ExecutionError::PrepareError(prepare) => preparing(prepare, place),
        ExecutionError::RequestTimeout(after) => {
            Error::transient(format!("{place}: no answer for {} s", after.as_secs_f64())).hint("it is tried again")
        }
        other => Error::transient(format!("{place}: {}", chain(other))),
    }
}

/// Why a statement could not be prepared.
pub(super) fn preparing(error: &PrepareError, place: &str) -> Error {
    match error {
        PrepareError::AllAttemptsFailed { first_attempt } => attempted(first_attempt, place),
        other => Error::transient(format!("{place}: {}", chain(other))),
    }
}

fn attempted(error: &RequestAttemptError, place: &str) -> Error {
    match error {
        RequestAttemptError::DbError(kind, told) => {
            let text = format!("{place}: {}", told.trim_end_matches('.'));
            match (kind_of(kind), kind) {
                (Kind::Transient, _) => Error::transient(text),
                (_, DbError::Unauthorized) => Error::permanent(text).hint("grant the user what is missing"),
                _ => Error::permanent(text),
            }
        }
        RequestAttemptError::BrokenConnectionError(_) | RequestAttemptError::UnableToAllocStreamId => {
            Error::transient(format!("{place}: {}", chain(error)))
        }
        RequestAttemptError::RepreparedIdChanged { .. } | RequestAttemptError::RepreparedIdMissingInBatch => {
            Error::permanent(format!("{place}: the table has changed")).hint("start the pipeline again")
        }
        other => Error::permanent(format!("{place}: {other}")),
    }
}

/// What the caller must do about an error of the server.
pub(super) fn kind_of(error: &DbError) -> Kind {
    match error {
        DbError::Unavailable { .. }
        | DbError::Overloaded
        | DbError::IsBootstrapping
        | DbError::TruncateError
        | DbError::ReadTimeout { .. }
        | DbError::WriteTimeout { .. }
        | DbError::ReadFailure { .. }
        | DbError::WriteFailure { .. }
        | DbError::ServerError
        | DbError::Unprepared { .. }
        | DbError::RateLimitReached { .. } => Kind::Transient,
        _ => Kind::Permanent,
    }
}

/// An error's message with those of its causes that say more.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        let more = deeper.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = deeper.source();
    }
    text
}
