//! Rows of a Parquet file as the table declares them.

use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{Field, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use riverrun_engine::{Error, Result};

use super::files::open_parquet;
use crate::format::sql_type;

/// Reads the columns that a table names, cast to its types. A column that the file lacks is NULL.
pub(super) struct ParquetRows {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    declared: SchemaRef,
}

impl ParquetRows {
    /// Opens a file behind its first `skip` rows.
    pub fn open(path: &Path, skip: i64, batch_rows: usize, declared: &SchemaRef) -> Result<Self> {
        let builder = open_parquet(path)?;
        for field in builder.schema().fields() {
            match declared.field_with_name(field.name()) {
                Ok(wanted) if !can_cast_types(field.data_type(), wanted.data_type()) => {
                    let (found, wanted) = (sql_type(field.data_type()), sql_type(wanted.data_type()));
                    let what = format!("{}: column {} is {found}, not {wanted}", path.display(), field.name());
                    return Err(Error::permanent(what).hint("declare the column as the file has it"));
                }
                _ => {}
            }
        }
        let file_columns = builder.schema().fields().iter().enumerate();
        let wanted = file_columns.filter(|(_, f)| declared.field_with_name(f.name()).is_ok()).map(|(i, _)| i);
        let columns = ProjectionMask::roots(builder.parquet_schema(), wanted.collect::<Vec<_>>());
        let builder =
            builder.with_projection(columns).with_offset(usize::try_from(skip).unwrap_or(0)).with_batch_size(batch_rows);
        let reader = builder.build().map_err(|e| Error::permanent(format!("{}: {e}", path.display())))?;
        Ok(Self { path: path.to_owned(), reader, declared: declared.clone() })
    }

    /// The next rows: the table's payload columns, which may be NULL whatever the table says.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.reader.next() else { return Ok(None) };
        let place = |e: arrow::error::ArrowError| Error::permanent(format!("{}: {e}", self.path.display()));
        let batch = batch.map_err(place)?;
        let columns = self.declared.fields().iter().map(|field| column(&batch, field).map_err(place));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let nullable = self.declared.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
        let schema = arrow::datatypes::Schema::new(nullable.collect::<Vec<Field>>());
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(schema.into(), columns, &options).map(Some).map_err(place)
    }
}

fn column(batch: &RecordBatch, field: &Field) -> Result<ArrayRef, arrow::error::ArrowError> {
    match batch.column_by_name(field.name()) {
        Some(array) if array.data_type() == field.data_type() => Ok(array.clone()),
        Some(array) => cast_with_options(array, field.data_type(), &CastOptions { safe: false, ..CastOptions::default() }),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    }
}
