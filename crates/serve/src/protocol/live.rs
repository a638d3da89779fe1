//! Rows as they leave the pipeline, one object each.

use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use riverrun_engine::batch::Change;
use riverrun_engine::progress::Timestamp;
use riverrun_engine::runtime::stats::Passed;
use riverrun_engine::{Error, Result};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One row of a sink's output.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, ToSchema)]
pub struct RowLine {
    /// Its number: rows are numbered from 0 as they pass in this run.
    pub sequence: u64,
    /// `insert`, `late`, `upsert` or `delete`.
    pub change: String,
    /// The clock of its epoch.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// The row, by column.
    #[schema(value_type = Object)]
    pub row: serde_json::Map<String, serde_json::Value>,
}

/// The newest rows of a sink.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, ToSchema)]
pub struct Recent {
    /// The rows, oldest first.
    pub rows: Vec<RowLine>,
    /// The number that the next row will have.
    pub sequence: u64,
}

/// Rows that passed, each as a [`RowLine`] in JSON with its number.
pub fn lines(passed: &[Passed]) -> Result<Vec<(u64, String)>> {
    let mut lines = Vec::new();
    for Passed { first, change, clock, rows } in passed {
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
        writer.write(rows)?;
        writer.finish()?;
        let text = String::from_utf8(writer.into_inner()).map_err(|e| Error::permanent(e.to_string()))?;
        let (change, time) = (name(*change), Timestamp(*clock));
        lines.extend((*first..).zip(text.lines()).map(|(sequence, row)| {
            (sequence, format!("{{\"sequence\":{sequence},\"change\":\"{change}\",\"time\":\"{time}\",\"row\":{row}}}"))
        }));
    }
    Ok(lines)
}

fn name(change: Change) -> &'static str {
    match change {
        Change::Insert => "insert",
        Change::Late => "late",
        Change::Upsert => "upsert",
        Change::Delete => "delete",
    }
}
