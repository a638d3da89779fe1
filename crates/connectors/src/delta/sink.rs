//! The sink: rows are buffered as Parquet and become one commit of the table at a size or a time.
//!
//! What a commit holds: the files of all rows taken since the last one, and for each task the number of its last epoch
//! whose rows are in them, as a `txn` action (application id = pipeline/sink/task, version = epoch). The position of a task is
//! thus exactly what the table holds, and [`DeltaSink::position`] reads it back. Epochs without rows alone make no
//! commit: their position goes with the next one.
//!
//! Invariants: at most one roll is under way; its rows come before those that are open. [`Flushed::All`] is said only
//! when neither holds rows. Nothing depends on wall time but when a roll is due.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use deltalake_core::DeltaTable;
use deltalake_core::logstore::LogStoreRef;
use riverrun_engine::batch::Change;
use riverrun_engine::connect::Context;
use riverrun_engine::graph::SinkNode;
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

use super::commit::Roll;
use super::config::Config;
use super::io::{Io, failed};
use super::table::{log_at, open_for_rows};
use super::writer::Writer;

/// Appends to one Delta table.
pub struct DeltaSink {
    config: Config,
    /// Application ids are this and the task: `pipeline/sink/`.
    id: String,
    table: DeltaTable,
    writer: Writer,
    /// The newest epoch of each task.
    epochs: BTreeMap<u32, u64>,
    /// When the first open row was seen by `flush`.
    open_since: Option<Micros>,
    roll: Option<Roll>,
    io: Io,
}

impl DeltaSink {
    /// Opens the table of a node, or creates it.
    pub(super) fn open(node: &SinkNode, context: &Context) -> Result<Self> {
        let config = Config::parse(&node.table.options)?;
        let log = log_at(&config.location, &config.path)?;
        Self::open_at(log, config, format!("{}/{}/", context.pipeline, node.table.name), &node.schema)
    }

    /// The same on any storage.
    pub(super) fn open_at(log: LogStoreRef, config: Config, id: String, rows: &SchemaRef) -> Result<Self> {
        let io = Io::new()?;
        let table = io.run(open_for_rows(log, &config, rows))?;
        let writer = io.run(Writer::open(&table, rows)).map_err(|e| failed("open", &config.path, e))?;
        Ok(Self { config, id, table, writer, epochs: BTreeMap::new(), open_since: None, roll: None, io })
    }

    /// The last epoch of a task that the table holds: what the newest version says, read from storage.
    pub fn position(&mut self, task: u32) -> Result<Option<u64>> {
        let id = self.application_id(task);
        let Self { io, table, .. } = self;
        let version = io.run(async {
            table.update_state().await?;
            table.snapshot()?.transaction_version(table.log_store().as_ref(), id).await
        });
        let version = version.map_err(|e| failed("read", &self.config.path, e))?;
        Ok(version.and_then(|v| u64::try_from(v).ok()))
    }

    fn application_id(&self, task: u32) -> String {
        format!("{}{task}", self.id)
    }

    /// Notes a task's epoch; says once what the table holds of that task from an earlier run.
    fn note(&mut self, task: u32, epoch: u64) -> Result<()> {
        if !self.epochs.contains_key(&task)
            && let Some(last) = self.position(task)?
        {
            tracing::info!("the Delta table at {} holds epochs of task {task} up to {last}", self.config.path);
        }
        self.epochs.insert(task, epoch);
        Ok(())
    }

    /// Ends the open files; what they hold is on its way.
    fn start_roll(&mut self) -> Result<()> {
        let files =
            self.io.run(self.writer.finish()).map_err(|e| Error::permanent(format!("cannot finish Parquet files: {e}")))?;
        let positions = self.epochs.iter().map(|(task, epoch)| (self.application_id(*task), *epoch as i64)).collect();
        self.roll = Some(Roll::new(files, positions));
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
    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        if self.writer.bytes() >= self.config.roll_size {
            // Both the open files and the roll are full: this must succeed before more is taken.
            self.land()?;
            self.start_roll()?;
        }
        self.note(output.task, output.epoch)?;
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
