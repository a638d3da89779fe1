//! Where checkpoints lie: a directory or an object store, by URL.
//!
//! | location | what |
//! |---|---|
//! | a path, `file:///path` | a directory of this machine |
//! | `s3://bucket/prefix` | a bucket of S3, or of what speaks its protocol; with the feature `s3` |

mod failure;
mod location;
mod object;

#[cfg(test)]
mod tests;

pub use location::Location;
pub use object::ObjectStorage;
