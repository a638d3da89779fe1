//! Riverrun's sources and sinks, each behind a cargo feature, and the registry that names them.
//!
//! [`registry::Registry`] is the one list of connectors; [`connector`] says what a connector is; [`format`] turns raw
//! records into rows and back, the same way for every connector.

pub mod connector;
pub mod format;
pub mod registry;

pub mod blackhole;
pub mod cassandra;
pub mod console;
pub mod delta;
pub mod filesystem;
pub mod generator;
pub mod kafka;
pub mod log;
pub mod partitioner;
pub mod redelivery;
pub mod s3;
pub mod table;

#[cfg(any(feature = "log", feature = "table"))]
mod embedded;
mod schema_registry;
