//! A running pipeline: the threads of its parts, how they are started, stopped and joined.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::assembly::Assembly;
use super::bindings::Bindings;
use super::control::{Control, StopHandle};
use super::part::{Part, Stage};
use super::settings::Settings;
use super::stats::PipelineStats;
use super::steering::Steering;
use crate::graph::Graph;
use crate::progress::{Identity, Recent, Reporter};
use crate::time::{Clock, Micros};
use crate::{Error, Result};

/// How often a waiting caller looks whether the parts of a stage are done.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// How much longer than the stop's deadline a sink may take to return from a call, until it is left to itself.
const GRACE: Duration = Duration::from_secs(2);

/// How often the reporter looks whether something is due.
const REPORTER_INTERVAL: Duration = Duration::from_millis(50);

/// A pipeline that runs.
pub struct Pipeline {
    control: Control,
    threads: Vec<(Stage, JoinHandle<()>)>,
    reporter: Arc<Mutex<Reporter>>,
    recent: Arc<Recent>,
    reporting: Option<JoinHandle<()>>,
    clock: Arc<dyn Clock>,
}

impl Pipeline {
    /// Makes the parts, and starts a thread for each.
    ///
    /// # Errors
    /// Those of [`Assembly::new`]; or no thread could be started.
    pub fn start(graph: &Graph, bindings: Bindings, settings: Settings, clock: Arc<dyn Clock>) -> Result<Self> {
        let identity = (settings.name.clone(), settings.checkpoints.as_ref().map(ToString::to_string));
        let instance = settings.instance.clone();
        let told = (settings.progress_interval, settings.listeners.clone());
        let Assembly { parts, control } = Assembly::new(graph, bindings, settings, clock.clone())?;
        let identity = Identity::new(&identity.0, identity.1.as_deref(), clock.now()).of_instance(instance);
        let reporter = Reporter::new(identity, graph, control.stats(), told, clock.now())?;
        let recent = reporter.recent();
        let reporter = Arc::new(Mutex::new(reporter));
        let mut pipeline = Self { control, threads: Vec::new(), reporter, recent, reporting: None, clock };
        for part in parts {
            let thread = (part.stage, pipeline.spawn(part)?);
            pipeline.threads.push(thread);
        }
        pipeline.start_reporting()?;
        Ok(pipeline)
    }

    /// A thread whose first error stops the pipeline.
    fn spawn(&self, mut part: Part) -> Result<JoinHandle<()>> {
        let (control, clock) = (self.control.clone(), self.clock.clone());
        let thread = control.shared.stats.add_thread(&part.name, part.role(), clock.now());
        let name = part.name.clone();
        let body = move || {
            let run = std::panic::AssertUnwindSafe(|| part.run(&*clock, &thread));
            let outcome = std::panic::catch_unwind(run);
            thread.end(!matches!(outcome, Ok(Ok(()))));
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => control.failed(error),
                Err(_) => control.failed(Error::permanent(format!(
                    "{} panicked; this is a fault of riverrun, please report the message above",
                    part.name
                ))),
            }
        };
        std::thread::Builder::new()
            .name(name)
            .spawn(body)
            .map_err(|e| Error::permanent(format!("no thread could be started: {e}")))
    }

    /// A thread that reports progress. Nothing depends on it, so its end would not end the pipeline.
    fn start_reporting(&mut self) -> Result<()> {
        let (reporter, over, clock) = (self.reporter.clone(), self.control.over.clone(), self.clock.clone());
        reporter.lock().unwrap_or_else(PoisonError::into_inner).started();
        let body = move || {
            while !over.load(Relaxed) {
                reporter.lock().unwrap_or_else(PoisonError::into_inner).tick(clock.now());
                clock.sleep(REPORTER_INTERVAL);
            }
        };
        let thread = std::thread::Builder::new().name("reporter".into()).spawn(body);
        self.reporting = Some(thread.map_err(|e| Error::permanent(format!("no thread could be started: {e}")))?);
        Ok(())
    }

    /// Whether a stop has waited long enough for its sinks, `since` all that goes to them was handed over.
    fn is_stuck(&self, stage: Stage, since: Micros) -> bool {
        let shared = &self.control.shared;
        let patience = (shared.settings.stop_deadline + GRACE).as_micros() as Micros;
        stage == Stage::Feed && shared.stats.stopping.load(Relaxed) && self.clock.now() - since > patience
    }

    /// The counts.
    pub fn stats(&self) -> Arc<PipelineStats> {
        self.control.stats()
    }

    /// The newest reports of progress, and what it does right now.
    pub fn progress(&self) -> Arc<Recent> {
        self.recent.clone()
    }

    /// What stops it.
    pub fn stop_handle(&self) -> StopHandle {
        self.control.stop_handle()
    }

    /// What pauses it, and has it take checkpoints.
    pub fn steering(&self) -> Steering {
        Steering::new(&self.control)
    }

    /// Waits until it ends: a bounded input is done, it was asked to stop, or it failed.
    ///
    /// # Errors
    /// The first error that stopped it.
    pub fn wait(mut self) -> Result<()> {
        for stage in Stage::ALL {
            let (ending, others): (Vec<_>, Vec<_>) = self.threads.drain(..).partition(|(of, _)| *of == stage);
            self.threads = others;
            let since = self.clock.now();
            while ending.iter().any(|(_, thread)| !thread.is_finished()) && !self.is_stuck(stage, since) {
                self.clock.sleep(LOOK_INTERVAL);
            }
            for (_, thread) in ending {
                match thread.is_finished() {
                    true => drop(thread.join()),
                    // It is within a call that does not return, and ends with the process.
                    false => self.control.failed(stuck(thread.thread().name())),
                }
            }
            self.control.ended(stage);
        }
        let outcome = self.control.take_failure().map_or(Ok(()), Err);
        self.reporting.take().into_iter().for_each(|r| drop(r.join()));
        let mut reporter = self.reporter.lock().unwrap_or_else(PoisonError::into_inner);
        reporter.finish(self.clock.now(), outcome.as_ref().err().cloned());
        outcome
    }
}

fn stuck(thread: Option<&str>) -> Error {
    let sink = thread.and_then(|name| name.strip_prefix("sink-")).unwrap_or("?");
    Error::transient(format!("sink {sink}: a call has not returned by the stop's deadline, and is left to itself"))
        .hint("with checkpoints, the next start gives it what it lacks")
}
