//! What the parts of a pipeline are told, and what is told to them from outside.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Mutex, PoisonError};

use super::part::Stage;
use super::stats::PipelineStats;
use super::task::Shared;
use crate::Error;

/// Stops a pipeline in order: epochs end, sinks are flushed, positions kept.
#[derive(Debug, Clone)]
pub struct StopHandle(Arc<AtomicBool>, Arc<PipelineStats>);

impl StopHandle {
    /// Asks it to stop; [`Pipeline::wait`] returns when it has.
    pub fn stop(&self) {
        self.1.stopping.store(true, Relaxed);
        self.0.store(true, Relaxed);
    }

    /// Whether it was asked to, or failed.
    pub fn stopped(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// What the parts of a pipeline are told: that it stops, that a stage has ended, that it has failed.
#[derive(Clone)]
pub struct Control {
    /// What the parts share.
    pub(super) shared: Arc<Shared>,
    /// Set when it is to stop.
    pub(super) stop: Arc<AtomicBool>,
    /// Nothing more can become safe.
    pub(super) over: Arc<AtomicBool>,
    /// Nothing is left to do but to leave the group.
    pub(super) alone: Arc<AtomicBool>,
    /// The first failure.
    pub(super) failure: Arc<Mutex<Option<Error>>>,
}

impl Control {
    /// The counts.
    pub fn stats(&self) -> Arc<PipelineStats> {
        self.shared.stats.clone()
    }

    /// What stops it.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(self.stop.clone(), self.shared.stats.clone())
    }

    /// All parts of `stage` have ended, and all stages before it: nothing more comes to the next one.
    pub fn ended(&self, stage: Stage) {
        match stage {
            Stage::Read => self.shared.commits.iter().for_each(|commits| commits.queue.close()),
            Stage::Commit => self.shared.close_queues(),
            Stage::Feed => self.over.store(true, Release),
            Stage::Keep => self.alone.store(true, Release),
            Stage::Leave => {}
        }
    }

    /// A part has failed. The first failure stops the pipeline.
    pub fn failed(&self, error: Error) {
        self.shared.stats.failed(&error);
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop.store(true, Relaxed);
        self.shared.close_queues();
    }

    /// What stopped it, if it has failed; told once.
    pub fn take_failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Shared {
    /// No more comes to any sink.
    fn close_queues(&self) {
        self.commits.iter().for_each(|commits| commits.queue.close());
        self.queues.iter().for_each(|queue| queue.close());
    }
}
