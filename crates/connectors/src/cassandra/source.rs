//! A table as a source at rest: its rows as they are read, in the order of their tokens, then the end. The offset is the
//! row's number.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt as _;
use riverrun_engine::graph::SourceNode;
use riverrun_engine::source::{Fetch, Limit, PartitionReader, Poll, Source, Start};
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};
use scylla::client::session::Session;
use scylla::errors::{NextPageError, NextRowError, PagerExecutionError, RequestError};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::Row;

use super::client::Client;
use super::config::Config;
use super::definition::Definition;
use super::{ddl, failure, table, values};

/// Rows of a page, and of a batch.
const PAGE: usize = 4096;

/// How long one look for rows takes at most.
const WAIT: Duration = Duration::from_millis(5);

/// A table that is read whole.
pub(super) struct CassandraSource {
    client: Client,
    place: String,
    schema: SchemaRef,
    statement: PreparedStatement,
}

impl CassandraSource {
    /// Connects, and looks that the table is there with the columns that the script declares.
    pub fn open(node: &SourceNode) -> Result<Self> {
        let (config, schema) = (Config::of(&node.table)?, node.schema.clone());
        let (client, place) = (Client::connect(&config)?, config.full_name());
        let key = node.table.primary_key.iter().filter_map(|name| schema.index_of(name).ok()).collect::<Vec<_>>();
        if key.len() < node.table.primary_key.len() {
            return Err(Error::invalid(format!("{place}: declare all columns of the PRIMARY KEY")));
        }
        Definition::of(&config, &schema, &key)?.check(&table::existing(&client, &config)?)?;
        let columns: Vec<_> = schema.fields().iter().map(|f| f.name().clone()).collect();
        let full = ddl::full_name(&config.keyspace, &config.table);
        let mut statement = client.prepare(ddl::select(&full, &columns), &place)?;
        statement.set_page_size(PAGE as i32);
        Ok(Self { client, place, schema, statement })
    }
}

impl Source for CassandraSource {
    fn partitions(&self) -> Result<u32> {
        Ok(1)
    }

    fn resolve(&self, _: u32, start: Start) -> Result<i64> {
        match start {
            Start::Offset(offset) => Ok(offset),
            // At rest there is no newest row to start behind: a table is read whole.
            Start::Earliest | Start::Latest | Start::Time(_) => Ok(0),
        }
    }

    fn end_offset(&self, _: u32) -> Result<Option<i64>> {
        Ok(None)
    }

    fn open(&self, _: u32, offset: i64, stop: Option<i64>) -> Result<Box<dyn PartitionReader>> {
        let (tell, told) = sync_channel(2);
        let (session, statement) = (Arc::clone(&self.client.session), self.statement.clone());
        let (schema, place) = (self.schema.clone(), self.place.clone());
        self.client.handle().spawn(async move {
            if let Err(error) = scan(&session, statement, &schema, &place, &tell).await {
                // Nobody reads on where the reader was dropped.
                let _ = hand(&tell, Err(error)).await;
            }
        });
        let rest = RecordBatch::new_empty(self.schema.clone());
        Ok(Box::new(Reader { told, rest, skip: offset, next: 0, stop: stop.unwrap_or(i64::MAX) }))
    }
}

type Sender = SyncSender<Result<RecordBatch>>;

/// Reads page after page. A page that could not be read was asked for again by the client already.
async fn scan(session: &Session, statement: PreparedStatement, schema: &SchemaRef, place: &str, to: &Sender) -> Result<()> {
    let pages = session.execute_iter(statement, ()).await.map_err(|e| match e {
        PagerExecutionError::NextPageError(e) => page_failed(e, place),
        e => Error::permanent(format!("{place}: {e}")),
    })?;
    let rows = pages.rows_stream::<Row>().map_err(|e| Error::permanent(format!("{place}: {e}")))?;
    let mut chunks = std::pin::pin!(rows.map_ok(Some).try_chunks(PAGE));
    loop {
        let rows = match chunks.try_next().await {
            Ok(Some(rows)) => rows,
            Ok(None) => return Ok(()),
            Err(failed) => {
                return Err(match failed.1 {
                    NextRowError::NextPageError(e) => page_failed(e, place),
                    e => Error::permanent(format!("{place}: {e}")),
                });
            }
        };
        if !hand(to, values::batch(schema, rows)).await {
            return Ok(());
        }
    }
}

fn page_failed(error: NextPageError, place: &str) -> Error {
    match error {
        NextPageError::RequestFailure(e) => failure::executing(&RequestError::into_execution_error(e), place),
        e => Error::permanent(format!("{place}: {e}")),
    }
}

/// Hands a batch over; whether somebody takes it.
async fn hand(to: &Sender, batch: Result<RecordBatch>) -> bool {
    let to = to.clone();
    // A full queue blocks: on a thread that may.
    tokio::task::spawn_blocking(move || to.send(batch).is_ok()).await.unwrap_or(false)
}

struct Reader {
    told: Receiver<Result<RecordBatch>>,
    /// Rows that were read and not given yet.
    rest: RecordBatch,
    /// Rows before this one were given in an earlier run.
    skip: i64,
    /// The number of the first row of `rest`.
    next: i64,
    stop: i64,
}

impl PartitionReader for Reader {
    fn poll(&mut self, limit: Limit, _: Micros) -> Result<Poll> {
        loop {
            let held = self.rest.num_rows() as i64;
            let skipped = (self.skip - self.next).clamp(0, held);
            self.rest = self.rest.slice(skipped as usize, (held - skipped) as usize);
            self.next += skipped;
            if self.next >= self.stop {
                return Ok(Poll::End);
            }
            if self.rest.num_rows() > 0 {
                break;
            }
            match self.told.recv_timeout(WAIT) {
                Ok(rows) => self.rest = rows?,
                Err(RecvTimeoutError::Timeout) => return Ok(Poll::Pending),
                Err(RecvTimeoutError::Disconnected) => return Ok(Poll::End),
            }
        }
        let left = usize::try_from(self.stop.min(limit.until) - self.next).unwrap_or(0);
        let taken = limit.rows.max(1).min(self.rest.num_rows()).min(left);
        if taken == 0 {
            return Ok(Poll::Pending);
        }
        let rows = self.rest.slice(0, taken);
        self.rest = self.rest.slice(taken, self.rest.num_rows() - taken);
        self.next += taken as i64;
        let bytes = rows.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum();
        Ok(Poll::Ready(Fetch { rows, bad: Vec::new(), next_offset: self.next, bytes, newest_record_time: None }))
    }
}
