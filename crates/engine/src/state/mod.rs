//! State: rows in columns, found by key.
//!
//! [`row_store`] keeps rows as segments of arrow batches and gives each a reference; [`keys`] gives each key a slot.
//! Updating a row appends the new version and frees the old one; segments that are mostly dead are compacted, so work is
//! in proportion to what changes, never to what is kept.

pub mod keys;
pub mod row_store;
