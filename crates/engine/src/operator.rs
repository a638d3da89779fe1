//! The contract of an operator: what turns batches into batches within one task.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::Result;
use crate::batch::{Batch, Change, Port};
use crate::state::Backend;
use crate::time::{MIN_TIME, Micros};

/// What an operator gives while it works: batches by port, in order. The task hands them on.
#[derive(Debug, Default)]
pub struct Output {
    batches: Vec<(Port, Batch)>,
    late: u64,
}

impl Output {
    /// Gives `batch` to the edges of `port`. Empty batches are dropped here.
    pub fn push(&mut self, port: Port, batch: Batch) {
        if batch.rows.num_rows() > 0 {
            self.batches.push((port, batch));
        }
    }

    /// Gives final rows.
    pub fn append(&mut self, rows: RecordBatch) {
        self.push(Port::Rows, Batch::insert(rows));
    }

    /// Gives changed rows.
    pub fn upsert(&mut self, rows: RecordBatch) {
        self.push(Port::Update, Batch { rows, change: Change::Upsert });
    }

    /// Takes changed rows back.
    pub fn delete(&mut self, rows: RecordBatch) {
        self.push(Port::Update, Batch { rows, change: Change::Delete });
    }

    /// Counts rows that came too late for this operator and were dropped by it.
    pub fn count_late(&mut self, rows: usize) {
        self.late += rows as u64;
    }

    /// Takes all that was given, and the count of late rows.
    pub fn take(&mut self) -> (Vec<(Port, Batch)>, u64) {
        (std::mem::take(&mut self.batches), std::mem::take(&mut self.late))
    }
}

/// What an operator holds right now.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct StateSize {
    /// Rows (groups, kept rows) in the state.
    pub rows: u64,
    /// Bytes in memory, about.
    pub bytes: u64,
    /// Bytes on disk, about: [`Backend::Disk`].
    pub disk: u64,
}

impl std::ops::Add for StateSize {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, bytes: self.bytes + other.bytes, disk: self.disk + other.disk }
    }
}

impl std::ops::Sub for StateSize {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { rows: self.rows - other.rows, bytes: self.bytes - other.bytes, disk: self.disk - other.disk }
    }
}

/// A part of an operator's state, for a checkpoint: some rows, in a schema of the operator's own.
#[derive(Debug, Clone, PartialEq)]
pub struct StatePart {
    /// Parts of one number, of one operator in one task, hold the same rows for ever, over restarts too: what is kept of them
    /// already need not be written again. `None`: written with every checkpoint.
    pub number: Option<u64>,
    /// The rows. Cheap to clone.
    pub rows: PartRows,
}

impl StatePart {
    /// Rows that are written with every checkpoint.
    pub fn whole(rows: RecordBatch) -> Self {
        Self { number: None, rows: rows.into() }
    }
}

/// The rows of a part: here, or where they are read from when they are needed, so that a state need not be in memory as a
/// whole to be named, written and read.
#[derive(Debug, Clone)]
pub enum PartRows {
    /// In memory.
    Here(RecordBatch),
    /// Elsewhere.
    Stored(Arc<dyn StoredRows>),
}

/// Rows that can be read for as long as this is held, from any thread, always the same.
pub trait StoredRows: fmt::Debug + Send + Sync {
    /// Reads them.
    ///
    /// # Errors
    /// What they lie in is broken.
    fn load(&self) -> Result<RecordBatch>;
}

impl PartRows {
    /// The rows, in memory.
    ///
    /// # Errors
    /// What they lie in is broken.
    pub fn load(&self) -> Result<RecordBatch> {
        match self {
            Self::Here(rows) => Ok(rows.clone()),
            Self::Stored(stored) => stored.load(),
        }
    }
}

impl From<RecordBatch> for PartRows {
    fn from(rows: RecordBatch) -> Self {
        Self::Here(rows)
    }
}

/// They are the same if both can be read, and the rows are.
impl PartialEq for PartRows {
    fn eq(&self, other: &Self) -> bool {
        matches!((self.load(), other.load()), (Ok(a), Ok(b)) if a == b)
    }
}

