//! The stream of transactions: who buys next, when, and what goes wrong.
//!
//! Invariants: no two transactions have the same event time. A user with a plan (a jump, a burst) does nothing else until it
//! is carried out. A plan begins only when all that the user did has arrived, and nothing of a plan arrives out of order:
//! so what the fraud rules say is the same in event-time order and in order of arrival, and for every prefix of the stream.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use riverrun_engine::Result;
use riverrun_engine::time::Micros;

use super::labels::Kinds;
use super::record::{Malformed, Record, Transaction, push_user};
use super::settings::{HONEST_GAP_SECONDS, Settings};
use super::user::{Place, User};
use crate::partitioner::partition_of;

const SECOND: f64 = 1e6;
const MINUTE: Micros = 60_000_000;
/// Transactions of a burst: at least six, over at most 27 seconds, so that they share a window of a minute every 30 seconds.
const BURST: std::ops::RangeInclusive<u8> = 6..=10;
const BURST_MEAN: f64 = 8.0;
/// How often a user is drawn before the stream moves on in time instead.
const DRAWS: usize = 64;

/// What is to happen at a later time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Micros,
    /// Keeps the order of what is due at the same time.
    number: u64,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A transaction out of order arrives: its place in [`Generator::held`].
    Arrival(usize),
    /// The user turns up far away.
    Jump { user: usize, rapid: bool },
    /// The user buys again, and this many times more.
    Burst { user: usize, left: u8 },
}

/// What a tick of the stream is about.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Intent {
    Honest,
    Late,
    Large,
    Jump { rapid: bool },
    Burst,
}

/// The chances of a tick, each added to those before.
#[derive(Debug, Clone, Copy)]
struct Chances {
    large: f64,
    impossible: f64,
    rapid: f64,
    burst: f64,
    late: f64,
}

/// An endless stream of transactions.
pub struct Generator {
    settings: Settings,
    rng: ChaCha8Rng,
    users: Vec<User>,
    chances: Chances,
    /// Mean time between two ticks.
    step: f64,
    /// The least time between two honest transactions of a user.
    gap: Micros,
    /// Mean time between two transactions of a user.
    pace: f64,
    tick: Micros,
    latest: Micros,
    lane: (i64, i64),
    due: BinaryHeap<Reverse<Due>>,
    dues: u64,
    held: Vec<Transaction>,
    vacant: Vec<usize>,
}

impl Generator {
    /// The whole stream.
    pub fn new(settings: Settings) -> Result<Self> {
        let everyone = (0..settings.users).collect();
        Self::of(settings, everyone, 0, 1)
    }

    /// The part of the stream that belongs to one of `partitions`: its users, at their share of the rate. The parts are
    /// independent of each other and together much like the whole. A partition without users gives `None`.
    pub fn of_partition(settings: Settings, partition: u32, partitions: u32) -> Result<Option<Self>> {
        let at = (0..).zip(partitions_of_users(&settings, partitions));
        let users: Vec<u32> = at.filter(|(_, p)| *p == partition).map(|(user, _)| user).collect();
        if users.is_empty() {
            return Ok(None);
        }
        Self::of(settings, users, partition, partitions.max(1)).map(Some)
    }

    fn of(settings: Settings, numbers: Vec<u32>, lane: u32, lanes: u32) -> Result<Self> {
        settings.check()?;
        let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
        rng.set_stream(u64::from(lane));
        let rate = settings.events_per_second * numbers.len() as f64 / f64::from(settings.users);
        let pace = f64::from(settings.users) / settings.events_per_second * SECOND;
        let ticks = 1.0 - settings.fraud.planned();
        let start = settings.start;
        Ok(Self {
            chances: Chances::of(&settings),
            step: SECOND / (rate * ticks.max(0.01)),
            gap: (HONEST_GAP_SECONDS * SECOND).min(0.75 * pace) as Micros,
            pace,
            users: numbers.into_iter().map(|n| User::new(n, start, &mut rng)).collect(),
            rng,
            tick: start,
            latest: start - 1,
            lane: (i64::from(lane), i64::from(lanes)),
            due: BinaryHeap::new(),
            dues: 0,
            held: Vec::new(),
            vacant: Vec::new(),
            settings,
        })
    }

    /// Moves event time on to `now`, if it is behind: how a live stream follows the clock.
    pub fn advance_to(&mut self, now: Micros) {
        self.tick = self.tick.max(now);
    }

