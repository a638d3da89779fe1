//! The options of a Kafka table, parsed, and the librdkafka configuration that they make.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use regex::Regex;
use riverrun_engine::source::{OnBadRecord, Start};
use riverrun_engine::table::{Options, Table};
use riverrun_engine::{Error, Result};

use super::client::classify;
use super::properties::passed_on;
use super::repartition;
use super::start::StartingOffsets;
use crate::connector::{self, on_bad_record};

/// Which topics a table stands for.
#[derive(Debug, Clone)]
pub(super) enum Topics {
    /// These, in this order.
    Named(Vec<String>),
    /// Those whose whole name fits when a run begins, by name.
    Pattern(Regex),
}

impl Topics {
    fn of(options: &Options) -> Result<Self> {
        let hint = "a table has either topic = 'a' (several: 'a,b') or topic_pattern = 'a-.*'";
        match (options.get("topic"), options.get("topic_pattern")) {
            (Some(topics), None) => Self::named(options, &topics),
            (None, Some(pattern)) => match Regex::new(&format!("^(?:{pattern})$")) {
                Ok(regex) => Ok(Self::Pattern(regex)),
                Err(error) => Err(options.error("topic_pattern", &format!("'{pattern}' is no regular expression: {error}"))),
            },
            (Some(_), Some(_)) => Err(options.error("topic_pattern", "the option 'topic' is there too").hint(hint)),
            (None, None) => Err(Error::invalid("the option 'topic' is missing").hint(hint)),
        }
    }

    fn named(options: &Options, topics: &str) -> Result<Self> {
        let mut names: Vec<String> = Vec::new();
        for name in topics.split(',').map(str::trim) {
            if name.is_empty() || name.len() > 249 || !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
                let hint = "a topic's name has up to 249 letters, digits, dots, underscores and hyphens; for a regular \
                            expression there is topic_pattern";
                return Err(options.error("topic", &format!("'{name}' cannot be a topic")).hint(hint));
            }
            if names.iter().any(|n| n == name) {
                return Err(options.error("topic", &format!("'{name}' is named twice")));
            }
            names.push(name.to_owned());
        }
        Ok(Self::Named(names))
    }

    /// The topic, where it is just one by name: what can be written to.
    pub fn one(&self) -> Option<&str> {
        match self {
            Self::Named(names) if names.len() == 1 => Some(&names[0]),
            _ => None,
        }
    }
}

impl fmt::Display for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(names) => write!(f, "topic '{}'", names.join("', '")),
            Self::Pattern(pattern) => {
                write!(f, "topics like '{}'", pattern.as_str().trim_start_matches("^(?:").trim_end_matches(")$"))
            }
        }
    }
}

/// A Kafka table's options. Shown nowhere: it holds passwords.
#[derive(Clone)]
pub(super) struct Config {
    pub brokers: String,
    pub topics: Topics,
    /// Whether this is a repartition topic.
    pub is_repartition: bool,
    pub group: String,
    /// Read by a query that begins elsewhere than the others, under a group of its own.
    pub starts_apart: bool,
    pub start: StartingOffsets,
    pub fail_on_data_loss: bool,
    pub bad_records: OnBadRecord,
    /// Names of the columns that make a record's key.
    pub key: Vec<String>,
    /// Of a topic that has to be created.
    pub partitions: i32,
    /// Of a topic that has to be created; -1: the brokers' default.
    pub replication: i32,
    /// Of a topic that has to be created: names and values of its own configuration.
    pub topic_config: Vec<(&'static str, String)>,
    /// How long a question to the brokers may take: 10 seconds, or `kafka.socket.timeout.ms`.
    pub patience: Duration,
    isolation: &'static str,
    compression: &'static str,
    client_id: String,
    /// What the user passes on to librdkafka.
    properties: BTreeMap<String, String>,
}

impl Config {
    pub fn of(table: &Table, pipeline: &str) -> Result<Self> {
        let completed = repartition::completed(table, pipeline);
        let mut config = Self::of_options(completed.as_ref().unwrap_or(&table.options), pipeline)?;
        if config.key.is_empty() {
            config.key.clone_from(&table.primary_key);
        }
        Ok(config)
    }

