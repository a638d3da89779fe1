//! `connector = 'console'`: prints each round of rows as an aligned table, nothing truncated.
//!
//! It keeps no position: after a crash the last round may be printed again.

mod sink;

use riverrun_engine::connect::Context;
use riverrun_engine::graph::SinkNode;
use riverrun_engine::sink::Sink;
use riverrun_engine::table::{Capabilities, Table};
use riverrun_engine::{Error, Result};

use crate::connector::{Connector, Description};

pub use sink::ConsoleSink;

/// The console, for people and documentation.
pub static DESCRIPTION: Description = Description {
    name: "console",
    feature: None,
    docs: "Prints rows to standard output as an aligned table; `trigger` spaces the rounds. At least once: after a crash the \
           last round may be printed again.",
    options: &[],
    pass_through: None,
};

/// The console as a connector.
pub fn connector() -> Option<Box<dyn Connector>> {
    Some(Box::new(Console))
}

struct Console;

impl Connector for Console {
    fn check(&self, table: &Table) -> Result<Capabilities> {
        if table.watermark.is_some() {
            return Err(Error::invalid("the console cannot be read from").hint("remove WATERMARK, or use another connector"));
        }
        Ok(Capabilities { sink: true, upsert: true, delete: true, ..Capabilities::default() })
    }

    fn sink(&self, node: &SinkNode, _: &Context) -> Result<Box<dyn Sink>> {
        Ok(Box::new(ConsoleSink::new(&node.table.name, Box::new(std::io::stdout()))))
    }
}
