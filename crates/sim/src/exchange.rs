//! The repartition topics: what the journal committed for them, and the source that reads it.

use std::sync::Arc;

use arrow::array::{AsArray, BinaryArray, RecordBatch};
use arrow::datatypes::{Int32Type, SchemaRef};
use riverrun_engine::Result;
use riverrun_engine::graph::NodeId;
use riverrun_engine::sink::EpochOutput;
use riverrun_engine::source::{Fetch, Limit, PartitionReader, Poll, Source, Start};
use riverrun_engine::time::Micros;

use crate::script::GRAPHS;
use crate::world::{Life, State, World};

/// Offsets have gaps: a transaction's end stands behind its records.
const STEP: i64 = 2;

/// The records of a repartition topic.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// By partition.
    pub records: Vec<Vec<Vec<u8>>>,
    /// By partition: records before this offset are gone.
    pub cut: Vec<i64>,
}

impl Exchange {
    /// Without records.
    pub fn new(partitions: u32) -> Self {
        let partitions = partitions as usize;
        Self { records: vec![Vec::new(); partitions], cut: vec![0; partitions] }
    }

    /// The offset behind the last record.
    pub fn end(&self, partition: u32) -> i64 {
        self.records[partition as usize].len() as i64 * STEP
    }
}

impl State {
    /// The repartition topic behind one of the graph's sinks.
    pub fn exchange_of(&self, sink: usize) -> Option<usize> {
        let graph = &GRAPHS[self.plan.graph];
        let (id, _) = graph.sinks().nth(sink)?;
        graph.exchanges().iter().position(|exchange| exchange.sink == id)
    }

    /// Records were committed.
    pub fn sent(&mut self, exchange: usize, output: &EpochOutput) {
        for batch in &output.batches {
            let (partitions, payloads) =
                (batch.rows.column(0).as_primitive::<Int32Type>(), batch.rows.column(1).as_binary::<i32>());
            for (partition, payload) in partitions.values().iter().zip(payloads.iter().flatten()) {
                self.exchanges[exchange].records[*partition as usize].push(payload.to_vec());
            }
        }
    }

    /// Whether all records of repartition topics were read by epochs that happened.
    pub fn exchanges_are_read(&self) -> bool {
        self.exchanges.iter().enumerate().all(|(number, exchange)| {
            let first = self.plan.first_task_of(number);
            (0..self.plan.exchange_partitions).all(|partition| {
                let read = self.history.position((first + partition) as usize, partition, u64::MAX);
                read.unwrap_or(0) + STEP > exchange.end(partition)
            })
        })
    }

    /// No checkpoint of this task that may be gone on from is older: what it had read before goes.
    pub fn cut_exchange(&mut self, task: u32, epoch: u64) {
        for number in 0..self.exchanges.len() {
            let first = self.plan.first_task_of(number);
            let Some(partition) = task.checked_sub(first).filter(|p| *p < self.plan.exchange_partitions) else { continue };
            let read = self.history.position(task as usize, partition, epoch).unwrap_or(0);
            let cut = &mut self.exchanges[number].cut[partition as usize];
            *cut = read.max(*cut);
        }
    }
}

/// Reads a repartition topic.
pub struct ExchangeSource {
    /// Where it is.
    pub world: Arc<World>,
    /// Whose it is.
    pub life: Life,
    /// Which.
    pub exchange: usize,
    /// Its one column.
    pub schema: SchemaRef,
}

impl ExchangeSource {
    /// The source of a node, if that is a repartition topic.
    pub fn of(world: &Arc<World>, life: Life, node: NodeId, schema: &SchemaRef) -> Option<Self> {
        let graph = &GRAPHS[world.state().plan.graph];
        let exchange = graph.exchanges().iter().position(|exchange| exchange.source == node)?;
        Some(Self { world: world.clone(), life, exchange, schema: schema.clone() })
    }
}

impl Source for ExchangeSource {
    fn partitions(&self) -> Result<u32> {
        Ok(self.world.state().plan.exchange_partitions)
    }

    fn start(&self, _partition: u32) -> Start {
        Start::Latest
    }

    fn resolve(&self, partition: u32, start: Start) -> Result<i64> {
        let state = self.world.state();
        Ok(match start {
            Start::Offset(offset) => offset,
            Start::Latest => state.exchanges[self.exchange].end(partition),
            Start::Earliest | Start::Time(_) => 0,
        })
    }

    fn end_offset(&self, _partition: u32) -> Result<Option<i64>> {
        Ok(None)
    }

    fn open(&self, partition: u32, offset: i64, _stop: Option<i64>) -> Result<Box<dyn PartitionReader>> {
        let (world, schema) = (self.world.clone(), self.schema.clone());
        let mut state = world.state();
        if offset < state.exchanges[self.exchange].cut[partition as usize] {
            let exchange = self.exchange;
            state.violate(|| format!("repartition topic {exchange}, partition {partition}: offset {offset} is needed and gone"));
        }
        drop(state);
        Ok(Box::new(Reader { world, life: self.life, exchange: self.exchange, schema, partition, offset }))
    }
}

struct Reader {
    world: Arc<World>,
    life: Life,
    exchange: usize,
    schema: SchemaRef,
    partition: u32,
    offset: i64,
}

impl PartitionReader for Reader {
    fn poll(&mut self, limit: Limit, _clock: Micros) -> Result<Poll> {
        let mut state = self.world.state();
        state.ask(self.life, "poll of a repartition topic")?;
        let most = if state.random.chance(500) { limit.rows } else { state.random.place(limit.rows) + 1 };
        let records = &state.exchanges[self.exchange].records[self.partition as usize];
        let from = ((self.offset + STEP - 1) / STEP) as usize;
        let until = ((limit.until.min(i64::MAX - STEP) + STEP - 1) / STEP) as usize;
        let to = records.len().min(until).min(from.saturating_add(most));
        let payloads = BinaryArray::from_iter_values(records.get(from..to).unwrap_or_default());
        let bytes = payloads.value_data().len();
        self.offset = if from < to {
            let behind = if state.random.chance(300) { to as i64 * STEP } else { (to as i64 - 1) * STEP + 1 };
            behind.min(limit.until)
        } else if from >= until && self.offset < limit.until {
            // The end of a range is told also where there is no record before it.
            limit.until
        } else {
            return Ok(Poll::Pending);
        };
        let rows = RecordBatch::try_new(self.schema.clone(), vec![Arc::new(payloads)])?;
        Ok(Poll::Ready(Fetch { rows, bad: Vec::new(), next_offset: self.offset, bytes, newest_record_time: None }))
    }
}
