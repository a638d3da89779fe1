//! Whether a pipeline lives, and whether it is ready: for orchestrators that restart what is dead and send work only to what
//! is ready.
//!
//! *Live*: it has not failed, and each of its threads comes round again; to wait for records or for a slow sink is no
//! fault, to be stuck within one call is. *Ready*: it lives, every partition that is its own has answered once, and no source, sink or
//! journal has been in trouble for long. A pipeline is only seen here once its sources are open and its state is restored.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::stats::{PipelineStats, ThreadRole, ThreadState, ThreadStats};
use crate::time::Micros;

/// A worker that does not come round for this long is stuck: an epoch takes 100 ms, but closing a large window or taking a
/// large checkpoint some seconds.
pub const STUCK_WORKER: Duration = Duration::from_secs(60);

/// A sink's thread may wait for another system: clients give up after a minute at most.
pub const STUCK_FEED: Duration = Duration::from_secs(120);

/// Trouble that lasts longer than this makes a pipeline not ready: a restart of a broker passes sooner.
pub const LONG_TROUBLE: Duration = Duration::from_secs(30);

/// What is wrong; nothing is if both are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Why it does not live.
    pub dead: Vec<String>,
    /// Why it is not ready, though it lives.
    pub not_ready: Vec<String>,
}

impl Health {
    /// The health of a pipeline at `now`, by its clock.
    pub fn of(stats: &PipelineStats, now: Micros) -> Self {
        let mut health = Self::default();
        health.dead.extend(stats.failure().map(|failure| format!("the pipeline has failed: {failure}")));
        let stopping = stats.stopping.load(Relaxed);
        for thread in stats.threads() {
            health.dead.extend(fault(&thread, stopping, now));
        }
        if stopping && stats.failure().is_none() {
            health.not_ready.push("the pipeline is stopping".to_owned());
        }
        let long = |since: Option<Micros>| since.map(|s| now.saturating_sub(s)).filter(|t| *t > micros(LONG_TROUBLE));
        for partition in stats.partitions.iter().filter(|partition| partition.owned.load(Relaxed)) {
            let place = format!("source {}, partition {}", stats.nodes[partition.node].name, partition.partition);
            if let Some(time) = long(partition.failing_since()) {
                health.not_ready.push(format!("{place}: cannot be read for {} s", time / 1_000_000));
            } else if !partition.polled.load(Relaxed) {
                health.not_ready.push(format!("{place}: has not answered yet"));
            }
        }
        for sink in &stats.sinks {
            if let Some(time) = long(sink.failing_since()) {
                health.not_ready.push(format!("sink {}: cannot be written for {} s", sink.name, time / 1_000_000));
            }
        }
        if let Some(time) = long(stats.journal.failing_since()) {
            health.not_ready.push(format!("the journal cannot be written for {} s", time / 1_000_000));
        }
        health
    }

    /// Whether it lives.
    pub fn is_live(&self) -> bool {
        self.dead.is_empty()
    }

    /// Whether it lives and is ready.
    pub fn is_ready(&self) -> bool {
        self.dead.is_empty() && self.not_ready.is_empty()
    }
}

/// What is wrong with a thread. A worker that has ended is none: its input is bounded, or it was stopped.
fn fault(thread: &ThreadStats, stopping: bool, now: Micros) -> Option<String> {
    let name = &thread.name;
    match thread.state() {
        ThreadState::Failed => Some(format!("thread {name} has failed")),
        ThreadState::Ended => None,
        ThreadState::Running if stopping => None, // A stop has a deadline of its own.
        ThreadState::Running => {
            let limit = if thread.role == ThreadRole::Worker { STUCK_WORKER } else { STUCK_FEED };
            let silent = now.saturating_sub(thread.last_beat());
            (silent > micros(limit)).then(|| format!("thread {name} has been stuck for {} s", silent / 1_000_000))
        }
    }
}

fn micros(time: Duration) -> Micros {
    Micros::try_from(time.as_micros()).unwrap_or(Micros::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Graph, Parallelism};

    const SECOND: Micros = 1_000_000;

    fn stats() -> PipelineStats {
        let graph = Graph { nodes: Vec::new(), parallelism: Parallelism::Partitioned, ignored_options: Vec::new() };
        PipelineStats::new(&graph, &[], 1, 0, 0)
    }

    #[test]
    fn a_thread_that_does_not_come_round_is_stuck() {
        let stats = stats();
        let worker = stats.add_thread("worker-0", ThreadRole::Worker, 0);
        let feed = stats.add_thread("sink-alerts", ThreadRole::Feed, 0);
        assert_eq!(Health::of(&stats, 60 * SECOND), Health::default());
        assert_eq!(Health::of(&stats, 61 * SECOND).dead, ["thread worker-0 has been stuck for 61 s"]);
        worker.beat(100 * SECOND);
        assert!(Health::of(&stats, 119 * SECOND).is_live());
        assert_eq!(Health::of(&stats, 121 * SECOND).dead, ["thread sink-alerts has been stuck for 121 s"]);
        feed.end(false);
        worker.end(false);
        assert!(Health::of(&stats, 999 * SECOND).is_live(), "ended in order");
    }

    #[test]
    fn a_dead_thread_and_the_error_are_told() {
        let stats = stats();
        let feed = stats.add_thread("sink-alerts", ThreadRole::Feed, 0);
        feed.end(true);
        stats.failed(&crate::Error::permanent("sink alerts: no such topic"));
        let health = Health::of(&stats, 0);
        assert_eq!(health.dead, ["the pipeline has failed: sink alerts: no such topic", "thread sink-alerts has failed"]);
        assert!(!health.is_ready());
    }
}
