//! The rows of one version of a table, file by file, as record batches.
//!
//! Order: files by (modification time, path), rows as they stand in the file. In a table that is only appended to, new files
//! come last, so that the ordinal of a row stays what it was. Rewriting a table (OPTIMIZE, DELETE) gives other ordinals.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, UInt32Array, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, SchemaRef};
use deltalake_core::kernel::transaction::PROTOCOL;
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::{DeltaTable, DeltaTableError, ObjectStore};
use object_store::path::Path;
use object_store::{GetResult, GetResultPayload, ObjectStoreExt as _};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::reader::ChunkReader;
use riverrun_engine::{Error, Result};

use super::io::{Io, failed};
use super::table::{arrow_schema, load};

/// Rows of a batch, at most.
pub(super) const BATCH: usize = 8192;

/// A data file of a version.
#[derive(Debug)]
pub(super) struct File {
    path: Path,
    /// How many rows it has.
    pub rows: u64,
    /// The values of the partition columns, as text (`None`: NULL).
    partition: HashMap<String, Option<String>>,
}

/// One version of a table.
pub(super) struct Snapshot {
    path: String,
    /// All columns.
    pub schema: SchemaRef,
    /// In order.
    pub files: Vec<File>,
    partition_by: Vec<String>,
    store: Arc<dyn ObjectStore>,
    io: Io,
}

impl Snapshot {
    /// The newest version.
    pub fn newest(log: LogStoreRef, path: &str) -> Result<Self> {
        let io = Io::new()?;
        let Some(table) = io.run(load(log, path))? else {
            return Err(Error::invalid(format!("there is no Delta table at {path}")).hint("check the path"));
        };
        let listed = io.run(list(&table)).map_err(|e| failed("read", path, e))?;
        let (schema, partition_by, files) = listed;
        Ok(Self { path: path.to_owned(), schema, files, partition_by, store: table.object_store(), io })
    }

    /// Rows of all files.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|f| f.rows).sum()
    }

    /// Opens a file behind its first `skip` rows; the batches have these columns (of any order, by name).
    pub fn open(&self, file: &File, columns: &SchemaRef, skip: u64) -> Result<FileReader> {
        let unreadable = |e: DeltaTableError| failed("read", &self.path, e);
        let object = self.io.run(self.store.get(&file.path)).map_err(|e| unreadable(e.into()))?;
        let stored = |name: &str| columns.index_of(name).is_ok() && !self.partition_by.iter().any(|p| p == name);
        let reader = match object {
            GetResult { payload: GetResultPayload::File(local, _), .. } => parquet(local, stored, skip),
            remote => parquet(self.io.run(remote.bytes()).map_err(|e| unreadable(e.into()))?, stored, skip),
        };
        let reader = reader.map_err(|e| unreadable(e).within(&file.path))?;
        let constant = |field: &arrow::datatypes::FieldRef| {
            let is_partition = self.partition_by.contains(field.name());
            is_partition
                .then(|| partition_value(file.partition.get(field.name()).cloned().flatten(), field.data_type()))
                .transpose()
        };
        let constants = columns.fields().iter().map(constant).collect::<Result<_>>().map_err(|e| e.within(&file.path))?;
        Ok(FileReader { reader, columns: Arc::clone(columns), constants })
    }
}

/// Reads one data file.
pub(super) struct FileReader {
    reader: ParquetRecordBatchReader,
    columns: SchemaRef,
    /// The value of each partition column, an array of one row.
    constants: Vec<Option<ArrayRef>>,
}

impl FileReader {
    /// The next rows, in the columns asked for; `None` at the end.
    pub fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(stored) = self.reader.next().transpose()? else { return Ok(None) };
        let count = stored.num_rows();
        let mut arrays = Vec::with_capacity(self.constants.len());
        for (field, constant) in self.columns.fields().iter().zip(&self.constants) {
            arrays.push(match (constant, stored.column_by_name(field.name())) {
                (Some(one), _) => take(one, &UInt32Array::from_value(0, count), None)?,
                (None, Some(column)) if column.data_type() == field.data_type() => Arc::clone(column),
                (None, Some(column)) => cast_with_options(column, field.data_type(), &STRICT)?,
                // A column that was added to the table after this file.
                (None, None) => new_null_array(field.data_type(), count),
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.columns), arrays, &options)?))
    }
}

const STRICT: CastOptions<'static> = CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

/// The value of a partition column, from the text of the log: an array of one row. An empty text is NULL for every type
/// (PROTOCOL.md, "Partition Value Serialization").
fn partition_value(text: Option<String>, data_type: &DataType) -> Result<ArrayRef> {
    let text = text.filter(|text| !text.is_empty());
    Ok(cast_with_options(&StringArray::from(vec![text]), data_type, &STRICT)?)
}

type Listed = (SchemaRef, Vec<String>, Vec<File>);

async fn list(table: &DeltaTable) -> Result<Listed, DeltaTableError> {
    let snapshot = table.snapshot()?;
    PROTOCOL.can_read_from(snapshot.snapshot())?;
    let mut files = Vec::new();
    for view in snapshot.log_data().iter() {
        if view.deletion_vector_descriptor().is_some() {
            return Err(DeltaTableError::Generic("it has deletion vectors, which Riverrun does not read".to_owned()));
        }
        let path = view.object_store_path();
        let rows = match view.num_records() {
            Some(rows) => rows as u64,
            None => footer_rows(&table.object_store(), &path).await?,
        };
        files.push((view.modification_time(), File { path, rows, partition: view.partition_values_map() }));
    }
    files.sort_by(|(at, a), (bt, b)| (at, &a.path).cmp(&(bt, &b.path)));
    let partition_by = snapshot.metadata().partition_columns().to_vec();
    Ok((Arc::new(arrow_schema(table)?), partition_by, files.into_iter().map(|(_, file)| file).collect()))
}

/// How many rows a file has whose statistics the log does not hold.
async fn footer_rows(store: &Arc<dyn ObjectStore>, path: &Path) -> Result<u64, DeltaTableError> {
    let bytes = store.get(path).await?.bytes().await?;
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes)?;
    Ok(u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0))
}

fn parquet<T: ChunkReader + 'static>(
    input: T,
    wanted: impl Fn(&str) -> bool,
    skip: u64,
) -> Result<ParquetRecordBatchReader, DeltaTableError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(input)?;
    let fields = builder.schema().fields().iter().enumerate();
    let roots: Vec<_> = fields.filter(|(_, f)| wanted(f.name())).map(|(i, _)| i).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    Ok(builder.with_projection(mask).with_batch_size(BATCH).with_offset(skip as usize).build()?)
}
