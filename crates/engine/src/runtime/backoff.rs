//! When to try again what may pass by itself: 100 ms, doubling to 30 s. Told once when it begins and once when it ends.

use std::time::Duration;

use crate::Error;
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

    /// It failed at `now` with a transient error.
    pub fn failed(&mut self, who: &str, error: &Error, now: Micros) {
        let wait = match self.trouble {
            None => {
                tracing::warn!("{who}: {error}; trying again until it passes");
                FIRST
            }
            Some((_, wait)) => (wait * 2).min(LONGEST),
        };
        self.trouble = Some((now.saturating_add(wait.as_micros() as Micros), wait));
    }

    /// It worked.
    pub fn worked(&mut self, who: &str) {
        if self.trouble.take().is_some() {
            tracing::info!("{who}: works again");
        }
    }
}
