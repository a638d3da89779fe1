//! One thread's worth of async: the client library is async, sources and sinks are not.

use std::future::Future;
use std::io::ErrorKind;

use deltalake_core::DeltaTableError;
use deltalake_core::kernel::transaction::{CommitConflictError, TransactionError};
use riverrun_engine::{Error, Result};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::s3::{CREDENTIALS, Meaning, answer};

/// A runtime that runs on the thread of whoever calls. It starts no worker threads.
pub(super) struct Io(Option<Runtime>);

impl Io {
    /// A runtime of its own for one source or sink.
    pub fn new() -> Result<Self> {
        match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => Ok(Self(Some(runtime))),
            Err(e) => Err(Error::transient(format!("cannot start the I/O runtime: {e}"))),
        }
    }

    /// Runs a future to its end. Called from an async task it moves to a thread of its own meanwhile.
    pub fn run<T: Send>(&self, future: impl Future<Output = T> + Send) -> T {
        let Some(runtime) = &self.0 else { unreachable!("the runtime lives as long as its owner") };
        if Handle::try_current().is_err() {
            return runtime.block_on(future);
        }
        let outcome = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(future)).join());
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        // An ordinary drop would panic inside an async task.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// An error of the client library: what was tried, where, and whether it may pass.
pub(super) fn failed(doing: &str, path: &str, error: impl Into<DeltaTableError>) -> Error {
    let error = error.into();
    let all = causes(&error);
    let (told, meaning) = answer(&all);
    let text = format!("cannot {doing} the Delta table at {path}: {told}");
    match &error {
        DeltaTableError::Transaction { source: TransactionError::CommitConflict(conflict) } => conflicted(text, conflict),
        DeltaTableError::Transaction { source: TransactionError::MaxCommitAttempts(_) }
        | DeltaTableError::VersionAlreadyExists(_) => Error::transient(text).hint("other writers commit to it all the time"),
        _ => match io_kind(&error) {
            Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                Error::permanent(text).hint("give this user the right to write there, or choose another path")
            }
            Some(ErrorKind::InvalidFilename) => {
                Error::permanent(text).hint("a partition value names a folder: partition by a column of short values")
            }
            Some(ErrorKind::NotADirectory | ErrorKind::IsADirectory) => {
                Error::permanent(text).hint("a part of the path is a file where a folder should be: choose another path")
            }
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) => {
                Error::transient(text).hint("make room; what was not written is kept and written again")
            }
            Some(_) => Error::transient(text),
            None if meaning == Meaning::Credentials => Error::permanent(text).hint(CREDENTIALS),
            None if meaning == Meaning::Bucket => Error::permanent(text).hint("create the bucket, or choose another path"),
            None if matches!(error, DeltaTableError::ObjectStore { .. }) || of_store(&all) => Error::transient(text),
            None => Error::permanent(text),
        },
    }
}

/// Whether a store failed: the kernel and the Parquet reader hand that on in words.
fn of_store(text: &str) -> bool {
    ["interacting with object store", "S3 error"].iter().any(|words| text.contains(words))
}

fn conflicted(text: String, conflict: &CommitConflictError) -> Error {
    let error = Error::permanent(text);
    match conflict {
        CommitConflictError::MetadataChanged => error.hint("its schema or properties were changed: start the pipeline again"),
        CommitConflictError::ConcurrentTransaction => {
            error.hint("another run of this pipeline writes to it: stop one of them, or give it another pipeline.name")
        }
        _ => error.hint("another program changed it meanwhile: start the pipeline again"),
    }
}

/// The messages of an error and its causes, each said once.
fn causes(error: &DeltaTableError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// What the operating system said, where it was it.
fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        cause = error.source();
    }
    None
}
