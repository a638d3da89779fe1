//! A topic whose records come over time, and the source that reads it.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, SchemaRef};
use riverrun_engine::source::{BadRecord, Fetch, Limit, OnBadRecord, PartitionReader, Poll, Source, Start};
use riverrun_engine::time::{Clock, Micros};
use riverrun_engine::{Error, Result};

use crate::plan::{BEGIN, Plan, SECOND};
use crate::random::Random;
use crate::world::{Fate, Life, World};

/// A record.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its place: numbers grow, with gaps.
    pub offset: i64,
    /// When it can be read.
    pub arrives: Micros,
    /// Event time.
    pub time: Micros,
    /// Key.
    pub key: i64,
    /// Value; `None`: the record cannot be decoded.
    pub value: Option<i64>,
}

/// The records of a topic.
#[derive(Debug, Clone)]
pub struct Topic {
    /// By partition, in order.
    pub partitions: Vec<Vec<Entry>>,
    /// From then on no more comes, and readers say so. `None`: they only say that there is nothing now.
    pub ends: Option<Micros>,
    /// By partition: the position that was told last.
    pub committed: Vec<Option<i64>>,
}

impl Topic {
    /// The topic of a plan.
    pub fn of(plan: &Plan, random: &mut Random) -> Self {
        let mut partitions = vec![Vec::new(); plan.partitions as usize];
        let mut next: Vec<i64> = partitions.iter().map(|_| random.within(0..3) * 100).collect();
        let mut arrivals: Vec<Micros> = (0..plan.records).map(|_| BEGIN + random.within(0..plan.lasts)).collect();
        arrivals.sort_unstable();
        // Some partitions have nothing for long: they are idle.
        let quiet = random.place(partitions.len());
        let spread = random.one_of(&[SECOND / 10, 3 * SECOND, 12 * SECOND]);
        for arrives in arrivals {
            let mut partition = random.place(partitions.len());
            if partition == quiet && random.chance(900) {
                partition = 0;
            }
            let gap = if random.chance(150) { random.within(1..5) } else { 0 };
            let offset = next[partition] + gap;
            next[partition] = offset + 1;
            // Keys find partitions, as the script says.
            let key = partition as i64 + plan.partitions as i64 * random.within(0..3);
            let value = (!random.chance(40)).then(|| random.within(-5..30));
            partitions[partition].push(Entry { offset, arrives, time: arrives - random.within(0..spread), key, value });
        }
        let ends = plan.ends.then_some(BEGIN + plan.lasts + SECOND);
        Self { committed: vec![None; partitions.len()], partitions, ends }
    }
}

/// Reads the world's topic.
pub struct SimSource {
    /// Where it is.
    pub world: Arc<World>,
    /// Whose it is.
    pub life: Life,
    /// The columns that are asked for.
    pub schema: SchemaRef,
}

impl Source for SimSource {
    fn partitions(&self) -> Result<u32> {
        Ok(self.world.state().plan.partitions)
    }

    fn resolve(&self, partition: u32, start: Start) -> Result<i64> {
        let state = self.world.state();
        let entries = &state.topic.partitions[partition as usize];
        Ok(match start {
            Start::Offset(offset) => offset,
            Start::Latest => entries.last().map_or(0, |entry| entry.offset + 1),
            Start::Earliest | Start::Time(_) => entries.first().map_or(0, |entry| entry.offset),
        })
    }

    fn end_offset(&self, _partition: u32) -> Result<Option<i64>> {
        Ok(None)
    }

    fn open(&self, partition: u32, offset: i64, _stop: Option<i64>) -> Result<Box<dyn PartitionReader>> {
        let (world, schema) = (self.world.clone(), self.schema.clone());
        Ok(Box::new(Reader { world, life: self.life, schema, partition, offset }))
    }

    fn committed(&self, partition: u32) -> Result<Option<i64>> {
        Ok(self.world.state().topic.committed[partition as usize])
    }

