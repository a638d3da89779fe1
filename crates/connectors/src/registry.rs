//! The one list of connectors, and what holds for the options of all of them.

use std::sync::Arc;

use riverrun_engine::connect::{Connectors, Context, Told};
use riverrun_engine::dead_letter;
use riverrun_engine::graph::{Graph, SinkNode, SourceNode};
use riverrun_engine::journal::Journal;
use riverrun_engine::sink::Sink;
use riverrun_engine::source::{OnBadRecord, Source};
use riverrun_engine::table::{Capabilities, Column, Location, Options, Table};
use riverrun_engine::{Error, Result};

use crate::connector::{COMMON, Connector, Description, OptionDescription, check_common, on_bad_record};
use crate::format::Judge;
use crate::redelivery::Redelivery;
use crate::schema_registry;

/// The largest dead letter that is read.
const LARGEST_LETTER: &str = "64 MiB";

/// A connector of the registry: described always, there if compiled in.
pub struct Entry {
    /// What it is.
    pub description: &'static Description,
    connector: Option<Box<dyn Connector>>,
}

/// All connectors that this program knows.
pub struct Registry {
    entries: Vec<Entry>,
}

impl Default for Registry {
    /// The connectors that come with Riverrun. A new connector adds its line here.
    fn default() -> Self {
        let mut registry = Self { entries: Vec::new() };
        registry.add(&crate::blackhole::DESCRIPTION, crate::blackhole::connector());
        registry.add(&crate::console::DESCRIPTION, crate::console::connector());
        registry.add(&crate::generator::DESCRIPTION, crate::generator::connector());
        registry.add(&crate::filesystem::DESCRIPTION, crate::filesystem::connector());
        registry.add(&crate::kafka::DESCRIPTION, crate::kafka::connector());
        registry.add(&crate::log::DESCRIPTION, crate::log::connector());
        registry.add(&crate::table::DESCRIPTION, crate::table::connector());
        registry.add(&crate::delta::DESCRIPTION, crate::delta::connector());
        registry.add(&crate::cassandra::DESCRIPTION, crate::cassandra::connector());
        registry
    }
}

impl Registry {
    /// Adds a connector; `None`: known, but not compiled into this program.
    pub fn add(&mut self, description: &'static Description, connector: Option<Box<dyn Connector>>) {
        self.entries.push(Entry { description, connector });
    }

    /// All entries, for help and documentation.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn entry(&self, table: &Table) -> Result<(&'static Description, &dyn Connector)> {
        let name = table.connector()?;
        let Some(entry) = self.entries.iter().find(|e| e.description.name == name) else {
            let names: Vec<_> = self.entries.iter().map(|e| e.description.name).collect();
            let error = table.options.error("connector", &format!("there is no connector '{name}'"));
            return Err(error.hint(match nearest(&name, names.iter().copied()) {
                Some(near) => format!("did you mean '{near}'? There are {}", names.join(", ")),
                None => format!("there are {}", names.join(", ")),
            }));
        };
        match &entry.connector {
            Some(connector) => Ok((entry.description, connector.as_ref())),
            None => Err(self.not_compiled_in(table, entry.description)),
        }
    }

    fn not_compiled_in(&self, table: &Table, description: &Description) -> Error {
        let feature = description.feature.unwrap_or(description.name);
        let what = format!("'{}' was not compiled into this program", description.name);
        table.options.error("connector", &what).hint(format!("build with --features {feature}"))
    }

    /// Splits the names of a table's options into own (fine) and those of other connectors (returned).
    fn ignored_options(&self, own: &Description, options: &Options) -> Result<Vec<String>> {
        let mut ignored = Vec::new();
        for (name, _) in options.iter() {
            let has = |options: &[OptionDescription]| options.iter().any(|o| o.name == name);
            if own.has_option(name) || has(COMMON) || has(schema_options(own)) {
                continue;
            }
            if !self.entries.iter().any(|e| e.description.has_option(name)) && !has(schema_registry::OPTIONS) {
                return Err(unknown_option(own, name, options));
            }
            ignored.push(name.to_owned());
        }
        Ok(ignored)
    }
}

impl Connectors for Registry {
    fn check(&self, table: &Table) -> Result<Capabilities> {
        let (description, connector) = self.entry(table)?;
        let ignored = self.ignored_options(description, &table.options)?;
        for option in description.options.iter().filter(|o| o.required) {
            table.options.required(option.name)?;
        }
        check_common(&table.options)?;
        refuse_avro(table, description)?;
        let capabilities = connector.check(table)?;
        Ok(Capabilities { ignored, ..capabilities })
    }

    fn columns(&self, table: &Table, context: &Context) -> Result<Told> {
        let (description, _) = self.entry(table)?;
        self.ignored_options(description, &table.options)?;
        check_common(&table.options)?;
        if !schema_registry::SERVED.contains(&description.name) {
            let what = format!("tables of connector '{}' have no schema registry: name their columns", description.name);
            return Err(table.options.error("format", &what));
        }
        crate::format::columns(table, context)
    }