    /// The configuration of a table without columns and keys.
    pub fn of_options(options: &Options, pipeline: &str) -> Result<Self> {
        let text = |name: &str, default: &str| options.get(name).unwrap_or_else(|| default.to_owned());
        let partitions: i32 = options.parse("partitions", "a number of partitions")?.unwrap_or(10);
        if partitions < 1 {
            return Err(options.error("partitions", "there must be at least one"));
        }
        let properties = passed_on(options)?;
        let patience = properties.get("socket.timeout.ms").and_then(|millis| millis.parse().ok());
        let levels = ["read_committed", "read_uncommitted"].map(|level| (level, level));
        let codecs = ["none", "gzip", "snappy", "lz4", "zstd"].map(|codec| (codec, codec));
        Ok(Self {
            brokers: text("brokers", "localhost:9092"),
            topics: Topics::of(options)?,
            is_repartition: repartition::is_format(options),
            group: connector::group(options, pipeline),
            starts_apart: options.get("start").is_some(),
            start: start(options)?,
            fail_on_data_loss: options.parse("fail_on_data_loss", "true or false")?.unwrap_or(true),
            bad_records: on_bad_record(options)?,
            key: text("key", "").split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect(),
            partitions,
            replication: options.parse("replication", "a number of replicas")?.unwrap_or(-1),
            topic_config: topic_config(options)?,
            isolation: options.one_of("isolation_level", &levels)?.unwrap_or("read_committed"),
            compression: options.one_of("compression", &codecs)?.unwrap_or("lz4"),
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
        let needs = |property: &str, is: &dyn Fn(&str) -> bool| {
            self.properties
                .get(property)
                .filter(|value| is(&value.to_ascii_lowercase()))
                .map(|value| (property.to_owned(), value))
        };
        let tls = needs("security.protocol", &|v| v.ends_with("ssl")).filter(|_| !has("ssl"));
        let scram = ["sasl.mechanism", "sasl.mechanisms"].iter().find_map(|p| needs(p, &|v| v.starts_with("scram")));
        if let Some((property, value)) = tls.or(scram.filter(|_| !has("sasl_scram"))) {
            let option = property.replace('.', "_");
            let message = format!("option '{option}': '{value}' needs TLS, which was not compiled into this program");
            return Err(Error::invalid(message).hint("build with --features kafka-tls (needs OpenSSL's headers and library)"));
        }
        let mechanisms = ["plain", "scram-sha-256", "scram-sha-512"];
        let unknown = |v: &str| !mechanisms.contains(&v);
        if let Some((_, value)) = ["sasl.mechanism", "sasl.mechanisms"].iter().find_map(|p| needs(p, &unknown)) {
            let message = format!("option 'sasl_mechanism': '{value}' is not supported");
            return Err(Error::invalid(message).hint("there are PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512"));
        }
        if self.compression == "zstd" && !has("zstd") {
            let message = "option 'compression': zstd was not compiled into this program";
            return Err(Error::invalid(message).hint("build with --features kafka-zstd, or use lz4"));
        }
        client.extend(self.consumer().config_map().into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())));
        client.create_native_config().map(|_| ()).map_err(|e| classify(&e, "options"))
    }

    /// Whether the files that options name are there: OpenSSL's own message does not say which one is not.
    pub fn check_files(&self) -> Result<()> {
        for property in ["ssl.ca.location", "ssl.certificate.location", "ssl.key.location"] {
            if let Some(path) = self.properties.get(property).filter(|path| *path != "probe")
                && let Err(error) = std::fs::metadata(path)
            {
                let option = property.replace('.', "_");
                return Err(Error::invalid(format!("option '{option}': '{path}' cannot be read: {error}")));
            }
        }
        Ok(())
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
        // Enough to be fetched ahead for a worker, for each partition, and no more; taken up again at once when it was full.
        config.set("queued.max.messages.kbytes", "16384").set("fetch.queue.backoff.ms", "5").set("fetch.wait.max.ms", "50");
        // Added partitions are found within this time.
        config.set("topic.metadata.refresh.interval.ms", "30000");
        config.extend(self.properties.clone());
        config.set("group.id", &self.group).set("isolation.level", self.isolation).set("statistics.interval.ms", "1000");
        // Positions are the pipeline's; the end of a partition ends a bounded run; a lost offset is an error, never a jump.
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config.set("enable.partition.eof", "true").set("auto.offset.reset", "error");
        config
    }

