//! Riverrun's sources and sinks, each behind a cargo feature, and the registry that names them.

pub mod generator;
pub mod partitioner;
