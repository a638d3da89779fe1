//! What did not go on as a row, and why: bad records, late rows.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use riverrun_engine::progress::Timestamp;
use riverrun_engine::runtime::stats;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::RowLine;

/// Bad records: counts and the newest.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, ToSchema)]
pub struct DeadLetters {
    /// By source.
    pub sources: Vec<SourceOfBad>,
    /// The newest, newest first.
    pub samples: Vec<BadSample>,
}

/// A source, and what becomes of its bad records.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, ToSchema)]
pub struct SourceOfBad {
    /// The table.
    pub source: String,
    /// `fail`, `drop` or `dead_letter`: the option `bad_records`.
    pub fate: String,
    /// The table that holds all of them, where they are kept.
    pub table: Option<String>,
    /// Bad records of this run by reason.
    pub counts: BTreeMap<String, u64>,
}

/// A bad record.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, ToSchema)]
pub struct BadSample {
    /// The source, with the topic where it has several.
    pub source: String,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: i64,
    /// Its own time.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub record_time: Option<Timestamp>,
    /// One of a few words.
    pub reason: String,
    /// What was wrong, for people.
    pub detail: String,
    /// Its key; bytes that are no UTF-8 as `base64:…`.
    pub key: Option<String>,
    /// The record as it was, cut at 4096 bytes; bytes that are no UTF-8 as `base64:…`.
    pub payload: String,
    /// When it was read.
    #[schema(value_type = String, format = DateTime)]
    pub seen: Timestamp,
}

impl BadSample {
    /// A sample for people.
    pub fn of(sample: &stats::BadSample) -> Self {
        let record = &sample.record;
        let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            // Cut within a character.
            Err(e) if e.error_len().is_none() => String::from_utf8_lossy(&bytes[..e.valid_up_to()]).into_owned(),
            Err(_) => format!("base64:{}", STANDARD.encode(bytes)),
        };
        Self {
            source: sample.source.clone(),
            partition: sample.partition,
            offset: record.offset,
            record_time: record.timestamp.map(Timestamp),
            reason: record.reason.to_owned(),
            detail: record.detail.clone(),
            key: record.key.as_deref().map(text),
            payload: text(&record.payload),
            seen: Timestamp(sample.seen),
        }
    }
}

/// Late rows of all sources.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, ToSchema)]
pub struct LateRows {
    /// By source.
    pub sources: Vec<LateSource>,
}

/// Late rows of a source.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, ToSchema)]
pub struct LateSource {
    /// The table.
    pub source: String,
    /// How many in this run.
    pub late: u64,
    /// The newest, oldest first.
    pub rows: Vec<RowLine>,
}
