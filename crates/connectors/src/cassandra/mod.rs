//! `connector = 'cassandra'`: tables of Apache Cassandra and ScyllaDB, a sink of rows by PRIMARY KEY, a source at rest, and
//! reads by key.
//!
//! The sink keeps no position, and needs none. A row that an epoch gave is written with the epoch's clock as its write
//! timestamp (`clock + 1`; a delete with `clock`), and clocks of a task are at least 2 apart: so a write that is repeated, by
//! the client, after a crash or by a process that should be dead, makes nothing older visible and nothing twice. For that,
//! every statement must be idempotent: lists are frozen (Cassandra appends to others when their write is repeated).

#[cfg(feature = "cassandra")]
mod cells;
#[cfg(feature = "cassandra")]
mod client;
#[cfg(feature = "cassandra")]
mod config;
#[cfg(feature = "cassandra")]
mod connector;
#[cfg(feature = "cassandra")]
mod ddl;
#[cfg(feature = "cassandra")]
mod definition;
#[cfg(feature = "cassandra")]
mod failure;
#[cfg(feature = "cassandra")]
mod flight;
#[cfg(feature = "cassandra")]
mod late;
#[cfg(feature = "cassandra")]
mod lookup;
#[cfg(feature = "cassandra")]
mod row;
#[cfg(feature = "cassandra")]
mod sink;
#[cfg(feature = "cassandra")]
mod source;
#[cfg(feature = "cassandra")]
mod table;
#[cfg(feature = "cassandra")]
mod tls;
#[cfg(feature = "cassandra")]
mod types;
#[cfg(feature = "cassandra")]
mod values;

#[cfg(feature = "cassandra")]
pub use lookup::{Looked, Lookup};

use crate::connector::{Connector, Description, option, required};

/// Cassandra, for people and documentation.
pub static DESCRIPTION: Description = Description {
    name: "cassandra",
    feature: Some("cassandra"),
    docs: "Tables of Apache Cassandra and ScyllaDB: rows are replaced and deleted by PRIMARY KEY, with write timestamps that \
           make repeating harmless. Keyspace, types and table are created from the query if they are missing.",
    options: &[
        option("contact_points", "localhost:9042", "nodes to begin with: host:port, several with commas"),
        required("keyspace", "the keyspace"),
        option("table", "", "the table's name in Cassandra; default: the name in the script"),
        option("partition_key", "", "columns of the PRIMARY KEY that make the partition key, with commas; default: the first"),
        option("create", "true", "sink: whether a keyspace, types and a table that are missing are created"),
        option(
            "replication",
            "",
            "of a keyspace that has to be created: copies in every datacenter, or 'dc1:3, dc2:2'; default: 3, or a copy on each of \
             fewer nodes",
        ),
        option("compaction", "", "of a table that has to be created: the strategy, and its options as 'name:value', with commas"),
        option("ttl", "", "sink: rows expire this long after they were written, such as '90 days'"),
        option("timestamps", "timestamp", "what a TIMESTAMP is in Cassandra: timestamp (milliseconds) or bigint (microseconds)"),
        option("null_keys", "fail", "sink: a NULL in the PRIMARY KEY stops the pipeline (fail), or is an empty text (empty)"),
        option("consistency", "local_quorum", "one, two, three, quorum, all, local_one, local_quorum or each_quorum"),
        option("datacenter", "", "the datacenter whose nodes are asked; default: any"),
        option("concurrency", "256", "the most requests that are on their way at once"),
        option("request_timeout", "10 seconds", "a request without an answer for this long has failed"),
        option("username", "", "user to log in as"),
        option("password", "", "password of the user"),
        option("tls", "false", "whether to connect over TLS"),
        option("ssl_ca_location", "", "file (PEM) with the certificates to trust; default: the system's"),
        option("ssl_certificate_location", "", "file (PEM) with this program's certificate, where nodes ask for one"),
        option("ssl_key_location", "", "file (PEM) with the certificate's private key"),
        option("ssl_endpoint_identification", "https", "https: a node's certificate must be for its address; none: for any"),
    ],
    pass_through: None,
};

/// Cassandra as a connector, where it was compiled in.
pub fn connector() -> Option<Box<dyn Connector>> {
    #[cfg(feature = "cassandra")]
    return Some(Box::new(connector::Cassandra));
    #[cfg(not(feature = "cassandra"))]
    None
}

#[cfg(test)]
#[cfg(feature = "cassandra")]
mod tests;
