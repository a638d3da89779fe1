//! State: rows in columns, found by key.
//!
//! [`row_store`] keeps rows as segments of arrow batches and gives each a reference; [`keys`] gives each key a slot.
//! Updating a row appends the new version and frees the old one; segments that are mostly dead are compacted, so work is
//! in proportion to what changes, never to what is kept. So are checkpoints: both keep what they hold in segments that never
//! change but for rows that die ([`live`]), and give these as numbered parts ([`parts`]); [`latest`] keeps the newest row of
//! each number for the same end.
//!
//! All of this is in memory, or on [`disk`] with the same results: rows and keys of sealed segments lie in a file, each by
//! itself, tables by number ([`array`]) are there in pages, of which as many are in memory as there is room for.

pub mod array;
pub mod disk;
pub mod keys;
pub mod latest;
pub mod live;
pub mod parts;
pub mod row_store;
pub mod unshared;

pub use disk::{Backend, Disk};
