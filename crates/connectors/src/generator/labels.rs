//! The truth about generated transactions, as JSON lines.
//!
//! What truth means: a transaction's kinds are what the rules of the fraud query say about it in event-time order over all
//! transactions of its user, exactly; and what they say in order of arrival too, since a transaction out of order never
//! stands beside a jump. `burst` is the exception: it marks the transactions that belong to a burst, each of which makes
//! some minute that starts at a half minute have more than five. No other minute has, as long as
//! `events_per_second` is at most a sixteenth of the users.

use std::io::Write;

use serde::{Serialize, Serializer};

use super::record::{Record, push_id, push_user};

/// What is wrong with a transaction: a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Kinds(u8);

impl Kinds {
    /// Nothing is wrong.
    pub const NONE: Self = Self(0);
    /// More than 800 km/h since the user's previous transaction.
    pub const IMPOSSIBLE_TRAVEL: Self = Self(1);
    /// An amount over 10,000.
    pub const LARGE_AMOUNT: Self = Self(2);
    /// More than 50 km away from the user's previous transaction, less than 60 seconds before.
    pub const RAPID_CHANGE: Self = Self(4);
    /// One of more than five transactions of the user within a minute.
    pub const BURST: Self = Self(8);

    /// Each kind and its name in a file of labels.
    pub const NAMES: [(Self, &'static str); 4] = [
        (Self::IMPOSSIBLE_TRAVEL, "impossible_travel"),
        (Self::LARGE_AMOUNT, "large_amount"),
        (Self::RAPID_CHANGE, "rapid_change"),
        (Self::BURST, "burst"),
    ];

    /// Both sets.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Without what is in `other`.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is wrong.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl Serialize for Kinds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(Self::NAMES.iter().filter(|(kind, _)| self.has(*kind)).map(|(_, name)| name))
    }
}

/// Writes one line per transaction with which something is wrong: `{"transaction_id":…,"user_id":…,"kinds":[…]}`.
pub struct Labels<W: Write> {
    out: W,
    line: Vec<u8>,
    written: u64,
}

impl<W: Write> Labels<W> {
    /// Labels into `out`, which should be buffered.
    pub fn new(out: W) -> Self {
        Self { out, line: Vec::new(), written: 0 }
    }

    /// Writes the label of a record, if it has one.
    pub fn write(&mut self, record: &Record) -> std::io::Result<()> {
        let transaction = &record.transaction;
        if record.malformed.is_some() || transaction.kinds.is_none() {
            return Ok(());
        }
        self.line.clear();
        self.line.extend_from_slice(b"{\"transaction_id\":\"");
        push_id(&mut self.line, transaction.time);
        self.line.extend_from_slice(b"\",\"user_id\":\"");
        push_user(&mut self.line, transaction.user);
        self.line.extend_from_slice(b"\",\"kinds\":");
        serde_json::to_writer(&mut self.line, &transaction.kinds)?;
        self.line.extend_from_slice(b"}\n");
        self.written += 1;
        self.out.write_all(&self.line)
    }

    /// How many labels there were; everything is with the operating system now.
    pub fn finish(mut self) -> std::io::Result<u64> {
        self.out.flush()?;
        Ok(self.written)
    }
}
