//! What an uninterrupted run gives: the engine itself, over all records of the journal from the beginning, with nothing in the
//! way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use riverrun_engine::batch::Batch;
use riverrun_engine::checkpoint::MemoryStorage;
use riverrun_engine::graph::NodeId;
use riverrun_engine::journal::{Epoch, Genesis, Journal, Recorded};
use riverrun_engine::runtime::{Settings, Stage};
use riverrun_engine::{Error, Result};

use crate::life::Running;
use crate::plan::{BEGIN, Kind};
use crate::random::Random;
use crate::script::GRAPHS;
use crate::world::World;

/// By sink, then by (task, epoch): the rows.
pub type Outputs = Vec<BTreeMap<(u32, u64), Vec<Batch>>>;

/// Holds what was recorded, and takes nothing but what goes to repartition topics, which hold it already.
struct Fixed(Recorded, Vec<NodeId>);

impl Journal for Fixed {
    fn takes(&self) -> &[NodeId] {
        &self.1
    }

    fn recover(&mut self) -> Result<Recorded> {
        Ok(self.0.clone())
    }

    fn begin(&mut self, _genesis: &Genesis) -> Result<()> {
        Err(Error::permanent("a run over records begins nothing"))
    }

    fn commit(&mut self, _epochs: &[Epoch]) -> Result<()> {
        Err(Error::permanent("a run over records commits nothing"))
    }

    fn truncate(&mut self, _task: u32, _epoch: u64) -> Result<()> {
        Ok(())
    }
}

/// The outputs of all epochs that happened in `world`.
///
/// # Errors
/// The engine cannot run its own records again.
pub fn outputs(world: &World) -> Result<Outputs> {
    let calm = calm(world);
    let recorded = {
        let mut state = calm.state();
        state.history.cut.fill(0);
        state.history.recorded()
    };
    let count: usize = recorded.records.iter().map(Vec::len).sum();
    let mut outputs = vec![BTreeMap::new(); calm.state().tables.len()];
    if count == 0 {
        return Ok(outputs);
    }
    let storage = MemoryStorage::default();
    let settings = Settings { checkpoints: Some(Arc::new(storage)), ..calm.state().plan.settings() };
    let exchanges = GRAPHS[calm.state().plan.graph].exchanges();
    let taken = exchanges.iter().map(|exchange| exchange.sink).collect();
    let mut running = Running::assemble(&calm, 1, Box::new(Fixed(recorded, taken)), settings)?;
    let stats = running.control.stats();
    let mut rounds = 0;
    while stats.journal.repeated.load(Relaxed) < count as u64 {
        // Feeds come between any two epochs of a task, so that they keep each epoch apart.
        for stage in [Stage::Read, Stage::Feed] {
            for slot in 0..running.slots.len() {
                if running.slots[slot].part.stage == stage && !running.slots[slot].ended {
                    running.step(slot)?;
                }
            }
        }
        rounds += 1;
        if rounds > 10 * count + 1000 {
            let repeated = stats.journal.repeated.load(Relaxed);
            return Err(Error::permanent(format!("of {count} epochs only {repeated} are run again")));
        }
    }
    let mut state = calm.state();
    if let Some(breach) = &state.breach {
        return Err(Error::permanent(breach.clone()));
    }
    for (table, outputs) in state.tables.iter_mut().zip(&mut outputs) {
        outputs.extend(table.landed.drain(..).map(|landed| ((landed.task, landed.epoch), landed.batches)));
    }
    drop(state);
    Ok(outputs)
}

/// The same world without faults, where all records are there from the beginning and every table shows what it is given.
fn calm(world: &World) -> Arc<World> {
    let state = world.state();
    let mut plan = state.plan.clone();
    let is_exchange = |sink: usize| state.exchange_of(sink).is_some();
    let shown = (0..plan.kinds.len()).map(|sink| if is_exchange(sink) { Kind::Taken } else { Kind::Shown });
    plan.kinds = shown.collect();
    plan.workers = 1;
    plan.instances = 1;
    let mut topic = state.topic.clone();
    topic.partitions.iter_mut().flatten().for_each(|entry| entry.arrives = BEGIN);
    topic.ends = None;
    let tables =
        state.tables.iter().map(|table| crate::sink::Table::new(table.name.clone(), Kind::Shown, table.coalesced)).collect();
    let calm = World::new(plan, topic, tables, Random::of(state.step), false);
    {
        let mut of_calm = calm.state();
        of_calm.calm = true;
        of_calm.history = state.history.clone();
        of_calm.exchanges = state.exchanges.clone();
        of_calm.exchanges.iter_mut().for_each(|exchange| exchange.cut.fill(0));
    }
    calm
}
