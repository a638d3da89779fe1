//! Writes rows by PRIMARY KEY.
//!
//! Invariants: a row is written with its epoch's clock as write timestamp, so that a repeated or belated write changes nothing
//! newer (a delete with the clock, all else with `clock + 1`; of epochs that were merged by key, the last one's); within what is
//! on its way no key of an epoch is there twice; a row is safe when as many nodes have it as the consistency level says, and only
//! then is anything called flushed.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use arrow::datatypes::{FieldRef, SchemaRef};
use riverrun_engine::batch::{Batch, Change};
use riverrun_engine::graph::SinkNode;
use riverrun_engine::runtime::Coalesce;
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result, failpoint};
use scylla::cluster::metadata::ColumnType;
use scylla::statement::prepared::PreparedStatement;

use super::client::Client;
use super::config::Config;
use super::flight::{self, Chunk, Landed};
use super::row::{Column, Values};
use super::{ddl, table};

/// How long one look for what is on its way takes at most.
const WAIT: Duration = Duration::from_millis(20);

/// A table as a sink.
pub(super) struct CassandraSink {
    client: Client,
    place: String,
    concurrency: usize,
    insert: PreparedStatement,
    delete: PreparedStatement,
    /// All columns, in the order of the rows.
    columns: Vec<Column>,
    /// Those of the key.
    key: Vec<Column>,
    coalesce: Coalesce,
    /// To be written, not on its way.
    waiting: Vec<Chunk>,
    on_its_way: Option<Receiver<Landed>>,
    /// Whether the last that landed had failed.
    failing: bool,
}

impl CassandraSink {
    /// Connects; finds the table or creates it; prepares the statements.
    pub fn open(node: &SinkNode) -> Result<Self> {
        let config = Config::of(&node.table)?;
        let place = config.full_name();
        let client = Client::connect(&config)?;
        let types = table::open(&client, &config, &node.schema, &node.key)?;
        let columns = columns(&node.schema, types, &node.key, &config);
        let key: Vec<_> = node.key.iter().map(|i| columns[*i].clone()).collect();
        let names = |columns: &[Column]| columns.iter().map(|c| c.field.name().clone()).collect::<Vec<_>>();
        let full = ddl::full_name(&config.keyspace, &config.table);
        let insert = client.prepare(ddl::insert(&full, &names(&columns), config.ttl), &place)?;
        let delete = client.prepare(ddl::delete(&full, &names(&key)), &place)?;
        let coalesce = Coalesce::new(node.schema.clone(), node.key.clone())?;
        let (concurrency, waiting) = (config.concurrency, Vec::new());
        Ok(Self { client, place, concurrency, insert, delete, columns, key, coalesce, waiting, on_its_way: None, failing: false })
    }

    /// The rows of a batch, to be written at this clock.
    fn chunk(&self, batch: &Batch, clock: Micros) -> Result<Chunk> {
        let (statement, columns, timestamp) = match batch.change {
            Change::Delete => (&self.delete, &self.key, clock),
            Change::Insert | Change::Late | Change::Upsert => (&self.insert, &self.columns, clock + 1),
        };
        let mut statement = statement.clone();
        statement.set_timestamp(Some(timestamp));
        let values = Values::bind(&batch.rows, columns)?;
        let keys = batch.rows.project(&self.key.iter().map(|c| c.index).collect::<Vec<_>>())?;
        Ok(Chunk { statement, values, keys, rows: (0..batch.rows.num_rows() as u32).collect() })
    }
}

/// What is known of the columns, in the order of the rows.
fn columns(schema: &SchemaRef, types: Vec<ColumnType<'static>>, key: &[usize], config: &Config) -> Vec<Column> {
    let column = |(index, (field, typ)): (usize, (&FieldRef, ColumnType<'static>))| {
        let key = key.contains(&index).then_some(config.null_keys);
        Column { index, field: field.clone(), typ, key }
    };
    schema.fields().iter().zip(types).enumerate().map(column).collect()
}

impl Sink for CassandraSink {
    fn is_ready(&self) -> bool {
        self.waiting.is_empty() && self.on_its_way.is_none()
    }

    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        // Rows of a stateful operator are one per key and epoch. Others may repeat a key, and the last of them counts.
        let repeats = output.batches.iter().any(|batch| matches!(batch.change, Change::Insert | Change::Late));
        let newest = if repeats { Some(self.coalesce.newest(&output.batches)?) } else { None };
        for batch in newest.as_deref().unwrap_or(&output.batches) {
            if batch.rows.num_rows() > 0 {
                let chunk = self.chunk(batch, output.clock)?;
                self.waiting.push(chunk);
            }
        }
        Ok(())
    }

    fn flush(&mut self, _: Micros, _: bool) -> Result<Flushed> {
        if self.on_its_way.is_none() && !self.waiting.is_empty() {
            let chunks = std::mem::take(&mut self.waiting);
            let (handle, session) = (self.client.handle(), &self.client.session);
            self.on_its_way = Some(flight::start(handle, session, &self.place, chunks, self.concurrency));
        }
        let Some(told) = &self.on_its_way else { return Ok(Flushed::All) };
        match told.recv_timeout(WAIT) {
            Err(RecvTimeoutError::Timeout) if self.failing => Ok(Flushed::Trying),
            Err(RecvTimeoutError::Timeout) => Ok(Flushed::Pending),
            Err(RecvTimeoutError::Disconnected) => {
                Err(Error::permanent(format!("{}: writing has failed: see the log", self.place)))
            }
            Ok(landed) => {
                self.on_its_way = None;
                self.failing = landed.failure.is_some();
                drop(self.waiting.splice(..0, landed.left));
                failpoint::reach("cassandra.written");
                match landed.failure {
                    Some(error) => Err(error),
                    None if self.waiting.is_empty() => Ok(Flushed::All),
                    None => Ok(Flushed::Pending),
                }
            }
        }
    }
}
