//! The operators: stateless ones evaluate DataFusion's physical expressions, stateful ones keep rows in [`crate::state`].

pub mod filter;
pub mod over;
pub mod project;
pub mod unnest;
pub mod window_aggregate;
