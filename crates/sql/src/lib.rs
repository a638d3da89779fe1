//! Riverrun's SQL: scripts, catalog, and planning from SQL or DataFrames to a graph.

pub mod error;
pub mod script;
