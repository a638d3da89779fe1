//! What source and sink share of librdkafka: its errors sorted by what to do about them, and its callbacks.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::statistics::Statistics;
use riverrun_engine::Error;

/// Sorts an error of librdkafka; `what` says what was tried.
pub(super) fn classify(error: &KafkaError, what: &str) -> Error {
    if let KafkaError::ClientConfig(_, why, name, value) = error {
        let shown = if name.contains("password") || name.contains("secret") { "…" } else { value.as_str() };
        return Error::invalid(format!("{what}: property '{name}' = '{shown}': {why}"))
            .hint("properties behind 'kafka.' are librdkafka's (its CONFIGURATION.md lists them)");
    }
    let Some(code) = error.rdkafka_error_code() else { return Error::permanent(format!("{what}: {error}")) };
    let message = format!("{what}: {code}");
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism | Code::SSL => {
            Error::permanent(message).hint("check security.protocol and the sasl options")
        }
        Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            Error::permanent(message).hint("the user lacks the right; see the cluster's ACLs")
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            Error::permanent(message).hint("create the topic, or correct the option 'topic'")
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

/// A client's callbacks: what librdkafka logs goes to the program's log, where partitions end is kept.
#[derive(Default)]
pub(super) struct Callbacks {
    /// The last trouble with the brokers, for messages.
    pub trouble: Mutex<Option<String>>,
    /// Where a reader of committed records finds the end now, by partition.
    pub ends: Mutex<BTreeMap<i32, i64>>,
}

impl Callbacks {
    /// The last trouble with the brokers, as the end of a sentence.
    pub fn because(&self) -> String {
        lock(&self.trouble).as_ref().map(|trouble| format!(" ({trouble})")).unwrap_or_default()
    }
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka");
        *lock(&self.trouble) = Some(reason.to_owned());
    }

    fn stats(&self, statistics: Statistics) {
        let mut ends = lock(&self.ends);
        for partition in statistics.topics.values().flat_map(|topic| topic.partitions.values()) {
            let end = if partition.ls_offset >= 0 { partition.ls_offset } else { partition.hi_offset };
            if end >= 0 {
                ends.insert(partition.partition, end);
            }
        }
    }
}

impl ConsumerContext for Callbacks {}

/// librdkafka's log: nothing of it is news to a user unless it is an error, and errors are told by whom they stop.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => tracing::error!(facility, "{message}"),
        _ => tracing::debug!(facility, "{message}"),
    }
}
