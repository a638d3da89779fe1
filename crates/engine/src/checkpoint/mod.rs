//! State and positions of tasks, kept over a restart.

mod storage;

pub use storage::{MemoryStorage, Put, Storage, Stored};
