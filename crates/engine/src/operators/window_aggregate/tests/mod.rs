//! Streaming equals batch: the operator's answers against plain DataFusion over the same rows.

mod claims;
mod equals_batch;
mod parts;
mod rows;
