//! Compaction: small files of a partition become few large ones that hold the same rows.
//!
//! The rows are read file by file and written as they come, so memory holds a row group at most. One commit takes the small
//! files out and puts the large ones in, marked as no change of data: readers that follow a table pass over it, and the
//! positions of the tasks (`txn`) stay what they are.
//!
//! Invariant: the commit goes onto exactly the version at which all files that it takes out were seen to be there. Where another
//! commit was faster this is looked at again; where a file is gone (another compaction, a DELETE) nothing is committed and what was
//! written is removed. The client library alone would not notice another compaction of the same files.

mod background;
mod commit;
mod plan;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use deltalake_core::kernel::{Add, transaction::PROTOCOL};
use deltalake_core::writer::{DeltaWriter as _, RecordBatchWriter};
use deltalake_core::{DeltaTable, DeltaTableError};
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use riverrun_engine::{Error, Result};

pub(super) use self::background::Background;
use self::commit::commit;
pub(super) use self::plan::When;
use self::plan::{Group, Values, plan};
use super::data::Storage;
use super::io::failed;

/// How often a plan is made anew where others changed the files.
const PLANS: usize = 5;

/// What became of a partition's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compacted {
    /// The partition, as folders name it.
    pub partition: String,
    /// Files that were merged, and their bytes.
    pub from: (usize, u64),
    /// Files that hold their rows now, and their bytes; of a dry run how many there would be, about.
    pub into: (usize, u64),
}

/// What to merge.
pub(super) struct Compaction<'a> {
    pub storage: Storage,
    /// The size of the files that are written, in bytes, about.
    pub target: u64,
    pub when: When,
    /// Values that a partition must have.
    pub partition: Values,
    /// Set where it is to end early.
    pub stop: &'a AtomicBool,
}

impl Compaction<'_> {
    /// What would be done.
    pub fn plan(&self, table: &DeltaTable) -> Result<Vec<Group>> {
        let columns = table.snapshot().map_err(|e| self.failed(e))?.metadata().partition_columns().to_vec();
        if let Some(unknown) = self.partition.keys().find(|name| !columns.contains(name)) {
            let error = Error::invalid(format!("the Delta table at {} is not partitioned by {unknown}", self.storage.path));
            return Err(error.hint(format!("its partition columns: {}", columns.join(", "))));
        }
        let wanted = |values: &Values| self.partition.iter().all(|(name, value)| values.get(name) == Some(value));
        plan(table, self.target, self.when, &wanted).map_err(|e| self.failed(e))
    }

    /// Merges until there is nothing left to merge; `told` hears of each commit.
    pub fn run(&self, table: &mut DeltaTable, told: &mut dyn FnMut(Compacted)) -> Result<()> {
        for _ in 0..PLANS {
            let writable = table.snapshot().map_err(|e| self.failed(e)).map(|s| PROTOCOL.can_write_to(s.snapshot()))?;
            if let Err(e) = writable {
                let text = format!("the Delta table at {} has features that Riverrun cannot write: {e}", self.storage.path);
                return Err(Error::invalid(text));
            }
            let mut conflicts = false;
            for group in self.plan(table)? {
                match self.merge(table, &group)? {
                    Some(done) => told(done),
                    None if self.stop.load(Relaxed) => return Ok(()),
                    None => conflicts = true,
                }
            }
            if !conflicts {
                return Ok(());
            }
        }
        let text = format!("others change the files of the Delta table at {} all the time", self.storage.path);
        Err(Error::transient(text).hint("run it again when less is written to it, or let one program only compact it"))
    }

    /// Merges the files of a group and commits that; `None`: they are not there any more, or it is to end.
    fn merge(&self, table: &mut DeltaTable, group: &Group) -> Result<Option<Compacted>> {
        let Some(adds) = self.write(table, group)? else { return Ok(None) };
        let into = (adds.len(), adds.iter().map(|add| u64::try_from(add.size).unwrap_or(0)).sum());
        let removes = group.files().map(|small| small.remove.clone()).collect();
        let paths: Vec<String> = adds.iter().map(|add| add.path.clone()).collect();
        let done = self.storage.io.run(commit(table, removes, adds, self.target)).map_err(|e| self.failed(e))?;
        if done.is_none() {
            self.forget(&paths);
        }
        Ok(done.map(|_| Compacted { partition: group.name(), from: (group.files().count(), group.bytes()), into }))
    }

    /// Writes the large files; `None`: it is to end.
    fn write(&self, table: &DeltaTable, group: &Group) -> Result<Option<Vec<Add>>> {
        let io = &self.storage.io;
        let mut writer = RecordBatchWriter::for_table(table).map_err(|e| self.failed(e))?;
        let schema = writer.arrow_schema();
        let (mut adds, mut rows) = (Vec::new(), 0);
        for merge in &group.merges {
            for small in merge {
                let mut reader = self.storage.open(&small.file, &schema, 0)?;
                while let Some(batch) = reader.next()? {
                    if self.stop.load(Relaxed) {
                        return Ok(None);
                    }
                    rows += batch.num_rows() as u64;
                    io.run(writer.write(batch)).map_err(|e| self.failed(e))?;
                }
            }
            adds.extend(io.run(writer.flush()).map_err(|e| self.failed(e))?);
        }
        let known: Option<u64> = group.files().map(|small| small.file.rows).sum();
        if known.is_some_and(|known| known != rows) {
            let text = format!("{}: the files hold {rows} rows, {known:?} as the log says", group.name());
            return Err(self.failed(DeltaTableError::Generic(text)));
        }
        adds.iter_mut().for_each(|add| add.data_change = false);
        Ok(Some(adds))
    }

    /// Removes files that no commit names. One that stays is vacuum's.
    fn forget(&self, paths: &[String]) {
        for path in paths.iter().filter_map(|path| Path::parse(path).ok()) {
            if let Err(error) = self.storage.io.run(self.storage.store.delete(&path)) {
                tracing::debug!(%error, "delta: {path} stays");
            }
        }
    }

    fn failed(&self, error: DeltaTableError) -> Error {
        failed("compact", &self.storage.path, error)
    }
}