    /// A member of the group under an instance's name, that shares partitions and reads nothing.
    pub fn member(&self, instance: &str) -> ClientConfig {
        let given = |name: &str| self.properties.get(name).and_then(|millis| millis.parse::<u64>().ok());
        // How long others wait for one that died: no longer than for its open transaction.
        let session = given("session.timeout.ms").unwrap_or(10_000);
        let heartbeat = given("heartbeat.interval.ms").unwrap_or(1_000).min((session / 3).max(1));
        let mut config = self.consumer();
        config.set("group.instance.id", instance).set("partition.assignment.strategy", "cooperative-sticky");
        config.set("session.timeout.ms", session.to_string()).set("heartbeat.interval.ms", heartbeat.to_string());
        config.set("enable.partition.eof", "false");
        config
    }

    pub fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        config.set("partitioner", "murmur2_random");
        // A record that was taken is never given up by itself: brokers that are away hold the pipeline back, no more.
        config.set("message.timeout.ms", "0").set("linger.ms", "5");
        // Bounded by bytes: what waits for the brokers, beyond the sink's own queue.
        config.set("queue.buffering.max.kbytes", "65536").set("queue.buffering.max.messages", "1000000");
        config.extend(self.properties.clone());
        config.set("compression.type", self.compression).set("enable.idempotence", "true").set("acks", "all");
        config
    }

    /// A producer whose records go in transactions of this id.
    pub fn transactional(&self, id: &str) -> ClientConfig {
        let given = |name: &str| self.properties.get(name).and_then(|millis| millis.parse::<u64>().ok());
        // A dead writer's open transaction hides everyone's later records until then.
        let timeout = given("transaction.timeout.ms").unwrap_or(10_000);
        let capped = |millis: Option<u64>| millis.filter(|m| *m > 0).map_or(timeout, |m| m.min(timeout)).to_string();
        let mut config = self.producer();
        config.set("transactional.id", id).set("transaction.timeout.ms", timeout.to_string());
        // librdkafka wants neither to be longer than a transaction may be.
        config.set("message.timeout.ms", capped(given("message.timeout.ms")));
        if let Some(millis) = given("socket.timeout.ms") {
            config.set("socket.timeout.ms", capped(Some(millis)));
        }
        if !self.properties.contains_key("linger.ms") {
            // The first records of a transaction wait for its partitions to be told anyway: they gather by themselves.
            config.set("linger.ms", "0");
        }
        config
    }

    /// The addresses of the cluster, in order.
    pub fn cluster(&self) -> BTreeSet<&str> {
        self.brokers.split(',').map(str::trim).filter(|broker| !broker.is_empty()).collect()
    }

    /// What lets this program in.
    pub fn access(&self) -> BTreeMap<&str, &str> {
        let access = |name: &str| ["security.", "sasl.", "ssl."].iter().any(|prefix| name.starts_with(prefix));
        self.properties.iter().filter(|(name, _)| access(name)).map(|(n, v)| (n.as_str(), v.as_str())).collect()
    }
}

fn start(options: &Options) -> Result<StartingOffsets> {
    let Some(text) = options.get("starting_offsets") else { return Ok(StartingOffsets::All(Start::Latest)) };
    let start = StartingOffsets::parse(&text).map_err(|what| options.error("starting_offsets", &what))?;
    match (&start, Topics::of(options)?.one()) {
        (StartingOffsets::Each(_), None) => {
            let hint = "write {\"topic\": {\"0\": 42}}";
            Err(options.error("starting_offsets", "with several topics offsets are by topic and partition").hint(hint))
        }
        _ => Ok(start),
    }
}

/// `retention` and `retention_bytes`, as the topic's own configuration has them.
fn topic_config(options: &Options) -> Result<Vec<(&'static str, String)>> {
    let mut config = Vec::new();
    match options.get("retention").as_deref().map(str::trim) {
        None => {}
        Some("forever") => config.push(("retention.ms", "-1".to_owned())),
        Some(_) => config.extend(options.duration("retention")?.map(|d| ("retention.ms", d.as_millis().to_string()))),
    }
    config.extend(options.bytes("retention_bytes")?.map(|bytes| ("retention.bytes", bytes.to_string())));
    Ok(config)
}
