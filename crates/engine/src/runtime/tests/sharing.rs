//! Instances that share tasks, in steps of a random order: tasks move in order or are lost unheard of, owners that were passed
//! over go on writing. Whatever happens, every row is in both sinks once, in order: in the journal's and in one that is fed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::batch::Batch;
use crate::checkpoint::MemoryStorage;
use crate::graph::NodeId;
use crate::journal::{Epoch, Genesis, Journal, Record, Recorded};
use crate::membership::{Change, Membership};
use crate::runtime::{Assembly, Part};

const TASKS: u32 = 3;
const ROWS: i64 = 60;
const INSTANCES: usize = 2;

/// What instances share: the group, the journal and the sinks' store.
#[derive(Default)]
struct World {
    genesis: Option<Genesis>,
    records: BTreeMap<u32, Vec<Record>>,
    /// The rows of the journal's sink and of the fed one, by task.
    rows: [BTreeMap<u32, Vec<i64>>; 2],
    /// How far the fed sink is.
    held: BTreeMap<u32, u64>,
    /// By task, as the group has it.
    owner: BTreeMap<u32, usize>,
    /// Who gets a revoked task when it is released.
    heir: BTreeMap<u32, usize>,
    /// By instance: what it has not heard yet, and what it has taken.
    changes: [VecDeque<Change>; INSTANCES],
    taken: [BTreeSet<u32>; INSTANCES],
}

impl World {
    fn assign(&mut self, task: u32, to: usize) {
        self.owner.insert(task, to);
        self.changes[to].push_back(Change::Assigned(vec![task]));
    }

    fn owns(&self, instance: usize, task: u32) -> bool {
        self.owner.get(&task) == Some(&instance)
    }
}

type Shared = Arc<Mutex<World>>;

/// An instance's end of the group, the journal, and a sink that holds back what it is given until it is flushed.
struct Member(usize, Shared);

impl Membership for Member {
    fn poll(&mut self) -> Result<Vec<Change>> {
        let mut world = self.1.lock().unwrap();
        let told: Vec<Change> = world.changes[self.0].drain(..).collect();
        for change in &told {
            if let Change::Lost(tasks) = change {
                world.taken[self.0].retain(|task| !tasks.contains(task));
            }
        }
        Ok(told)
    }

    fn genesis(&mut self) -> Result<Option<Genesis>> {
        Ok(self.1.lock().unwrap().genesis.clone())
    }

    fn take(&mut self, tasks: &[u32], _: &Genesis) -> Result<Vec<Vec<Record>>> {
        let mut world = self.1.lock().unwrap();
        if tasks.iter().any(|task| !world.owns(self.0, *task)) {
            return Err(Error::transient("not yours"));
        }
        world.taken[self.0].extend(tasks);
        Ok(tasks.iter().map(|task| world.records.get(task).cloned().unwrap_or_default()).collect())
    }

