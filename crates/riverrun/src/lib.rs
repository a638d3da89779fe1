//! Riverrun: streaming SQL in one program. The library's face, and the command line.
//!
//! A [`Program`] is a script with its tables connected: [`Program::load`] it, [`Program::start`] it, wait.
//! [`StreamContext`] does the same from Rust, with DataFusion `DataFrame`s over streams and sinks of one's own.

/// The page docs/observing.md: its Rust is compiled and run as a doc test.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/observing.md")]
pub struct Observing;

pub mod cli;
mod context;
mod dead_letters;
mod metrics;
#[cfg(feature = "postgres")]
mod postgres;
mod program;
mod state;
pub mod storage;
mod tables;

pub use context::StreamContext;
pub use program::{Program, Variables};
pub use riverrun_connectors as connectors;
pub use riverrun_engine as engine;
pub use riverrun_sql as sql;
pub use tables::Tables;
