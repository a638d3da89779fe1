//! A moment as progress writes it: RFC 3339 in UTC, as Spark does (`2026-11-22T18:45:24.873Z`).

use chrono::{DateTime, SecondsFormat};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::Micros;

/// A moment. Written with milliseconds, or with microseconds where it has them, so nothing is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub Micros);

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.0 % 1000 == 0 { SecondsFormat::Millis } else { SecondsFormat::Micros };
        match DateTime::from_timestamp_micros(self.0) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(digits, true)),
            // Beyond the calendar (year 262,143): as microseconds since 1970.
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match DateTime::parse_from_rfc3339(&text) {
            Ok(time) => Ok(Self(time.timestamp_micros())),
            Err(e) => text.parse().map(Self).map_err(|_| D::Error::custom(format!("'{text}' is no time: {e}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_spark_does_and_read_back() {
        for (micros, text) in [
            (1_700_000_000_123_000, "2023-11-14T22:13:20.123Z"),
            (1_700_000_000_123_456, "2023-11-14T22:13:20.123456Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (i64::MAX, "9223372036854775807"),
        ] {
            let json = serde_json::to_string(&Timestamp(micros)).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), Timestamp(micros));
        }
    }
}
