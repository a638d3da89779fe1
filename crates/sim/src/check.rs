//! What must hold at the end: every table holds what an uninterrupted run gives, and that is what the records say.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, Int32Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow_row::{RowConverter, SortField};
use riverrun_engine::batch::{Batch, Change};
use riverrun_engine::graph::SinkNode;
use riverrun_engine::table::Emit;
use riverrun_engine::{Error, Result};

use crate::plan::{Kind, SECOND};
use crate::reference;
use crate::script::GRAPHS;
use crate::sink::{Landed, Table};
use crate::source::Entry;
use crate::world::{State, World};

/// Whether the engine gives this sink the newest rows by key only.
pub fn coalesces(sink: &SinkNode) -> bool {
    sink.emit == Emit::Update && !sink.key.is_empty()
}

/// Checks a world that has come to its end.
pub fn at_the_end(world: &World) {
    let outputs = match reference::outputs(world) {
        Ok(outputs) => outputs,
        Err(error) => return world.state().violate(|| format!("an uninterrupted run: {error}")),
    };
    let mut state = world.state();
    let graph = &GRAPHS[state.plan.graph];
    let mut checked = Ok(());
    for (number, ((table, outputs), (_, sink))) in state.tables.iter().zip(&outputs).zip(graph.sinks()).enumerate() {
        // What went to a repartition topic is seen in what came of it.
        if state.exchange_of(number).is_some() {
            continue;
        }
        checked = checked.and_then(|()| Rows::new(sink)?.check(table, outputs, state.plan.tasks));
    }
    if let Err(error) = checked.and_then(|()| check_records(&state)) {
        state.violate(|| error.message().to_owned());
    }
}

fn breach(what: String) -> Result<()> {
    Err(Error::permanent(what))
}

/// Rows as bytes that can be compared.
struct Rows {
    key: Vec<usize>,
    whole: RowConverter,
    keys: RowConverter,
}

type Bytes = Box<[u8]>;
type Outputs = BTreeMap<(u32, u64), Vec<Batch>>;

impl Rows {
    fn new(sink: &SinkNode) -> Result<Self> {
        let schema = &sink.schema;
        let field = |i: usize| SortField::new(schema.field(i).data_type().clone());
        let whole = RowConverter::new((0..schema.fields().len()).map(field).collect())?;
        let keys = RowConverter::new(sink.key.iter().map(|i| field(*i)).collect())?;
        Ok(Self { whole, keys, key: sink.key.clone() })
    }

    /// All rows, sorted.
    fn sorted(&self, batches: &[Batch]) -> Result<Vec<Bytes>> {
        let mut all = Vec::new();
        for batch in batches {
            let rows = self.whole.convert_columns(batch.rows.columns())?;
            all.extend(rows.iter().map(|row| Bytes::from(row.as_ref())));
        }
        all.sort_unstable();
        Ok(all)
    }

    /// Keys, and the row that each has now; `None`: it is deleted.
    fn changes(&self, batches: &[Batch]) -> Result<Vec<(Bytes, Option<Bytes>)>> {
        let mut all = Vec::new();
        for Batch { rows: batch, change } in batches {
            let key: Vec<_> = self.key.iter().map(|i| batch.column(*i).clone()).collect();
            let (rows, keys) = (self.whole.convert_columns(batch.columns())?, self.keys.convert_columns(&key)?);
            let row = |row: arrow_row::Row<'_>| (*change != Change::Delete).then(|| row.as_ref().into());
            all.extend(keys.iter().zip(rows.iter()).map(|(key, r)| (key.as_ref().into(), row(r))));
        }
        Ok(all)
    }

    fn check(&self, table: &Table, outputs: &Outputs, tasks: u32) -> Result<()> {
        for task in 0..tasks {
            let landed: Vec<&Landed> = table.landed.iter().filter(|landed| landed.task == task).collect();
            match table.coalesced {
                true => self.check_newest(table, &landed, outputs, task)?,
                false => self.check_each(table, &landed, outputs, task)?,
            }
        }
        Ok(())
    }

