//! Moments on the command line, and times as people read them.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat};
use riverrun_engine::checkpoint::At;
use riverrun_engine::time::Micros;

use crate::cli::top::units;

/// Which checkpoints are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub At);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("latest") {
            return Ok(Self(At::Latest));
        }
        if let Some(epoch) = text.strip_prefix("epoch") {
            let epoch = epoch.trim_start_matches([' ', ':', '=']);
            return epoch.parse().map(|epoch| Self(At::Epoch(epoch))).map_err(|_| format!("'{epoch}' is no number of an epoch"));
        }
        let time = DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros());
        let utc = || {
            let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
            formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        };
        let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|day| day.and_hms_opt(0, 0, 0));
        let time = time.or_else(|| utc().or_else(day).map(|time| time.and_utc().timestamp_micros()));
        let wrong = || format!("'{text}' is none of: latest, epoch N, 2026-05-01 12:00 (UTC), 2026-05-01T12:00:00+02:00");
        time.map(|time| Self(At::Time(time))).ok_or_else(wrong)
    }
}

/// `2026-05-01T12:00:00.123Z`.
pub fn timestamp(time: Micros) -> String {
    let time = DateTime::from_timestamp_micros(time);
    time.map_or_else(|| "-".into(), |time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// How long before `now`.
pub fn age(time: Micros, now: Micros) -> String {
    units::span(Duration::from_micros(now.saturating_sub(time).max(0) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_epochs_or_the_newest() {
        let at = |text: &str| text.parse::<Moment>().map(|moment| moment.0);
        assert_eq!(at("latest"), Ok(At::Latest));
        assert_eq!(at("epoch 17"), Ok(At::Epoch(17)));
        assert_eq!(at("epoch:17"), Ok(At::Epoch(17)));
        assert_eq!(at("1970-01-01 00:01"), Ok(At::Time(60_000_000)));
        assert_eq!(at("1970-01-02"), Ok(At::Time(86_400_000_000)));
        assert_eq!(at("1970-01-01T01:00:00.5+01:00"), Ok(At::Time(500_000)));
        assert!(at("yesterday").unwrap_err().starts_with("'yesterday' is none of"));
        assert_eq!(timestamp(60_000_000), "1970-01-01T00:01:00.000Z");
    }
}
