//! `connector = 'blackhole'`: takes rows and forgets them. For measuring everything before the sink, and for an output
//! that a script has and a run does not want.

use riverrun_engine::Result;
use riverrun_engine::connect::Context;
use riverrun_engine::graph::SinkNode;
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::table::{Capabilities, Table};
use riverrun_engine::time::Micros;

use crate::connector::{Connector, Description};

/// The blackhole, for people and documentation.
pub static DESCRIPTION: Description =
    Description { name: "blackhole", feature: None, docs: "Takes rows and forgets them.", options: &[], pass_through: None };

/// The blackhole as a connector.
pub fn connector() -> Option<Box<dyn Connector>> {
    Some(Box::new(Blackhole))
}

struct Blackhole;

impl Connector for Blackhole {
    fn check(&self, _table: &Table) -> Result<Capabilities> {
        Ok(Capabilities { sink: true, upsert: true, delete: true, ..Capabilities::default() })
    }

    fn sink(&self, _node: &SinkNode, _context: &Context) -> Result<Box<dyn Sink>> {
        Ok(Box::new(Blackhole))
    }
}

impl Sink for Blackhole {
    fn write(&mut self, _output: &EpochOutput) -> Result<()> {
        Ok(())
    }

    fn flush(&mut self, _now: Micros, _force: bool) -> Result<Flushed> {
        Ok(Flushed::All)
    }
}
