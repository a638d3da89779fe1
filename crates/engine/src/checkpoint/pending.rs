//! Outputs in a checkpoint: those up to its epoch that a sink had not made safe when it was written.
//!
//! A part holds the outputs of some epochs, in order, [packed](Packed). Its name is its first and last epoch: of one life, the
//! outputs of an epoch are always the same. Some of them may be safe by now: which, a start asks the sink.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt8Array, UInt32Array, UInt64Array};
use arrow::compute::{concat, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt8Type, UInt64Type};

use crate::Result;
use crate::batch::{Batch, Change};
use crate::sink::EpochOutput;
use crate::time::Micros;

/// What a checkpoint holds for a sink.
#[derive(Debug, Clone)]
pub struct Pending {
    /// The sink's table.
    pub sink: String,
    /// The outputs, in order of epochs.
    pub parts: Vec<PendingPart>,
}

/// Outputs that are stored together.
#[derive(Debug, Clone)]
pub struct PendingPart {
    /// The first epoch that it is of.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// The outputs, in order of epochs; all are of one sink, and some have rows.
    pub outputs: Vec<Outputs>,
}

/// Outputs of neighbouring epochs.
#[derive(Debug, Clone)]
pub enum Outputs {
    /// Of one epoch.
    One(Arc<EpochOutput>),
    /// Of some that have rows.
    Packed(Packed),
}

/// Outputs of some epochs as one batch: the sink's columns, and before them the epoch, its clock, and what the row means. An
/// epoch without rows is not in it. Batches of one epoch and one meaning that stand beside each other are one in it.
#[derive(Debug, Clone)]
pub struct Packed(RecordBatch);

const CHANGES: [Change; 4] = [Change::Insert, Change::Late, Change::Upsert, Change::Delete];
const NAMES: [&str; 3] = ["epoch", "clock", "change"];
const TYPES: [DataType; NAMES.len()] = [DataType::UInt64, DataType::Int64, DataType::UInt8];

impl Packed {
    /// The outputs, of which some have rows, as one.
    ///
    /// # Errors
    /// They are not of the same columns.
    pub fn pack(outputs: &[Outputs]) -> Result<Self> {
        let mut batches = Vec::with_capacity(outputs.len());
        for outputs in outputs {
            match outputs {
                Outputs::Packed(Self(rows)) => batches.push(rows.clone()),
                Outputs::One(output) => {
                    for batch in &output.batches {
                        batches.push(labelled(output, batch)?);
                    }
                }
            }
        }
        let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
        let column = |i| concat(&batches.iter().map(|batch| batch.column(i).as_ref()).collect::<Vec<_>>());
        let columns = (0..schema.fields().len()).map(column).collect::<Result<_, _>>()?;
        Ok(Self(RecordBatch::try_new(schema, columns)?))
    }

    /// The outputs that a part of a checkpoint holds, or why it holds none.
    pub(super) fn read(rows: RecordBatch) -> Result<Self, String> {
        let is_ours = rows.columns().iter().map(|column| column.data_type()).take(NAMES.len()).eq(&TYPES);
        if !is_ours || rows.column(2).as_primitive::<UInt8Type>().values().iter().any(|change| *change as usize >= CHANGES.len())
        {
            return Err("a part does not hold outputs".to_owned());
        }
        Ok(Self(rows))
    }

    /// As it is stored.
    pub(super) fn stored(&self) -> &RecordBatch {
        &self.0
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.0.num_rows()
    }

    /// Bytes in memory, about.
    pub fn bytes(&self) -> usize {
        self.0.get_array_memory_size()
    }

    /// The names and types of the sink's columns.
    pub fn columns(&self) -> Vec<Arc<Field>> {
        self.0.schema_ref().fields().iter().skip(NAMES.len()).cloned().collect()
    }

    /// Some of its rows: whole outputs.
    pub fn part(&self, rows: Range<usize>) -> Self {
        Self(self.0.slice(rows.start, rows.len()))
    }

    /// The batches of the output whose rows these are. They share memory with all others.
    pub fn batches(&self, rows: Range<usize>) -> impl Iterator<Item = Batch> {
        let content = self.content();
        let mut begin = rows.start;
        std::iter::from_fn(move || {
            let changes = self.changes().get(begin..rows.end).filter(|changes| !changes.is_empty())?;
            let count = changes.iter().take_while(|change| **change == changes[0]).count();
            let batch = Batch { rows: content.slice(begin, count), change: CHANGES[changes[0] as usize] };
            begin += count;
            Some(batch)
        })
    }

