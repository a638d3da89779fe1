//! `riverrun checkpoint show`.

use std::collections::BTreeMap;

use riverrun_engine::checkpoint::{Inspected, Manifest, inspect, verify};
use riverrun_engine::time::{Clock, Micros, SystemClock};
use riverrun_engine::{Error, Result};
use serde_json::json;

use super::place::{Place, PlaceArgs};
use super::time::{age, timestamp};
use crate::cli::summary::grouped;
use crate::cli::top::units;

/// Shows checkpoints, and verifies them.
pub fn run(place: &PlaceArgs, task: Option<usize>, number: Option<u64>, as_json: bool) -> Result<()> {
    let place = place.one()?;
    let (inspected, _) = inspect(&place.storage)?;
    let mut wanted: BTreeMap<(usize, u64), &Inspected> = BTreeMap::new();
    for one in &inspected {
        let (of, at) = (one.file.task, one.file.sequence);
        if task.is_none_or(|task| task == of) && number.is_none_or(|number| number == at) {
            wanted.retain(|(other, _), _| *other != of);
            wanted.insert((of, at), one);
        }
    }
    if wanted.is_empty() {
        return Err(Error::invalid(format!("there is no such checkpoint in {}", place.location))
            .hint("riverrun checkpoint list shows what there is"));
    }
    let mut damaged = 0;
    for one in wanted.into_values() {
        let intact = match &one.manifest {
            Ok(manifest) => verify(&place.storage, manifest)?,
            Err(why) => Err(why.clone()),
        };
        damaged += usize::from(intact.is_err());
        if as_json {
            let manifest = one.manifest.as_ref().ok();
            println!("{}", json!({ "file": one.file.stored.name, "manifest": manifest, "damage": intact.err() }));
        } else {
            print(&place, one, intact.err(), SystemClock.now());
        }
    }
    match damaged {
        0 => Ok(()),
        n => Err(Error::permanent(format!("{n} of the checkpoints are not intact"))
            .hint("a start passes over them and uses the one before")),
    }
}

fn print(place: &Place, one: &Inspected, damage: Option<String>, now: Micros) {
    println!("{} task {}, checkpoint {}  ({})", place.pipeline, one.file.task, one.file.sequence, one.file.stored.name);
    if let Ok(manifest) = &one.manifest {
        describe(manifest, now);
    }
    match damage {
        None => println!("  intact: all checksums fit\n"),
        Some(why) => println!("  NOT INTACT: {why}\n"),
    }
}

fn describe(manifest: &Manifest, now: Micros) {
    println!("  epoch {} of {}", grouped(manifest.epoch), manifest.lineage.as_deref().unwrap_or("a run without a journal"));
    if !manifest.reset_from.is_empty() {
        println!("  a new life begins here; before it: {}", manifest.reset_from.join(", "));
    }
    println!("  taken {}, {} ago", timestamp(manifest.clock), age(manifest.clock, now));
    for position in &manifest.positions {
        let newest = position.newest.map(|time| format!(", event time {}", timestamp(time))).unwrap_or_default();
        println!(
            "  reads {} partition {} from offset {}{newest}",
            position.source,
            position.partition,
            grouped(position.offset.max(0) as u64)
        );
    }
    for operator in &manifest.operators {
        let sum = |of: fn(&riverrun_engine::checkpoint::PartPlace) -> u64| operator.parts.iter().map(of).sum::<u64>();
        let numbered = operator.parts.iter().filter(|part| part.number.is_some()).count();
        println!(
            "  {}: {} rows, {} ({} plain), {} parts, {numbered} of them never change",
            operator.name,
            grouped(sum(|part| part.rows)),
            units::bytes(sum(|part| part.bytes)),
            units::bytes(sum(|part| part.length)),
            operator.parts.len(),
        );
    }
    for sink in &manifest.pending {
        let sum =
            |of: fn(&riverrun_engine::checkpoint::PartPlace) -> u64| sink.parts.iter().map(|part| of(&part.place)).sum::<u64>();
        let epochs = sink.parts.first().zip(sink.parts.last()).map(|(first, last)| (first.first, last.last)).unwrap_or_default();
        println!(
            "  not safe in {} when it was written: {} rows, {} ({} plain), epochs {} to {}",
            sink.sink,
            grouped(sum(|part| part.rows)),
            units::bytes(sum(|part| part.bytes)),
            units::bytes(sum(|part| part.length)),
            grouped(epochs.0),
            grouped(epochs.1),
        );
    }
    for (index, file) in manifest.files.iter().enumerate() {
        let all = manifest.parts().chain(manifest.pending_parts());
        let live: u64 = all.filter(|part| part.file == index).map(|part| part.bytes).sum();
        println!(
            "  file {}: {}, {:.0} % of it used",
            file.name,
            units::bytes(file.bytes),
            100.0 * live as f64 / file.bytes.max(1) as f64
        );
    }
}
