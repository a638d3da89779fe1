//! A graph's sources and sinks, connected.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Result;
use crate::connect::{Connectors, Context};
use crate::graph::{Graph, NodeId};
use crate::journal::Journal;
use crate::sink::Sink;
use crate::source::Source;

/// The sources and sinks that a graph's nodes stand for, connected.
#[derive(Default)]
pub struct Bindings {
    /// By node.
    pub sources: BTreeMap<NodeId, Arc<dyn Source>>,
    /// By node; but those that the journal takes.
    pub sinks: BTreeMap<NodeId, Box<dyn Sink>>,
    /// The journal, where it lives on the bus.
    pub journal: Option<Box<dyn Journal>>,
}

impl Bindings {
    /// Connects all of them; a program's `own` sinks stand for the tables of their names. `journaled`: whether the run keeps a
    /// journal.
    pub fn open(
        graph: &Graph,
        connectors: &dyn Connectors,
        context: &Context,
        own: &mut BTreeMap<String, Box<dyn Sink>>,
        journaled: bool,
    ) -> Result<Self> {
        let mut bindings = Self::default();
        if journaled {
            bindings.journal = connectors.journal(graph, context)?;
        }
        let taken: Vec<NodeId> = bindings.journal.iter().flat_map(|journal| journal.takes().to_vec()).collect();
        for (id, sink) in graph.sinks().filter(|(id, _)| !taken.contains(id)) {
            let opened = match own.remove(&sink.table.name) {
                Some(own) => own,
                None => connectors.sink(sink, context)?,
            };
            bindings.sinks.insert(id, opened);
        }
        for (id, source) in graph.sources() {
            let opened = connectors.source(source, context)?;
            bindings.sources.insert(id, opened);
        }
        Ok(bindings)
    }
}
