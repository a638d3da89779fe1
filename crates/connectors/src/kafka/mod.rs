//! `connector = 'kafka'`: topics of Apache Kafka as tables, on librdkafka.
//!
//! A source assigns partitions by itself and commits offsets only when told to; a sink is an idempotent producer with
//! acks=all, and what it gave out counts as safe when the last delivery report has come back good. Where epochs can be
//! repeated, a pipeline's rows for Kafka go with its journal instead, in one transaction, and instances of the pipeline share
//! its partitions as a consumer group.

#[cfg(feature = "kafka")]
mod client;
#[cfg(feature = "kafka")]
mod config;
#[cfg(feature = "kafka")]
mod connect;
#[cfg(feature = "kafka")]
mod journal;
#[cfg(feature = "kafka")]
mod key;
#[cfg(feature = "kafka")]
mod properties;
#[cfg(feature = "kafka")]
mod reader;
#[cfg(feature = "kafka")]
mod records;
#[cfg(feature = "kafka")]
mod redelivery;
#[cfg(feature = "kafka")]
mod repartition;
#[cfg(feature = "kafka")]
mod rows;
#[cfg(feature = "kafka")]
mod sink;
#[cfg(feature = "kafka")]
mod source;
#[cfg(feature = "kafka")]
mod start;
#[cfg(feature = "kafka")]
mod topic;

use crate::connector::{Connector, Description, option};

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
        option("topic", "", "the topic; source: several with commas. This or topic_pattern"),
        option("topic_pattern", "", "source: a regular expression; all topics whose whole name fits it at the start"),
        option("group", "", "source: the consumer group that positions are kept under; default: the pipeline's name"),
        option("isolation_level", "read_committed", "source: read_committed, or read_uncommitted: also what was aborted"),
        option("key", "", "sink: columns that make the record's key, with commas; default: the PRIMARY KEY"),
        option("compression", "lz4", "sink: none, gzip, snappy, lz4 or zstd (with feature kafka-zstd)"),
        option("partitions", "10", "sink: partitions of a topic that has to be created"),
        option("replication", "-1", "sink: replicas of a topic that has to be created; -1: as the brokers say"),
        option(
            "retention",
            "",
            "sink: how long a topic that has to be created keeps records, or 'forever'; default: as the brokers say",
        ),
        option("retention_bytes", "", "sink: how much each partition of a topic that has to be created keeps"),
        option("client_id", "riverrun", "how this program names itself to the brokers"),
        option("security_protocol", "plaintext", "plaintext, ssl, sasl_plaintext or sasl_ssl (ssl with feature kafka-tls)"),
        option("sasl_mechanism", "", "PLAIN, or SCRAM-SHA-256 and SCRAM-SHA-512 (with feature kafka-tls)"),
        option("sasl_username", "", "user for SASL"),
        option("sasl_password", "", "password for SASL"),
        option("ssl_ca_location", "", "file (PEM) or folder of the certificates to trust; default: the system's"),
        option("ssl_certificate_location", "", "file (PEM) with this program's certificate, where brokers ask for one"),
        option("ssl_key_location", "", "file (PEM) with the certificate's private key"),
        option("ssl_key_password", "", "password of the private key"),
        option("ssl_endpoint_identification", "https", "https: a broker's certificate must be for its host name; none: any"),
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
