//! Rows that wait for the watermark, whole, and leave in the order of event time.
//!
//! Invariants: rows leave once, in the order (event time, arrival). They wait in buckets of time, so a move of the watermark
//! looks at those that leave and at one bucket. A batch is let go when its last row has left. Batches are parts of a
//! checkpoint, each as it is: which of its rows still wait, its watermark tells. Those that came side by side since the last
//! snapshot become one.

use std::collections::{BTreeMap, VecDeque};
use std::mem::size_of;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::SchemaRef;

use crate::Result;
use crate::operator::StateSize;
use crate::state::live::Live;
use crate::state::parts::{self, Snapshot};
use crate::state::unshared::unshared;
use crate::time::Micros;

/// Buckets are 2^16 microseconds long, about 66 ms.
const BUCKET_BITS: u32 = 16;

/// Batches are not joined beyond so many rows.
const MAX_ROWS: usize = 64 * 1024;

/// A row that waits. Ordered by time, then arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    /// Event time.
    pub(super) time: Micros,
    /// How many rows arrived before it.
    arrival: u64,
}

#[derive(Debug)]
struct Arrived {
    /// Given by the first snapshot that holds it.
    number: Option<u64>,
    /// Arrival of its first row.
    from: u64,
    rows: RecordBatch,
    waiting: usize,
}

/// The rows that wait.
#[derive(Debug)]
pub(super) struct Waiting {
    schema: SchemaRef,
    batches: VecDeque<Arrived>,
    buckets: BTreeMap<i64, Vec<Row>>,
    arrived: u64,
    size: StateSize,
}

