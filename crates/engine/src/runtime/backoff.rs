//! When to try again what may pass by itself: 100 ms, doubling to 30 s, each shortened by chance to no less than its half, so
//! that those who failed together do not come back together.

use std::time::Duration;

use crate::time::Micros;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// The trouble that one source or sink is in, if any.
#[derive(Debug)]
pub struct Backoff {
    trouble: Option<(Micros, Duration)>,
    chance: u64,
}

impl Backoff {
    /// No trouble; equal seeds make equal waits.
    pub fn seeded(seed: u64) -> Self {
        Self { trouble: None, chance: seed }
    }

    /// Whether it may be tried at `now`.
    pub fn ready(&self, now: Micros) -> bool {
        self.trouble.is_none_or(|(again, _)| now >= again)
    }

    /// It failed at `now` with a transient error; whether it worked before.
    pub fn failed(&mut self, now: Micros) -> bool {
        let wait = self.trouble.map_or(FIRST, |(_, wait)| (wait * 2).min(LONGEST));
        let half = wait.as_micros() as u64 / 2;
        let again = now.saturating_add((half + self.next() % (half + 1)) as Micros);
        self.trouble.replace((again, wait)).is_none()
    }

    /// It worked; whether it failed before.
    pub fn worked(&mut self) -> bool {
        self.trouble.take().is_some()
    }

    /// The next number by chance: SplitMix64.
    fn next(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits of so many failures, in milliseconds.
    fn waits(backoff: &mut Backoff, failures: usize) -> Vec<i64> {
        let mut now = 5_000_000;
        let mut wait = |tries| {
            assert!(backoff.ready(now));
            assert_eq!(backoff.failed(now), tries == 0, "told once");
            let failed = now;
            while !backoff.ready(now) {
                now += 1_000;
            }
            (now - failed) / 1_000
        };
        (0..failures).map(&mut wait).collect()
    }

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_once_it_worked() {
        let mut backoff = Backoff::seeded(1);
        let waits = waits(&mut backoff, 12);
        let longest = [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000];
        for (wait, longest) in waits.iter().zip(longest) {
            assert!((longest / 2..=longest).contains(wait), "{waits:?}");
        }
        assert!(backoff.worked() && !backoff.worked());
        assert!(backoff.failed(0));
        assert!(backoff.ready(100_000));
    }

    #[test]
    fn waits_differ_by_seed_and_by_nothing_else() {
        let of = |seed| waits(&mut Backoff::seeded(seed), 12);
        assert_eq!(of(1), of(1));
        assert!((2..20).all(|seed| of(seed) != of(1)));
    }
}
