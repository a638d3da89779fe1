//! State: rows in columns, found by key.
//!
//! [`row_store`] keeps rows as segments of arrow batches and gives each a reference; [`keys`] gives each key a slot.
//! Updating a row appends the new version and frees the old one; segments that are mostly dead are compacted, so work is
//! in proportion to what changes, never to what is kept. So are checkpoints: both keep what they hold in segments that never
//! change but for rows that die ([`live`]), and give these as numbered parts ([`parts`]); [`latest`] keeps the newest row of
//! each number for the same end.

pub mod keys;
pub mod latest;
pub mod live;
pub mod parts;
pub mod row_store;
pub mod unshared;
