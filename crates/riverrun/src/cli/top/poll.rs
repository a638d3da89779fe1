//! Asks the running process for its numbers, again and again; finds it anew when it was restarted elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use riverrun_engine::progress::Progress;
use riverrun_engine::time::Clock;
use riverrun_engine::{Error, Result};
use riverrun_serve::discovery;

use crate::cli::runtime;
use crate::cli::serving::client;

/// Its address and what it said.
pub type Answer = (String, Progress);

/// Asks once.
///
/// # Errors
/// Nothing runs on that data directory, or what runs does not answer.
pub fn ask(data: &Path, runtime: &tokio::runtime::Runtime) -> Result<Answer> {
    let none = || {
        Error::invalid(format!("no pipeline runs on {}", data.display()))
            .hint("start one (riverrun run, riverrun demo), or name its directory with --data")
    };
    let running = discovery::find(data).ok_or_else(none)?;
    let progress = runtime.block_on(client(&running)?.live_progress()).map_err(|e| match e.is_transient() {
        false => e,
        true => Error::transient(format!(
            "the pipeline {} on {} (process {}, {}) does not answer: {}",
            running.pipeline,
            data.display(),
            running.pid,
            running.address,
            e.message()
        ))
        .hint("if that process is gone, it was killed: start the pipeline again"),
    })?;
    Ok((running.address, progress))
}

/// Asks once every `interval`, on a thread of its own: a process that hangs must not stop the keys.
///
/// # Errors
/// No runtime can be started.
pub fn answers(data: PathBuf, interval: Duration, clock: Arc<dyn Clock>) -> Result<Receiver<Result<Answer>>> {
    let (sender, receiver) = channel();
    let runtime = runtime()?;
    std::thread::spawn(move || {
        while sender.send(ask(&data, &runtime)).is_ok() {
            clock.sleep(interval);
        }
    });
    Ok(receiver)
}
