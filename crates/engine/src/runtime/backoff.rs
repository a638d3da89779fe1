//! When to try again what may pass by itself: 100 ms, doubling to 30 s.

use std::time::Duration;

use crate::time::Micros;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// The trouble that one source or sink is in, if any.
#[derive(Debug, Default)]
pub struct Backoff {
    trouble: Option<(Micros, Duration)>,
}

impl Backoff {
    /// Whether it may be tried at `now`.
    pub fn ready(&self, now: Micros) -> bool {
        self.trouble.is_none_or(|(again, _)| now >= again)
    }

    /// It failed at `now` with a transient error; whether it worked before.
    pub fn failed(&mut self, now: Micros) -> bool {
        let wait = self.trouble.map_or(FIRST, |(_, wait)| (wait * 2).min(LONGEST));
        self.trouble.replace((now.saturating_add(wait.as_micros() as Micros), wait)).is_none()
    }

    /// It worked; whether it failed before.
    pub fn worked(&mut self) -> bool {
        self.trouble.take().is_some()
    }
}
