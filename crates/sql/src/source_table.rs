//! Any source as a table at rest: what it holds now, from its first record to its last.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use riverrun_engine::source::{Limit, OnBadRecord, PartitionReader, Poll, Source, Start};
use riverrun_engine::time::Micros;

/// Records per batch, and the most raw bytes of one.
const BATCH: Limit = Limit::new(8192, 8 << 20);

/// A source that DataFusion can scan. Each scan reads up to the offsets that are last when it begins.
pub struct SourceTable {
    schema: SchemaRef,
    source: Arc<dyn Source>,
    clock: Micros,
    open: Option<OpenSource>,
}

/// Opens a source anew.
pub type OpenSource = Arc<dyn Fn() -> riverrun_engine::Result<Arc<dyn Source>> + Send + Sync>;

impl SourceTable {
    /// `source`, giving rows of `schema`; `clock` is the value of the metadata column `processing_time`.
    pub fn new(schema: SchemaRef, source: Arc<dyn Source>, clock: Micros) -> Self {
        Self { schema, source, clock, open: None }
    }

    /// The same, opened anew by each scan: for a source that is what there was when it was opened.
    #[must_use]
    pub fn opened_anew(self, open: OpenSource) -> Self {
        Self { open: Some(open), ..self }
    }

    async fn source(&self) -> Result<Arc<dyn Source>> {
        match self.open.clone() {
            None => Ok(self.source.clone()),
            // It reads from disk or from afar.
            Some(open) => {
                let opened = SpawnedTask::spawn_blocking(move || open()).await;
                opened.map_err(|e| DataFusionError::External(Box::new(e)))?.map_err(external)
            }
        }
    }
}

impl std::fmt::Debug for SourceTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceTable").field("schema", &self.schema).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for SourceTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // What is found by key is filtered again: it costs little, and a value may be equal and still lie elsewhere (-0.0).
        let key = self.source.key();
        let finds = |filter: &&Expr| self.equality(filter).is_some_and(|(column, _)| key.contains(&column));
        let support = |found| if found { TableProviderFilterPushDown::Inexact } else { TableProviderFilterPushDown::Unsupported };
        Ok(filters.iter().map(finds).map(support).collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let source = self.source().await?;
        let stream = |part| {
            let (schema, source) = (self.schema.clone(), source.clone());
            Arc::new(Stream { schema, source, part, clock: self.clock }) as Arc<dyn PartitionStream>
        };
        let values = self.key_values(filters)?;
        let streams = if values.is_empty() {
            let partitions = source.partitions().map_err(external)?;
            let part = |number| Ok(Part::Partition(number, source.end_offset(number).map_err(external)?));
            (0..partitions).map(|number| part(number).map(stream)).collect::<Result<Vec<_>>>()?
        } else {
            vec![stream(Part::Key(values))]
        };
        Ok(Arc::new(StreamingTableExec::try_new(self.schema.clone(), streams, projection, [], false, limit)?))
    }
}

impl SourceTable {
    /// What a filter says if it says that a column equals a value: the column and the value, in the column's type.
    fn equality(&self, filter: &Expr) -> Option<(usize, ScalarValue)> {
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = filter else { return None };
        let (column, value) = match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) | (Expr::Literal(value, _), Expr::Column(column)) => (column, value),
            _ => return None,
        };
        let column = self.schema.index_of(column.name()).ok()?;
        let data_type = self.schema.field(column).data_type();
        // Floats that are equal need not have equal bytes.
        (value.data_type() == *data_type && !value.is_null() && !data_type.is_floating()).then(|| (column, value.clone()))
    }

    /// The values that the filters give for the first columns of the source's key.
    fn key_values(&self, filters: &[Expr]) -> Result<Vec<ArrayRef>> {
        let equal: Vec<_> = filters.iter().filter_map(|filter| self.equality(filter)).collect();
        let value = |column: usize| equal.iter().find(|(of, _)| *of == column).map(|(_, value)| value.to_array());
        self.source.key().into_iter().map_while(value).collect()
    }
}

/// What one stream of a scan reads.
#[derive(Debug)]
enum Part {
    /// A partition, up to this offset.
    Partition(u32, Option<i64>),
    /// The rows whose first key columns have these values.
    Key(Vec<ArrayRef>),
}

struct Stream {
    schema: SchemaRef,
    source: Arc<dyn Source>,
    part: Part,
    clock: Micros,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("part", &self.part).finish_non_exhaustive()
    }
}

impl Stream {
    fn open(&self) -> riverrun_engine::Result<Box<dyn PartitionReader>> {
        match &self.part {
            Part::Key(values) => self.source.find(values),
            Part::Partition(number, end) => {
                let start = self.source.resolve(*number, Start::Earliest)?;
                self.source.open(*number, start, *end)
            }
        }
    }
}

impl PartitionStream for Stream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStreamBuilder::new(self.schema.clone(), 2);
        let rows = stream.tx();
        let opened = self.open();
        let (clock, fails) = (self.clock, self.source.bad_records() == OnBadRecord::Fail);
        // A reader decodes where it is polled, and may wait a little: on a thread of its own.
        stream.spawn_blocking(move || {
            let mut reader = opened.map_err(external)?;
            loop {
                match reader.poll(BATCH, clock).map_err(external)? {
                    Poll::End => return Ok(()),
                    Poll::Pending => {}
                    Poll::Ready(fetch) => {
                        if let Some(bad) = fetch.bad.first().filter(|_| fails) {
                            return Err(DataFusionError::Execution(format!("offset {}: {}", bad.offset, bad.detail)));
                        }
                        if rows.blocking_send(Ok(fetch.rows)).is_err() {
                            return Ok(()); // Nobody reads on: a LIMIT was reached.
                        }
                    }
                }
            }
        });
        stream.build()
    }
}

fn external(error: riverrun_engine::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
