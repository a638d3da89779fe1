//! A schema registry (Confluent's API, which Apicurio, Karapace and Redpanda speak too): schemas by their ids and subjects.
//!
//! Invariants: what was once asked is kept on disk and in memory, since an id means one schema for ever; so a pipeline goes on,
//! and starts, while the registry is down, as long as nothing new comes. [`SchemaRegistry::schema`] never waits: it is asked
//! on worker threads. The other questions are asked when a pipeline starts, and wait for their answers.

#[cfg(feature = "avro")]
mod asker;
#[cfg(feature = "avro")]
mod cache;
#[cfg(feature = "avro")]
mod client;
#[cfg_attr(not(feature = "avro"), allow(dead_code))]
mod config;

#[cfg(feature = "avro")]
pub(crate) use config::is_name;
pub(crate) use config::{Config, OPTIONS, SERVED};

#[cfg(feature = "avro")]
pub(crate) use {
    asker::{Lookup, SchemaRegistry},
    client::Schema,
};
