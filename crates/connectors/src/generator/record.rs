//! A generated record: the transaction behind it, and its JSON, written into buffers that are used again.

use chrono::{Datelike, Timelike};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use riverrun_engine::time::Micros;

use super::labels::Kinds;
use super::user::Place;

const MERCHANTS: [&str; 4] = ["Amazon", "Walmart", "Target", "Costco"];
const CATEGORIES: [&str; 3] = ["Electronics", "Groceries", "Clothing"];
const DEVICES: [&str; 3] = ["mobile", "web", "pos"];

/// A transaction as numbers: all that a record says, and the truth about it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Transaction {
    /// Event time: no two transactions have the same, so it names the transaction too.
    pub time: Micros,
    /// Number of the user.
    pub user: u32,
    /// Hundredths.
    pub amount_cents: i64,
    pub(super) merchant: u8,
    pub(super) category: u8,
    pub(super) device: u8,
    /// Where.
    pub place: Place,
    /// What is wrong with it.
    pub kinds: Kinds,
}

/// Why a record cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Malformed {
    /// The JSON ends too early.
    Truncated,
    /// A field has a value of another type.
    WrongType,
    /// A required field is not there.
    MissingField,
    /// No bytes at all.
    Empty,
    /// Text that is no JSON.
    NotJson,
}

impl Malformed {
    pub(super) const ALL: [Self; 5] = [Self::Truncated, Self::WrongType, Self::MissingField, Self::Empty, Self::NotJson];
}

/// A record to send. Used again and again: its buffers keep their memory.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The user's id.
    pub key: Vec<u8>,
    /// JSON, if not malformed.
    pub payload: Vec<u8>,
    /// When it is sent, in simulated time. Out of order = after its event time.
    pub timestamp: Micros,
    /// What is in it. Of a malformed record, what had been meant: no part of the truth.
    pub transaction: Transaction,
    /// Why it cannot be decoded.
    pub malformed: Option<Malformed>,
}

impl Record {
    pub(super) fn set(&mut self, transaction: &Transaction, timestamp: Micros) {
        self.transaction = *transaction;
        self.timestamp = timestamp;
        self.malformed = None;
        self.key.clear();
        push_user(&mut self.key, transaction.user);
        self.payload.clear();
        write_json(&mut self.payload, transaction, "");
    }

    pub(super) fn set_malformed(&mut self, meant: &Transaction, timestamp: Micros, kind: Malformed, rng: &mut ChaCha8Rng) {
        self.set(meant, timestamp);
        self.malformed = Some(kind);
        match kind {
            Malformed::Truncated => self.payload.truncate(rng.random_range(1..self.payload.len())),
            Malformed::WrongType | Malformed::MissingField => {
                let wrong = kind == Malformed::WrongType;
                let field = *pick(&["transaction_id", "user_id", "amount", "timestamp"], rng);
                self.payload.clear();
                write_json(&mut self.payload, meant, field);
                if wrong {
                    self.payload.pop();
                    let value = if field == "amount" { "\"a lot\"" } else { "[true]" };
                    self.payload.extend_from_slice(format!(",\"{field}\":{value}}}").as_bytes());
                }
            }
            Malformed::Empty => self.payload.clear(),
            Malformed::NotJson => {
                self.payload.clear();
                self.payload
                    .extend_from_slice(pick(&["<transaction/>", "NULL,NULL,NULL", "service unavailable"], rng).as_bytes());
            }
        }
    }
}

fn pick<'a, T>(from: &'a [T], rng: &mut ChaCha8Rng) -> &'a T {
    &from[rng.random_range(0..from.len())]
}

/// `user_<n>`.
pub(super) fn push_user(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(b"user_");
    push_number(out, u64::from(number), 1);
}

/// `txn_<epoch seconds>.<micros>`: unique, since event times are.
pub(super) fn push_id(out: &mut Vec<u8>, time: Micros) {
    out.extend_from_slice(b"txn_");
    push_number(out, time.div_euclid(1_000_000).unsigned_abs(), 1);
    out.push(b'.');
    push_number(out, time.rem_euclid(1_000_000).unsigned_abs(), 6);
}

/// The record's JSON, without the field named `except`.
fn write_json(out: &mut Vec<u8>, t: &Transaction, except: &str) {
    out.push(b'{');
    if except != "transaction_id" {
        out.extend_from_slice(b"\"transaction_id\":\"");
        push_id(out, t.time);
        out.extend_from_slice(b"\",");
    }
    if except != "user_id" {
        out.extend_from_slice(b"\"user_id\":\"");
        push_user(out, t.user);
        out.extend_from_slice(b"\",");
    }
    if except != "amount" {
        out.extend_from_slice(b"\"amount\":");
        push_number(out, t.amount_cents.unsigned_abs() / 100, 1);
        out.push(b'.');
        push_number(out, t.amount_cents.unsigned_abs() % 100, 2);
        out.push(b',');
    }
    push_word(out, "merchant", MERCHANTS[usize::from(t.merchant)]);
    push_word(out, "category", CATEGORIES[usize::from(t.category)]);
    if except != "timestamp" {
        out.extend_from_slice(b"\"timestamp\":\"");
        push_time(out, t.time);
        out.extend_from_slice(b"\",");
    }
    out.extend_from_slice(b"\"location\":{\"lat\":");
    push_degrees(out, t.place.lat);
    out.extend_from_slice(b",\"lon\":");
    push_degrees(out, t.place.lon);
    out.extend_from_slice(b"},");
    push_word(out, "device_type", DEVICES[usize::from(t.device)]);
    out.pop();
    out.push(b'}');
}

fn push_word(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in ["\"", name, "\":\"", value, "\","] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn push_degrees(out: &mut Vec<u8>, value: i32) {
    if value < 0 {
        out.push(b'-');
    }
    push_number(out, u64::from(value.unsigned_abs()) / 10_000, 1);
    out.push(b'.');
    push_number(out, u64::from(value.unsigned_abs()) % 10_000, 4);
}

/// ISO 8601, UTC, microseconds.
fn push_time(out: &mut Vec<u8>, time: Micros) {
    let date = chrono::DateTime::from_timestamp_micros(time).unwrap_or_default();
    push_number(out, u64::from(date.year().unsigned_abs()), 4);
    let parts = [(b'-', date.month()), (b'-', date.day()), (b'T', date.hour()), (b':', date.minute()), (b':', date.second())];
    for (mark, part) in parts {
        out.push(mark);
        push_number(out, u64::from(part), 2);
    }
    out.push(b'.');
    push_number(out, time.rem_euclid(1_000_000).unsigned_abs(), 6);
    out.push(b'Z');
}

/// Decimal digits, with zeros in front up to `width`.
fn push_number(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while value > 0 {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits[at.min(digits.len() - width)..]);
}
