//! Rows on their way: many requests at once, up to a bound.
//!
//! Lanes take one row after the other from all that is to be written, each with one request at a time. Whatever fails is
//! known by row, and only that is written again: so a cluster that answers some requests and not others is still got through.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::FieldRef;
use arrow::util::display::array_value_to_string;
use riverrun_engine::Error;
use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;
use tokio::runtime::Handle;

use super::failure;
use super::row::Values;

/// Rows of one batch that are written by one statement, with one write timestamp.
pub(super) struct Chunk {
    /// Carries the write timestamp.
    pub statement: PreparedStatement,
    pub values: Values,
    /// The columns of the key, for messages.
    pub keys: RecordBatch,
    /// The rows that are left to write.
    pub rows: Vec<u32>,
}

/// What came of a flight.
pub(super) struct Landed {
    /// What is not written.
    pub left: Vec<Chunk>,
    /// Why: an error that will not pass, if there is one.
    pub failure: Option<Error>,
}

struct Flight {
    session: Arc<Session>,
    place: String,
    chunks: Vec<Chunk>,
    /// How many rows there are up to the end of each chunk.
    ends: Vec<usize>,
    next: AtomicUsize,
    halted: AtomicBool,
    failed: Mutex<Failed>,
}

#[derive(Default)]
struct Failed {
    rows: Vec<(usize, u32)>,
    error: Option<Error>,
}

/// Begins to write; the outcome comes when no request is on its way any more.
pub(super) fn start(
    handle: &Handle,
    session: &Arc<Session>,
    place: &str,
    chunks: Vec<Chunk>,
    concurrency: usize,
) -> mpsc::Receiver<Landed> {
    let mut total = 0;
    let ends = chunks.iter().map(|chunk| {
        total += chunk.rows.len();
        total
    });
    let ends = ends.collect();
    let flight = Arc::new(Flight {
        session: Arc::clone(session),
        place: place.to_owned(),
        chunks,
        ends,
        next: AtomicUsize::new(0),
        halted: AtomicBool::new(false),
        failed: Mutex::default(),
    });
    let lanes: Vec<_> = (0..concurrency.min(total)).map(|_| handle.spawn(lane(Arc::clone(&flight)))).collect();
    let (tell, told) = mpsc::channel();
    handle.spawn(async move {
        for lane in lanes {
            // A lane that panicked drops the sender below: the sink is told that way.
            if lane.await.is_err() {
                return;
            }
        }
        if let Some(flight) = Arc::into_inner(flight) {
            // Nobody waits where the pipeline has ended meanwhile.
            let _ = tell.send(flight.land());
        }
    });
    told
}

async fn lane(flight: Arc<Flight>) {
    while !flight.halted.load(Ordering::Relaxed) {
        let Some((chunk, row)) = flight.take() else { return };
        let of = &flight.chunks[chunk];
        if let Err(error) = flight.session.execute_unpaged(&of.statement, of.values.row(row as usize)).await {
            flight.fail(chunk, row, failure::executing(&error, &flight.place));
        }
    }
}

impl Flight {
    /// The next row to write: its chunk, and its number there.
    fn take(&self) -> Option<(usize, u32)> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let chunk = self.ends.partition_point(|end| *end <= next);
        let rows = &self.chunks.get(chunk)?.rows;
        Some((chunk, rows[rows.len() - (self.ends[chunk] - next)]))
    }

    fn fail(&self, chunk: usize, row: u32, error: Error) {
        self.halted.store(true, Ordering::Relaxed);
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.rows.push((chunk, row));
        let worse = failed.error.as_ref().is_none_or(|first| first.is_transient() && !error.is_transient());
        if worse {
            failed.error = Some(if error.is_transient() { error } else { error.within(self.chunks[chunk].key(row)) });
        }
    }

    /// What is left once no lane goes on.
    fn land(mut self) -> Landed {
        while let Some((chunk, row)) = self.take() {
            self.failed.get_mut().unwrap_or_else(PoisonError::into_inner).rows.push((chunk, row));
        }
        let Failed { rows, error } = self.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.chunks.iter_mut().for_each(|chunk| chunk.rows.clear());
        for (chunk, row) in rows {
            self.chunks[chunk].rows.push(row);
        }
        self.chunks.retain(|chunk| !chunk.rows.is_empty());
        Landed { left: self.chunks, failure: error }
    }
}

impl Chunk {
    /// Which row it is: `(user_id = u1, window_start = …)`.
    fn key(&self, row: u32) -> String {
        let schema = self.keys.schema();
        let columns = schema.fields().iter().zip(self.keys.columns());
        let value = |(field, column): (&FieldRef, &ArrayRef)| {
            let value = array_value_to_string(column, row as usize).unwrap_or_default();
            format!("{} = {value}", field.name())
        };
        format!("row ({})", columns.map(value).collect::<Vec<_>>().join(", "))
    }
}
