//! The sink: rows are buffered as Parquet and become one commit of the table at a size or a time.
//!
//! What a commit holds: the files of all rows taken since the last one, and, where epochs can be repeated, for each task the
//! number of its last epoch whose rows are in them, as a `txn` action (application id = lineage/sink/task, version = epoch).
//! The position of a task is thus exactly what the table holds, and [`Sink::recover`] reads it back. Epochs without rows
//! alone make no commit: their position goes with the next one. A commit goes onto those positions that the last one left:
//! where another run has moved them, this one stops.
//!
//! Where instances share the tasks, an earlier owner of a task may have moved its position while this one was taking it. What
//! is held is then dropped, and the tasks whose rows were in it are taken anew ([`Sink::take_moved`]): a commit is all or
//! nothing for all tasks in it. That is rare, and files of one task each would be many small ones always.
//!
//! Invariants: at most one roll is under way; its rows come before those that are open. [`Flushed::All`] is said only
//! when neither holds rows. Nothing depends on wall time but when a roll is due.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::transaction::{CommitConflictError, TransactionError};
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::{DeltaTable, DeltaTableError};
use riverrun_engine::batch::Change;
use riverrun_engine::graph::SinkNode;
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

use super::commit::{Position, Roll};
use super::compact::Background;
use super::config::Config;
use super::io::{Io, failed};
use super::table::{check, open_for_rows};
use super::writer::Writer;

/// Appends to one Delta table.
pub struct DeltaSink {
    config: Config,
    /// The table's name in the script.
    name: String,
    /// Application ids are this and the task: `lineage/sink/`. `None`: no positions are kept.
    id: Option<String>,
    table: DeltaTable,
    writer: Writer,
    /// The columns of the rows that come.
    rows: SchemaRef,
    /// Merges small files beside, where that is wished.
    background: Option<Background>,
    /// The newest epoch of each task.
    epochs: BTreeMap<u32, u64>,
    /// The epoch of each task that the table holds.
    committed: BTreeMap<u32, u64>,
    /// When the first open row was seen by `flush`.
    open_since: Option<Micros>,
    roll: Option<Roll>,
    /// Tasks with rows in the open files, and in the roll.
    open: BTreeSet<u32>,
    rolling: BTreeSet<u32>,
    /// Whether instances share the tasks.
    shares: bool,
    /// Tasks whose rows were dropped since others had moved a position: nothing is taken of them until they are taken anew.
    moved: BTreeSet<u32>,
    /// Those that were not told yet.
    untold: Vec<u32>,
    io: Io,
}

impl DeltaSink {
    /// Opens the table of a node, or creates it.
    pub(super) fn open(node: &SinkNode) -> Result<Self> {
        let config = Config::parse(&node.table.options)?;
        let log = config.place.log()?;
        Self::open_at(log, config, node.table.name.clone(), &node.schema)
    }

