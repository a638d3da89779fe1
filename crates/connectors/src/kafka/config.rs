//! The options of a Kafka table, parsed, and the librdkafka properties that they make.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use riverrun_engine::source::{OnBadRecord, Start};
use riverrun_engine::table::{Options, Table};
use riverrun_engine::{Error, Result};
use serde_json::Value;

use super::client::classify;
use crate::connector::on_bad_record;

/// Options that are librdkafka's own, by their own names.
const SECURITY: [&str; 5] = ["security.protocol", "sasl.mechanism", "sasl.username", "sasl.password", "ssl.ca.location"];
/// Properties that what this connector promises rests upon.
const OURS: [&str; 7] = [
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "auto.offset.reset",
    "enable.idempotence",
    "transactional.id",
];

/// A Kafka table's options. Shown nowhere: it holds passwords.
#[derive(Clone)]
pub(super) struct Config {
    pub brokers: String,
    pub topic: String,
    pub group: String,
    pub start: StartingOffsets,
    pub fail_on_data_loss: bool,
    pub bad_records: OnBadRecord,
    /// Names of the columns that make a record's key.
    pub key: Vec<String>,
    /// Of a topic that has to be created.
    pub partitions: i32,
    /// Of a topic that has to be created; -1: the brokers' default.
    pub replication: i32,
    /// How long a question to the brokers may take: 10 seconds, or `kafka.socket.timeout.ms`.
    pub patience: Duration,
    compression: String,
    client_id: String,
    /// What the user passes on to librdkafka.
    properties: BTreeMap<String, String>,
}

impl Config {
    pub fn of(table: &Table, pipeline: &str) -> Result<Self> {
        let mut config = Self::of_options(&table.options, pipeline)?;
        if config.key.is_empty() {
            config.key.clone_from(&table.primary_key);
        }
        Ok(config)
    }

    /// The configuration of a table without columns and keys.
    pub fn of_options(options: &Options, pipeline: &str) -> Result<Self> {
        let text = |name: &str, default: &str| options.get(name).unwrap_or_else(|| default.to_owned());
        let topic = options.required("topic")?;
        if topic.contains(',') || topic.starts_with('^') {
            return Err(options
                .error("topic", "one table reads one topic; lists and patterns of topics are not supported yet")
                .hint("declare a table for each topic and put them together with UNION ALL"));
        }
        if topic.is_empty() || topic.len() > 249 || !topic.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
            let hint = "a topic's name has up to 249 letters, digits, dots, underscores and hyphens";
            return Err(options.error("topic", &format!("'{topic}' cannot be a topic")).hint(hint));
        }
        let partitions: i32 = options.parse("partitions", "a number of partitions")?.unwrap_or(10);
        if partitions < 1 {
            return Err(options.error("partitions", "there must be at least one"));
        }
        let properties = passed_on(options)?;
        let patience = properties.get("socket.timeout.ms").and_then(|millis| millis.parse().ok());
        let start = options.get("starting_offsets").map(|text| StartingOffsets::parse(&text)).transpose();
        Ok(Self {
            brokers: text("brokers", "localhost:9092"),
            topic,
            group: text("group", pipeline),
            start: start.map_err(|what| options.error("starting_offsets", &what))?.unwrap_or(StartingOffsets::All(Start::Latest)),
            fail_on_data_loss: options.parse("fail_on_data_loss", "true or false")?.unwrap_or(true),
            bad_records: on_bad_record(options)?,
            key: text("key", "").split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect(),
            partitions,
            replication: options.parse("replication", "a number of replicas")?.unwrap_or(-1),
            compression: text("compression", "lz4"),
            client_id: text("client_id", "riverrun"),
            patience: patience.map_or(Duration::from_secs(10), Duration::from_millis),
            properties,
        })
    }

    /// Whether librdkafka would take all properties, without I/O.
    pub fn check(&self) -> Result<()> {
        let mut client = self.producer();
        let built_in = client.create_native_config().and_then(|c| c.get("builtin.features")).unwrap_or_default();
        let has = |feature: &str| built_in.split(',').any(|f| f.trim() == feature);
        let protocol = self.properties.get("security.protocol").map_or("", String::as_str);
        if protocol.to_ascii_lowercase().ends_with("ssl") && !has("ssl") {
            let message = format!("option 'security.protocol': TLS ('{protocol}') was not compiled into this program");
            return Err(Error::invalid(message).hint("build with rdkafka's feature 'ssl', or use a plaintext listener"));
        }
        client.extend(self.consumer().config_map().into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())));
        client.create_native_config().map(|_| ()).map_err(|e| classify(&e, "options"))
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", &self.client_id);
        // Where the user says nothing: connect again within a second once a broker is back.
        config.set("reconnect.backoff.max.ms", "1000");
        config
    }

    pub fn consumer(&self) -> ClientConfig {
        let mut config = self.client();
        config.set("group.id", &self.group).set("isolation.level", "read_committed");
        // Enough to be fetched ahead for a worker, for each partition, and no more.
        config.set("queued.max.messages.kbytes", "16384").set("fetch.wait.max.ms", "50").set("statistics.interval.ms", "1000");
        config.extend(self.properties.clone());
        // Positions are the pipeline's; the end of a partition ends a bounded run; a lost offset is an error, never a jump.
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config.set("enable.partition.eof", "true").set("auto.offset.reset", "error");
        config
    }

    pub fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        config.set("partitioner", "murmur2_random").set("compression.type", &self.compression);
        // A record that was taken is never given up by itself: brokers that are away hold the pipeline back, no more.
        config.set("message.timeout.ms", "0").set("linger.ms", "5");
        config.extend(self.properties.clone());
        config.set("enable.idempotence", "true").set("acks", "all");
        config
    }
}

