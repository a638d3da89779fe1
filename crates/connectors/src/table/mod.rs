//! `connector = 'table'`: embedded tables on local disk, where there is no Cassandra. Rows are replaced and deleted by
//! PRIMARY KEY, and can be queried; for one process, others query through that one.

#[cfg(feature = "table")]
mod codec;
#[cfg(feature = "table")]
mod config;
#[cfg(feature = "table")]
mod connector;
#[cfg(feature = "table")]
mod definition;
#[cfg(feature = "table")]
mod sink;
#[cfg(feature = "table")]
mod source;
#[cfg(feature = "table")]
mod store;
#[cfg(feature = "table")]
#[cfg(test)]
mod tests;

#[cfg(feature = "table")]
pub use store::{Scan, Table, Tables};

use crate::connector::{Connector, Description, option};

/// Embedded tables, for people and documentation.
pub static DESCRIPTION: Description = Description {
    name: "table",
    feature: Some("table"),
    docs: "Embedded tables on local disk, where there is no Cassandra: rows are replaced and deleted by PRIMARY KEY, and can be \
           queried while the pipeline runs. One process has them open; others query through it.",
    options: &[
        option("path", "", "the directory of the tables; default: 'tables' in the data directory"),
        option("table", "", "the table's name in that directory; default: the name in the script"),
    ],
    pass_through: None,
};

/// Embedded tables as a connector, where they were compiled in.
pub fn connector() -> Option<Box<dyn Connector>> {
    #[cfg(feature = "table")]
    return Some(Box::new(connector::TableConnector));
    #[cfg(not(feature = "table"))]
    None
}
