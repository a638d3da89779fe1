//! Riverrun's HTTP endpoint on loopback: other processes ask the running one for its live tables, logs and counts, since
//! the embedded stores open for one process only; Prometheus asks it for [`metrics`], an orchestrator whether it lives.
//!
//! The running process leaves its address in the data directory ([`discovery`]); `riverrun sql` and `riverrun log` find it
//! there. [`server`] answers, [`client`] asks; both speak [`protocol`].
//!
//! Invariant: bound to 127.0.0.1 only, and read-only: no request changes anything.

pub mod client;
pub mod dashboard;
pub mod discovery;
pub mod metrics;
pub mod protocol;
pub mod server;

#[cfg(test)]
mod tests;
