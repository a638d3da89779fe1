//! The runtime: turns a [`Graph`](crate::graph::Graph) with its sources and sinks into threads.
//!
//! ```text
//! worker threads                      queues, bounded in bytes        one thread per sink
//!   task: readers -> dataflow --EpochOutput--> SinkQueue ----------> feed: coalesce, write, flush -> positions
//! ```
//!
//! A worker runs its tasks in a loop, one epoch at a time: read what is there (at most a bound), push it through the
//! dataflow, hand the outputs to the queues. Light load makes small epochs and milliseconds of latency, heavy load large
//! ones. A full queue stops the workers, never drops. What every sink has made safe moves the positions of the sources.
//!
//! State and positions are kept in checkpoints. Delivery is at least once: after a crash the records behind the newest
//! checkpoint are read again, into the state that it holds; after a stop in order nothing is repeated.

mod backoff;
mod checkpoint;
mod coalesce;
mod dataflow;
mod events;
mod feed;
pub mod health;
mod input;
mod keeper;
mod latency;
mod pipeline;
mod positions;
mod queue;
mod settings;
pub mod stats;
mod task;
mod watermark;
mod worker;

pub use pipeline::{Bindings, Pipeline, StopHandle};
pub use settings::Settings;

#[cfg(test)]
mod tests;
