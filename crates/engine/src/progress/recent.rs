//! The newest reports of a run, and what it does right now: what `lastProgress` and `recentProgress` are in Spark.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::Progress;
use super::sample::{Facts, Sample, widen};
use crate::time::Micros;

/// Reports that are kept.
const REPORTS: usize = 100;

/// Newest reports and samples. Written by the reporter about once a second, read by anyone.
pub struct Recent {
    facts: Arc<Facts>,
    kept: Mutex<Kept>,
}

struct Kept {
    reports: VecDeque<Arc<Progress>>,
    samples: VecDeque<Arc<Sample>>,
    newest: Arc<Sample>,
}

/// How far [`Recent::live`] looks back.
const WINDOW: Micros = 2_000_000;

impl Recent {
    pub(super) fn new(facts: Arc<Facts>, first: Arc<Sample>) -> Self {
        Self {
            facts,
            kept: Mutex::new(Kept { reports: VecDeque::new(), samples: VecDeque::from([first.clone()]), newest: first }),
        }
    }

    pub(super) fn add_report(&self, report: Arc<Progress>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.reports.len() == REPORTS {
            kept.reports.pop_front();
        }
        kept.reports.push_back(report);
    }

    pub(super) fn add_sample(&self, sample: Arc<Sample>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.samples.push_back(sample.clone());
        while kept.samples.get(1).is_some_and(|second| sample.at - second.at >= WINDOW) {
            kept.samples.pop_front();
        }
        kept.newest = sample;
    }

    /// The newest report; `None` before the first.
    pub fn last(&self) -> Option<Arc<Progress>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).reports.back().cloned()
    }

    /// The newest `n` reports, oldest first; 100 are kept.
    pub fn reports(&self, n: usize) -> Vec<Arc<Progress>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.reports.iter().skip(kept.reports.len().saturating_sub(n)).cloned().collect()
    }

    /// What it did in the last two seconds, of counts not older than one; reported or not.
    pub fn live(&self) -> Progress {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let samples: Vec<Arc<Sample>> = kept.samples.iter().cloned().collect();
        let newest = kept.newest.clone();
        drop(kept);
        let range = samples.iter().skip(1).fold(None, |range, sample| widen(range, sample.range));
        self.facts.between(samples.first().unwrap_or(&newest), &newest, range)
    }
}