/// The window that an operator is in: of those that hold the newest event time, the one that has been open for longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentWindow {
    /// Its start; [`MIN_TIME`](crate::time::MIN_TIME) where groups have no window.
    pub start: Micros,
    /// Its end, exclusive; [`MAX_TIME`](crate::time::MAX_TIME) where groups have no window.
    pub end: Micros,
    /// Groups in it: distinct values of the keys.
    pub groups: u64,
}

/// Which of its stage's tasks an operator is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seat {
    /// The task's number among those of its stage, from 0.
    pub number: u32,
    /// How many these are.
    pub of: u32,
    /// How many partitions the repartition topic has that the operator gives to; 0 where it gives to none.
    pub partitions: u32,
}

/// One operator of one task. Single-threaded; its result depends on its inputs, their order and the epoch's bounds alone.
///
/// Per chunk of input the task calls [`on_batch`](Operator::on_batch) for each batch, then
/// [`on_watermark`](Operator::on_watermark) if the watermark moved; at the end of each epoch
/// [`on_epoch_end`](Operator::on_epoch_end). The end of a bounded input is the watermark [`crate::time::MAX_TIME`].
pub trait Operator: Send {
    /// Told once, before anything else.
    fn begin(&mut self, seat: Seat) -> Result<()> {
        let _ = seat;
        Ok(())
    }

    /// Takes a batch that arrived at input number `input` (0 but for operators with several inputs).
    fn on_batch(&mut self, input: usize, batch: Batch, out: &mut Output) -> Result<()>;

    /// The watermark moved to `watermark`, the minimum over the inputs: no further [`Change::Insert`] row of this task is older.
    fn on_watermark(&mut self, watermark: Micros, out: &mut Output) -> Result<()> {
        let _ = (watermark, out);
        Ok(())
    }

    /// The watermark of what this operator gives, where that of its inputs is `inputs`: the same, unless it knows better.
    fn watermark(&self, inputs: Micros) -> Micros {
        inputs
    }

    /// The greatest watermark that another task told this operator.
    fn greatest_told(&self) -> Micros {
        MIN_TIME
    }

    /// When it has something to give although nothing comes, if it has: an epoch then ends at this clock or later.
    fn due(&self) -> Option<Micros> {
        None
    }

    /// The clock of the epoch that ends now. Told before [`on_epoch_end`](Operator::on_epoch_end).
    fn on_clock(&mut self, clock: Micros) {
        let _ = clock;
    }

    /// The epoch ends: rows that it changed go out on [`Port::Update`].
    fn on_epoch_end(&mut self, out: &mut Output) -> Result<()> {
        let _ = out;
        Ok(())
    }

    /// What the operator holds. Called once an epoch: must not walk the state.
    fn state_size(&self) -> StateSize {
        StateSize::default()
    }

    /// The window that it is in, for operators that keep groups by window. Called once an epoch: must not walk the state.
    fn current_window(&self) -> Option<CurrentWindow> {
        None
    }

    /// The whole state, for a checkpoint; the operator goes on as if it had not been asked. Stateless operators have none.
    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        Ok(Vec::new())
    }

    /// Takes up a state that [`snapshot`](Operator::snapshot) gave: the same parts, in the same order. Called before any batch.
    fn restore(&mut self, state: Vec<StatePart>) -> Result<()> {
        if state.is_empty() {
            return Ok(());
        }
        Err(crate::Error::permanent("a stateless operator was given state to restore"))
    }
}

/// The plan of an operator: makes one [`Operator`] per task.
pub trait OperatorSpec: Send + Sync {
    /// One or two words: `filter`, `window aggregate`.
    fn name(&self) -> &'static str;

    /// The schema of what goes out, on every port.
    fn schema(&self) -> SchemaRef;

    /// What `explain` prints behind the name, one item a line: keys, windows, state and when it is freed.
    fn describe(&self) -> Vec<String>;

    /// The columns (by index in [`schema`](OperatorSpec::schema)) that identify a row on [`Port::Update`]; empty where the
    /// operator gives no updates.
    fn update_key(&self) -> Vec<usize> {
        Vec::new()
    }

    /// Makes the operator of one task, with empty state, which it is to keep in `backend`. `ports` are the outputs that somebody
    /// takes: what goes to others need not be made.
    fn create(&self, ports: &[Port], backend: &Backend) -> Result<Box<dyn Operator>>;
}

/// A shared plan of an operator.
pub type OperatorSpecRef = Arc<dyn OperatorSpec>;
