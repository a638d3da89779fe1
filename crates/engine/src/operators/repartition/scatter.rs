//! Cuts the rows of an epoch into records by key.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, Int32Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_row::{RowConverter, SortField};
use datafusion_common::cast::as_int64_array;
use datafusion_physical_expr::PhysicalExpr;
use twox_hash::XxHash3_64;

use super::record::{Codec, Head, record_schema};
use crate::batch::{Batch, Change, Port};
use crate::operator::{Operator, OperatorSpec, Output, Seat, StatePart};
use crate::operators::sql_text;
use crate::state::Backend;
use crate::state::unshared::unshared;
use crate::time::{MAX_TIME, MIN_TIME, Micros};
use crate::{Error, Result};

/// The watermark is told to partitions that get no rows at most this often, of the epochs' clock.
const TELL_INTERVAL: Micros = 100_000;

/// Rows of a record at most.
const MOST_ROWS: usize = 4096;

/// A record of several rows that is larger is cut in two: brokers and clients take 1 MB by default. How often depends on the rows
/// alone, so an epoch that is run again gives as many records.
const MOST_BYTES: usize = 512 << 10;

/// Plan of what gives rows to a repartition topic.
#[derive(Debug, Clone)]
pub struct Scatter {
    codec: Codec,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    fields: Vec<SortField>,
}

impl Scatter {
    /// Rows of this schema, by these keys; without keys all go to one partition.
    ///
    /// # Errors
    /// A key's type cannot be one.
    pub fn new(schema: SchemaRef, keys: Vec<Arc<dyn PhysicalExpr>>) -> Result<Self> {
        let field = |key: &Arc<dyn PhysicalExpr>| Ok(SortField::new(key.data_type(&schema)?));
        let fields = keys.iter().map(field).collect::<Result<_>>()?;
        RowConverter::new(Vec::clone(&fields))?;
        Ok(Self { codec: Codec::new(schema)?, keys, fields })
    }
}

impl OperatorSpec for Scatter {
    fn name(&self) -> &'static str {
        "scatter"
    }

    fn schema(&self) -> SchemaRef {
        record_schema()
    }

    fn describe(&self) -> Vec<String> {
        let keys: Vec<_> = self.keys.iter().map(|key| sql_text(key.as_ref())).collect();
        let columns: Vec<_> = self.codec.schema().fields().iter().map(|field| field.name().as_str()).collect();
        let by = if keys.is_empty() { "all rows to one partition".to_owned() } else { format!("by {}", keys.join(", ")) };
        vec![by, format!("columns {}", columns.join(", "))]
    }

    fn create(&self, _ports: &[Port], _backend: &Backend) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Scattering {
            codec: self.codec.clone(),
            keys: self.keys.clone(),
            converter: RowConverter::new(self.fields.clone())?,
            seat: Seat::default(),
            waiting: Vec::new(),
            clock: MIN_TIME,
            watermark: MIN_TIME,
            told: None,
        }))
    }
}

/// The operator of one task.
struct Scattering {
    codec: Codec,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    converter: RowConverter,
    seat: Seat,
    /// Rows of this epoch.
    waiting: Vec<RecordBatch>,
    clock: Micros,
    watermark: Micros,
    /// The watermark that was last told to all partitions, and when; `None`: this task was not heard yet.
    told: Option<(Micros, Micros)>,
}

impl Scattering {
    fn head(&self, watermark: Micros) -> Head {
        Head { number: self.seat.number, of: self.seat.of, watermark }
    }

    /// The rows of the epoch in the order of their partitions, and where each partition's begin.
    fn sorted(&mut self) -> Result<(RecordBatch, Vec<usize>)> {
        let rows = match &self.waiting[..] {
            [one] => one.clone(),
            several => concat_batches(self.codec.schema(), several)?,
        };
        self.waiting.clear();
        let count = rows.num_rows();
        let keys = self.keys.iter().map(|key| Ok(key.evaluate(&rows)?.into_array(count)?)).collect::<Result<Vec<_>>>()?;
        let of_rows = self.partitions_of(&keys, count)?;
        let mut begins = vec![0; self.seat.partitions as usize + 1];
        for partition in &of_rows {
            begins[*partition as usize + 1] += 1;
        }
        (1..begins.len()).for_each(|i| begins[i] += begins[i - 1]);
        let (mut next, mut order) = (begins.clone(), vec![0; count]);
        for (row, partition) in (0..).zip(&of_rows) {
            let place = &mut next[*partition as usize];
            order[*place] = row;
            *place += 1;
        }
        let sorted = take_record_batch(&rows, &UInt32Array::from(order))?;
        // Views would take the buffers that they point into along, into every record.
        let columns = sorted.columns().iter().map(unshared).collect::<Result<_>>()?;
        Ok((RecordBatch::try_new(sorted.schema(), columns)?, begins))
    }

