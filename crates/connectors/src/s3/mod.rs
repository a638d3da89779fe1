//! S3 and what speaks its protocol: how to connect, and what its refusals mean. For tables and checkpoints alike.
//!
//! Credentials, region and endpoint come from the usual `AWS_*` variables, on Amazon's machines from the role of the machine;
//! options of a table or script go before them.

mod answer;
#[cfg(feature = "s3")]
mod confirm;
#[cfg(feature = "s3")]
mod connect;

pub use answer::{Meaning, answer};
#[cfg(all(test, feature = "s3", feature = "delta"))]
pub(crate) use confirm::Confirming;
#[cfg(feature = "s3")]
pub use connect::connect;

/// What to do where credentials are refused.
pub const CREDENTIALS: &str = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, and what they may do in the bucket";