    /// Every epoch with rows is there, whole, and once.
    fn check_each(&self, table: &Table, landed: &[&Landed], outputs: &Outputs, task: u32) -> Result<()> {
        let name = &table.name;
        let mut there = BTreeSet::new();
        for Landed { step, epoch, batches, life, .. } in landed {
            let expected = outputs.get(&(task, *epoch)).map_or(&[][..], Vec::as_slice);
            if self.sorted(batches)? != self.sorted(expected)? {
                let rows = |batches: &[Batch]| batches.iter().map(|b| b.rows.num_rows()).sum::<usize>();
                let (rows, expected) = (rows(batches), rows(expected));
                return breach(format!(
                    "step {step}, life {life}: {name} has {rows} rows of epoch {epoch} of task {task}, an uninterrupted run gives others ({expected})"
                ));
            }
            if !there.insert(*epoch) && table.kind != Kind::Shown {
                return breach(format!("step {step}, life {life}: {name} has epoch {epoch} of task {task} twice"));
            }
        }
        let with_rows = |((of, epoch), batches): (&(u32, u64), &Vec<Batch>)| {
            (*of == task && batches.iter().any(|b| b.rows.num_rows() > 0)).then_some(*epoch)
        };
        match outputs.iter().filter_map(with_rows).find(|epoch| !there.contains(epoch)) {
            Some(epoch) => breach(format!("{name} lacks epoch {epoch} of task {task}")),
            None => Ok(()),
        }
    }

    /// Whatever lands is the newest at its epoch; in the end all is there.
    fn check_newest(&self, table: &Table, landed: &[&Landed], outputs: &Outputs, task: u32) -> Result<()> {
        let name = &table.name;
        let exact = matches!(table.kind, Kind::Taken | Kind::Positioned | Kind::Files);
        let mut by_epoch: Vec<&&Landed> = landed.iter().collect();
        by_epoch.sort_by_key(|landed| landed.epoch);
        let mut newest: BTreeMap<Bytes, Bytes> = BTreeMap::new();
        let mut held: BTreeMap<Bytes, Bytes> = BTreeMap::new();
        let mut expected = outputs.range((task, 0)..(task + 1, 0)).peekable();
        let mut advance = |newest: &mut BTreeMap<Bytes, Bytes>, to: u64| -> Result<()> {
            while let Some((_, batches)) = expected.next_if(|((_, epoch), _)| *epoch <= to) {
                apply(newest, self.changes(batches)?);
            }
            Ok(())
        };
        for Landed { step, epoch, batches, life, .. } in by_epoch {
            advance(&mut newest, *epoch)?;
            let changes = self.changes(batches)?;
            if changes.iter().any(|(key, row)| newest.get(key) != row.as_ref()) && table.kind != Kind::Taken {
                return breach(format!(
                    "step {step}, life {life}: {name} has a row of epoch {epoch} of task {task} that was not the newest"
                ));
            }
            apply(&mut held, changes);
            if exact && held != newest {
                return breach(format!("step {step}, life {life}: {name} is not at epoch {epoch} of task {task}"));
            }
        }
        advance(&mut newest, u64::MAX)?;
        let held = if exact { held } else { self.visible(table.kind, landed)? };
        if held != newest {
            return breach(format!(
                "{name} has {} rows of task {task} in the end, an uninterrupted run gives others ({})",
                held.len(),
                newest.len()
            ));
        }
        Ok(())
    }

    /// What a table that keeps no positions shows in the end.
    fn visible(&self, kind: Kind, landed: &[&Landed]) -> Result<BTreeMap<Bytes, Bytes>> {
        let mut versions: BTreeMap<Bytes, (i64, Option<Bytes>)> = BTreeMap::new();
        for Landed { clock, epoch, batches, .. } in landed {
            for (key, row) in self.changes(batches)? {
                // A delete has the clock, an insert comes behind it. What only shows rows shows old ones again: that is its nature.
                let version = if kind == Kind::Versioned { clock + i64::from(row.is_some()) } else { *epoch as i64 };
                let held = versions.entry(key).or_insert((i64::MIN, None));
                if version >= held.0 {
                    *held = (version, row);
                }
            }
        }
        Ok(versions.into_iter().filter_map(|(key, (_, row))| Some((key, row?))).collect())
    }
}

fn apply(rows: &mut BTreeMap<Bytes, Bytes>, changes: Vec<(Bytes, Option<Bytes>)>) {
    for (key, row) in changes {
        match row {
            Some(row) => rows.insert(key, row),
            None => rows.remove(&key),
        };
    }
}

