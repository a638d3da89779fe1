//! The sink: rows are buffered as Parquet and become one commit of the table at a size or a time.
//!
//! What a commit holds: the files of all rows taken since the last one, and, where epochs can be repeated, for each task the
//! number of its last epoch whose rows are in them, as a `txn` action (application id = lineage/sink/task, version = epoch).
//! The position of a task is thus exactly what the table holds, and [`Sink::recover`] reads it back. Epochs without rows
//! alone make no commit: their position goes with the next one. A commit goes onto those positions that the last one left:
//! where another run has moved them, this one stops.
//!
//! Invariants: at most one roll is under way; its rows come before those that are open. [`Flushed::All`] is said only
//! when neither holds rows. Nothing depends on wall time but when a roll is due.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::{DeltaTable, DeltaTableError};
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
    /// Application ids are this and the task: `lineage/sink/`. `None`: no positions are kept.
    id: Option<String>,
    table: DeltaTable,
    writer: Writer,
    /// The newest epoch of each task.
    epochs: BTreeMap<u32, u64>,
    /// The epoch of each task that the table holds.
    committed: BTreeMap<u32, u64>,
    /// When the first open row was seen by `flush`.
    open_since: Option<Micros>,
    roll: Option<Roll>,
    io: Io,
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
        let writer = io.run(Writer::open(&table, rows)).map_err(|e| failed("open", &config.path, e))?;
        let (epochs, committed) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { config, name, id: None, table, writer, epochs, committed, open_since: None, roll: None, io })
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
        self.roll = Some(Roll::new(files, positions));
        self.committed.clone_from(&self.epochs);
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
                Ok(())
            }
            Err(error) => Err(self.explain(failed("write", &self.config.path, error))),
        }
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

impl Sink for DeltaSink {
    fn recover(&mut self, lineage: &str, tasks: u32) -> Result<Option<Vec<u64>>> {
        let id = format!("{lineage}/{}/", self.name);
        let Self { io, table, .. } = self;
        let versions = io.run(async {
            table.update_state().await?;
            let (log, mut versions) = (table.log_store(), Vec::new());
            for task in 0..tasks {
                let version = table.snapshot()?.transaction_version(log.as_ref(), format!("{id}{task}")).await?;
                versions.push(version.and_then(|v| u64::try_from(v).ok()));
            }
            Ok(versions)
        });
        let versions = versions.map_err(|e: DeltaTableError| failed("read", &self.config.path, e))?;
        self.committed = (0..).zip(&versions).filter_map(|(task, version)| Some((task, (*version)?))).collect();
        self.epochs.clone_from(&self.committed);
        self.id = Some(id);
        Ok(Some(versions.into_iter().map(Option::unwrap_or_default).collect()))
    }

    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        if self.writer.bytes() >= self.config.roll_size {
            // Both the open files and the roll are full: this must succeed before more is taken.
            self.land()?;
            self.start_roll()?;
        }
        self.epochs.insert(output.task, output.epoch);
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
        Ok(if self.writer.rows() == 0 { Flushed::All } else { Flushed::Pending })
    }
}
