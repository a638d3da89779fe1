//! Any source as a table at rest: what it holds now, from its first record to its last.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
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
}

impl SourceTable {
    /// `source`, giving rows of `schema`; `clock` is the value of the metadata column `processing_time`.
    pub fn new(schema: SchemaRef, source: Arc<dyn Source>, clock: Micros) -> Self {
        Self { schema, source, clock }
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

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = self.source.partitions().map_err(external)?;
        let partition = |number| {
            let end = self.source.end_offset(number).map_err(external)?;
            let (schema, source) = (self.schema.clone(), self.source.clone());
            Ok(Arc::new(Partition { schema, source, number, end, clock: self.clock }) as Arc<dyn PartitionStream>)
        };
        let streams = (0..partitions).map(partition).collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(StreamingTableExec::try_new(self.schema.clone(), streams, projection, [], false, limit)?))
    }
}

struct Partition {
    schema: SchemaRef,
    source: Arc<dyn Source>,
    number: u32,
    end: Option<i64>,
    clock: Micros,
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partition").field("number", &self.number).field("end", &self.end).finish_non_exhaustive()
    }
}

impl Partition {
    fn open(&self) -> riverrun_engine::Result<Box<dyn PartitionReader>> {
        let start = self.source.resolve(self.number, Start::Earliest)?;
        self.source.open(self.number, start, self.end)
    }
}

impl PartitionStream for Partition {
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
