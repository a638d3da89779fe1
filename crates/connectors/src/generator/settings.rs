//! What a stream of transactions is like: seed, users, time, disorder, faults and fraud.

use std::time::Duration;

use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

/// 2026-01-01T00:00:00Z: where simulated event time starts by default, so that the same seed gives the same bytes.
pub const DEFAULT_START: Micros = 1_767_225_600_000_000;

/// The shortest time between two honest transactions of one user: at most five of them fall into any minute, so that only
/// a burst has more.
pub(super) const HONEST_GAP_SECONDS: f64 = 12.0;

/// Settings of a [`super::Generator`]. All shares are between 0 and 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Same seed, same settings: same bytes.
    pub seed: u64,
    /// How many users there are, `user_0` onwards.
    pub users: u32,
    /// Transactions per second of event time, at most 1,000,000 since no two have the same microsecond.
    pub events_per_second: f64,
    /// Event time of the beginning.
    pub start: Micros,
    /// Share of the transactions that arrive behind younger ones.
    pub out_of_order: f64,
    /// The most that such a transaction arrives after its event time.
    pub max_lateness: Duration,
    /// Share of the records that cannot be decoded; they stand beside the transactions and are no part of the truth.
    pub malformed: f64,
    /// How much fraud, by kind.
    pub fraud: FraudRates,
    /// Every field uniformly at random from its range, with no users' habits behind it, no fraud and no truth.
    pub uniform: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 1,
            users: 10_000,
            events_per_second: 500.0,
            start: DEFAULT_START,
            out_of_order: 0.02,
            max_lateness: Duration::from_secs(300),
            malformed: 0.0,
            fraud: FraudRates::evenly(0.01),
            uniform: false,
        }
    }
}

impl Settings {
    /// Refuses settings that cannot be carried out.
    pub fn check(&self) -> Result<()> {
        let shares = [("out_of_order", self.out_of_order), ("malformed", self.malformed), ("fraud", self.fraud.total())];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::invalid(format!("{name} = {share}: a share must lie between 0 and 1")));
            }
        }
        if self.users == 0 {
            return Err(Error::invalid("users = 0: there must be at least one user"));
        }
        if !(self.events_per_second > 0.0 && self.events_per_second <= 1_000_000.0) {
            let message = format!("{} events per second of event time", self.events_per_second);
            return Err(Error::invalid(message).hint("more than 0, and at most 1,000,000: event times are distinct microseconds"));
        }
        if self.uniform && self.fraud.total() > 0.0 {
            return Err(Error::invalid("uniform transactions have no truth: fraud cannot be injected into them"));
        }
        Ok(())
    }

    /// The same settings with every field drawn uniformly from its range.
    pub fn uniform(self) -> Self {
        Self { uniform: true, fraud: FraudRates::evenly(0.0), ..self }
    }
}

/// The share of the transactions that are fraud of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct FraudRates {
    /// A place that nobody reaches in the time: more than 800 km/h since the user's previous transaction.
    pub impossible_travel: f64,
    /// An amount over 10,000.
    pub large_amount: f64,
    /// A place more than 50 km away within less than 60 seconds.
    pub rapid_change: f64,
    /// One of more than five transactions within a minute.
    pub burst: f64,
}

impl FraudRates {
    /// Each kind the same share, `total` together.
    pub fn evenly(total: f64) -> Self {
        let each = total / 4.0;
        Self { impossible_travel: each, large_amount: each, rapid_change: each, burst: each }
    }

    /// All kinds together.
    pub fn total(&self) -> f64 {
        self.impossible_travel + self.large_amount + self.rapid_change + self.burst
    }

    /// The share of the transactions that follow a plan rather than the stream's rhythm: all but large amounts.
    pub(super) fn planned(&self) -> f64 {
        self.total() - self.large_amount
    }
}
