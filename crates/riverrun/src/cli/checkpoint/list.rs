//! `riverrun checkpoint list`.

use std::collections::HashMap;

use riverrun_engine::Result;
use riverrun_engine::checkpoint::{FileKind, Inspected, Manifest, TaskFile, inspect};
use riverrun_engine::time::{Clock, Micros, SystemClock};
use serde_json::json;

use super::place::{Place, PlaceArgs};
use super::time::{age, timestamp};
use crate::cli::top::units;

/// Lists checkpoints.
pub fn run(place: &PlaceArgs, as_json: bool) -> Result<()> {
    let now = SystemClock.now();
    for place in place.all()? {
        let (inspected, files) = inspect(&place.storage)?;
        let shares = Shares::of(&inspected);
        if as_json {
            inspected.iter().for_each(|one| println!("{}", object(&place, one, &shares, now)));
        } else {
            print(&place, &inspected, &files, &shares, now);
        }
    }
    Ok(())
}

/// By data file: how many manifests refer to it.
struct Shares(HashMap<String, usize>);

impl Shares {
    fn of(inspected: &[Inspected]) -> Self {
        let mut counts = HashMap::new();
        for file in inspected.iter().filter_map(|i| i.manifest.as_ref().ok()).flat_map(|m| &m.files) {
            *counts.entry(file.name.clone()).or_default() += 1;
        }
        Self(counts)
    }

    /// Bytes of files that only this one refers to, its manifest among them, and of those that others refer to as well.
    fn own_and_shared(&self, file: &TaskFile, manifest: &Manifest) -> (u64, u64) {
        let (shared, own): (Vec<_>, Vec<_>) =
            manifest.files.iter().partition(|f| self.0.get(&f.name).is_some_and(|count| *count > 1));
        let sum = |files: Vec<&riverrun_engine::checkpoint::DataFile>| files.iter().map(|f| f.bytes).sum::<u64>();
        (sum(own) + file.stored.bytes, sum(shared))
    }
}

fn object(place: &Place, one: &Inspected, shares: &Shares, now: Micros) -> serde_json::Value {
    let (file, location) = (&one.file, place.location.to_string());
    let mut object = json!({
        "pipeline": place.pipeline, "location": location, "task": file.task, "number": file.sequence, "file": file.stored.name,
    });
    let more = match &one.manifest {
        Ok(manifest) => {
            let (own, shared) = shares.own_and_shared(file, manifest);
            json!({
                "epoch": manifest.epoch, "time": timestamp(manifest.clock), "age_seconds": (now - manifest.clock) / 1_000_000,
                "lineage": manifest.lineage, "reset_from": manifest.reset_from,
                "rows": manifest.parts().map(|part| part.rows).sum::<u64>(),
                "pending_rows": manifest.pending_parts().map(|part| part.rows).sum::<u64>(),
                "state_bytes": manifest.state_bytes(), "own_bytes": own, "shared_bytes": shared,
            })
        }
        Err(why) => json!({ "damage": why }),
    };
    if let (Some(object), serde_json::Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
    object
}

fn print(place: &Place, inspected: &[Inspected], files: &[TaskFile], shares: &Shares, now: Micros) {
    let total: u64 = files.iter().map(|f| f.stored.bytes).sum();
    println!("{}  in {}: {} files, {}", place.pipeline, place.location, files.len(), units::bytes(total));
    let rows = |a: [&str; 8]| {
        println!("  {:>4} {:>6} {:>9}  {:<24} {:>12} {:>9} {:>9} {:>9}", a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
    };
    rows(["TASK", "NUMBER", "EPOCH", "TIME", "AGE", "STATE", "OWN", "SHARED"]);
    for one in inspected {
        let (task, number) = (one.file.task.to_string(), one.file.sequence.to_string());
        match &one.manifest {
            Ok(manifest) => {
                let (own, shared) = shares.own_and_shared(&one.file, manifest);
                rows([
                    &task,
                    &number,
                    &manifest.epoch.to_string(),
                    &timestamp(manifest.clock),
                    &age(manifest.clock, now),
                    &units::bytes(manifest.state_bytes()),
                    &units::bytes(own),
                    &units::bytes(shared),
                ]);
                if !manifest.pending.is_empty() {
                    let sinks: Vec<&str> = manifest.pending.iter().map(|pending| pending.sink.as_str()).collect();
                    println!("{:23}with outputs that were not safe in {}", "", sinks.join(", "));
                }
                if !manifest.reset_from.is_empty() {
                    let life = manifest.lineage.as_deref().unwrap_or_default();
                    println!("{:23}reset: the life {life} begins here", "");
                }
            }
            Err(why) => println!("  {task:>4} {number:>6} {:>9}  {why}", "damaged"),
        }
    }
    for old in files.iter().filter(|f| f.kind == FileKind::Version1) {
        println!("  {:>4} {:>6} {:>9}  of version 1, {}", old.task, "-", old.sequence, units::bytes(old.stored.bytes));
    }
}