/// What the records themselves say, without the engine: each is in one place, and sums are sums.
fn check_records(state: &State) -> Result<()> {
    let table = |name: &str| state.tables.iter().find(|table| table.name == name);
    let places = |name: &str| table(name).map_or_else(|| Ok(BTreeSet::new()), places);
    let (raw, late) = (places("raw")?, places("late")?);
    let all = || (0..).zip(&state.topic.partitions).flat_map(|(p, entries)| entries.iter().map(move |entry| (p, entry)));
    let good: BTreeSet<(i32, i64)> = all().filter(|(_, e)| e.value.is_some()).map(|(p, e)| (p, e.offset)).collect();
    if raw != good {
        let difference: Vec<_> = raw.symmetric_difference(&good).take(5).collect();
        return breach(format!(
            "raw has {} records, the topic {} good ones: see (partition, offset) {difference:?}",
            raw.len(),
            good.len()
        ));
    }
    let letters = table("letters").map_or(0, distinct_rows);
    let bad = all().filter(|(_, entry)| entry.value.is_none()).count();
    if letters != bad {
        return breach(format!("letters has {letters} records, {bad} are bad"));
    }
    let is_staged = !GRAPHS[state.plan.graph].exchanges().is_empty();
    // What may have shown an old row again says nothing at its end.
    let exact = |table: &&Table| matches!(table.kind, Kind::Taken | Kind::Positioned);
    let checked = match is_staged {
        true => table("sums").filter(exact),
        false => table("totals").filter(|_| state.plan.graph == 0 && state.plan.ends),
    };
    let Some(totals) = checked else { return Ok(()) };
    let group = |entry: &Entry, value: i64| if is_staged { (value % 4).to_string() } else { format!("k{}", entry.key) };
    let mut expected: BTreeMap<(String, i64), (i64, i64)> = BTreeMap::new();
    for (partition, entry) in all().filter(|(p, e)| !late.contains(&(*p, e.offset))) {
        let Some(value) = entry.value.filter(|_| good.contains(&(partition, entry.offset))) else { continue };
        let start = entry.time.div_euclid(5 * SECOND) * 5 * SECOND;
        let sum = expected.entry((group(entry, value), start)).or_default();
        *sum = (sum.0 + 1, sum.1 + value);
    }
    if windows(totals)? != expected {
        return breach(format!("{} are not the sums of the records", totals.name));
    }
    Ok(())
}

/// (partition, offset) of a table's rows.
fn places(table: &Table) -> Result<BTreeSet<(i32, i64)>> {
    let mut places = BTreeSet::new();
    for batch in table.landed.iter().flat_map(|landed| &landed.batches) {
        let column = |name: &str| batch.rows.column_by_name(name).map(|c| c.as_any());
        let parts = column("part").and_then(|c| c.downcast_ref::<Int32Array>());
        let offsets = column("off").and_then(|c| c.downcast_ref::<Int64Array>());
        let (Some(parts), Some(offsets)) = (parts, offsets) else { return Err(Error::permanent("no places")) };
        places.extend(parts.values().iter().copied().zip(offsets.values().iter().copied()));
    }
    Ok(places)
}

/// Rows of different epochs; those of an epoch that was shown twice count once.
fn distinct_rows(table: &Table) -> usize {
    let epochs: BTreeMap<(u32, u64), usize> =
        table.landed.iter().map(|l| ((l.task, l.epoch), l.batches.iter().map(|b| b.rows.num_rows()).sum())).collect();
    epochs.values().sum()
}

/// By key and start: count and sum.
fn windows(table: &Table) -> Result<BTreeMap<(String, i64), (i64, i64)>> {
    let mut windows = BTreeMap::new();
    for batch in table.landed.iter().flat_map(|landed| &landed.batches) {
        let column = |i: usize, to: DataType| cast(batch.rows.column(i), &to);
        let (key, start) = (column(0, DataType::Utf8)?, column(1, DataType::Int64)?);
        let (count, sum) = (column(2, DataType::Int64)?, column(3, DataType::Int64)?);
        let text = key.as_any().downcast_ref::<StringArray>();
        let number = |c: &arrow::array::ArrayRef| c.as_any().downcast_ref::<Int64Array>().map(|c| c.values().to_vec());
        let (Some(text), Some(start), Some(count), Some(sum)) = (text, number(&start), number(&count), number(&sum)) else {
            continue;
        };
        for row in 0..text.len() {
            windows.insert((text.value(row).to_owned(), start[row]), (count[row], sum[row]));
        }
    }
    Ok(windows)
}
