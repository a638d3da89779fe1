//! The sink: rows are buffered as Parquet and become one commit of the table at a size or a time.
//!
//! What a commit holds: the files of all rows taken since the last one, and, where epochs can be repeated, for each task the
//! number of its last epoch whose rows are in them, as a `txn` action (application id = lineage/sink/task, version = epoch).
//! The position of a task is thus exactly what the table holds, and [`Sink::recover`] reads it back. Epochs without rows
//! alone make no commit: their position goes with the next one. A commit goes onto those positions that the last one left:
//! where another run has moved them, this one stops.
//!
//! Where instances share the tasks, each task has a [`Lane`] of its own, with its own files and commits: where an earlier
//! owner has moved a task's position, only that task's files are dropped, and the task is taken anew.
//!
//! Invariants: at most one roll of a lane is under way; its rows come before those that are open. [`Flushed::All`] is said only
//! when no lane holds rows. Nothing depends on wall time but when a roll is due.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::transaction::{CommitConflictError, TransactionError};
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::{DeltaResult, DeltaTable, DeltaTableError};
use riverrun_engine::batch::Change;
use riverrun_engine::graph::SinkNode;
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

use super::commit::{Position, Roll};
use super::config::Config;
use super::io::{Io, failed};
use super::table::{log_at, open_for_rows};
use super::writer::Writer;

/// Appends to one Delta table.
pub struct DeltaSink {
    config: Config,
    /// The table's name in the script.
    name: String,
    /// Of the rows that arrive.
    rows: SchemaRef,
    /// Application ids are this and the task: `lineage/sink/`. `None`: no positions are kept.
    id: Option<String>,
    table: DeltaTable,
    /// One for all tasks, number 0; or by task, where instances share them.
    lanes: BTreeMap<u32, Lane>,
    by_task: bool,
    /// Tasks whose position was moved.
    moved: Vec<u32>,
    io: Io,
}

/// Rows on their way into the table.
struct Lane {
    writer: Writer,
    /// The newest epoch of each task.
    epochs: BTreeMap<u32, u64>,
    /// The epoch of each task that the table holds.
    committed: BTreeMap<u32, u64>,
    /// When the first open row was seen by `flush`.
    open_since: Option<Micros>,
    roll: Option<Roll>,
}

impl Lane {
    async fn open(table: &DeltaTable, rows: &SchemaRef, committed: BTreeMap<u32, u64>) -> DeltaResult<Self> {
        let writer = Writer::open(table, rows).await?;
        Ok(Self { writer, epochs: committed.clone(), committed, open_since: None, roll: None })
    }

    /// Ends the open files; what they hold is on its way. `id`: what application ids begin with.
    fn start_roll(&mut self, io: &Io, id: Option<&String>) -> Result<()> {
        let files = io.run(self.writer.finish()).map_err(|e| Error::permanent(format!("cannot finish Parquet files: {e}")))?;
        let position = |id: &String, task: &u32, epoch: &u64| Position {
            id: format!("{id}{task}"),
            before: self.committed.get(task).map(|epoch| *epoch as i64),
            epoch: *epoch as i64,
        };
        let positions = match id {
            Some(id) => self.epochs.iter().map(|(task, epoch)| position(id, task, epoch)).collect(),
            None => Vec::new(),
        };
        self.roll = Some(Roll::new(files, positions));
        self.committed.clone_from(&self.epochs);
        self.open_since = None;
        Ok(())
    }

    fn is_due(&mut self, now: Micros, config: &Config) -> bool {
        let since = *self.open_since.get_or_insert(now);
        let interval = i64::try_from(config.roll_interval.as_micros()).unwrap_or(i64::MAX);
        now.saturating_sub(since) >= interval || self.writer.bytes() >= config.roll_size
    }
}

impl DeltaSink {
    /// Opens the table of a node, or creates it.
    pub(super) fn open(node: &SinkNode) -> Result<Self> {
        let config = Config::parse(&node.table.options)?;
        let log = log_at(&config.location, &config.path)?;
        Self::open_at(log, config, node.table.name.clone(), &node.schema)
    }

    /// The same on any storage.
    pub(super) fn open_at(log: LogStoreRef, config: Config, name: String, rows: &SchemaRef) -> Result<Self> {
        let io = Io::new()?;
        let table = io.run(open_for_rows(log, &config, rows))?;
        let lane = io.run(Lane::open(&table, rows, BTreeMap::new())).map_err(|e| failed("open", &config.path, e))?;
        let (lanes, rows) = (BTreeMap::from([(0, lane)]), rows.clone());
        Ok(Self { config, name, rows, id: None, table, lanes, by_task: false, moved: Vec::new(), io })
    }