    fn release(&mut self, tasks: &[u32]) -> Result<()> {
        let mut world = self.1.lock().unwrap();
        for task in tasks {
            world.taken[self.0].remove(task);
            // Of a task that was lost meanwhile nothing is left to release.
            if world.owns(self.0, *task)
                && let Some(heir) = world.heir.remove(task)
            {
                world.assign(*task, heir);
            }
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<bool> {
        Ok(true)
    }
}

struct Bus(usize, Shared);

fn numbers(batches: &[Batch]) -> Vec<i64> {
    let column = |batch: &Batch| batch.rows.column(1).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec();
    batches.iter().flat_map(column).collect()
}

impl Journal for Bus {
    fn takes(&self) -> &[NodeId] {
        &[1]
    }

    fn recover(&mut self) -> Result<Recorded> {
        Ok(Recorded { genesis: self.1.lock().unwrap().genesis.clone(), records: Vec::new() })
    }

    fn join(&mut self, _: &[Vec<(usize, u32)>]) -> Result<Option<Box<dyn Membership>>> {
        Ok(Some(Box::new(Member(self.0, self.1.clone()))))
    }

    fn begin(&mut self, genesis: &Genesis) -> Result<()> {
        self.1.lock().unwrap().genesis = Some(genesis.clone());
        Ok(())
    }

    fn commit(&mut self, epochs: &[Epoch]) -> Result<()> {
        let mut world = self.1.lock().unwrap();
        let fenced = |epoch: &Epoch| !world.owns(self.0, epoch.record.task) || !world.taken[self.0].contains(&epoch.record.task);
        if epochs.iter().any(fenced) {
            return Err(Error::transient("not yours any more"));
        }
        for Epoch { record, outputs, ends } in epochs {
            let records = world.records.entry(record.task).or_default();
            assert_eq!(record.epoch, records.last().map_or(1, |last| last.epoch + 1), "task {}", record.task);
            records.push(record.clone());
            assert_eq!(ends.len(), 1, "also where nothing was read");
            world.rows[0].entry(record.task).or_default().extend(numbers(&outputs[0].batches));
        }
        Ok(())
    }

    fn truncate(&mut self, task: u32, epoch: u64) -> Result<()> {
        let mut world = self.1.lock().unwrap();
        world.records.entry(task).or_default().retain(|record| record.epoch > epoch);
        Ok(())
    }
}

#[derive(Default)]
struct Lake {
    world: Shared,
    /// By task: the position that it goes on from, and what it holds.
    held: BTreeMap<u32, (u64, Vec<EpochOutput>)>,
    moved: Vec<u32>,
    flushes: usize,
}

impl Sink for Lake {
    fn take(&mut self, _: &str, tasks: &[u32]) -> Result<Option<Vec<u64>>> {
        let world = self.world.lock().unwrap();
        let at = |task: &u32| world.held.get(task).copied().unwrap_or(0);
        self.held.extend(tasks.iter().map(|task| (*task, (at(task), Vec::new()))));
        Ok(Some(tasks.iter().map(at).collect()))
    }

    fn release(&mut self, task: u32) {
        self.held.remove(&task);
    }

    fn take_moved(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.moved)
    }

    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        if let Some((_, outputs)) = self.held.get_mut(&output.task) {
            outputs.push(output.clone());
        }
        Ok(())
    }

    fn flush(&mut self, _: Micros, force: bool) -> Result<Flushed> {
        self.flushes += 1;
        if !force && !self.flushes.is_multiple_of(7) {
            return Ok(Flushed::Pending);
        }
        let mut world = self.world.lock().unwrap();
        for (task, (position, outputs)) in &mut self.held {
            let Some(last) = outputs.last().map(|output| output.epoch) else { continue };
            if world.held.get(task).copied().unwrap_or(0) != *position {
                self.moved.push(*task);
                continue;
            }
            let rows = outputs.drain(..).flat_map(|output| numbers(&output.batches)).collect::<Vec<_>>();
            world.rows[1].entry(*task).or_default().extend(rows);
            world.held.insert(*task, last);
            *position = last;
        }
        let moved = self.moved.clone();
        moved.iter().for_each(|task| drop(self.held.remove(task)));
        Ok(Flushed::All)
    }
}

/// Rows 0, 1, 2 … in each partition, and then nothing more.
struct Counting;

struct CountingReader(i64);

impl PartitionReader for CountingReader {
    fn poll(&mut self, limit: Limit, _: Micros) -> Result<Poll> {
        let end = (self.0 + limit.rows.min(3) as i64).min(ROWS).min(limit.until);
        if end <= self.0 {
            return Ok(Poll::Pending);
        }
        let values: Vec<i64> = (self.0..end).collect();
        self.0 = end;
        let times = TimestampMicrosecondArray::from(values.clone()).with_timezone("UTC");
        let rows = RecordBatch::try_new(schema(), vec![Arc::new(times), Arc::new(Int64Array::from(values))])?;
        Ok(Poll::Ready(Fetch { rows, bad: Vec::new(), next_offset: end, bytes: 0, newest_record_time: None }))
    }
}

