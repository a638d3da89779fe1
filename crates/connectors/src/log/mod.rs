//! The embedded log: the bus where there is no Kafka. Durable, partitioned, in a local directory, for one process.
//!
//! Appends are atomic over topics, partitions and journal entries ([`Batch`]); an acknowledged one survives `kill -9`.

mod batch;
mod block;
mod disk;
mod keys;
mod reader;
mod retention;
mod store;
#[cfg(test)]
mod tests;
mod topic;

pub use crate::partitioner::partition_of;
pub use batch::{Appended, Batch, Durability, MAX_RECORD, NewRecord};
pub use block::{Headers, Record};
pub use reader::{Read, Reader};
pub use store::{DEFAULT_PARTITIONS, Log};
pub use topic::{Retention, Topic};
