//! Metrics: what there is ([`list`]), what it is now ([`collect`](Observed::families)), how it is written ([`family`]), names
//! that a script gives to them ([`declared`]).
//!
//! Invariants: every metric that is given stands in [`list::METRICS`], with the labels that stand there, or is declared by
//! the script; collecting reads counts, walks no state and takes no lock that a worker waits for.

pub mod accept;
mod collect;
pub mod declared;
#[cfg(test)]
mod deploy;
pub mod family;
pub mod list;
pub mod process;
#[cfg(test)]
mod tests;

pub use collect::{Observed, starting};
