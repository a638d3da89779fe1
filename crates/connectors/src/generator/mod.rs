//! Transactions made up, with the truth about them: the model, its records.
//!
//! [`Generator`] makes the stream, [`Record`] is what one gets of it, [`Labels`] writes the truth, [`produce()`] sends it
//! somewhere, and [`connector()`] makes it a table. Invariant: the same settings give the same bytes, on every machine.

mod labels;
mod model;
mod produce;
mod record;
mod settings;
mod source;
mod user;

pub use labels::{Kinds, Labels};
pub use model::Generator;
pub use produce::{Deliveries, LineSink, PartitionDeliveries, ProduceSettings, Progress, RecordSink, Summary, produce};
pub use record::{Malformed, Record, Transaction};
pub use settings::{DEFAULT_START, FraudRates, Settings};
pub use source::{DESCRIPTION, connector};
pub use user::Place;

#[cfg(test)]
mod tests;
