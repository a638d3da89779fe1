//! Riverrun's HTTP endpoint: people, dashboards and programs ask the running process what it does, for its tables, logs and
//! counts, and steer it; other processes ask it for the embedded stores, which open for one process only; Prometheus asks it for
//! [`metrics`], an orchestrator whether it lives.
//!
//! The running process leaves its address in the data directory ([`discovery`]); the command line finds it there. [`server`]
//! answers, [`client`] asks; both speak [`protocol`].
//!
//! Invariants: on loopback unless told; elsewhere only who knows the token is answered ([`access`], [`guard`]). What is asked
//! never holds up what is written, and is bounded in time, memory and number ([`limits`]). Nothing is changed but by the
//! [`api`]'s actions.

pub mod access;
pub mod api;
mod backend;
pub mod client;
mod connections;
pub mod dashboard;
pub mod discovery;
pub mod guard;
pub mod limits;
pub mod metrics;
mod plain;
pub mod protocol;
pub mod server;

#[cfg(test)]
mod tests;
