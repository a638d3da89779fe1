//! Riverrun's engine: tasks, operators, time, state and epochs. No SQL text, no client library.
//!
//! A [`graph::Graph`] says what to compute. A [`source::Source`] gives partitions of decoded rows, a [`sink::Sink`] takes
//! the outputs of epochs. [`operator::Operator`]s stand between them; stateless ones evaluate DataFusion's physical
//! expressions, stateful ones ([`operators`]) keep their rows in [`state`].
//!
//! One task = one partition number of the pipeline's sources. Tasks share nothing.

pub mod batch;
pub mod checkpoint;
pub mod connect;
pub mod dead_letter;
pub mod error;
pub mod failpoint;
pub mod graph;
pub mod journal;
pub mod membership;
pub mod operator;
pub mod operators;
#[doc(hidden)]
pub mod planted;
pub mod progress;
pub mod runtime;
pub mod sink;
pub mod source;
pub mod state;
pub mod table;
pub mod time;

pub use error::{Error, Result};
