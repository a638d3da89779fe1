//! Transactions made up, with the truth about them: the model, its records.
//!
//! [`Generator`] makes the stream, [`Record`] is what one gets of it, [`Labels`] writes the truth. Invariant: the same settings give the same bytes, on every machine.

mod labels;
mod model;
mod record;
mod settings;
mod user;

pub use labels::{Kinds, Labels};
pub use model::Generator;
pub use record::{Malformed, Record, Transaction};
pub use settings::{DEFAULT_START, FraudRates, Settings};
pub use user::Place;

#[cfg(test)]
mod tests;