impl Source for Counting {
    fn partitions(&self) -> Result<u32> {
        Ok(TASKS)
    }

    fn resolve(&self, _: u32, start: Start) -> Result<i64> {
        Ok(if let Start::Offset(offset) = start { offset } else { 0 })
    }

    fn end_offset(&self, _: u32) -> Result<Option<i64>> {
        Ok(None)
    }

    fn open(&self, _: u32, offset: i64, _: Option<i64>) -> Result<Box<dyn PartitionReader>> {
        Ok(Box::new(CountingReader(offset)))
    }
}

fn instance(number: usize, world: &Shared, clock: &Arc<ManualClock>, storage: &MemoryStorage) -> Vec<Part> {
    let mut bindings = Bindings::default();
    bindings.sources.insert(0, Arc::new(Counting));
    bindings.sinks.insert(2, Box::new(Lake { world: world.clone(), ..Lake::default() }));
    bindings.journal = Some(Box::new(Bus(number, world.clone())));
    let settings = Settings {
        epoch_rows: 5,
        chunk_rows: 2,
        workers: Some(2),
        checkpoints: Some(Arc::new(storage.clone())),
        checkpoint_interval: Duration::from_millis(20),
        ..Settings::default()
    };
    Assembly::new(&graph(&[Port::Rows, Port::Rows]), bindings, settings, clock.clone()).unwrap().parts
}

/// Numbers that look random, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % end as u64) as usize
    }
}

/// Some task goes to another instance: in order, or the owner is passed over and hears of it when it comes round.
fn rebalance(world: &mut World, chance: &mut Chance) {
    let task = chance.below(TASKS as usize) as u32;
    let Some(from) = world.owner.get(&task).copied() else { return };
    let to = chance.below(INSTANCES);
    if world.heir.contains_key(&task) && chance.below(2) == 0 {
        return;
    }
    if chance.below(3) == 0 {
        world.heir.remove(&task);
        world.changes[from].push_back(Change::Lost(vec![task]));
        world.assign(task, to);
    } else if world.heir.insert(task, to).is_none() {
        world.changes[from].push_back(Change::Revoked(vec![task]));
    }
}

fn run_seed(seed: u64) {
    let (mut chance, world, clock) = (Chance(seed), Shared::default(), Arc::new(ManualClock::at(1_000_000)));
    let storage = MemoryStorage::default();
    (0..TASKS).for_each(|task| world.lock().unwrap().assign(task, 0));
    let mut parts: Vec<Vec<Part>> = (0..INSTANCES).map(|number| instance(number, &world, &clock, &storage)).collect();
    let step = |part: &mut Part| {
        let next = part.work.step();
        assert!(next.is_ok(), "seed {seed}: {}: {next:?}", part.name);
    };
    for _ in 0..1500 {
        let instance = &mut parts[chance.below(INSTANCES)];
        let part = chance.below(instance.len());
        step(&mut instance[part]);
        clock.advance(Duration::from_millis(chance.below(8) as u64));
        if chance.below(40) == 0 {
            rebalance(&mut world.lock().unwrap(), &mut chance);
        }
    }
    let all: Vec<i64> = (0..ROWS).collect();
    let done = |world: &World| {
        world.rows.iter().all(|rows| (0..TASKS).all(|task| rows.get(&task).is_some_and(|r| r.len() >= all.len())))
    };
    for _ in 0..3000 {
        if done(&world.lock().unwrap()) {
            break;
        }
        parts.iter_mut().flatten().for_each(step);
        clock.advance(Duration::from_millis(10));
    }
    for rows in &world.lock().unwrap().rows {
        (0..TASKS).for_each(|task| assert_eq!(rows.get(&task), Some(&all), "seed {seed}, task {task}"));
    }
}

#[test]
fn every_row_is_in_every_sink_once_wherever_its_task_goes() {
    (0..300).for_each(run_seed);
}
