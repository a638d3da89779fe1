//! `connector = 'log'`: the embedded log, the bus where there is no Kafka. Durable, partitioned, in a local directory, for
//! one process; others read through that one.
//!
//! Appends are atomic over topics, partitions and journal entries ([`Batch`]); an acknowledged one survives `kill -9`.

#[cfg(feature = "log")]
mod batch;
#[cfg(feature = "log")]
mod block;
#[cfg(feature = "log")]
mod config;
#[cfg(feature = "log")]
mod connector;
#[cfg(feature = "log")]
#[cfg(test)]
mod connector_tests;
#[cfg(feature = "log")]
mod disk;
#[cfg(feature = "log")]
mod keys;
#[cfg(feature = "log")]
#[cfg(test)]
mod kill_tests;
#[cfg(feature = "log")]
mod reader;
#[cfg(feature = "log")]
mod records;
#[cfg(feature = "log")]
mod redelivery;
#[cfg(feature = "log")]
mod retention;
#[cfg(feature = "log")]
mod sink;
#[cfg(feature = "log")]
mod source;
#[cfg(feature = "log")]
mod store;
#[cfg(feature = "log")]
#[cfg(test)]
mod tests;
#[cfg(feature = "log")]
mod topic;

#[cfg(feature = "log")]
pub use {
    batch::{Appended, Batch, Durability, MAX_RECORD, NewRecord},
    block::{Headers, Record},
    reader::{Read, Reader},
    records::LogRecords,
    store::{DEFAULT_PARTITIONS, Log},
    topic::{Retention, Topic},
};

use crate::connector::{Connector, Description, option, required};

/// The log, for people and documentation.
pub static DESCRIPTION: Description = Description {
    name: "log",
    feature: Some("log"),
    docs: "The embedded log: a durable, partitioned bus in a local directory, where there is no Kafka. A topic that is missing \
           is made. One process has a log open; others read through it.",
    options: &[
        required("topic", "the topic"),
        option("path", "", "the log's directory; default: 'log' in the data directory"),
        option("partitions", "10", "how many partitions a new topic gets"),
        option("retention", "forever", "how long a topic keeps records, such as '7 days'"),
        option("retention_bytes", "", "how much each partition of a topic keeps, such as '1 GiB'"),
        option("durability", "process", "sink: what a written record survives: 'process' = kill -9, 'power' = also a power cut"),
        option("key", "", "sink: the column whose text is the record's key; default: the PRIMARY KEY"),
        option("group", "", "source: the name under which its positions are kept; default: the pipeline's"),
    ],
    pass_through: None,
};

/// The log as a connector, where it was compiled in.
pub fn connector() -> Option<Box<dyn Connector>> {
    #[cfg(feature = "log")]
    return Some(Box::new(connector::LogConnector));
    #[cfg(not(feature = "log"))]
    None
}
