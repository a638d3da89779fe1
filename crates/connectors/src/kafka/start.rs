//! Where a pipeline without a position starts: the option `starting_offsets`.

use std::collections::BTreeMap;

use riverrun_engine::source::Start;
use serde_json::{Map, Value};

/// Where a pipeline without a position starts.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum StartingOffsets {
    /// The same for all partitions.
    All(Start),
    /// By partition of the one topic; one that is not named starts at its earliest.
    Each(BTreeMap<u32, Start>),
    /// By topic and partition; one that is not named starts at its earliest.
    Topics(BTreeMap<String, BTreeMap<u32, Start>>),
}

impl StartingOffsets {
    /// `earliest`, `latest`, a time, or `{"0": 42}`, or Spark's `{"topic": {"0": 42}}`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "earliest" => Ok(Self::All(Start::Earliest)),
            "latest" => Ok(Self::All(Start::Latest)),
            json if json.starts_with('{') => by_partition(json),
            time => match (time.parse::<i64>(), chrono::DateTime::parse_from_rfc3339(time)) {
                (Ok(millis), _) => Ok(Self::All(Start::Time(millis.saturating_mul(1000)))),
                (_, Ok(time)) => Ok(Self::All(Start::Time(time.timestamp_micros()))),
                _ => Err(format!("'{time}' is not earliest, latest, a time, or JSON such as {{\"0\": 42}}")),
            },
        }
    }

    pub fn of(&self, topic: &str, partition: u32) -> Start {
        let starts = match self {
            Self::All(start) => return *start,
            Self::Each(starts) => Some(starts),
            Self::Topics(topics) => topics.get(topic),
        };
        starts.and_then(|starts| starts.get(&partition)).copied().unwrap_or(Start::Earliest)
    }
}

fn by_partition(json: &str) -> Result<StartingOffsets, String> {
    let wrong = || format!("'{json}' is not JSON by partition such as {{\"0\": 42, \"1\": -2}}, nor that by topic");
    let Ok(Value::Object(object)) = serde_json::from_str(json) else { return Err(wrong()) };
    if !object.values().any(Value::is_object) {
        return starts(object).ok_or_else(wrong).map(StartingOffsets::Each);
    }
    let of_topic = |(topic, partitions)| match partitions {
        Value::Object(partitions) => Some((topic, starts(partitions)?)),
        _ => None,
    };
    object.into_iter().map(of_topic).collect::<Option<_>>().ok_or_else(wrong).map(StartingOffsets::Topics)
}

fn starts(partitions: Map<String, Value>) -> Option<BTreeMap<u32, Start>> {
    let start = |(partition, offset): (String, Value)| {
        let start = match offset.as_i64()? {
            -2 => Start::Earliest,
            -1 => Start::Latest,
            offset if offset >= 0 => Start::Offset(offset),
            _ => return None,
        };
        Some((partition.parse().ok()?, start))
    };
    partitions.into_iter().map(start).collect()
}
