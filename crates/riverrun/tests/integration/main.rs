//! Tests of the whole program, linked once: each module is one kind of test.

mod equals_batch;
mod slt;
