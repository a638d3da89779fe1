//! Outputs in a checkpoint: those up to its epoch that a sink had not made safe when it was written.
//!
//! A part holds the outputs of some epochs, in order, as one batch: the sink's columns, and before them the epoch, its clock,
//! and what the row means. Its name is its first and last epoch: of one life, the outputs of an epoch are always the same. Some
//! of them may be safe by now: which, a start asks the sink.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt8Array, UInt64Array};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Schema};

use crate::batch::{Batch, Change};
use crate::sink::EpochOutput;
use crate::{Error, Result};

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
    /// The outputs, in order of epochs.
    pub outputs: Vec<Arc<EpochOutput>>,
}

const CHANGES: [Change; 4] = [Change::Insert, Change::Late, Change::Upsert, Change::Delete];
const NAMES: [&str; 3] = ["epoch", "clock", "change"];

/// The rows of a part; all outputs are of one sink, and some have rows.
pub(super) fn encode(outputs: &[Arc<EpochOutput>]) -> Result<RecordBatch> {
    let all = || outputs.iter().flat_map(|output| output.batches.iter().map(move |batch| (output, batch)));
    let repeated = |(output, batch): (&Arc<EpochOutput>, &Batch)| {
        let change = CHANGES.iter().position(|change| *change == batch.change).unwrap_or_default() as u8;
        std::iter::repeat_n((output.epoch, output.clock, change), batch.rows.num_rows())
    };
    let rows: Vec<(u64, i64, u8)> = all().flat_map(repeated).collect();
    let schema = all().next().map(|(_, batch)| batch.rows.schema()).ok_or_else(|| Error::permanent("outputs without rows"))?;
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|(epoch, ..)| *epoch))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, clock, _)| *clock))),
        Arc::new(UInt8Array::from_iter_values(rows.iter().map(|(.., change)| *change))),
    ];
    for column in 0..schema.fields().len() {
        let of_column: Vec<_> = all().map(|(_, batch)| batch.rows.column(column).as_ref()).collect();
        columns.push(concat(&of_column)?);
    }
    let own = columns.iter().zip(NAMES).map(|(column, name)| Arc::new(Field::new(name, column.data_type().clone(), false)));
    let fields: Vec<_> = own.chain(schema.fields().iter().cloned()).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// The outputs of a part's rows, or why there are none.
pub(super) fn decode(rows: &RecordBatch, task: u32) -> Result<Vec<Arc<EpochOutput>>, String> {
    let foreign = || "a part does not hold outputs".to_owned();
    let number = |i: usize, of: &DataType| rows.columns().get(i).filter(|column| column.data_type() == of).ok_or_else(foreign);
    let epochs = number(0, &DataType::UInt64)?.as_any().downcast_ref::<UInt64Array>().ok_or_else(foreign)?;
    let clocks = number(1, &DataType::Int64)?.as_any().downcast_ref::<Int64Array>().ok_or_else(foreign)?;
    let changes = number(2, &DataType::UInt8)?.as_any().downcast_ref::<UInt8Array>().ok_or_else(foreign)?;
    let columns: Vec<usize> = (NAMES.len()..rows.num_columns()).collect();
    let content = rows.project(&columns).map_err(|e| e.to_string())?;
    let mut outputs: Vec<EpochOutput> = Vec::new();
    let mut begin = 0;
    while begin < rows.num_rows() {
        let (epoch, clock, change) = (epochs.value(begin), clocks.value(begin), changes.value(begin));
        let same = |row: &usize| (epochs.value(*row), changes.value(*row)) == (epoch, change);
        let end = (begin..rows.num_rows()).take_while(same).last().map_or(begin, |row| row + 1);
        let change = *CHANGES.get(change as usize).ok_or_else(foreign)?;
        let batch = Batch { rows: content.slice(begin, end - begin), change };
        match outputs.last_mut().filter(|output| output.epoch == epoch) {
            Some(output) => output.batches.push(batch),
            None => outputs.push(EpochOutput { task, epoch, clock, batches: vec![batch] }),
        }
        begin = end;
    }
    Ok(outputs.into_iter().map(Arc::new).collect())
}

#[cfg(test)]
mod tests {
    use arrow::compute::concat_batches;

    use super::*;
    use crate::checkpoint::tests::rows;

    #[test]
    fn outputs_come_back_by_epoch_and_in_order() {
        let batch = |change, seed, count| Batch { rows: rows(seed, count), change };
        let of = |epoch, batches| Arc::new(EpochOutput { task: 3, epoch, clock: 10 * epoch as i64, batches });
        let outputs = [
            of(5, vec![batch(Change::Delete, 0, 2), batch(Change::Upsert, 1, 4), batch(Change::Upsert, 2, 5)]),
            of(6, vec![batch(Change::Upsert, 3, 9)]),
            of(9, vec![batch(Change::Insert, 4, 1), batch(Change::Late, 5, 2)]),
        ];
        let back = decode(&encode(&outputs).unwrap(), 3).unwrap();
        let plain = |outputs: &[Arc<EpochOutput>]| -> Vec<(u32, u64, i64, Change, RecordBatch)> {
            let each = |o: &Arc<EpochOutput>| {
                o.batches.iter().map(|b| (o.task, o.epoch, o.clock, b.change, b.rows.clone())).collect::<Vec<_>>()
            };
            outputs.iter().flat_map(each).collect()
        };
        let upserts = concat_batches(&rows(1, 1).schema(), [&rows(1, 4), &rows(2, 5)]).unwrap();
        let joined = of(5, vec![batch(Change::Delete, 0, 2), Batch { rows: upserts, change: Change::Upsert }]);
        let expected = [joined, outputs[1].clone(), outputs[2].clone()];
        assert_eq!(plain(&back), plain(&expected), "batches of one meaning may be one");
        assert!(decode(&rows(0, 3), 3).is_err(), "columns of something else");
    }
}
