//! The runtime: turns a [`Graph`](crate::graph::Graph) with its sources and sinks into threads.
//!
//! ```text
//! worker threads                   one thread                queues, bounded in bytes   one thread per sink
//!   task: readers -> dataflow --> committer: journal --EpochOutput--> SinkQueue -----> feed: coalesce, write, flush -> positions
//! ```
//!
//! A worker runs its tasks in a loop, one epoch at a time: read what is there (at most a bound), push it through the
//! dataflow, hand the outputs to the queues. Light load makes small epochs and milliseconds of latency, heavy load large
//! ones. A full queue stops the workers, never drops. What every sink has made safe moves the positions of the sources.
//!
//! An epoch has happened once its record is in the [journal](crate::journal). State is kept in checkpoints; after a crash the
//! epochs behind the newest one are run again from their records, and each sink gets what it lacks ([`recovery`]).

mod adopt;
mod asked;
mod assembly;
mod assignment;
mod backlog;
mod backoff;
mod bindings;
mod changed;
mod coalesce;
mod committer;
mod control;
mod dataflow;
mod events;
mod feed;
pub mod health;
mod input;
mod keeper;
mod latency;
mod layout;
mod open;
mod part;
mod pending;
mod pipeline;
mod positions;
mod queue;
mod recovery;
mod settings;
pub mod stats;
mod steering;
mod task;
mod terms;
mod watermark;
mod worker;

pub use assembly::Assembly;
pub use backoff::Backoff;
pub use bindings::Bindings;
pub use coalesce::Coalesce;
pub use control::{Control, StopHandle};
pub use part::{Next, Part, Stage, Work};
pub use pipeline::Pipeline;
pub use settings::Settings;
pub use steering::{CheckpointRequest, State, Steering};

#[cfg(test)]
mod tests;