    /// The next record, written over `record`.
    pub fn next(&mut self, record: &mut Record) {
        if self.settings.malformed > 0.0 && self.rng.random::<f64>() < self.settings.malformed {
            let meant = self.uniform_transaction();
            let kind = Malformed::ALL[self.rng.random_range(0..Malformed::ALL.len())];
            return record.set_malformed(&meant, self.tick.max(meant.time), kind, &mut self.rng);
        }
        let transaction = self.next_transaction();
        record.set(&transaction, self.tick.max(transaction.time));
    }

    fn next_transaction(&mut self) -> Transaction {
        loop {
            if self.due.peek().is_some_and(|Reverse(due)| due.at <= self.tick)
                && let Some(Reverse(due)) = self.due.pop()
            {
                return self.carry_out(due.what);
            }
            let given = self.take_tick();
            let pause = self.rng.random_range(0.0..2.0) * self.step;
            self.tick = self.tick.max(self.latest) + (pause as Micros).max(1);
            if let Some(transaction) = given {
                return transaction;
            }
        }
    }

    /// What the tick brings; `None` if it is held back, or everybody is busy.
    fn take_tick(&mut self) -> Option<Transaction> {
        let intent = self.intent();
        if self.settings.uniform {
            let transaction = self.uniform_transaction();
            return if intent == Intent::Late { self.hold(transaction, None) } else { Some(transaction) };
        }
        let plans = matches!(intent, Intent::Jump { .. } | Intent::Burst);
        let user = self.free_user(plans)?;
        let time = self.stamp();
        self.users[user].go(time, &mut self.rng);
        self.users[user].free_at = time + self.gap;
        let mut transaction = self.honest(user, time);
        match intent {
            Intent::Honest => {}
            Intent::Late => return self.hold(transaction, Some(user)),
            Intent::Large => {
                transaction.amount_cents = self.rng.random_range(1_000_001..=5_000_000);
                transaction.kinds = Kinds::LARGE_AMOUNT;
            }
            Intent::Jump { rapid } => {
                let longest = if rapid { (55.0 * SECOND).min(10.0 * self.pace) } else { (180.0 * SECOND).min(60.0 * self.pace) };
                let shortest = if rapid { longest / 4.0 } else { (61.0 * SECOND).min(longest / 2.0) };
                self.plan(user, shortest, longest, What::Jump { user, rapid });
            }
            Intent::Burst => {
                let left = self.rng.random_range(BURST) - 1;
                self.plan_burst(user, left);
            }
        }
        Some(transaction)
    }

    fn intent(&mut self) -> Intent {
        let (draw, c) = (self.rng.random::<f64>(), self.chances);
        match draw {
            _ if draw < c.large => Intent::Large,
            _ if draw < c.impossible => Intent::Jump { rapid: false },
            _ if draw < c.rapid => Intent::Jump { rapid: true },
            _ if draw < c.burst => Intent::Burst,
            _ if draw < c.late => Intent::Late,
            _ => Intent::Honest,
        }
    }

    /// A user who may buy now; for a plan, one of whom nothing is still under way.
    fn free_user(&mut self, plans: bool) -> Option<usize> {
        (0..DRAWS).map(|_| self.rng.random_range(0..self.users.len())).find(|user| {
            let user = &self.users[*user];
            user.free_at <= self.tick && (!plans || user.arrived_by <= self.tick)
        })
    }

    /// An event time that no other transaction has, on this partition or another: now, or as soon after as is free.
    fn stamp(&mut self) -> Micros {
        let (lane, lanes) = self.lane;
        let earliest = self.tick.max(self.latest + 1);
        self.latest = earliest + (lane - earliest).rem_euclid(lanes);
        self.latest
    }

    fn honest(&mut self, user: usize, time: Micros) -> Transaction {
        let (user, rng) = (&self.users[user], &mut self.rng);
        Transaction {
            time,
            user: user.number,
            amount_cents: user.amount(rng),
            merchant: user.merchant(rng),
            category: user.category(rng),
            device: user.device(rng),
            place: user.place,
            kinds: Kinds::NONE,
        }
    }

    fn uniform_transaction(&mut self) -> Transaction {
        let time = self.stamp();
        let rng = &mut self.rng;
        Transaction {
            time,
            user: self.users[rng.random_range(0..self.users.len())].number,
            amount_cents: rng.random_range(1_000..=500_000),
            merchant: rng.random_range(0..4),
            category: rng.random_range(0..3),
            device: rng.random_range(0..3),
            place: Place::anywhere(rng),
            kinds: Kinds::NONE,
        }
    }

