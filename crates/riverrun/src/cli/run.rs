//! `riverrun run`: runs a script until its input ends or it is told to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use clap::Args;
use riverrun_engine::progress::{Listeners, ProgressLog};
use riverrun_engine::runtime::{Backoff, Pipeline, Settings, StopHandle};
use riverrun_engine::time::Clock;
use riverrun_engine::{Error, Result};

use super::backend::Endpoint;
use super::serving::ServeArgs;
use super::summary;
use super::{ScriptArgs, stop_flag};
use crate::program::Program;

/// Arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  riverrun run pipelines/transactions.sql
  riverrun run pipelines/transactions.sql --set BUS=kafka --set KAFKA_BROKERS=broker:9092
  riverrun run pipelines/transactions.sql --http-port 9464     then: curl http://127.0.0.1:9464/metrics
  riverrun run pipelines/transactions.sql --pg-port 5433       then: psql -h 127.0.0.1 -p 5433
  RIVERRUN_TOKEN=$(openssl rand -hex 16) riverrun run pipelines/transactions.sql --listen 0.0.0.0:8000
  riverrun run history.sql --bounded")]
pub struct Run {
    #[command(flatten)]
    script: ScriptArgs,
    /// Read every source from its start to the end that it has now, close all windows, and stop.
    #[arg(long)]
    bounded: bool,
    /// Name of this instance: several share the tasks of a pipeline on Kafka, a name taken again takes over at once.
    #[arg(long)]
    instance: Option<String>,
    /// The script has changed: forget the state of queries that it no longer has; those that changed begin with empty state.
    #[arg(long)]
    drop_state: bool,
    /// Threads that run tasks; default: one per core.
    #[arg(long)]
    workers: Option<usize>,
    /// At the end, tell the work of each stage.
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

impl Run {
    /// Runs the script.
    pub fn run(self) -> Result<()> {
        let mut program = self.script.load()?;
        if let Some(name) = self.instance {
            if let Some(why) = riverrun_sql::plan::Settings::refuse_instance(&name) {
                return Err(Error::invalid(format!("--instance {name}: {why}")));
            }
            program.context.instance = Some(name);
        }
        if self.bounded {
            // As it is started below: who asks sees what runs.
            program.graph = program.graph.joined();
        }
        let flag = stop_flag()?;
        let (listen, _) = self.serve.listen(&program, 0)?;
        let mut endpoint = Endpoint::start(&program, listen, self.serve.postgres(&program))?;
        let listeners = Listeners(vec![Arc::new(ProgressLog::default())]);
        let Self { bounded, workers, drop_state, .. } = self;
        let settings = Settings { bounded, workers, drop_state, listeners, ..Settings::default() };
        let Some(pipeline) = start(&program, &settings, &flag)? else { return Ok(()) };
        let stats = pipeline.stats();
        endpoint.runs(&program, &pipeline)?;
        tracing::info!(
            "{} runs: {} tasks, data in {}, dashboard on http://{} (also /api/v1, /metrics, /livez, /readyz); Ctrl-C stops it",
            program.context.pipeline,
            stats.tasks.len(),
            program.context.data_dir.display(),
            endpoint.address
        );
        if let Some(postgres) = endpoint.postgres {
            tracing::info!("the PostgreSQL protocol: psql -h {} -p {}", postgres.ip(), postgres.port());
        }
        let begun = program.clock().now();
        let watcher = watch(flag, pipeline.stop_handle(), program.clock());
        let outcome = pipeline.wait();
        watcher.finish();
        endpoint.tell_end(&outcome);
        let seconds = (program.clock().now() - begun) as f64 / 1e6;
        eprint!("{}", summary::counts(&stats, seconds));
        if self.profile {
            eprint!("{}", summary::profile(&stats, seconds));
        }
        outcome
    }
}

/// Starts the pipeline, again and again while something cannot be reached that may come back: a broker, a store, a sink. `None`:
/// it was told to stop before it could.
fn start(program: &Program, settings: &Settings, flag: &AtomicBool) -> Result<Option<Pipeline>> {
    let clock = program.clock();
    let mut backoff = Backoff::seeded(clock.now() as u64);
    loop {
        let error = match program.start_with(BTreeMap::new(), settings.clone()) {
            // Who runs a script over what is there wants to know, and can run it again.
            Err(error) if error.is_transient() && !settings.bounded => error,
            started => return started.map(Some),
        };
        match backoff.failed(clock.now()) {
            true => tracing::warn!(event = "start_failed", "{error}\n  trying again until it passes; Ctrl-C stops it"),
            false => tracing::debug!(event = "start_failed", "{error}"),
        }
        while !backoff.ready(clock.now()) && !flag.load(Relaxed) {
            clock.sleep(Duration::from_millis(50));
        }
        if flag.load(Relaxed) {
            tracing::info!("stopped before it could start");
            return Ok(None);
        }
    }
}

/// Passes a signal on to the pipeline.
struct Watcher {
    done: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Watcher {
    fn finish(self) {
        self.done.store(true, Relaxed);
        // The thread only waits; it cannot fail.
        let _ = self.thread.join();
    }
}

fn watch(flag: std::sync::Arc<std::sync::atomic::AtomicBool>, stop: StopHandle, clock: std::sync::Arc<dyn Clock>) -> Watcher {
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let over = done.clone();
    let thread = std::thread::spawn(move || {
        while !over.load(Relaxed) {
            if flag.load(Relaxed) && !stop.stopped() {
                tracing::info!("stopping: epochs end, sinks are flushed, positions are kept; again to quit at once");
                stop.stop();
            }
            clock.sleep(Duration::from_millis(50));
        }
    });
    Watcher { done, thread }
}
