//! Dead letters that are given again to where they came from: what is asked, and what became of them.

use std::collections::BTreeMap;

use riverrun_engine::progress::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which dead letters to replay, and how. An empty object: all that would become rows now.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayWanted {
    /// Of this source only.
    pub source: Option<String>,
    /// Of this reason only.
    pub reason: Option<String>,
    /// Only those that were read then or later.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// At most so many.
    pub limit: Option<usize>,
    /// Also those that would be bad again.
    pub all: bool,
    /// Replay nothing, say what would be.
    pub dry_run: bool,
}

/// What became of dead letters.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq, ToSchema)]
pub struct Replayed {
    /// Whether nothing was replayed, only looked at.
    pub dry_run: bool,
    /// By source.
    pub sources: Vec<ReplayedSource>,
    /// The first records that were wanted and not replayed before.
    pub records: Vec<ReplayedRecord>,
}

/// The dead letters of a source.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq, ToSchema)]
pub struct ReplayedSource {
    /// The table.
    pub source: String,
    /// How many were wanted.
    pub letters: u64,
    /// Of these: replayed before, or there twice.
    pub before: u64,
    /// Of these: replayed now, or in a dry run: those that would be.
    pub replayed: u64,
    /// Of these: not replayed, since they would be bad again. By the reason they have now.
    pub bad: BTreeMap<String, u64>,
    /// Of these: not replayed, since they were not kept whole.
    pub incomplete: u64,
    /// Records at the place of dead letters that are none.
    pub foreign: u64,
}

/// A dead letter, and what became of it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, ToSchema)]
pub struct ReplayedRecord {
    /// The source, with the topic where it has several.
    pub source: String,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: i64,
    /// Why it was bad.
    pub reason: String,
    /// What became of it.
    pub outcome: ReplayOutcome,
    /// Why it would be bad again, for people.
    pub detail: Option<String>,
}

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayOutcome {
    /// It was replayed, or would be.
    Replayed,
    /// It would be bad again.
    Bad,
    /// It was not kept whole.
    Incomplete,
}
