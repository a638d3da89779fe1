//! The options of `connector = 'log'`, parsed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use riverrun_engine::source::Start;
use riverrun_engine::table::{Options, Table};
use riverrun_engine::{Error, Result};

use super::batch::Durability;
use super::topic::{Retention, check_name};

/// What a table of the log is.
#[derive(Debug, Clone)]
pub(super) struct Config {
    path: Option<PathBuf>,
    pub topic: String,
    pub partitions: Option<u32>,
    /// `None`: as the topic has it.
    pub retention: Option<Retention>,
    pub durability: Durability,
    /// The column whose text is the record's key.
    pub key: Option<String>,
    pub start: Starts,
    pub fail_on_data_loss: bool,
}

/// Where to start, by partition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Starts {
    /// Partitions that are named.
    named: BTreeMap<u32, Start>,
    /// All others.
    others: Start,
}

impl Starts {
    /// Where a partition starts.
    pub fn of(&self, partition: u32) -> Start {
        self.named.get(&partition).copied().unwrap_or(self.others)
    }
}

impl Config {
    pub fn of(table: &Table) -> Result<Self> {
        let options = &table.options;
        let topic = options.required("topic")?;
        check_name(&topic).map_err(|e| options.error("topic", e.message()).hint(e.hint_text().unwrap_or_default()))?;
        let partitions = options.parse("partitions", "a number of partitions")?;
        if partitions == Some(0) {
            return Err(options.error("partitions", "must be at least 1"));
        }
        let durability = options.one_of("durability", &[("process", Durability::Process), ("power", Durability::Power)])?;
        Ok(Self {
            path: options.get("path").map(PathBuf::from),
            topic,
            partitions,
            retention: retention(options)?,
            durability: durability.unwrap_or_default(),
            key: options.get("key"),
            start: starts(options)?,
            fail_on_data_loss: options.parse("fail_on_data_loss", "true or false")?.unwrap_or(true),
        })
    }

    /// The log's directory.
    pub fn directory(&self, data_dir: &Path) -> PathBuf {
        self.path.clone().unwrap_or_else(|| data_dir.join("log"))
    }
}

fn retention(options: &Options) -> Result<Option<Retention>> {
    let age = match options.get("retention").as_deref().map(str::trim) {
        Some("forever") => None,
        _ => options.duration("retention")?,
    };
    let bytes = options.bytes("retention_bytes")?;
    let given = options.get("retention").is_some() || bytes.is_some();
    let micros = age.map(|age| i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
    Ok(given.then_some(Retention { micros, bytes }))
}

/// `starting_offsets`: `latest` (default), `earliest`, `{"0": 12, "1": "earliest"}`, or a point in time.
fn starts(options: &Options) -> Result<Starts> {
    const NAME: &str = "starting_offsets";
    let all = |others| Ok(Starts { named: BTreeMap::new(), others });
    let text = options.get(NAME).unwrap_or_default();
    match text.trim() {
        "" | "latest" => return all(Start::Latest),
        "earliest" => return all(Start::Earliest),
        _ => {}
    }
    let wrong = |what: &str| -> Error {
        options
            .error(NAME, what)
            .hint("it is earliest, latest, {\"0\": 12, \"1\": \"earliest\"}, or a time such as 2026-01-31T12:00:00Z")
    };
    if !text.trim_start().starts_with('{') {
        let time = parse_time(text.trim()).ok_or_else(|| wrong(&format!("'{text}' is no place to start")))?;
        return all(Start::Time(time));
    }
    let by_partition: BTreeMap<u32, serde_json::Value> =
        serde_json::from_str(&text).map_err(|e| wrong(&format!("'{text}' is not offsets by partition: {e}")))?;
    let start = |(partition, value): (u32, serde_json::Value)| match (value.as_str(), value.as_i64()) {
        (Some("latest"), _) => Ok((partition, Start::Latest)),
        (Some("earliest"), _) => Ok((partition, Start::Earliest)),
        (_, Some(offset)) if offset >= 0 => Ok((partition, Start::Offset(offset))),
        _ => Err(wrong(&format!("{value} is not an offset"))),
    };
    let named = by_partition.into_iter().map(start).collect::<Result<_>>()?;
    Ok(Starts { named, others: Start::Earliest })
}

/// A point in time in ISO 8601: with a zone, or in UTC without; or a date.
fn parse_time(text: &str) -> Option<i64> {
    use chrono::{DateTime, NaiveDate, NaiveDateTime};
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_micros());
    }
    let naive = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"].iter().find_map(|f| NaiveDateTime::parse_from_str(text, f).ok());
    let date = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    Some(naive.or_else(date)?.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(text: &str) -> Result<Starts> {
        starts(&Options::of(&[("starting_offsets", text)]))
    }

    #[test]
    fn starting_offsets_are_read_in_all_their_forms() {
        assert_eq!(starts(&Options::default()).unwrap().of(3), Start::Latest);
        assert_eq!(start("earliest").unwrap().of(3), Start::Earliest);
        let named = start(r#"{"0": 12, "2": "latest"}"#).unwrap();
        assert_eq!([named.of(0), named.of(1), named.of(2)], [Start::Offset(12), Start::Earliest, Start::Latest]);
        for time in ["1970-01-01T00:00:01Z", "1970-01-01 00:00:01", "1970-01-01T01:00:01+01:00"] {
            assert_eq!(start(time).unwrap().of(0), Start::Time(1_000_000), "{time}");
        }
        assert_eq!(start("1970-01-02").unwrap().of(0), Start::Time(86_400_000_000));
    }

    #[test]
    fn a_wrong_start_says_what_it_can_be() {
        for text in ["first", r#"{"0": -1}"#, r#"{"x": 1}"#] {
            let error = start(text).unwrap_err();
            assert!(error.message().contains("starting_offsets") && error.hint_text().is_some(), "{error}");
        }
    }

    #[test]
    fn retention_is_left_alone_unless_an_option_names_it() {
        let of = |pairs: &[(&str, &str)]| retention(&Options::of(pairs)).unwrap();
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("retention", "forever")]), Some(Retention::default()));
        let both = of(&[("retention", "1 second"), ("retention_bytes", "1 MiB")]);
        assert_eq!(both, Some(Retention { micros: Some(1_000_000), bytes: Some(1 << 20) }));
    }
}
