//! `connector = 'kafka'`: topics of Apache Kafka as tables, on librdkafka.
//!
//! A source assigns partitions by itself and commits offsets only when told to; a sink is an idempotent producer with
//! acks=all, and what it gave out counts as safe when the last delivery report has come back good. Sharing partitions among
//! instances, transactions, and several topics in one table are not here yet.

#[cfg(feature = "kafka")]
mod client;
#[cfg(feature = "kafka")]
mod config;
#[cfg(feature = "kafka")]
mod connect;
#[cfg(feature = "kafka")]
mod key;
#[cfg(feature = "kafka")]
mod records;
#[cfg(feature = "kafka")]
mod sink;
#[cfg(feature = "kafka")]
mod source;
#[cfg(feature = "kafka")]
mod topic;

use crate::connector::{Connector, Description, option, required};

#[cfg(feature = "kafka")]
pub use records::KafkaRecords;

/// Kafka, for people and documentation.
pub static DESCRIPTION: Description = Description {
    name: "kafka",
    feature: Some("kafka"),
    docs: "Topics of Apache Kafka. Reads what is committed only; writes idempotently with acks=all, by key as Java clients do. \
           starting_offsets: earliest, latest, a time (ISO 8601 or milliseconds), or JSON by partition such as \
           {\"0\": 42, \"1\": -2} (-2 earliest, -1 latest, a partition not named starts at its earliest).",
    options: &[
        option("brokers", "localhost:9092", "where to find the cluster: host:port, several with commas"),
        required("topic", "the topic"),
        option("group", "", "source: the consumer group that positions are kept under; default: the pipeline's name"),
        option("key", "", "sink: columns that make the record's key, with commas; default: the PRIMARY KEY"),
        option("partitions", "10", "sink: partitions of a topic that has to be created"),
        option("replication", "-1", "sink: replicas of a topic that has to be created; -1: as the brokers say"),
        option("compression", "lz4", "sink: none, gzip, snappy, lz4 or zstd (where compiled in)"),
        option("client_id", "riverrun", "how this program names itself to the brokers"),
        option("security.protocol", "plaintext", "plaintext, ssl, sasl_plaintext or sasl_ssl (ssl where compiled in)"),
        option("sasl.mechanism", "", "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, … (where compiled in)"),
        option("sasl.username", "", "user for SASL"),
        option("sasl.password", "", "password for SASL"),
        option("ssl.ca.location", "", "file with the certificates to trust"),
    ],
    pass_through: Some("kafka."),
};

/// Kafka as a connector; `None` where it is not compiled in.
pub fn connector() -> Option<Box<dyn Connector>> {
    #[cfg(feature = "kafka")]
    return Some(Box::new(connect::Kafka));
    #[cfg(not(feature = "kafka"))]
    None
}

#[cfg(test)]
#[cfg(feature = "kafka")]
mod tests;
