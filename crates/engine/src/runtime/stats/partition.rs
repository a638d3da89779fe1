//! Counts of one partition of one source. Written by the one task that reads it, once per fetch or epoch; read by anyone.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

use crate::graph::NodeId;
use crate::runtime::watermark::Spread;
use crate::time::{MAX_TIME, MIN_TIME, Micros};

/// Stands for "not known" in an offset.
const UNKNOWN: i64 = i64::MIN;

/// Counts of one partition.
#[derive(Debug)]
pub struct PartitionStats {
    /// The source's node.
    pub node: NodeId,
    /// The number of the partition.
    pub partition: u32,
    /// Records read, bad ones included.
    pub records: AtomicU64,
    /// Bytes of raw records, about.
    pub bytes: AtomicU64,
    /// Rows that were late.
    pub late: AtomicU64,
    /// Event times of what was read.
    pub event_times: EventTimes,
    /// Whether it gave an answer yet: records, or that there are none.
    pub polled: AtomicBool,
    /// Whether a task of this instance reads it.
    pub owned: AtomicBool,
    /// Whether it gave nothing for the idle timeout, and so no longer holds back the watermark of the others.
    pub idle: AtomicBool,
    /// Whether everything was read (bounded input).
    pub ended: AtomicBool,
    start: AtomicI64,
    offset: AtomicI64,
    end: AtomicI64,
    watermark: AtomicI64,
    last_data: AtomicI64,
    failing_since: AtomicI64,
}

impl PartitionStats {
    pub(super) fn new(node: NodeId, partition: u32) -> Self {
        Self {
            node,
            partition,
            records: AtomicU64::default(),
            bytes: AtomicU64::default(),
            late: AtomicU64::default(),
            event_times: EventTimes::new(),
            polled: AtomicBool::default(),
            owned: AtomicBool::new(true),
            idle: AtomicBool::default(),
            ended: AtomicBool::default(),
            start: AtomicI64::new(UNKNOWN),
            offset: AtomicI64::new(UNKNOWN),
            end: AtomicI64::new(UNKNOWN),
            watermark: AtomicI64::new(MIN_TIME),
            last_data: AtomicI64::new(UNKNOWN),
            failing_since: AtomicI64::new(UNKNOWN),
        }
    }

    /// The offset that this run began at. `None`: not opened yet.
    pub fn start_offset(&self) -> Option<i64> {
        known(&self.start)
    }

    /// The offset to read from next. `None`: not opened yet.
    pub fn offset(&self) -> Option<i64> {
        known(&self.offset)
    }

    /// The offset behind the last record that is there, where the source tells it.
    pub fn end_offset(&self) -> Option<i64> {
        known(&self.end)
    }

    /// Offsets between where reading is and the end, where the source tells it. In a compacted or transactional topic some
    /// hold no record.
    pub fn lag(&self) -> Option<u64> {
        Some(self.end_offset()?.saturating_sub(self.offset()?).max(0).unsigned_abs())
    }

    /// Its watermark, [`MAX_TIME`](crate::time::MAX_TIME) aside: of an ended partition the last before. `None`: no event
    /// time seen, or none declared.
    pub fn watermark(&self) -> Option<Micros> {
        Some(self.watermark.load(Relaxed)).filter(|w| *w != MIN_TIME && *w != MAX_TIME)
    }

    /// The clock of the epoch that last read something. `None`: nothing was read yet.
    pub fn last_data(&self) -> Option<Micros> {
        known(&self.last_data)
    }

    /// Since when every attempt to read failed with what may pass. `None`: it works.
    pub fn failing_since(&self) -> Option<Micros> {
        known(&self.failing_since)
    }

    /// No task of this instance reads it.
    pub(in crate::runtime) fn released(&self) {
        self.owned.store(false, Relaxed);
        self.idle.store(false, Relaxed);
        for unknown in [&self.offset, &self.end, &self.failing_since] {
            unknown.store(UNKNOWN, Relaxed);
        }
    }

    pub(in crate::runtime) fn opened(&self, offset: i64) {
        self.owned.store(true, Relaxed);
        self.start.store(offset, Relaxed);
        self.offset.store(offset, Relaxed);
    }

    pub(in crate::runtime) fn read(&self, records: u64, bytes: u64, next_offset: i64, clock: Micros) {
        self.records.fetch_add(records, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        self.offset.store(next_offset, Relaxed);
        self.last_data.store(clock, Relaxed);
    }

    /// Reading works; where it is and how much the source says is behind that.
    pub(in crate::runtime) fn at(&self, offset: i64, lag: Option<u64>) {
        self.offset.store(offset, Relaxed);
        if let Some(lag) = lag.and_then(|lag| i64::try_from(lag).ok()) {
            self.end.store(offset.saturating_add(lag), Relaxed);
        }
    }

    pub(in crate::runtime) fn set_watermark(&self, watermark: Micros) {
        self.watermark.store(watermark, Relaxed);
    }

    pub(in crate::runtime) fn set_idle(&self, idle: bool) {
        self.idle.store(idle, Relaxed);
    }

    /// An attempt failed at `now`.
    pub(in crate::runtime) fn failed(&self, now: Micros) {
        let _ = self.failing_since.compare_exchange(UNKNOWN, now, Relaxed, Relaxed);
    }

    /// An attempt worked.
    pub(in crate::runtime) fn worked(&self) {
        if !self.polled.load(Relaxed) {
            self.polled.store(true, Relaxed);
        }
        if self.failing_since.load(Relaxed) != UNKNOWN {
            self.failing_since.store(UNKNOWN, Relaxed);
        }
    }
}

fn known(value: &AtomicI64) -> Option<i64> {
    Some(value.load(Relaxed)).filter(|v| *v != UNKNOWN)
}

/// Event times of a partition: how many, their sum, and the least and greatest since they were last
/// [taken](EventTimes::take_range).
#[derive(Debug)]
pub struct EventTimes {
    count: AtomicU64,
    /// Bits of an f64: seconds since 1970, summed. The one writer adds; a mean of some thousand is good to a millisecond.
    sum: AtomicU64,
    min: AtomicI64,
    max: AtomicI64,
}

impl EventTimes {
    fn new() -> Self {
        Self {
            count: AtomicU64::default(),
            sum: AtomicU64::default(),
            min: AtomicI64::new(MAX_TIME),
            max: AtomicI64::new(MIN_TIME),
        }
    }

    pub(in crate::runtime) fn add(&self, spread: Spread) {
        self.count.fetch_add(spread.count, Relaxed);
        let sum = f64::from_bits(self.sum.load(Relaxed)) + spread.sum_seconds;
        self.sum.store(sum.to_bits(), Relaxed);
        self.min.fetch_min(spread.oldest, Relaxed);
        self.max.fetch_max(spread.newest, Relaxed);
    }

    /// Rows with event time so far, and the sum of their event times in seconds since 1970: the difference of two looks
    /// gives the mean between them.
    pub fn count_and_sum(&self) -> (u64, f64) {
        (self.count.load(Relaxed), f64::from_bits(self.sum.load(Relaxed)))
    }

    /// The least and the greatest since the last call, which begins anew: for one reader, who reports progress.
    pub fn take_range(&self) -> Option<(Micros, Micros)> {
        let (min, max) = (self.min.swap(MAX_TIME, Relaxed), self.max.swap(MIN_TIME, Relaxed));
        (min <= max).then_some((min, max))
    }
}