    /// The same on any storage.
    pub(super) fn open_at(log: LogStoreRef, config: Config, name: String, rows: &SchemaRef) -> Result<Self> {
        let io = Io::new()?;
        let table = io.run(open_for_rows(log, &config, rows))?;
        let writer = io.run(Writer::open(&table, rows)).map_err(|e| failed("open", &config.path, e))?;
        let (epochs, committed) = (BTreeMap::new(), BTreeMap::new());
        let (open, rolling, moved, untold) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), Vec::new());
        let (id, open_since, roll, shares) = (None, None, None, false);
        let background = config.compact_size.map(|size| Background::new(&config.path, size));
        Ok(Self {
            rows: SchemaRef::clone(rows),
            background,
            config,
            name,
            id,
            table,
            writer,
            epochs,
            committed,
            open_since,
            roll,
            open,
            rolling,
            shares,
            moved,
            untold,
            io,
        })
    }

    /// Ends the open files; what they hold is on its way.
    fn start_roll(&mut self) -> Result<()> {
        let files =
            self.io.run(self.writer.finish()).map_err(|e| Error::permanent(format!("cannot finish Parquet files: {e}")))?;
        let position = |id: &String, task: &u32, epoch: &u64| Position {
            id: format!("{id}{task}"),
            before: self.committed.get(task).map(|epoch| *epoch as i64),
            epoch: *epoch as i64,
        };
        let positions = match &self.id {
            Some(id) => self.epochs.iter().map(|(task, epoch)| position(id, task, epoch)).collect(),
            None => Vec::new(),
        };
        self.roll = Some(Roll::new(files, positions, self.shares));
        self.committed.clone_from(&self.epochs);
        self.rolling = std::mem::take(&mut self.open);
        self.open_since = None;
        Ok(())
    }

    /// Commits what is on its way.
    fn land(&mut self) -> Result<()> {
        let Some(roll) = &mut self.roll else { return Ok(()) };
        match self.io.run(roll.land(&mut self.table)) {
            Ok(version) => {
                tracing::debug!("the Delta table at {} is at version {version}", self.config.path);
                self.roll = None;
                self.rolling.clear();
                Ok(())
            }
            Err(error) if self.shares && is_moved(&error) => self.drop_held(),
            Err(error) if self.config.add_columns && is_changed(&error) => self.renew(),
            Err(error) => Err(self.explain(failed("write", &self.config.path, error))),
        }
    }

    /// Looks at the table anew, to which another instance may have added columns; files without them still fit.
    fn renew(&mut self) -> Result<()> {
        self.io.run(self.table.update_state()).map_err(|e| failed("read", &self.config.path, e))?;
        check(&self.table, &self.config, &self.rows).map_err(|e| Error::permanent(e.to_string()))?;
        let text = format!("the columns of the Delta table at {} were changed: the commit is tried again", self.config.path);
        Err(Error::transient(text))
    }

    /// Merges small files now and then. Of instances that share the tasks the one with the first does: two would only be in each
    /// other's way.
    fn compact(&mut self, now: Micros) {
        if let Some(background) = &mut self.background
            && self.id.is_some()
            && (!self.shares || self.epochs.contains_key(&0))
        {
            background.consider(&self.table, now);
        }
    }

    /// Waits for what runs beside.
    #[cfg(test)]
    pub(super) fn wait_for_compaction(&mut self) {
        self.background.iter_mut().for_each(Background::wait);
    }

    /// Drops all rows that are held; their tasks are to be taken anew.
    fn drop_held(&mut self) -> Result<()> {
        let dropped = self.io.run(self.writer.finish());
        dropped.map_err(|e| Error::permanent(format!("cannot drop Parquet files: {e}")))?;
        self.roll = None;
        self.open_since = None;
        let dropped: BTreeSet<u32> = self.open.iter().chain(&self.rolling).copied().collect();
        for task in &dropped {
            self.epochs.remove(task);
            self.committed.remove(task);
        }
        self.open.clear();
        self.rolling.clear();
        self.untold.extend(&dropped);
        self.moved.extend(dropped);
        Ok(())
    }

    /// A task's rows are not wanted any more, nor is its position ours to move.
    fn forget(&mut self, task: u32) -> Result<()> {
        if self.open.contains(&task) || self.rolling.contains(&task) {
            self.drop_held()?;
        }
        self.epochs.remove(&task);
        self.committed.remove(&task);
        self.moved.remove(&task);
        self.untold.retain(|moved| *moved != task);
        Ok(())
    }

    /// The last epochs of these tasks that the table holds.
    fn positions(&mut self, lineage: &str, tasks: Vec<u32>) -> Result<BTreeMap<u32, u64>> {
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

    fn is_due(&self, now: Micros) -> bool {
        let interval = i64::try_from(self.config.roll_interval.as_micros()).unwrap_or(i64::MAX);
        let waited = self.open_since.map_or(0, |since| now.saturating_sub(since));
        waited >= interval || self.writer.bytes() >= self.config.roll_size
    }
}

/// Whether somebody else moved a position that a commit goes onto.
fn is_moved(error: &DeltaTableError) -> bool {
    let DeltaTableError::Transaction { source: TransactionError::CommitConflict(conflict) } = error else { return false };
    matches!(conflict, CommitConflictError::ConcurrentTransaction)
}

/// Whether somebody else changed the table's columns or properties.
fn is_changed(error: &DeltaTableError) -> bool {
    let DeltaTableError::Transaction { source: TransactionError::CommitConflict(conflict) } = error else { return false };
    matches!(conflict, CommitConflictError::MetadataChanged)
}

impl Sink for DeltaSink {
    fn recover(&mut self, lineage: &str, tasks: u32) -> Result<Option<Vec<u64>>> {
        let found = self.positions(lineage, (0..tasks).collect())?;
        let told = (0..tasks).map(|task| found.get(&task).copied().unwrap_or_default()).collect();
        self.epochs.clone_from(&found);
        self.committed = found;
        Ok(Some(told))
    }

    fn take(&mut self, lineage: &str, tasks: &[u32]) -> Result<Option<Vec<u64>>> {
        self.shares = true;
        tasks.iter().try_for_each(|task| self.forget(*task))?;
        let found = self.positions(lineage, tasks.to_vec())?;
        self.epochs.extend(&found);
        self.committed.extend(&found);
        Ok(Some(tasks.iter().map(|task| found.get(task).copied().unwrap_or_default()).collect()))
    }

    fn release(&mut self, task: u32) {
        if let Err(error) = self.forget(task) {
            tracing::debug!(%error, "delta");
        }
    }

    fn take_moved(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.untold)
    }

    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        if self.writer.bytes() >= self.config.roll_size {
            // Both the open files and the roll are full: this must succeed before more is taken.
            self.land()?;
            self.start_roll()?;
        }
        if self.moved.contains(&output.task) {
            return Ok(());
        }
        self.epochs.insert(output.task, output.epoch);
        if output.rows() > 0 {
            self.open.insert(output.task);
        }
        for batch in &output.batches {
            match batch.change {
                Change::Insert | Change::Late => self.io.run(self.writer.write(&batch.rows))?,
                Change::Upsert | Change::Delete => {
                    let error = Error::permanent(format!("the Delta table at {} takes new rows only", self.config.path));
                    return Err(error.hint("set emit = 'append' on the sink"));
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self, now: Micros, force: bool) -> Result<Flushed> {
        self.land()?;
        if self.writer.rows() > 0 {
            self.open_since.get_or_insert(now);
            if force || self.is_due(now) {
                self.start_roll()?;
                self.land()?;
            }
        }
        self.compact(now);
        Ok(if self.writer.rows() == 0 { Flushed::All } else { Flushed::Pending })
    }
}
