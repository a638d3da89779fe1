//! The newest row per key of a sequence of changes: what an upsert sink needs of many epochs.

use std::collections::HashSet;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow_row::{RowConverter, SortField};

use crate::Result;
use crate::batch::{Batch, Change};

/// Finds the newest row per key.
pub struct Coalesce {
    schema: SchemaRef,
    key: Vec<usize>,
    converter: RowConverter,
}

impl Coalesce {
    /// For rows of `schema` whose `key` columns identify them.
    pub fn new(schema: SchemaRef, key: Vec<usize>) -> Result<Self> {
        let fields = key.iter().map(|i| SortField::new(schema.field(*i).data_type().clone())).collect();
        Ok(Self { converter: RowConverter::new(fields)?, schema, key })
    }

    /// The newest version of each key, in the order in which those came: deletes, then upserts. No key is in both.
    pub fn newest(&self, batches: &[Batch]) -> Result<Vec<Batch>> {
        let rows = concat_batches(&self.schema, batches.iter().map(|b| &b.rows))?;
        let keys: Vec<_> = self.key.iter().map(|i| rows.column(*i).clone()).collect();
        let keys = self.converter.convert_columns(&keys)?;
        let mut seen = HashSet::with_capacity(rows.num_rows());
        let (mut upserts, mut deletes) = (Vec::new(), Vec::new());
        let mut row = rows.num_rows();
        for batch in batches.iter().rev() {
            let kept = if batch.change == Change::Delete { &mut deletes } else { &mut upserts };
            for _ in 0..batch.rows.num_rows() {
                row -= 1;
                if seen.insert(keys.row(row)) {
                    kept.push(row as u32);
                }
            }
        }
        let mut newest = Vec::with_capacity(2);
        for (mut kept, change) in [(deletes, Change::Delete), (upserts, Change::Upsert)] {
            if !kept.is_empty() {
                kept.reverse();
                newest.push(Batch { rows: take(&rows, kept)?, change });
            }
        }
        Ok(newest)
    }
}

fn take(rows: &RecordBatch, indices: Vec<u32>) -> Result<RecordBatch> {
    if indices.len() == rows.num_rows() {
        return Ok(rows.clone());
    }
    Ok(take_record_batch(rows, &UInt32Array::from(indices))?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn batch(change: Change, rows: &[(&str, i64)]) -> Batch {
        let schema = Schema::new(vec![Field::new("k", DataType::Utf8, false), Field::new("v", DataType::Int64, false)]);
        let keys = StringArray::from_iter_values(rows.iter().map(|r| r.0));
        let values = Int64Array::from_iter_values(rows.iter().map(|r| r.1));
        Batch { rows: RecordBatch::try_new(Arc::new(schema), vec![Arc::new(keys), Arc::new(values)]).unwrap(), change }
    }

    #[test]
    fn the_newest_version_of_each_key_is_kept_and_a_delete_is_a_version() {
        let changes = [
            batch(Change::Upsert, &[("a", 1), ("b", 1), ("a", 2)]),
            batch(Change::Delete, &[("b", 1), ("a", 2)]),
            batch(Change::Upsert, &[("a", 3), ("c", 1)]),
        ];
        let coalesce = Coalesce::new(changes[0].rows.schema(), vec![0]).unwrap();
        let newest = coalesce.newest(&changes).unwrap();
        assert_eq!(newest.iter().map(|b| b.change).collect::<Vec<_>>(), [Change::Delete, Change::Upsert]);
        assert_eq!(newest[0].rows, batch(Change::Delete, &[("b", 1)]).rows);
        assert_eq!(newest[1].rows, batch(Change::Upsert, &[("a", 3), ("c", 1)]).rows);
    }
}
