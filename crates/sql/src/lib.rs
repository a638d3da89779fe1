//! Riverrun's SQL: scripts, catalog, and planning from SQL or DataFrames to a graph.

pub mod catalog;
pub mod error;
pub mod functions;
pub mod hop;
pub mod parse;
pub mod plan;
pub mod script;
pub mod session;
pub mod source_table;
pub mod suggest;

pub use error::ScriptError;
pub use parse::{parse, parse_query, resolve};