/// `kafka.*` without the prefix, and the options of security.
fn passed_on(options: &Options) -> Result<BTreeMap<String, String>> {
    let mut properties = BTreeMap::new();
    for (name, value) in options.iter() {
        let property = name.strip_prefix("kafka.").or_else(|| SECURITY.contains(&name).then_some(name));
        let Some(property) = property else { continue };
        if OURS.contains(&property) {
            return Err(options.error(name, "exactness rests upon this property: it is Riverrun's to set"));
        }
        properties.insert(property.to_owned(), value.value.clone());
    }
    Ok(properties)
}

/// Where a pipeline without a position starts.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum StartingOffsets {
    /// The same for all partitions.
    All(Start),
    /// By partition; one that is not named starts at its earliest.
    Each(BTreeMap<u32, Start>),
}

impl StartingOffsets {
    /// `earliest`, `latest`, a time, or `{"0": 42}`.
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

    pub fn of(&self, partition: u32) -> Start {
        match self {
            Self::All(start) => *start,
            Self::Each(starts) => starts.get(&partition).copied().unwrap_or(Start::Earliest),
        }
    }
}

fn by_partition(json: &str) -> Result<StartingOffsets, String> {
    let wrong = || format!("'{json}' is not JSON by partition such as {{\"0\": 42, \"1\": -2}}");
    let mut object = match serde_json::from_str(json) {
        Ok(Value::Object(object)) => object,
        _ => return Err(wrong()),
    };
    // Spark's way: the topic around it.
    if let Some(Value::Object(of_topic)) = object.values().next().filter(|_| object.len() == 1) {
        object = of_topic.clone();
    }
    let start = |(partition, offset): (String, Value)| {
        let start = match offset.as_i64().ok_or_else(wrong)? {
            -2 => Start::Earliest,
            -1 => Start::Latest,
            offset if offset >= 0 => Start::Offset(offset),
            _ => return Err(wrong()),
        };
        Ok((partition.parse().map_err(|_| wrong())?, start))
    };
    object.into_iter().map(start).collect::<Result<_, _>>().map(StartingOffsets::Each)
}
