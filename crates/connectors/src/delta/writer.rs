//! Rows to Parquet files, kept in memory until their commit.
//!
//! The client library's writer splits rows by partition values, encodes them (snappy) and gathers the statistics. It
//! forgets everything it holds when storage fails. Therefore it writes to a table in memory, of the same columns: what
//! comes out are finished files, which are put to storage as often as it takes. At most `roll_size` encoded bytes are
//! open, about, and as many wait.
//!
//! One open file per tuple of partition values, rows of all tasks together: with 10 tasks and one date, a file per task
//! would be ten small files a roll. All their positions are in the one commit, so that it is all or nothing for all of them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::cast_with_options;
use arrow::datatypes::{FieldRef, SchemaRef};
use bytes::Bytes;
use deltalake_core::kernel::Add;
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::writer::{DeltaWriter as _, RecordBatchWriter};
use deltalake_core::{DeltaResult, DeltaTable, ObjectStoreError};
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use riverrun_engine::{Error, Result};

use super::data::STRICT;
use crate::format::sql_type;

/// A finished data file.
pub(super) struct DataFile {
    /// What the table's log will say of it: path, size, partition values, statistics.
    pub add: Add,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Encodes rows for one table.
pub(super) struct Writer {
    staging: DeltaTable,
    encoder: RecordBatchWriter,
    schema: SchemaRef,
    /// For each column of the table, its place in the rows that arrive; `None`: they do not have it.
    places: Vec<Option<usize>>,
    rows: usize,
}

impl Writer {
    /// A writer for a table, for rows of schema `rows`, which fits the table's (see [`super::types::difference`]).
    pub async fn open(table: &DeltaTable, rows: &SchemaRef) -> DeltaResult<Self> {
        let metadata = table.snapshot()?.metadata();
        let statistics = metadata.configuration().iter().filter(|(name, _)| name.starts_with("delta.dataSkipping"));
        let staging = CreateBuilder::new()
            .with_log_store(DeltaTable::new_in_memory().log_store())
            .with_columns(metadata.parse_schema()?.fields().cloned())
            .with_partition_columns(metadata.partition_columns().iter().cloned())
            .with_configuration(statistics.map(|(name, value)| (name.clone(), Some(value.clone()))))
            .await?;
        let encoder = RecordBatchWriter::for_table(&staging)?;
        let schema = encoder.arrow_schema();
        let places = schema.fields().iter().map(|f| rows.index_of(f.name()).ok()).collect();
        Ok(Self { staging, encoder, schema, places, rows: 0 })
    }

    /// Takes rows.
    pub async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let fitted = self.fit(rows)?;
        self.encoder.write(fitted).await.map_err(|e| Error::permanent(format!("cannot encode rows as Parquet: {e}")))?;
        self.rows += rows.num_rows();
        Ok(())
    }

    /// Rows taken since the last [`finish`](Writer::finish).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Their size as encoded so far, about.
    pub fn bytes(&self) -> usize {
        self.encoder.buffer_len()
    }

    /// Ends all open files and gives them; the next row opens new ones.
    pub async fn finish(&mut self) -> DeltaResult<Vec<DataFile>> {
        let adds = self.encoder.flush().await?;
        let store = self.staging.object_store();
        let mut files = Vec::with_capacity(adds.len());
        for add in adds {
            let path = Path::parse(&add.path).map_err(ObjectStoreError::from)?;
            let bytes = store.get(&path).await?.bytes().await?;
            store.delete(&path).await?;
            files.push(DataFile { add, bytes });
        }
        self.rows = 0;
        Ok(files)
    }

    /// The rows with the table's columns in the table's order. Types differ at most in what is the same to a Delta table, such
    /// as the names of nested fields, or whether a number has a sign: a value that it cannot hold is an error.
    fn fit(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let column = |(field, place): (&FieldRef, &Option<usize>)| -> Result<ArrayRef> {
            let Some(place) = place else { return Ok(new_null_array(field.data_type(), rows.num_rows())) };
            let column = rows.column(*place);
            if column.data_type() == field.data_type() {
                return Ok(Arc::clone(column));
            }
            cast_with_options(column, field.data_type(), &STRICT).map_err(|e| {
                let text = format!("column {}: the Delta table has {}: {e}", field.name(), sql_type(field.data_type()));
                Error::permanent(text).hint("CAST it in the query")
            })
        };
        let columns = self.schema.fields().iter().zip(&self.places).map(column).collect::<Result<Vec<_>>>()?;
        // A NULL in a NOT NULL column is found here, and named.
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}
