//! Time: event time, and the one place where wall time is read.
//!
//! Invariant: nothing but [`SystemClock`] and [`Stopwatch`] reads the machine's clock, and neither decides a result:
//! a result depends on event time and on the clock that its epoch recorded.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970-01-01T00:00:00Z: event time, watermark and clock alike.
pub type Micros = i64;

/// Before all event time: the watermark of a source that has seen nothing.
pub const MIN_TIME: Micros = i64::MIN;

/// After all event time: the watermark of a source that has ended.
pub const MAX_TIME: Micros = i64::MAX;

/// Wall time, injected so that tests decide it.
pub trait Clock: Send + Sync {
    /// Now, in microseconds since the epoch of Unix.
    fn now(&self) -> Micros;

    /// Lets `wait` of wall time pass.
    fn sleep(&self, wait: Duration);
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

#[allow(clippy::disallowed_methods, reason = "the one reader of wall time")]
impl Clock for SystemClock {
    fn now(&self) -> Micros {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }

    fn sleep(&self, wait: Duration) {
        std::thread::sleep(wait);
    }
}

/// A clock that a test moves by hand; `sleep` moves it too, and yields the thread.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: Micros) -> Self {
        Self(AtomicI64::new(now))
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Micros {
        self.0.load(Ordering::SeqCst)
    }

    fn sleep(&self, wait: Duration) {
        self.advance(wait);
        std::thread::yield_now();
    }
}

/// Measures how long a stage took, for the counters only.
#[derive(Debug)]
pub struct Stopwatch(Instant);

#[allow(clippy::disallowed_methods, reason = "durations for counters; no result depends on them")]
impl Stopwatch {
    /// Starts to measure.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the start.
    pub fn nanos(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
