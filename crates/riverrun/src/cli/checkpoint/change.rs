//! `riverrun checkpoint restore` and `reset`.

use riverrun_engine::checkpoint::{At, Chosen, Manifest, Storage, choose, copy, reset as begin_anew};
use riverrun_engine::graph::Exchange;
use riverrun_engine::journal::{LocalJournal, new_lineage};
use riverrun_engine::time::{Clock, SystemClock};
use riverrun_engine::{Error, Result};

use super::place::{Place, PlaceArgs};
use super::time::{Moment, age, timestamp};
use crate::cli::summary::grouped;
use crate::cli::top::units;
use crate::storage::Location;

/// Copies a set of checkpoints.
pub fn restore(place: &PlaceArgs, to: &str, at: Moment) -> Result<()> {
    let place = place.one()?;
    let target = Location::parse(to)?.folder(&place.pipeline);
    if target == place.location {
        return Err(Error::invalid(format!("{target} is where the checkpoints are")).hint("name another location with --to"));
    }
    let chosen = chosen(&place, at.0)?;
    let storage = target.open(&Default::default())?;
    if !storage.list("")?.is_empty() {
        return Err(Error::invalid(format!("{target} is not empty")).hint("name a location that holds nothing of this pipeline"));
    }
    tell(&chosen);
    let bytes = copy(&place.storage, &storage, &chosen)?;
    println!("copied {} to {target}, and verified the copy", units::bytes(bytes));
    println!(
        "To go on from it: SET checkpoint.location = '{to}'. The pipeline's journal must be there too (with Kafka sinks it is);\n\
         without it, first: riverrun checkpoint reset --location '{to}' --pipeline {} --to latest",
        place.pipeline
    );
    Ok(())
}

/// Lets the next start begin a new life from earlier checkpoints.
pub fn reset(place: &PlaceArgs, to: Moment, yes: bool) -> Result<()> {
    let place = place.one()?;
    // Held until it is done: nobody starts meanwhile.
    let journal =
        place.journal.as_ref().filter(|journal| journal.is_dir()).map(|journal| LocalJournal::open(journal)).transpose();
    let journal = journal.map_err(|e| e.within(format!("{} cannot be reset while it runs", place.pipeline)))?;
    let chosen = chosen(&place, to.0)?;
    if let At::Epoch(_) = to.0
        && chosen.manifests.len() > 1
    {
        return Err(Error::invalid("epochs are numbered by task, and there are several tasks").hint("name a time"));
    }
    let repartitions = |manifest: &Manifest| manifest.operators.iter().any(|o| o.identity.starts_with(Exchange::PREFIX));
    if chosen.manifests.iter().any(repartitions) {
        let what = format!("{} repartitions: what lies in its topics is of a later time than these checkpoints", place.pipeline);
        return Err(Error::invalid(what)
            .hint("to read its past again, SET another pipeline.name, and starting_offsets to the time to begin with"));
    }
    println!("{} in {}: the next start begins a new life from", place.pipeline, place.location);
    tell(&chosen);
    println!(
        "What was read since then is read again, and what it gives is written again: rows that sinks took since then stay, and\n\
         come a second time, but for tables by key, where the newest row per key counts."
    );
    if journal.is_none() {
        println!("Whether it runs elsewhere cannot be told from here: a run that goes on stops at its next checkpoint.");
    }
    if !yes {
        return Err(Error::invalid("nothing was done").hint("add --yes to do it"));
    }
    let lineage = new_lineage(&place.pipeline, SystemClock.now());
    begin_anew(&place.storage, &chosen, &lineage)?;
    println!("done: the next start begins {lineage}");
    Ok(())
}

fn chosen(place: &Place, at: At) -> Result<Chosen> {
    let (chosen, passed_over) = choose(&place.storage, at)?;
    passed_over.iter().for_each(|why| println!("passed over: {why}"));
    Ok(chosen)
}

fn tell(chosen: &Chosen) {
    let now = SystemClock.now();
    for manifest in &chosen.manifests {
        println!(
            "  task {}: epoch {}, {} ({} ago), {} rows of state, {}",
            manifest.task,
            grouped(manifest.epoch),
            timestamp(manifest.clock),
            age(manifest.clock, now),
            grouped(manifest.parts().map(|part| part.rows).sum()),
            units::bytes(manifest.state_bytes()),
        );
    }
    let tasks = chosen.manifests.first().map_or(0, |m| m.origin.tasks);
    if tasks > chosen.manifests.len() {
        println!("  {} tasks have no checkpoint: they begin where the pipeline began", tasks - chosen.manifests.len());
    }
}
