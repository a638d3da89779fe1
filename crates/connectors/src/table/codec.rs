//! Rows as keys and values of the store.
//!
//! Key = the PRIMARY KEY's columns, value = all others, both in arrow's row encoding: keys sort as their columns do.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow_row::{RowConverter, Rows, SortField};
use riverrun_engine::{Error, Result};

/// Encodes and decodes the rows of one table.
pub(super) struct RowCodec {
    schema: SchemaRef,
    key_columns: Vec<usize>,
    value_columns: Vec<usize>,
    keys: RowConverter,
    values: RowConverter,
}

impl RowCodec {
    /// A codec for rows of `schema` whose key is `key` (column indices).
    pub(super) fn new(schema: &SchemaRef, key: &[usize]) -> Result<Self> {
        let value_columns: Vec<_> = (0..schema.fields().len()).filter(|c| !key.contains(c)).collect();
        let converter = |columns: &[usize]| {
            let fields: Vec<_> = columns.iter().map(|c| SortField::new(schema.field(*c).data_type().clone())).collect();
            RowConverter::new(fields).map_err(|e| Error::invalid(format!("these columns cannot be kept in a table: {e}")))
        };
        let (keys, values) = (converter(key)?, converter(&value_columns)?);
        Ok(Self { schema: schema.clone(), key_columns: key.to_vec(), value_columns, keys, values })
    }

    /// The keys of the rows.
    pub(super) fn keys(&self, rows: &RecordBatch) -> Result<Rows> {
        Ok(self.keys.convert_columns(&self.columns(rows, &self.key_columns))?)
    }

    /// What the keys of all rows begin with whose first key columns have these values, each an array of one value.
    pub(super) fn prefix(&self, values: &[ArrayRef]) -> Result<Vec<u8>> {
        let field = |value: &ArrayRef| SortField::new(value.data_type().clone());
        let prefix = RowConverter::new(values.iter().map(field).collect())?.convert_columns(values)?;
        Ok(prefix.row(0).data().to_vec())
    }

    /// The values of the rows; `None` where every column is part of the key: the value is empty.
    pub(super) fn values(&self, rows: &RecordBatch) -> Result<Option<Rows>> {
        match self.value_columns.is_empty() {
            true => Ok(None),
            false => Ok(Some(self.values.convert_columns(&self.columns(rows, &self.value_columns))?)),
        }
    }

    fn columns(&self, rows: &RecordBatch, columns: &[usize]) -> Vec<ArrayRef> {
        columns.iter().map(|c| rows.column(*c).clone()).collect()
    }

    /// The rows that these entries of the store hold.
    pub(super) fn decode(&self, entries: &[fjall::KvPair]) -> Result<RecordBatch> {
        let parse = |converter: &RowConverter, bytes: &mut dyn Iterator<Item = &[u8]>| {
            let parser = converter.parser();
            converter.convert_rows(bytes.map(|b| parser.parse(b)).collect::<Vec<_>>())
        };
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.schema.fields().len()];
        let keys = parse(&self.keys, &mut entries.iter().map(|(key, _)| key.as_ref()))?;
        self.key_columns.iter().zip(keys).for_each(|(c, array)| columns[*c] = Some(array));
        if !self.value_columns.is_empty() {
            let values = parse(&self.values, &mut entries.iter().map(|(_, value)| value.as_ref()))?;
            self.value_columns.iter().zip(values).for_each(|(c, array)| columns[*c] = Some(array));
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns.into_iter().flatten().collect())?)
    }
}
