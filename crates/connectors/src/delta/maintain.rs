//! What `riverrun compact` and `riverrun vacuum` do to a table.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use deltalake_core::operations::vacuum::VacuumMode;
use deltalake_core::{DeltaTable, DeltaTableError};
use futures::TryStreamExt as _;
use riverrun_engine::{Error, Result};

use super::compact::{Compacted, Compaction, When};
use super::data::Storage;
use super::io::{Io, failed};
use super::place::Place;
use super::table::load;

/// How long files stay that no version refers to any more, where the table does not say.
const RETENTION: Duration = Duration::from_secs(7 * 86_400);

/// A table to look after.
pub struct Maintained {
    table: DeltaTable,
    storage: Storage,
}

impl Maintained {
    /// Opens the table at a path or URL; `s3`: options of the object store, by name (`endpoint`, `region`, …).
    ///
    /// # Errors
    /// There is no table, or it cannot be read.
    pub fn open(path: &str, s3: BTreeMap<String, String>) -> Result<Self> {
        let log = Place::parse(path, s3)?.log()?;
        let io = Arc::new(Io::new()?);
        let Some(table) = io.run(load(log, path))? else {
            return Err(Error::invalid(format!("there is no Delta table at {path}")).hint("check the path"));
        };
        let storage = Storage { path: path.to_owned(), store: table.object_store(), io };
        Ok(Self { table, storage })
    }

    /// Merges small files to such of about `target` bytes, in partitions that have these values; `told` hears of each commit. A
    /// dry run tells what would be merged. Ends early where `stop` is set.
    ///
    /// # Errors
    /// The store fails, others change the files all the time, or the table is not partitioned so.
    pub fn compact(
        &mut self,
        target: u64,
        partition: HashMap<String, Option<String>>,
        dry_run: bool,
        stop: &AtomicBool,
        told: &mut dyn FnMut(Compacted),
    ) -> Result<()> {
        let compaction = Compaction { storage: self.storage.clone(), target, when: When::Asked, partition, stop };
        if !dry_run {
            return compaction.run(&mut self.table, told);
        }
        for group in compaction.plan(&self.table)? {
            let (from, into) = ((group.files().count(), group.bytes()), (group.merges.len(), group.bytes()));
            told(Compacted { partition: group.name(), from, into });
        }
        Ok(())
    }

    /// How long files stay that no version refers to any more (`delta.deletedFileRetentionDuration`).
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn retention(&self) -> Result<Duration> {
        let snapshot = self.table.snapshot().map_err(|e| self.failed(e))?;
        Ok(snapshot.table_config().deleted_file_retention_duration.unwrap_or(RETENTION))
    }

    /// Deletes the files that no version refers to any more since `retain`, and those as old that none ever did; a dry run only
    /// finds them. Gives them with their bytes, by path.
    ///
    /// # Errors
    /// `retain` is less than [`retention`](Self::retention), without `force`; or the store fails.
    pub fn vacuum(&self, retain: Duration, force: bool, dry_run: bool) -> Result<Vec<(String, u64)>> {
        let least = self.retention()?;
        if retain < least && !force {
            let text = format!("the Delta table at {} keeps files for {}, not less", self.storage.path, days(least));
            return Err(Error::invalid(text).hint(
                "readers of older versions, and writers that have not committed yet, may still need them; if there are none, add --force",
            ));
        }
        let found = self.storage.io.run(self.find(retain, force, true)).map_err(|e| self.failed(e))?;
        if dry_run || found.is_empty() {
            return Ok(found.into_iter().collect());
        }
        let deleted = self.storage.io.run(self.find(retain, force, false)).map_err(|e| self.failed(e))?;
        Ok(deleted.into_iter().map(|(path, bytes)| (path.clone(), found.get(&path).copied().unwrap_or(bytes))).collect())
    }

    async fn find(&self, retain: Duration, force: bool, dry_run: bool) -> Result<BTreeMap<String, u64>, DeltaTableError> {
        let retain = chrono::Duration::from_std(retain).unwrap_or(chrono::Duration::MAX);
        let vacuum = self.table.clone().vacuum().with_retention_period(retain).with_enforce_retention_duration(!force);
        let (_, done) = vacuum.with_mode(VacuumMode::Full).with_dry_run(dry_run).await?;
        let mut files: BTreeMap<String, u64> = done.files_deleted.into_iter().map(|path| (path, 0)).collect();
        if dry_run && !files.is_empty() {
            let mut stored = self.storage.store.list(None);
            while let Some(object) = stored.try_next().await? {
                files.entry(object.location.to_string()).and_modify(|bytes| *bytes = object.size);
            }
        }
        Ok(files)
    }

    fn failed(&self, error: DeltaTableError) -> Error {
        failed("look after", &self.storage.path, error)
    }
}

/// A time as a person says it.
fn days(time: Duration) -> String {
    let hours = time.as_secs() / 3600;
    if hours >= 24 && hours.is_multiple_of(24) { format!("{} days", hours / 24) } else { format!("{hours} hours") }
}
