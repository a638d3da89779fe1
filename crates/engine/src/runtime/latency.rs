//! End-to-end latency of a sink: from the time of an epoch's newest record to the sink's acknowledgement.
//!
//! Invariant: bounded. A sink may acknowledge after minutes; from [`MOST`] epochs on, neighbours are taken together under
//! the older of their times, so that latency is never told shorter than it was.

use super::stats::Histogram;
use crate::time::Micros;

/// Most times that are kept one by one.
const MOST: usize = 4096;

/// The times of epochs that a sink has not acknowledged.
#[derive(Default)]
pub struct Unacknowledged {
    /// The time of the newest record, and of how many epochs.
    times: Vec<(Micros, u64)>,
}

impl Unacknowledged {
    /// So many epochs have newest records of these times.
    pub fn extend(&mut self, times: impl IntoIterator<Item = (Micros, u64)>) {
        self.times.extend(times);
        while self.times.len() > MOST {
            self.times = self.times.chunks(2).map(|pair| (least(pair), pair.iter().map(|(_, n)| n).sum())).collect();
        }
    }

    /// The sink acknowledged all of them at `now`.
    pub fn acknowledged(&mut self, now: Micros, latency: &Histogram) {
        for (time, epochs) in self.times.drain(..) {
            // The record's time is another machine's clock: it may be ahead of ours.
            let micros = now.saturating_sub(time).max(0).unsigned_abs();
            latency.observe_many(micros.saturating_mul(1000), epochs);
        }
    }
}

fn least(pair: &[(Micros, u64)]) -> Micros {
    pair.iter().map(|(t, _)| *t).min().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_is_observed_once_however_many_wait() {
        let (mut waiting, latency) = (Unacknowledged::default(), Histogram::default());
        waiting.extend((0..100_000).map(|i| (1_000_000 + i % 2, 1)));
        assert!(waiting.times.len() <= MOST);
        waiting.acknowledged(1_000_000 + 20_001, &latency);
        let counts = latency.counts();
        assert_eq!((counts.count(), counts.buckets[6]), (100_000, 100_000), "20 ms, in the bucket from 10 to 25 ms");
        waiting.extend([(5_000_000, 1)]);
        waiting.acknowledged(4_000_000, &latency);
        assert_eq!(latency.counts().buckets[0], 1, "a record from the future has no latency");
    }
}
