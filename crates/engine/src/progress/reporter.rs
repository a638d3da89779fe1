//! The reporter of a run: samples the counts, makes progress of them at intervals, and tells listeners.
//!
//! Time comes from the run's clock; [`Reporter::tick`] does all that is due, so a test decides when that is.

use std::sync::Arc;
use std::time::Duration;

use super::listener::{Dispatch, Event, Idle, LAST_WORD, Listeners, Started, Terminated};
use super::sample::{Facts, Range, Sample, widen};
use super::{Identity, Recent, Timestamp};
use crate::graph::Graph;
use crate::runtime::stats::PipelineStats;
use crate::time::Micros;
use crate::{Error, Result};

/// How often counts are sampled, at most.
const SAMPLE: Micros = 1_000_000;

/// Reports on one run.
pub(crate) struct Reporter {
    stats: Arc<PipelineStats>,
    facts: Arc<Facts>,
    recent: Arc<Recent>,
    interval: Micros,
    /// Where the interval began, and the event times since.
    begun: (Arc<Sample>, Range),
    newest: Arc<Sample>,
    listeners: Dispatch,
}

impl Reporter {
    /// A reporter for a run whose counts begin at `now`.
    ///
    /// # Errors
    /// A listener's thread cannot be started.
    pub fn new(
        identity: Identity,
        graph: &Graph,
        stats: Arc<PipelineStats>,
        (interval, listeners): (Duration, Listeners),
        now: Micros,
    ) -> Result<Self> {
        let facts = Arc::new(Facts::new(identity, graph, &stats));
        let first = Arc::new(Sample::take(&stats, now));
        Ok(Self {
            recent: Arc::new(Recent::new(facts.clone(), first.clone())),
            stats,
            facts,
            interval: Micros::try_from(interval.as_micros()).unwrap_or(Micros::MAX),
            begun: (first.clone(), None),
            newest: first,
            listeners: Dispatch::new(listeners)?,
        })
    }

    /// The newest reports and samples.
    pub fn recent(&self) -> Arc<Recent> {
        self.recent.clone()
    }

    /// The run's threads are there: listeners are told.
    pub fn started(&mut self) {
        let (identity, timestamp) = (self.facts.identity.clone(), Timestamp(self.newest.at));
        self.listeners.tell(Event::Started(Started { identity, timestamp }));
    }

    /// Samples and reports what is due at `now`.
    pub fn tick(&mut self, now: Micros) {
        let due = now - self.begun.0.at >= self.interval;
        if due || now - self.newest.at >= SAMPLE {
            self.sample(now);
        }
        if due {
            self.report();
        }
    }

    /// The run is over: what came since the last report is reported, then listeners are told the end.
    pub fn finish(&mut self, now: Micros, error: Option<Error>) {
        self.sample(now);
        if self.newest.moved_since(&self.begun.0, &self.facts) {
            self.report();
        }
        let identity = self.facts.identity.clone();
        std::mem::take(&mut self.listeners)
            .end(Event::Terminated(Terminated { identity, timestamp: Timestamp(now), error }), LAST_WORD);
    }

    fn sample(&mut self, now: Micros) {
        let sample = Arc::new(Sample::take(&self.stats, now));
        self.begun.1 = widen(self.begun.1, sample.range);
        self.recent.add_sample(sample.clone());
        self.newest = sample;
    }

    /// Ends the interval at the newest sample.
    fn report(&mut self) {
        let (from, range) = std::mem::replace(&mut self.begun, (self.newest.clone(), None));
        if self.newest.moved_since(&from, &self.facts) {
            let progress = Arc::new(self.facts.between(&from, &self.newest, range));
            self.recent.add_report(progress.clone());
            self.listeners.tell(Event::Progress(progress));
        } else {
            let (identity, timestamp) = (self.facts.identity.clone(), Timestamp(self.newest.at));
            self.listeners.tell(Event::Idle(Idle { identity, timestamp }));
        }
    }
}