    fn commit(&self, positions: &[(u32, i64)]) -> Result<()> {
        let mut state = self.world.state();
        let fate = state.enter(self.life, "commit of positions")?;
        if fate != Fate::Refused {
            for (partition, offset) in positions {
                state.check_position(*partition, *offset);
                state.topic.committed[*partition as usize] = Some(*offset);
            }
        }
        state.leave(self.life, "commit of positions", fate)
    }

    fn bad_records(&self) -> OnBadRecord {
        OnBadRecord::DeadLetter
    }
}

struct Reader {
    world: Arc<World>,
    life: Life,
    schema: SchemaRef,
    partition: u32,
    offset: i64,
}

impl PartitionReader for Reader {
    fn poll(&mut self, limit: Limit, clock: Micros) -> Result<Poll> {
        let mut state = self.world.state();
        state.ask(self.life, "poll")?;
        self.world.clock.advance(std::time::Duration::from_micros(state.random.within(0..3_000) as u64));
        let now = self.world.clock.now();
        let most = if state.random.chance(500) { limit.rows } else { state.random.place(limit.rows) + 1 };
        let entries = &state.topic.partitions[self.partition as usize];
        let from = entries.partition_point(|entry| entry.offset < self.offset);
        let there = |entry: &&Entry| entry.arrives <= now && entry.offset < limit.until;
        let given: Vec<Entry> = entries[from..].iter().take_while(there).take(most).cloned().collect();
        let behind = entries.get(from + given.len()).map(|entry| entry.offset);
        let Some(last) = given.last() else {
            // The position may move over a gap without a record.
            let over = behind.unwrap_or(self.offset).min(limit.until);
            if over > self.offset && state.random.chance(200) {
                self.offset = over;
                return Ok(Poll::Ready(fetch(&self.schema, self.partition, &[], over, clock)?));
            }
            let over = behind.is_none() && state.topic.ends.is_some_and(|end| now >= end);
            return Ok(if over { Poll::End } else { Poll::Pending });
        };
        self.offset = last.offset + 1;
        if let Some(behind) = behind.filter(|_| state.random.chance(300)) {
            self.offset = behind.min(limit.until);
        }
        Ok(Poll::Ready(fetch(&self.schema, self.partition, &given, self.offset, clock)?))
    }
}

fn fetch(schema: &SchemaRef, partition: u32, entries: &[Entry], next_offset: i64, clock: Micros) -> Result<Fetch> {
    let good: Vec<(&Entry, i64)> = entries.iter().filter_map(|entry| Some((entry, entry.value?))).collect();
    let time = |times: Vec<Micros>, to: &DataType| -> Result<ArrayRef> {
        Ok(arrow::compute::cast(&TimestampMicrosecondArray::from(times), to)?)
    };
    let column = |field: &arrow::datatypes::FieldRef| -> Result<ArrayRef> {
        let of = |value: fn(&(&Entry, i64)) -> i64| good.iter().map(value).collect::<Vec<i64>>();
        Ok(match field.name().as_str() {
            "k" => Arc::new(StringArray::from_iter_values(good.iter().map(|(entry, _)| format!("k{}", entry.key)))),
            "v" => Arc::new(Int64Array::from(of(|(_, value)| *value))),
            "off" => Arc::new(Int64Array::from(of(|(entry, _)| entry.offset))),
            "part" => Arc::new(Int32Array::from(vec![partition as i32; good.len()])),
            "ts" => time(of(|(entry, _)| entry.time), field.data_type())?,
            "read_at" => time(vec![clock; good.len()], field.data_type())?,
            other => return Err(Error::permanent(format!("the simulated topic has no column {other}"))),
        })
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    let bad = entries.iter().filter(|entry| entry.value.is_none()).map(|entry| BadRecord {
        reason: "malformed",
        detail: "planned".into(),
        offset: entry.offset,
        timestamp: Some(entry.time),
        key: None,
        payload: bytes::Bytes::from_static(b"?"),
        tombstone: false,
        headers: Vec::new(),
    });
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(good.len()));
    let rows = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
    Ok(Fetch { rows, bad: bad.collect(), next_offset, bytes: 20 * entries.len(), newest_record_time: None })
}
