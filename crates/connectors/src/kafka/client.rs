//! What source and sink share of librdkafka: its errors sorted by what to do about them, and its callbacks.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::client::{Client, ClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::statistics::Statistics;
use riverrun_engine::Error;

use super::properties::is_secret;

/// Sorts an error of librdkafka; `what` says what was tried.
pub(super) fn classify(error: &KafkaError, what: &str) -> Error {
    if let KafkaError::ClientConfig(_, why, name, value) = error {
        // Of a secret the reason is withheld too: it may show the value.
        let message = match is_secret(name) {
            true => format!("{what}: property '{name}': its value is not accepted"),
            false => format!("{what}: property '{name}' = '{value}': {why}"),
        };
        return Error::invalid(message).hint("properties behind 'kafka.' are librdkafka's (its CONFIGURATION.md lists them)");
    }
    let Some(code) = error.rdkafka_error_code() else { return Error::permanent(format!("{what}: {error}")) };
    let message = format!("{what}: {code}");
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
            Error::permanent(message).hint("check the options security_protocol and sasl_*")
        }
        // Also what a broker that goes away in the middle of a handshake looks like.
        Code::SSL => Error::transient(message).hint("check the options security_protocol and ssl_*"),
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => {
            Error::permanent(message).hint("the user lacks the right; see the cluster's ACLs")
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            Error::permanent(message).hint("was it deleted? Create the topic, or correct the option 'topic'")
        }
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => {
            Error::permanent(message).hint("raise 'kafka.message.max.bytes', and the topic's max.message.bytes")
        }
        Code::InvalidTopic
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidConfig
        | Code::InvalidArgument
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::PolicyViolation
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType
        | Code::Fatal
        | Code::Fenced => Error::permanent(message),
        _ => Error::transient(message),
    }
}

/// Takes a lock whatever happened to its last holder: what these locks guard is whole at any time.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last trouble that librdkafka had with the brokers.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    /// What kind.
    pub code: Code,
    /// In librdkafka's words, with the broker's address.
    pub reason: String,
}

/// What the statistics say about a topic that is read.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// How many partitions it had when the run began.
    pub expected: u32,
    /// How many it has.
    pub partitions: u32,
    /// Where a reader finds the end now, by partition.
    pub ends: BTreeMap<i32, i64>,
    /// The end that was last told to a reader in its queue, by partition: the events there don't say where they are.
    pub told_ends: BTreeMap<i32, i64>,
}

/// A client's callbacks: what librdkafka logs goes to the program's log, what it finds out about the cluster is kept.
#[derive(Default)]
pub(super) struct Callbacks {
    /// The last trouble with the brokers, for messages.
    pub trouble: Mutex<Option<Trouble>>,
    /// Whether no broker could be reached, until somebody takes notice.
    pub down: AtomicBool,
    /// Whether the statistics saw a broker that is up since then.
    pub up: AtomicBool,
    /// The topics that are read.
    pub topics: Mutex<BTreeMap<String, Seen>>,
    /// Whether a topic has more partitions than the run began with.
    pub grown: AtomicBool,
    /// Whether the statistics saw that librdkafka knows no broker any more, until somebody takes notice.
    pub forgotten: AtomicBool,
}

impl Callbacks {
    /// The last trouble with the brokers, as the end of a sentence.
    pub fn because(&self) -> String {
        lock(&self.trouble).as_ref().map(|trouble| format!(" ({})", trouble.reason)).unwrap_or_default()
    }

    /// An error that waiting will not cure: the brokers were reached and did not let us in.
    pub fn refused(&self) -> Option<Trouble> {
        lock(&self.trouble).as_ref().filter(|trouble| trouble.code == Code::Authentication).cloned()
    }
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka");
        // The end of a partition is no trouble; librdkafka tells it the same way.
        let Some(code) = error.rdkafka_error_code().filter(|code| *code != Code::PartitionEOF) else { return };
        let mut trouble = lock(&self.trouble);
        if code == Code::AllBrokersDown {
            self.down.store(true, Relaxed);
            self.up.store(false, Relaxed);
            // Why each of them is down was told before, and says more.
            if trouble.is_some() {
                return;
            }
        }
        *trouble = Some(Trouble { code, reason: reason.to_owned() });
    }

    fn stats(&self, statistics: Statistics) {
        if statistics.brokers.values().any(|broker| broker.state == "UP") {
            self.up.store(true, Relaxed);
        }
        // The coordinator of a group or of transactions is listed as a broker of its own, "logical".
        if statistics.brokers.values().all(|broker| !matches!(&*broker.source, "configured" | "learned")) {
            self.forgotten.store(true, Relaxed);
        }
        let mut topics = lock(&self.topics);
        for (name, topic) in &statistics.topics {
            let Some(seen) = topics.get_mut(name) else { continue };
            for partition in topic.partitions.values().filter(|p| p.partition >= 0) {
                seen.partitions = seen.partitions.max(partition.partition.unsigned_abs() + 1);
                let end = if partition.ls_offset >= 0 { partition.ls_offset } else { partition.hi_offset };
                if end >= 0 {
                    seen.ends.insert(partition.partition, end);
                }
                if partition.eof_offset >= 0 {
                    seen.told_ends.insert(partition.partition, partition.eof_offset);
                }
            }
            if seen.partitions > seen.expected {
                self.grown.store(true, Relaxed);
            }
        }
    }
}

impl ConsumerContext for Callbacks {}

/// Tells a client its brokers again, in case it knows none any more (librdkafka 2.10 to 2.13 at least, its issue 5301): a broker
/// that has just come back may answer that there are topics and no brokers; librdkafka then forgets all of them, those that it
/// was configured with included, and calls off its own return to these. For clients that got no answer for long: librdkafka
/// keeps each call's list.
#[allow(unsafe_code, reason = "rdkafka has no safe name for rd_kafka_brokers_add")]
pub(super) fn remind<C: ClientContext>(client: &Client<C>, brokers: &str) {
    let Ok(brokers) = CString::new(brokers) else { return };
    // SAFETY: `client` keeps the native client alive over the call; librdkafka copies the string and takes its own locks.
    let added = unsafe { rdkafka::bindings::rd_kafka_brokers_add(client.native_ptr(), brokers.as_ptr()) };
    tracing::debug!(added, "kafka: brokers told again");
}

/// librdkafka's log: nothing of it is news to a user unless it is an error, and errors are told by whom they stop.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => tracing::error!(facility, "{message}"),
        _ => tracing::debug!(facility, "{message}"),
    }
}