impl Waiting {
    /// None yet.
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema, batches: VecDeque::new(), buckets: BTreeMap::new(), arrived: 0, size: StateSize::default() }
    }

    /// Takes rows with their event times.
    pub(super) fn push(&mut self, rows: RecordBatch, times: &[Micros]) {
        if times.is_empty() {
            return;
        }
        let mut arrival = self.arrived;
        for run in times.chunk_by(|a, b| bucket(*a) == bucket(*b)) {
            let waiting = self.buckets.entry(bucket(run[0])).or_default();
            waiting.extend(run.iter().zip(arrival..).map(|(time, arrival)| Row { time: *time, arrival }));
            arrival += run.len() as u64;
        }
        self.size.rows += times.len() as u64;
        self.size.bytes += bytes(&rows);
        self.batches.push_back(Arrived { number: None, from: self.arrived, rows, waiting: times.len() });
        self.arrived = arrival;
    }

    /// Takes out the rows before `watermark`, in order. Their columns are there until [`take`](Waiting::take).
    pub(super) fn ripe(&mut self, watermark: Micros) -> Vec<Row> {
        let mut ripe = Vec::new();
        while let Some(mut first) = self.buckets.first_entry() {
            if *first.key() > bucket(watermark) {
                break;
            }
            let start = ripe.len();
            let is_last = *first.key() == bucket(watermark);
            if is_last {
                ripe.extend(first.get_mut().extract_if(.., |row| row.time < watermark));
            } else {
                ripe.extend_from_slice(first.get());
            }
            if !is_last || first.get().is_empty() {
                first.remove();
            }
            // Stable since it is fast on what is nearly sorted, as rows that arrive are.
            ripe[start..].sort();
            if is_last {
                break;
            }
        }
        ripe
    }

    /// Gives the columns of rows that [`ripe`](Waiting::ripe) took out, and lets them go.
    pub(super) fn take(&mut self, ripe: &[Row]) -> Result<RecordBatch> {
        let rows = self.gather(ripe)?;
        for row in ripe {
            let at = self.batch_of(*row);
            let batch = &mut self.batches[at];
            batch.waiting -= 1;
            self.size.rows -= 1;
            if batch.waiting == 0 {
                self.size.bytes -= bytes(&batch.rows);
                batch.rows = RecordBatch::new_empty(self.schema.clone());
            }
        }
        while self.batches.front().is_some_and(|b| b.waiting == 0) {
            self.batches.pop_front();
        }
        Ok(rows)
    }

    fn gather(&self, rows: &[Row]) -> Result<RecordBatch> {
        let mut number = vec![0; self.batches.len()];
        let mut used = Vec::new();
        let places = rows.iter().map(|row| {
            let at = self.batch_of(*row);
            if number[at] == 0 {
                used.push(&self.batches[at].rows);
                number[at] = used.len();
            }
            (number[at] - 1, (row.arrival - self.batches[at].from) as usize)
        });
        let places: Vec<_> = places.collect();
        if used.is_empty() {
            return Ok(RecordBatch::new_empty(self.schema.clone()));
        }
        Ok(interleave_record_batch(&used, &places)?)
    }

    fn batch_of(&self, row: Row) -> usize {
        self.batches.partition_point(|b| b.from <= row.arrival) - 1
    }

    /// What is held.
    pub(super) fn size(&self) -> StateSize {
        StateSize { bytes: self.size.bytes + self.size.rows * size_of::<Row>() as u64, ..self.size }
    }

    /// Adds a section to a snapshot, in the order of arrival.
    pub(super) fn save(&mut self, snapshot: &mut Snapshot<'_>) -> Result<()> {
        self.join()?;
        snapshot.section();
        for batch in self.batches.iter_mut().filter(|batch| batch.waiting > 0) {
            snapshot.part(&mut batch.number, batch.rows.clone(), &Live::all(batch.rows.num_rows()));
        }
        Ok(())
    }

    /// Makes one of batches that no snapshot has had and that stand side by side.
    fn join(&mut self) -> Result<()> {
        let known = self.batches.iter().rposition(|batch| batch.number.is_some()).map_or(0, |last| last + 1);
        let (mut run, mut rows) = (Vec::new(), 0);
        for batch in self.batches.split_off(known) {
            if batch.waiting == 0 || rows + batch.rows.num_rows() > MAX_ROWS {
                self.close(&mut run)?;
                rows = 0;
            }
            if batch.waiting > 0 {
                rows += batch.rows.num_rows();
                run.push(batch);
            }
        }
        self.close(&mut run)
    }

    fn close(&mut self, run: &mut Vec<Arrived>) -> Result<()> {
        let Some(from) = run.first().map(|batch| batch.from) else { return Ok(()) };
        let rows = match &run[..] {
            [batch] => batch.rows.clone(),
            _ => concat_batches(&self.schema, run.iter().map(|b| &b.rows))?,
        };
        // A file would hold all of a buffer that the rows need a part of.
        let columns = rows.columns().iter().map(unshared).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        self.size.bytes = self.size.bytes + bytes(&rows) - run.iter().map(|b| bytes(&b.rows)).sum::<u64>();
        let waiting = run.iter().map(|b| b.waiting).sum();
        self.batches.push_back(Arrived { number: None, from, rows, waiting });
        run.clear();
        Ok(())
    }

    /// Takes up the next part of what [`save`](Waiting::save) gave: the rows at `watermark` or behind it wait.
    ///
    /// # Errors
    /// Rows of another schema.
    pub(super) fn restore(&mut self, (number, rows): (u64, RecordBatch), times: &[Micros], watermark: Micros) -> Result<()> {
        parts::expect(&rows, &self.schema)?;
        let mut waiting = 0;
        for (arrival, time) in (self.arrived..).zip(times).filter(|(_, time)| **time >= watermark) {
            self.buckets.entry(bucket(*time)).or_default().push(Row { time: *time, arrival });
            waiting += 1;
        }
        self.size.rows += waiting as u64;
        self.size.bytes += bytes(&rows);
        self.batches.push_back(Arrived { number: Some(number), from: self.arrived, rows, waiting });
        self.arrived += times.len() as u64;
        Ok(())
    }
}

fn bucket(time: Micros) -> i64 {
    time >> BUCKET_BITS
}

fn bytes(rows: &RecordBatch) -> u64 {
    rows.get_array_memory_size() as u64
}
