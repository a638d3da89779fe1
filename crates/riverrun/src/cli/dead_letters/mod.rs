//! `riverrun dead-letters`: records that could not become rows, and giving them again once they can.

mod list;
mod replay;

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use clap::{Args, Subcommand};
use riverrun_engine::Result;
use riverrun_engine::progress::Timestamp;
use riverrun_engine::table::parse_duration;
use riverrun_engine::time::Micros;

/// Arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  riverrun dead-letters list                                 of the pipeline that runs on ./riverrun-data (or ${DATA_DIR})
  riverrun dead-letters list my.sql --reason wrong_type      of a script, whether it runs or not
  riverrun dead-letters list 10.0.0.7:8000 --since '1 hour'  of a pipeline elsewhere (its token: RIVERRUN_TOKEN)
  riverrun dead-letters replay my.sql --dry-run              which would become rows now, with the script as it is
  riverrun dead-letters replay my.sql                        give those to their source again, each once
  riverrun dead-letters replay my.sql --source orders --all  also those that would be bad again
  riverrun dead-letters replay my.sql --out again.jsonl      write them to a file instead, one a line")]
pub struct DeadLetters {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List dead letters: counts by reason, and the newest with position, reason, time, key and the payload's beginning.
    List(list::List),
    /// Give dead letters again to the source that they came from: those that would become rows now, each once.
    ///
    /// Mend the script (or whatever was wrong), start the pipeline with it, then replay. Records go to the end of their
    /// partition: their rows may be late.
    Replay(replay::Replay),
}

impl DeadLetters {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        match self.what {
            What::List(list) => list.run(),
            What::Replay(replay) => replay.run(),
        }
    }
}

/// Which dead letters.
#[derive(Debug, Args)]
struct Which {
    /// Only the dead letters of this source.
    #[arg(long)]
    source: Option<String>,
    /// Only those of this reason, such as wrong_type.
    #[arg(long)]
    reason: Option<String>,
    /// Only those that were read since then: a span such as '1 hour', or a time.
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,
}

impl Which {
    fn since(&self, now: Micros) -> Option<Timestamp> {
        self.since.map(|since| Timestamp(since.before(now)))
    }
}

/// A moment, or how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    At(Micros),
    Ago(Micros),
}

impl Since {
    fn before(self, now: Micros) -> Micros {
        match self {
            Self::At(time) => time,
            Self::Ago(span) => now.saturating_sub(span),
        }
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::At(time.timestamp_micros()));
        }
        let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
        let time = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
        let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|day| day.and_hms_opt(0, 0, 0));
        if let Some(time) = time.or_else(day) {
            return Ok(Self::At(time.and_utc().timestamp_micros()));
        }
        let ago = parse_duration(text).map(|span| i64::try_from(span.as_micros()).unwrap_or(i64::MAX));
        ago.map(Self::Ago)
            .ok_or_else(|| format!("'{text}' is none of: '1 hour', '2026-05-01 12:00' (UTC), 2026-05-01T12:00:00+02:00"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_moment_or_a_span_before_now() {
        let before = |text: &str| text.parse::<Since>().map(|since| since.before(7_200_000_000));
        assert_eq!(before("1 hour"), Ok(3_600_000_000));
        assert_eq!(before("1970-01-01 00:01"), Ok(60_000_000));
        assert_eq!(before("1970-01-02"), Ok(86_400_000_000));
        assert_eq!(before("1970-01-01T01:00:00.5+01:00"), Ok(500_000));
        assert!(before("yesterday").unwrap_err().starts_with("'yesterday' is none of"));
    }
}