    /// The outputs, in order, each with memory of its own.
    pub fn outputs(&self, task: u32) -> impl Iterator<Item = Result<EpochOutput>> {
        let mut begin = 0;
        std::iter::from_fn(move || {
            let (epoch, clock) = (*self.epochs().get(begin)?, *self.clocks().get(begin)?);
            let count = self.epochs()[begin..].iter().take_while(|of| **of == epoch).count();
            let batches = self.unpacked(begin..begin + count);
            begin += count;
            Some(batches.map(|batches| EpochOutput { task, epoch, clock, batches }))
        })
    }

    /// The batches of the output whose rows these are, in memory of their own.
    pub fn unpacked(&self, rows: Range<usize>) -> Result<Vec<Batch>> {
        let own = |batch: Batch| {
            let all = UInt32Array::from_iter_values(0..batch.rows.num_rows() as u32);
            Ok(batch.with_rows(take_record_batch(&batch.rows, &all)?))
        };
        self.batches(rows).map(own).collect()
    }

    fn epochs(&self) -> &[u64] {
        self.0.column(0).as_primitive::<UInt64Type>().values()
    }

    fn clocks(&self) -> &[Micros] {
        self.0.column(1).as_primitive::<Int64Type>().values()
    }

    fn changes(&self) -> &[u8] {
        self.0.column(2).as_primitive::<UInt8Type>().values()
    }

    /// The sink's columns.
    fn content(&self) -> RecordBatch {
        let mut rows = self.0.clone();
        NAMES.iter().for_each(|_| drop(rows.remove_column(0)));
        rows
    }
}

/// A batch of an output with its labels.
fn labelled(output: &EpochOutput, batch: &Batch) -> Result<RecordBatch> {
    let rows = batch.rows.num_rows();
    let change = CHANGES.iter().position(|change| *change == batch.change).unwrap_or_default() as u8;
    let labels: [ArrayRef; NAMES.len()] = [
        Arc::new(UInt64Array::from_value(output.epoch, rows)),
        Arc::new(Int64Array::from_value(output.clock, rows)),
        Arc::new(UInt8Array::from_value(change, rows)),
    ];
    let own = NAMES.iter().zip(TYPES).map(|(name, of)| Arc::new(Field::new(*name, of, false)));
    let fields: Vec<_> = own.chain(batch.rows.schema_ref().fields().iter().cloned()).collect();
    let columns = labels.into_iter().chain(batch.rows.columns().iter().cloned()).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

#[cfg(test)]
mod tests {
    use arrow::compute::concat_batches;

    use super::*;
    use crate::checkpoint::tests::rows;

    #[test]
    fn outputs_come_back_by_epoch_and_in_order() {
        let batch = |change, seed, count| Batch { rows: rows(seed, count), change };
        let of = |epoch, batches| EpochOutput { task: 3, epoch, clock: 10 * epoch as i64, batches };
        let outputs = [
            of(5, vec![batch(Change::Delete, 0, 2), batch(Change::Upsert, 1, 4), batch(Change::Upsert, 2, 5)]),
            of(6, vec![batch(Change::Upsert, 3, 9)]),
            of(9, vec![batch(Change::Insert, 4, 1), batch(Change::Late, 5, 2)]),
        ];
        let one = |output: &EpochOutput| Outputs::One(Arc::new(output.clone()));
        let first = Packed::pack(&[one(&outputs[0]), one(&outputs[1])]).unwrap();
        let packed = Packed::pack(&[Outputs::Packed(first), one(&outputs[2])]).unwrap();
        let plain = |outputs: &[EpochOutput]| -> Vec<(u32, u64, i64, Change, RecordBatch)> {
            let each = |o: &EpochOutput| {
                o.batches.iter().map(|b| (o.task, o.epoch, o.clock, b.change, b.rows.clone())).collect::<Vec<_>>()
            };
            outputs.iter().flat_map(each).collect()
        };
        let upserts = concat_batches(&rows(1, 1).schema(), [&rows(1, 4), &rows(2, 5)]).unwrap();
        let joined = of(5, vec![batch(Change::Delete, 0, 2), Batch { rows: upserts, change: Change::Upsert }]);
        let expected = plain(&[joined, outputs[1].clone(), outputs[2].clone()]);
        let back = |packed: &Packed| plain(&packed.outputs(3).collect::<Result<Vec<_>>>().unwrap());
        assert_eq!(back(&Packed::read(packed.stored().clone()).unwrap()), expected, "batches of one meaning may be one");
        assert_eq!(back(&packed.part(11..20)), expected[2..3], "the rows of one");
        assert!(Packed::read(rows(0, 3)).is_err(), "columns of something else");
        let own = packed.outputs(3).next().unwrap().unwrap();
        assert!(own.bytes() < packed.bytes() / 2, "what came out does not hold on to the rest");
    }
}
