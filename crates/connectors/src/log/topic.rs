//! A topic: its settings and where each of its partitions begins and ends.
//!
//! Invariant: offsets in `[start, end)` of a partition are there, without gaps; `end` moves only after the records before
//! it are safe, `start` only before records behind it are deleted.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, RwLock};
use std::time::Duration;

use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};
use serde::{Deserialize, Serialize};

/// What a topic keeps, at most. Default: everything, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Retention {
    /// Records older than this may be deleted, in microseconds before the newest append.
    pub micros: Option<i64>,
    /// The oldest records may be deleted where a partition holds more bytes than this.
    pub bytes: Option<u64>,
}

impl Retention {
    /// Whether everything is kept.
    pub fn is_none(&self) -> bool {
        self.micros.is_none() && self.bytes.is_none()
    }
}

/// What the store keeps of a topic, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Settings {
    pub id: u32,
    pub partitions: u32,
    #[serde(default)]
    pub retention: Retention,
}

/// Where a partition begins and ends.
#[derive(Debug, Default)]
pub(super) struct Partition {
    start: AtomicI64,
    end: AtomicI64,
    /// Bytes appended since retention last looked, and when it looks again. Touched under the writer's lock only.
    pub unchecked: AtomicU64,
    pub next_check: AtomicI64,
}

impl Partition {
    pub(super) fn at(start: i64, end: i64) -> Self {
        Self { start: start.into(), end: end.into(), ..Self::default() }
    }
}

/// A topic of an open log.
#[derive(Debug)]
pub struct Topic {
    name: String,
    id: u32,
    retention: RwLock<Retention>,
    partitions: Box<[Partition]>,
    next_sticky: AtomicU32,
    arrivals: Mutex<()>,
    arrived: Condvar,
}

impl Topic {
    pub(super) fn new(name: &str, settings: &Settings, partitions: Vec<Partition>) -> Self {
        Self {
            name: name.to_owned(),
            id: settings.id,
            retention: RwLock::new(settings.retention),
            partitions: partitions.into(),
            next_sticky: AtomicU32::new(0),
            arrivals: Mutex::new(()),
            arrived: Condvar::new(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// How many partitions it has: never changes.
    pub fn partitions(&self) -> u32 {
        self.partitions.len() as u32
    }

    /// What it keeps.
    pub fn retention(&self) -> Retention {
        *self.retention.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_retention(&self, retention: Retention) {
        *self.retention.write().unwrap_or_else(PoisonError::into_inner) = retention;
    }

    pub(super) fn settings(&self) -> Settings {
        Settings { id: self.id, partitions: self.partitions(), retention: self.retention() }
    }

    /// The first offset that is there. Partitions are numbered below [`partitions`](Self::partitions); panics else.
    pub fn start(&self, partition: u32) -> i64 {
        self.partition(partition).start.load(Ordering::Acquire)
    }

    /// The offset behind the last record. A cheap look: one atomic load.
    pub fn end(&self, partition: u32) -> i64 {
        self.partition(partition).end.load(Ordering::Acquire)
    }

    pub(super) fn partition(&self, partition: u32) -> &Partition {
        &self.partitions[partition as usize]
    }

    /// Says whether the topic has this partition.
    pub fn check_partition(&self, partition: u32) -> Result<()> {
        if partition < self.partitions() {
            return Ok(());
        }
        Err(Error::invalid(format!("topic {} has no partition {partition}: it has 0 to {}", self.name, self.partitions() - 1)))
    }

    /// The partition that takes the records without a key of one batch: round robin by batch.
    pub(super) fn sticky(&self) -> u32 {
        self.next_sticky.fetch_add(1, Ordering::Relaxed) % self.partitions()
    }

    pub(super) fn move_start(&self, partition: u32, start: i64) {
        self.partition(partition).start.store(start, Ordering::Release);
    }

    /// Makes records before `end` visible.
    pub(super) fn publish(&self, partition: u32, end: i64) {
        self.partition(partition).end.store(end, Ordering::Release);
    }

    /// Wakes who waits for records.
    pub(super) fn wake(&self) {
        // The lock orders this behind a waiter's look at `end`: no wake-up is lost.
        drop(self.arrivals.lock().unwrap_or_else(PoisonError::into_inner));
        self.arrived.notify_all();
    }

    /// Waits until the partition has a record at `offset`, or the time is up. Says whether it has.
    pub fn wait(&self, partition: u32, offset: i64, timeout: Duration) -> bool {
        let guard = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.arrived.wait_timeout_while(guard, timeout, |()| self.end(partition) <= offset));
        self.end(partition) > offset
    }

    /// Whether retention should look at a partition after an append of `bytes` at time `now`.
    pub(super) fn retention_due(&self, partition: u32, bytes: u64, now: Micros) -> bool {
        let retention = self.retention();
        let state = self.partition(partition);
        let unchecked = state.unchecked.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let by_bytes = retention.bytes.is_some_and(|limit| unchecked > limit / 8);
        let by_time = retention.micros.is_some_and(|age| {
            let due = now >= state.next_check.load(Ordering::Relaxed);
            if due {
                state.next_check.store(now.saturating_add(age / 8), Ordering::Relaxed);
            }
            due
        });
        if by_bytes || by_time {
            state.unchecked.store(0, Ordering::Relaxed);
        }
        by_bytes || by_time
    }
}

/// Refuses what Kafka would refuse as the name of a topic.
pub(super) fn check_name(name: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=249).contains(&name.len()) && name.chars().all(legal) && name != "." && name != ".." {
        return Ok(());
    }
    Err(Error::invalid(format!("'{name}' cannot be the name of a topic"))
        .hint("use 1 to 249 letters, digits, dots, underscores and dashes"))
}
