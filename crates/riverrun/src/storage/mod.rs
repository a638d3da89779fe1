//! Where checkpoints lie: a directory or an object store, by URL.
//!
//! | location | what |
//! |---|---|
//! | a path, `file:///path` | a directory of this machine |
//! | `s3://bucket/prefix` | an S3 bucket; in programs that are built with the feature `s3` |

mod location;
mod object;
#[cfg(feature = "s3")]
mod s3;

#[cfg(test)]
mod tests;

pub use location::Location;
pub use object::ObjectStorage;
