//! Tests of the whole program, linked once: each module is one kind of test.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test failing")]

mod changed;
mod checkpoint;
mod crash;
mod dead_letters;
mod docs;
mod equals_batch;
mod fuzz;
mod metrics;
mod progress;
mod slt;