    /// The partition of each row. What it is must never change: state lies where its key's rows go.
    fn partitions_of(&self, keys: &[ArrayRef], count: usize) -> Result<Vec<u32>> {
        if keys.is_empty() {
            return Ok(vec![0; count]);
        }
        let keys = self.converter.convert_columns(keys)?;
        let partition = |key: &[u8]| (XxHash3_64::oneshot(key) % u64::from(self.seat.partitions)) as u32;
        Ok(keys.iter().map(|key| partition(key.as_ref())).collect())
    }
}

/// Records that are being made.
#[derive(Default)]
struct Records {
    partitions: Vec<i32>,
    payloads: Vec<Vec<u8>>,
}

impl Records {
    fn push(&mut self, partition: usize, payload: Vec<u8>) {
        self.partitions.push(partition as i32);
        self.payloads.push(payload);
    }

    /// The rows of a partition: the last record has the watermark.
    fn rows(&mut self, codec: &Codec, partition: usize, rows: &RecordBatch, (before, head): (Head, Head)) -> Result<()> {
        let payload = codec.encode(head, Some(rows))?;
        if payload.len() <= MOST_BYTES || rows.num_rows() < 2 {
            self.push(partition, payload);
            return Ok(());
        }
        let half = rows.num_rows() / 2;
        self.rows(codec, partition, &rows.slice(0, half), (before, before))?;
        self.rows(codec, partition, &rows.slice(half, rows.num_rows() - half), (before, head))
    }

    fn give(self, out: &mut Output) -> Result<()> {
        let payloads = BinaryArray::from_iter_values(&self.payloads);
        let columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(self.partitions)), Arc::new(payloads)];
        out.append(RecordBatch::try_new(record_schema(), columns)?);
        Ok(())
    }
}

impl Operator for Scattering {
    fn begin(&mut self, seat: Seat) -> Result<()> {
        if seat.partitions == 0 {
            return Err(Error::permanent("a repartition topic without partitions"));
        }
        self.seat = seat;
        Ok(())
    }

    fn on_batch(&mut self, _input: usize, batch: Batch, out: &mut Output) -> Result<()> {
        match batch.change {
            Change::Insert => self.waiting.push(batch.rows),
            Change::Late => out.count_late(batch.rows.num_rows()),
            Change::Upsert | Change::Delete => return Err(Error::permanent("changing rows came to a repartition topic")),
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Micros, _out: &mut Output) -> Result<()> {
        self.watermark = watermark;
        Ok(())
    }

    fn due(&self) -> Option<Micros> {
        match self.told {
            None => Some(MIN_TIME),
            Some((watermark, _)) if watermark == self.watermark => None,
            // The end waits for nothing.
            Some(_) if self.watermark == MAX_TIME => Some(MIN_TIME),
            Some((watermark, at)) => (watermark < self.watermark).then(|| at.saturating_add(TELL_INTERVAL)),
        }
    }

    fn on_clock(&mut self, clock: Micros) {
        self.clock = clock;
    }

    fn on_epoch_end(&mut self, out: &mut Output) -> Result<()> {
        let tells = self.due().is_some_and(|due| self.clock >= due);
        let (before, head) = (self.head(MIN_TIME), self.head(self.watermark));
        let mut records = Records::default();
        let mut begins = vec![0; self.seat.partitions as usize + 1];
        if !self.waiting.is_empty() {
            let sorted;
            (sorted, begins) = self.sorted()?;
            for (partition, bounds) in begins.windows(2).enumerate() {
                for from in (bounds[0]..bounds[1]).step_by(MOST_ROWS) {
                    let to = bounds[1].min(from + MOST_ROWS);
                    let last = if to == bounds[1] { head } else { before };
                    records.rows(&self.codec, partition, &sorted.slice(from, to - from), (before, last))?;
                }
            }
        }
        if tells {
            let silent = begins.windows(2).enumerate().filter(|(_, bounds)| bounds[0] == bounds[1]);
            for (partition, _) in silent {
                records.push(partition, self.codec.encode(head, None)?);
            }
            self.told = Some((self.watermark, self.clock));
        }
        if records.payloads.is_empty() { Ok(()) } else { records.give(out) }
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        let (told, at) = self.told.unzip();
        let columns: [(&str, Option<Micros>); 3] = [("watermark", Some(self.watermark)), ("told", told), ("told_at", at)];
        let fields = columns.iter().map(|(name, _)| Field::new(*name, DataType::Int64, true)).collect::<Vec<_>>();
        let arrays = columns.iter().map(|(_, value)| Arc::new(Int64Array::from(vec![*value])) as ArrayRef).collect();
        Ok(vec![StatePart::whole(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)])
    }

    fn restore(&mut self, state: Vec<StatePart>) -> Result<()> {
        let wrong = || Error::permanent("the state of a repartition is not as it was written");
        let [part] = &state[..] else { return Err(wrong()) };
        let rows = part.rows.load()?;
        let value = |i: usize| -> Result<Option<Micros>> {
            let column = as_int64_array(rows.columns().get(i).ok_or_else(wrong)?)?;
            Ok(if column.is_empty() { return Err(wrong()) } else { column.is_valid(0).then(|| column.value(0)) })
        };
        self.watermark = value(0)?.unwrap_or(MIN_TIME);
        self.told = value(1)?.zip(value(2)?);
        Ok(())
    }
}