    /// Commits what is on its way in a lane.
    fn land(&mut self, number: u32) -> Result<()> {
        let Some(lane) = self.lanes.get_mut(&number) else { return Ok(()) };
        let Some(roll) = &mut lane.roll else { return Ok(()) };
        match self.io.run(roll.land(&mut self.table)) {
            Ok(version) => {
                tracing::debug!("the Delta table at {} is at version {version}", self.config.path);
                lane.roll = None;
                Ok(())
            }
            Err(error) if self.by_task && is_moved(&error) => {
                self.lanes.remove(&number);
                self.moved.push(number);
                Ok(())
            }
            Err(error) => Err(self.explain(failed("write", &self.config.path, error))),
        }
    }

    /// The last epochs of these tasks that the table holds.
    fn positions(&mut self, lineage: &str, tasks: impl Iterator<Item = u32> + Send) -> Result<BTreeMap<u32, u64>> {
        let id = format!("{lineage}/{}/", self.name);
        let Self { io, table, .. } = self;
        let found = io.run(async {
            table.update_state().await?;
            let (log, mut found) = (table.log_store(), BTreeMap::new());
            for task in tasks {
                let version = table.snapshot()?.transaction_version(log.as_ref(), format!("{id}{task}")).await?;
                found.extend(version.and_then(|version| Some((task, u64::try_from(version).ok()?))));
            }
            Ok(found)
        });
        self.id = Some(id);
        found.map_err(|e: DeltaTableError| failed("read", &self.config.path, e))
    }

    /// Says so where the error comes from a table that is gone.
    fn explain(&self, error: Error) -> Error {
        match self.io.run(self.table.verify_deltatable_existence()) {
            Ok(false) => Error::permanent(format!("the Delta table at {} was deleted while it was written to", self.config.path))
                .hint("start the pipeline again: it creates the table anew"),
            _ => error,
        }
    }
}

/// Whether somebody else moved a position that a commit goes onto.
fn is_moved(error: &DeltaTableError) -> bool {
    let conflict = match error {
        DeltaTableError::Transaction { source: TransactionError::CommitConflict(conflict) } => conflict,
        _ => return false,
    };
    matches!(conflict, CommitConflictError::ConcurrentTransaction)
}

impl Sink for DeltaSink {
    fn recover(&mut self, lineage: &str, tasks: u32) -> Result<Option<Vec<u64>>> {
        let found = self.positions(lineage, 0..tasks)?;
        let told = (0..tasks).map(|task| found.get(&task).copied().unwrap_or_default()).collect();
        if let Some(lane) = self.lanes.get_mut(&0) {
            (lane.epochs, lane.committed) = (found.clone(), found);
        }
        Ok(Some(told))
    }

    fn take(&mut self, lineage: &str, tasks: &[u32]) -> Result<Option<Vec<u64>>> {
        if !std::mem::replace(&mut self.by_task, true) {
            self.lanes.clear();
        }
        let found = self.positions(lineage, tasks.iter().copied())?;
        for task in tasks {
            let committed = found.get_key_value(task).map(|(task, epoch)| (*task, *epoch)).into_iter().collect();
            let lane = self.io.run(Lane::open(&self.table, &self.rows, committed));
            self.lanes.insert(*task, lane.map_err(|e| failed("open", &self.config.path, e))?);
        }
        Ok(Some(tasks.iter().map(|task| found.get(task).copied().unwrap_or_default()).collect()))
    }

    fn release(&mut self, task: u32) {
        if self.by_task {
            self.lanes.remove(&task);
        }
    }

    fn take_moved(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.moved)
    }

    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        let number = if self.by_task { output.task } else { 0 };
        if self.lanes.get(&number).is_some_and(|lane| lane.writer.bytes() >= self.config.roll_size) {
            // Both the open files and the roll are full: this must succeed before more is taken.
            self.land(number)?;
            if let Some(lane) = self.lanes.get_mut(&number) {
                lane.start_roll(&self.io, self.id.as_ref())?;
            }
        }
        // A task whose position was moved, or that is not held: what comes of it is not wanted.
        let Some(lane) = self.lanes.get_mut(&number) else { return Ok(()) };
        lane.epochs.insert(output.task, output.epoch);
        for batch in &output.batches {
            match batch.change {
                Change::Insert | Change::Late => self.io.run(lane.writer.write(&batch.rows))?,
                Change::Upsert | Change::Delete => {
                    let error = Error::permanent(format!("the Delta table at {} takes new rows only", self.config.path));
                    return Err(error.hint("set emit = 'append' on the sink"));
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self, now: Micros, force: bool) -> Result<Flushed> {
        for number in self.lanes.keys().copied().collect::<Vec<_>>() {
            self.land(number)?;
            let Some(lane) = self.lanes.get_mut(&number).filter(|lane| lane.writer.rows() > 0) else { continue };
            if lane.is_due(now, &self.config) || force {
                lane.start_roll(&self.io, self.id.as_ref())?;
                self.land(number)?;
            }
        }
        Ok(if self.lanes.values().all(|lane| lane.writer.rows() == 0) { Flushed::All } else { Flushed::Pending })
    }
}
