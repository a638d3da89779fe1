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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_once_it_worked() {
        let mut backoff = Backoff::default();
        let (mut now, mut waits) = (5_000_000, Vec::new());
        for tries in 0..12 {
            assert!(backoff.ready(now));
            assert_eq!(backoff.failed(now), tries == 0, "told once");
            let failed = now;
            while !backoff.ready(now) {
                now += 100_000;
            }
            waits.push((now - failed) / 100_000);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert!(backoff.worked() && !backoff.worked());
        assert!(backoff.failed(now));
        assert!(backoff.ready(now + 100_000));
    }
}
