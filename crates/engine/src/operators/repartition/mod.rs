//! Hands rows from one stage of tasks to the next by key, over a topic: [`Scatter`] cuts the rows of an epoch into records, one
//! or a few for each partition, [`Gather`] makes rows of them again.
//!
//! Each record carries the watermark of the task that gave it, behind its rows; where there are none to carry it along, records
//! without rows do, a few times a second and only when it moved. What is read of a partition is the rows of all tasks of the stage
//! before; their watermark is the least that these tasks told, and there is none before each of them was heard.
//!
//! Invariants: equal keys go to one partition, in every run and on every machine; within a partition the rows of a task keep
//! their order. Rows behind the watermark of their source go no further: what follows keeps state, and would drop them.

mod gather;
mod record;
mod scatter;
#[cfg(test)]
mod tests;

pub use gather::Gather;
pub use record::record_schema;
pub use scatter::Scatter;
