//! Dead letters, given again to the source that they came from.
//!
//! Invariants: a record is given once, whatever breaks off (where its place can mark it: [`Redelivery`]); those that would be
//! bad again stay where they are, unless all are asked for, and may be given another time. Dead letters themselves are only
//! read.

mod lines;
mod read;
mod work;

use std::path::Path;
use std::sync::Arc;

use riverrun_connectors::redelivery::Redelivery;
use riverrun_connectors::registry::Registry;
use riverrun_engine::connect::{Connectors, Context};
use riverrun_engine::table::Table;
use riverrun_engine::{Error, Result};
use riverrun_serve::protocol::{ReplayWanted, Replayed};

use self::lines::Lines;
use self::work::Work;
use crate::Program;

/// The sources of a script, whose dead letters can be replayed.
#[derive(Clone)]
pub struct Replay {
    registry: Arc<Registry>,
    context: Context,
    sources: Vec<Table>,
}

impl Replay {
    /// Of a program. Connects to nothing.
    pub fn of(program: &Program) -> Self {
        let sources = program.graph.sources().map(|(_, source)| source.table.clone()).collect();
        Self { registry: program.registry.clone(), context: program.context.clone(), sources }
    }

    /// The sources whose dead letters are kept, each with the table of them.
    ///
    /// # Errors
    /// Wrong options.
    pub fn places(&self) -> Result<Vec<(&Table, Table)>> {
        let place = |table| Ok(self.registry.dead_letters(table)?.map(|letters| (table, letters)));
        self.sources.iter().filter_map(|table| place(table).transpose()).collect()
    }

    /// Gives dead letters again: to their source, or, one a line, to a new file.
    ///
    /// # Errors
    /// There is no such source, or it keeps no dead letters; its records cannot be given again; a place cannot be reached.
    /// What was given until then stays given.
    pub fn run(&self, wanted: &ReplayWanted, file: Option<&Path>) -> Result<Replayed> {
        let places = self.chosen(wanted)?;
        let mut replayed = Replayed { dry_run: wanted.dry_run, ..Replayed::default() };
        let mut file = file.map(|path| if wanted.dry_run { Ok(Lines::default()) } else { Lines::create(path) }).transpose()?;
        let mut left = wanted.limit.unwrap_or(usize::MAX);
        for (table, letters) in places {
            let judge = self.registry.judge(table, &self.context)?;
            let mut connected: Box<dyn Redelivery>;
            let place: &mut dyn Redelivery = match &mut file {
                Some(file) => file,
                None => {
                    connected = self.registry.redelivery(table, &self.context)?;
                    connected.as_mut()
                }
            };
            let now = self.context.clock.now();
            let mut work = Work::begin(table, wanted, judge, (place, now), &mut left)?;
            let foreign = read::each(&self.registry, &self.context, letters, &mut |letter| work.take(letter));
            let (mut counts, records) = work.end()?;
            counts.foreign = foreign?;
            replayed.sources.push(counts);
            replayed.records.extend(records);
        }
        Ok(replayed)
    }

    fn chosen(&self, wanted: &ReplayWanted) -> Result<Vec<(&Table, Table)>> {
        let mut places = self.places()?;
        let names: Vec<String> = places.iter().map(|(table, _)| table.name.clone()).collect();
        let Some(name) = &wanted.source else { return Ok(places) };
        places.retain(|(table, _)| table.name == *name);
        if !places.is_empty() {
            return Ok(places);
        }
        let error = Error::invalid(format!("no dead letters are kept of a source {name}"));
        Err(error.hint(match names.as_slice() {
            [] => "add dead_letter_topic or dead_letter_path to a source's options".to_owned(),
            names => format!("they are kept of {}", names.join(", ")),
        }))
    }
}
