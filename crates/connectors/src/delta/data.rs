//! A data file of a table, as record batches in the columns that are asked for.
//!
//! A file on local disk is read as it is; of one in an object store only the columns asked for are fetched, row group by row
//! group, so that its size does not matter.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, UInt32Array, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use bytes::Bytes;
use deltalake_core::kernel::Add;
use deltalake_core::{DeltaTableError, ObjectStore};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryFutureExt as _};
use object_store::path::Path;
use object_store::{Error as StoreError, GetResult, GetResultPayload, ObjectStoreExt as _};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_reader::{ArrowReaderBuilder, ArrowReaderOptions, ParquetRecordBatchReader};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use riverrun_engine::{Error, Result};

use super::io::{Io, failed};

/// Rows of a batch, at most.
pub(super) const BATCH: usize = 8192;
/// What is fetched of a file's end at once: the footer of most.
const FOOTER: usize = 64 << 10;

/// No value is lost in a cast: it fails.
pub(super) const STRICT: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

/// A data file, as the log says it.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// Its path in the table.
    pub path: Path,
    /// Bytes.
    pub size: u64,
    /// How many rows it has; `None`: the log does not say.
    pub rows: Option<u64>,
    /// The values of the partition columns, as text (`None`: NULL).
    pub partition: HashMap<String, Option<String>>,
}

impl File {
    /// The file of an entry of the log.
    pub fn of(add: &Add) -> Self {
        let path = Path::parse(&add.path).unwrap_or_else(|_| Path::from(add.path.as_str()));
        let statistics = add.stats.as_deref().and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        let rows = statistics.and_then(|statistics| statistics["numRecords"].as_u64());
        Self { path, size: u64::try_from(add.size).unwrap_or(0), rows, partition: add.partition_values.clone() }
    }
}

/// Where the data files of a table are.
#[derive(Clone)]
pub(super) struct Storage {
    /// The table's path, for messages.
    pub path: String,
    pub store: Arc<dyn ObjectStore>,
    pub io: Arc<Io>,
}

impl Storage {
    /// How many rows a file has, by its footer.
    pub fn rows(&self, file: &File) -> Result<u64> {
        let mut object = Object { storage: self.clone(), file: file.clone() };
        let metadata = self.io.run(object.get_metadata(None)).map_err(|e| self.unreadable(file, e.into()))?;
        Ok(u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0))
    }

    /// Opens a file behind its first `skip` rows; the batches have these columns (of any order, by name).
    pub fn open(&self, file: &File, columns: &SchemaRef, skip: u64) -> Result<FileReader> {
        let stored = |name: &str| columns.index_of(name).is_ok() && !file.partition.contains_key(name);
        let rows = self.io.run(self.rows_of(file, &stored, skip)).map_err(|e| self.unreadable(file, e))?;
        let constant = |field: &FieldRef| {
            let value = file.partition.get(field.name());
            value.map(|text| partition_value(text.clone(), field.data_type())).transpose()
        };
        let constants = columns.fields().iter().map(constant).collect::<Result<_>>().map_err(|e| e.within(&file.path))?;
        Ok(FileReader { storage: self.clone(), file: file.clone(), rows, columns: Arc::clone(columns), constants })
    }

    async fn rows_of(&self, file: &File, stored: &(dyn Fn(&str) -> bool + Sync), skip: u64) -> Result<Rows, DeltaTableError> {
        // The path of a local file costs no request; that of another one no more than to know that it is there.
        if let Some(local) = self.local(file).await? {
            let builder = ParquetRecordBatchReaderBuilder::try_new(local)?;
            return Ok(Rows::Local(project(builder, stored, skip).build()?));
        }
        let object = Object { storage: self.clone(), file: file.clone() };
        let builder = ParquetRecordBatchStreamBuilder::new(object).await?;
        Ok(Rows::Remote(Box::new(project(builder, stored, skip).build()?)))
    }

    async fn local(&self, file: &File) -> Result<Option<std::fs::File>, DeltaTableError> {
        if self.path.contains("://") && !self.path.starts_with("file://") {
            return Ok(None);
        }
        Ok(match self.store.get(&file.path).await? {
            GetResult { payload: GetResultPayload::File(local, _), .. } => Some(local),
            _ => None,
        })
    }

    fn unreadable(&self, file: &File, error: DeltaTableError) -> Error {
        match self.io.run(self.store.head(&file.path)) {
            Err(StoreError::NotFound { .. }) => {
                let text = format!("the Delta table at {} has lost its file {}", self.path, file.path);
                Error::permanent(text)
                    .hint("vacuum took it: keep files longer than readers may need, by delta.deletedFileRetentionDuration")
            }
            _ => failed("read", &self.path, error).within(&file.path),
        }
    }
}

/// Reads one data file.
pub(super) struct FileReader {
    storage: Storage,
    file: File,
    rows: Rows,
    columns: SchemaRef,
    /// The value of each partition column, an array of one row.
    constants: Vec<Option<ArrayRef>>,
}

enum Rows {
    Local(ParquetRecordBatchReader),
    Remote(Box<ParquetRecordBatchStream<Object>>),
}

impl FileReader {
    /// The next rows, in the columns asked for; `None` at the end.
    pub fn next(&mut self) -> Result<Option<RecordBatch>> {
        let next = match &mut self.rows {
            Rows::Local(rows) => rows.next().transpose().map_err(ParquetError::from),
            Rows::Remote(rows) => self.storage.io.run(rows.next()).transpose(),
        };
        let Some(stored) = next.map_err(|e| self.storage.unreadable(&self.file, e.into()))? else { return Ok(None) };
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

/// The value of a partition column, from the text of the log: an array of one row. An empty text is NULL for every type
/// (PROTOCOL.md, "Partition Value Serialization").
fn partition_value(text: Option<String>, data_type: &DataType) -> Result<ArrayRef> {
    let text = text.filter(|text| !text.is_empty());
    Ok(cast_with_options(&StringArray::from(vec![text]), data_type, &STRICT)?)
}

fn project<T>(builder: ArrowReaderBuilder<T>, stored: &dyn Fn(&str) -> bool, skip: u64) -> ArrowReaderBuilder<T> {
    let fields = builder.schema().fields().iter().enumerate();
    let roots: Vec<_> = fields.filter(|(_, f)| stored(f.name())).map(|(i, _)| i).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    builder.with_projection(mask).with_batch_size(BATCH).with_offset(usize::try_from(skip).unwrap_or(usize::MAX))
}

/// A file in an object store, to read parts of.
struct Object {
    storage: Storage,
    file: File,
}

impl AsyncFileReader for Object {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.storage.store.get_range(&self.file.path, range).map_err(|e| ParquetError::External(Box::new(e))).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move {
            let read = self.storage.store.get_ranges(&self.file.path, &ranges).await;
            read.map_err(|e| ParquetError::External(Box::new(e)))
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let size = self.file.size;
            let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options).with_prefetch_hint(Some(FOOTER));
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}
