//! `connector = 'delta'`: Delta Lake tables on local disk, an appending sink and a source at rest.
//!
//! The table format is Delta Lake's (<https://github.com/delta-io/delta/blob/master/PROTOCOL.md>), read and written by
//! `deltalake-core` without its DataFusion part: any other reader of Delta tables sees each commit.

#[cfg(feature = "delta")]
mod commit;
#[cfg(feature = "delta")]
mod config;
#[cfg(feature = "delta")]
mod connector;
#[cfg(feature = "delta")]
mod io;
#[cfg(feature = "delta")]
mod reader;
#[cfg(feature = "delta")]
mod scan;
#[cfg(feature = "delta")]
mod sink;
#[cfg(feature = "delta")]
mod source;
#[cfg(feature = "delta")]
mod table;
#[cfg(feature = "delta")]
mod types;
#[cfg(feature = "delta")]
mod writer;

#[cfg(feature = "delta")]
pub use scan::{Scan, scan, schema};
#[cfg(feature = "delta")]
pub use sink::DeltaSink;
#[cfg(feature = "delta")]
pub use source::DeltaSource;

use crate::connector::{Connector, Description, option, required};

/// Options that start with this are properties of the table itself.
const PROPERTY: &str = "delta.";

/// Delta Lake, for people and documentation.
pub static DESCRIPTION: Description = Description {
    name: "delta",
    feature: Some("delta"),
    docs: "Delta Lake tables. The sink appends rows, and commits them with the positions of the tasks at a size or a time. The \
           source reads the version that is the newest when the run begins.",
    options: &[
        required("path", "the table's folder: a path or a file:// URL"),
        option("partition_by", "", "sink: columns whose values name the folders of the files, such as 'date'"),
        option("roll_size", "128 MiB", "sink: as many encoded bytes are committed at once"),
        option("roll_interval", "10 seconds", "sink: rows wait for their commit at most this long"),
        option("follow", "false", "source: whether to go on with newer versions; only false is possible yet"),
    ],
    pass_through: Some(PROPERTY),
};

/// Delta Lake as a connector, where it was compiled in.
pub fn connector() -> Option<Box<dyn Connector>> {
    #[cfg(feature = "delta")]
    return Some(Box::new(connector::Delta));
    #[cfg(not(feature = "delta"))]
    None
}

#[cfg(test)]
#[cfg(feature = "delta")]
mod tests;
