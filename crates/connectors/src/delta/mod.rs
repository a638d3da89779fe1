//! `connector = 'delta'`: Delta Lake tables on local disk or S3, an appending sink, and a source at rest or following.
//!
//! The table format is Delta Lake's (<https://github.com/delta-io/delta/blob/master/PROTOCOL.md>), read and written by
//! `deltalake-core` without its DataFusion part: any other reader of Delta tables sees each commit.

#[cfg(feature = "delta")]
mod ahead;
#[cfg(feature = "delta")]
mod commit;
#[cfg(feature = "delta")]
mod compact;
#[cfg(feature = "delta")]
mod config;
#[cfg(feature = "delta")]
mod connector;
#[cfg(feature = "delta")]
mod data;
#[cfg(feature = "delta")]
mod io;
#[cfg(feature = "delta")]
mod maintain;
#[cfg(feature = "delta")]
mod place;
#[cfg(feature = "delta")]
mod position;
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
mod upload;
#[cfg(feature = "delta")]
mod writer;

#[cfg(feature = "delta")]
pub use compact::Compacted;
#[cfg(feature = "delta")]
pub use maintain::Maintained;
#[cfg(feature = "delta")]
pub use scan::{Scan, scan, schema};
#[cfg(feature = "delta")]
pub use sink::DeltaSink;
#[cfg(feature = "delta")]
pub use source::DeltaSource;

use crate::connector::{Connector, Description, option, required};

/// Options that start with this are properties of the table itself.
const PROPERTY: &str = "delta.";
/// Options that start with this are the object store's.
#[cfg(feature = "delta")]
const S3: &str = "s3.";

/// Delta Lake, for people and documentation.
pub static DESCRIPTION: Description = Description {
    name: "delta",
    feature: Some("delta"),
    docs: "Delta Lake tables. The sink appends rows, and commits them with the positions of the tasks at a size or a time. The \
           source reads the version that is the newest when the run begins, and on request those that come.",
    options: &[
        required("path", "the table's folder: a path, a file:// URL or s3://bucket/prefix"),
        option("partition_by", "", "sink: columns whose values name the folders of the files, such as 'date'"),
        option("roll_size", "128 MiB", "sink: as many encoded bytes are committed at once"),
        option("roll_interval", "10 seconds", "sink: rows wait for their commit at most this long"),
        option("add_columns", "false", "sink: whether columns that an existing table lacks are added to it"),
        option("compact", "auto", "sink: whether many small files of a partition are merged in the background: auto or off"),
        option("compact_size", "128 MiB", "sink: to what size they are merged"),
        option("follow", "false", "source: whether to go on with the rows of newer versions as they come"),
        option(
            "starting_version",
            "",
            "source that follows: the first version whose rows are read, or latest; else all rows first",
        ),
        option("ignore_deletes", "false", "source that follows: whether versions that take rows away are no error"),
        option("poll_interval", "1 second", "source that follows: how often newer versions are looked for"),
        option("s3.endpoint", "", "S3: where it is, if it is not Amazon's"),
        option("s3.region", "", "S3: the region"),
        option("s3.access_key_id", "", "S3: the key"),
        option("s3.secret_access_key", "", "S3: its secret"),
        option("s3.session_token", "", "S3: the token of a temporary key"),
        option("s3.virtual_hosted_style_request", "false", "S3: whether the bucket is part of the host's name"),
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