    /// Keeps a transaction back: it arrives behind younger ones.
    fn hold(&mut self, transaction: Transaction, user: Option<usize>) -> Option<Transaction> {
        let most = duration_micros(self.settings.max_lateness).max(2);
        let at = transaction.time + self.rng.random_range(1..most);
        if let Some(user) = user {
            self.users[user].arrived_by = self.users[user].arrived_by.max(at);
        }
        let place = self.vacant.pop().unwrap_or(self.held.len());
        match self.held.get_mut(place) {
            Some(free) => *free = transaction,
            None => self.held.push(transaction),
        }
        self.schedule(at, What::Arrival(place));
        None
    }

    fn plan(&mut self, user: usize, shortest: f64, longest: f64, what: What) {
        let wait = self.rng.random_range(shortest..=longest) as Micros;
        let at = self.users[user].seen + wait.max(1);
        self.users[user].free_at = Micros::MAX;
        self.schedule(at, what);
    }

    fn plan_burst(&mut self, user: usize, left: u8) {
        let longest = (3.0 * SECOND).min(self.pace / 4.0);
        self.plan(user, longest / 3.0, longest, What::Burst { user, left });
    }

    fn schedule(&mut self, at: Micros, what: What) {
        self.dues += 1;
        self.due.push(Reverse(Due { at, number: self.dues, what }));
    }

    fn carry_out(&mut self, what: What) -> Transaction {
        match what {
            What::Arrival(place) => {
                self.vacant.push(place);
                self.held[place]
            }
            What::Jump { user, rapid } => {
                let time = self.stamp();
                self.users[user].free_at = time + self.gap;
                let kinds = self.jump(user, time, rapid);
                Transaction { kinds, ..self.honest(user, time) }
            }
            What::Burst { user, left } => {
                let time = self.stamp();
                self.users[user].seen = time;
                self.users[user].free_at = time + self.gap;
                if left > 0 {
                    self.plan_burst(user, left - 1);
                }
                Transaction { kinds: Kinds::BURST, ..self.honest(user, time) }
            }
        }
    }

    /// Moves the user too far for the time since the last transaction. Should so much have passed meanwhile (a live stream
    /// that stood still) that the rules would not say so, the user moves on honestly.
    fn jump(&mut self, user: usize, time: Micros, rapid: bool) -> Kinds {
        let (user, rng) = (&mut self.users[user], &mut self.rng);
        let elapsed = time - user.seen;
        // At least 111 km, or at least 333 km.
        let place = if rapid { user.place.far(rng, 1, 4, 2) } else { user.place.far(rng, 3, 11, 30) };
        if user.place.at_least_km(place) / (elapsed as f64 / (60.0 * MINUTE as f64)) <= 801.0 {
            user.go(time, rng);
            return Kinds::NONE;
        }
        user.jump(place, time);
        if elapsed < MINUTE { Kinds::IMPOSSIBLE_TRAVEL.and(Kinds::RAPID_CHANGE) } else { Kinds::IMPOSSIBLE_TRAVEL }
    }
}

impl Chances {
    /// Planned transactions come besides the ticks, so a tick's chance is a share of all divided by the ticks' share.
    fn of(settings: &Settings) -> Self {
        let fraud = &settings.fraud;
        let ticks = (1.0 - fraud.planned()).max(0.01);
        let large = fraud.large_amount / ticks;
        let impossible = large + fraud.impossible_travel / ticks;
        let rapid = impossible + fraud.rapid_change / ticks;
        let burst = rapid + fraud.burst / BURST_MEAN / ticks;
        Self { large, impossible, rapid, burst, late: burst + settings.out_of_order / ticks }
    }
}

/// The partition of each user's records.
fn partitions_of_users(settings: &Settings, partitions: u32) -> impl Iterator<Item = u32> {
    let mut key = Vec::new();
    (0..settings.users).map(move |number| {
        key.clear();
        push_user(&mut key, number);
        partition_of(&key, partitions)
    })
}

/// How many users have their records in each partition.
pub(super) fn users_by_partition(settings: &Settings, partitions: u32) -> Vec<u32> {
    let mut counts = vec![0; partitions as usize];
    partitions_of_users(settings, partitions).for_each(|partition| counts[partition as usize] += 1);
    counts
}

pub(super) fn duration_micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX / 4)
}