    fn dead_letters(&self, table: &Table) -> Result<Option<Table>> {
        if on_bad_record(&table.options)? != OnBadRecord::DeadLetter {
            return Ok(None);
        }
        let options = match (table.options.get("dead_letter_path"), table.options.get("dead_letter_topic")) {
            // Read as well: a folder may have no file yet.
            (Some(path), _) => {
                Options::of(&[("connector", "filesystem"), ("format", "json"), ("path", &path), ("watch", "true")])
            }
            (None, Some(topic)) => self.dead_letter_topic(table, &topic)?,
            (None, None) => return Ok(None),
        };
        // For whoever asks the table: others may write to a topic too, and a letter is larger than its record.
        let options = options.with("bad_records", "drop").with("max_record_bytes", LARGEST_LETTER);
        let column = |field: &Arc<_>| Column { field: Arc::clone(field), metadata: None, location: Location::default() };
        Ok(Some(Table {
            name: format!("{}_dead_letters", table.name),
            columns: dead_letter::schema().fields().iter().map(column).collect(),
            watermark: None,
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
            options,
            location: table.location,
        }))
    }

    fn repartition(&self, sources: &[&Table], sinks: &[&Table]) -> Result<Option<Options>> {
        for connector in self.entries.iter().filter_map(|entry| entry.connector.as_ref()) {
            if let Some(options) = connector.repartition(sources, sinks)? {
                return Ok(Some(options));
            }
        }
        Ok(None)
    }

    fn starting(&self, table: &Table, start: &str) -> Result<Table> {
        self.entry(table)?.1.starting(table, start)
    }

    fn source(&self, node: &SourceNode, context: &Context) -> Result<Arc<dyn Source>> {
        let (_, connector) = self.entry(&node.table)?;
        connector.source(node, context).map_err(|e| e.within(format!("source {}", node.table.name)))
    }

    fn sink(&self, node: &SinkNode, context: &Context) -> Result<Box<dyn Sink>> {
        let (_, connector) = self.entry(&node.table)?;
        connector.sink(node, context).map_err(|e| e.within(format!("sink {}", node.table.name)))
    }

    fn journal(&self, graph: &Graph, context: &Context) -> Result<Option<Box<dyn Journal>>> {
        for connector in self.entries.iter().filter_map(|entry| entry.connector.as_ref()) {
            if let Some(journal) = connector.journal(graph, context)? {
                return Ok(Some(journal));
            }
        }
        Ok(None)
    }
}

impl Registry {
    /// Whether what a table names is there, as far as that can be told without connecting.
    ///
    /// # Errors
    /// Wrong options, or it cannot be looked at.
    pub fn is_there(&self, table: &Table, context: &Context) -> Result<bool> {
        self.entry(table)?.1.is_there(table, context)
    }

    /// Tells whether a record of this table would become a row now.
    ///
    /// # Errors
    /// Records of this table cannot be told apart from their files.
    pub fn judge(&self, table: &Table, context: &Context) -> Result<Judge> {
        Judge::of(table, context)
    }

    /// What gives records of this table to it again. May do I/O.
    ///
    /// # Errors
    /// The connector cannot do that, or cannot be reached.
    pub fn redelivery(&self, table: &Table, context: &Context) -> Result<Box<dyn Redelivery>> {
        let (_, connector) = self.entry(table)?;
        connector.redelivery(table, context).map_err(|e| e.within(format!("source {}", table.name)))
    }

    /// The options of a dead-letter topic: those that connect the source, with another topic.
    fn dead_letter_topic(&self, table: &Table, topic: &str) -> Result<Options> {
        let (description, _) = self.entry(table)?;
        if !description.has_option("topic") {
            let what = format!("connector '{}' has no topics", description.name);
            return Err(table.options.error("dead_letter_topic", &what).hint("use dead_letter_path = '…'"));
        }
        let own = |name: &str| name == "connector" || (description.has_option(name) && !name.starts_with("topic"));
        let values = table.options.iter().filter(|(name, _)| own(name)).map(|(n, v)| (n.to_owned(), v.clone())).collect();
        Ok(Options::new(values).with("topic", topic).with("format", "json"))
    }
}

/// Avro is for records that name their schema; elsewhere only connectors that have no records at all pass over the format.
fn refuse_avro(table: &Table, description: &Description) -> Result<()> {
    let is_avro = table.options.get("format").is_some_and(|format| format.trim().eq_ignore_ascii_case("avro"));
    if is_avro && ["filesystem", "generator"].contains(&description.name) {
        let what = format!("connector '{}' has no Avro: it is for topics, whose records name their schema", description.name);
        return Err(table.options.error("format", &what).hint("files are json, csv or parquet"));
    }
    Ok(())
}

/// The options of records with schemas in a registry, for the connectors that have such records.
fn schema_options(own: &Description) -> &'static [OptionDescription] {
    if schema_registry::SERVED.contains(&own.name) { schema_registry::OPTIONS } else { &[] }
}

fn unknown_option(own: &Description, name: &str, options: &Options) -> Error {
    let names: Vec<_> = own.options.iter().chain(COMMON).chain(schema_options(own)).map(|o| o.name).collect();
    let error = options.error(name, &format!("connector '{}' has no such option", own.name));
    error.hint(match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("its options are {}", names.join(", ")),
    })
}

/// The name that a misspelt one most likely stands for.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.map(|n| (n, strsim::jaro_winkler(name, n))).filter(|(_, likeness)| *likeness > 0.8);
    near.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(n, _)| n)
}

#[cfg(test)]
mod tests;
