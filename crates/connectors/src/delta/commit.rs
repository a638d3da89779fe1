//! Commits: data files and the positions of the tasks, in one version of the table.
//!
//! A roll is put to storage and committed as one; after an error it goes on where it was. A commit whose outcome is not
//! known (the log entry may have been written before the error) is looked for in the log before it is tried again: the
//! files' names are unique, so an entry that names one of them is that commit. Hence no row is committed twice.
//!
//! Positions move from what the sink knows: the client library refuses a commit behind another's of the same application id
//! that came since our snapshot, and where that snapshot was renewed in between, we look.

use deltalake_core::kernel::transaction::{CommitBuilder, CommitConflictError, CommitProperties, TransactionError};
use deltalake_core::kernel::{Action, Transaction, Version};
use deltalake_core::protocol::checkpoints::cleanup_metadata;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::{DeltaResult, DeltaTable, DeltaTableError, ObjectStore, ObjectStoreError};
use futures::future::try_join_all;
use object_store::path::Path;
use riverrun_engine::failpoint;

use super::upload::put;
use super::writer::DataFile;

/// Files that are put at the same time.
const AT_ONCE: usize = 4;

/// Removes entries of the log that are older than the table keeps them, where a checkpoint stands for them. Those that cannot be
/// removed stay for now.
pub(super) async fn forget_expired(table: &mut DeltaTable) {
    let wanted = table.snapshot().map(|snapshot| snapshot.table_config().enable_expired_log_cleanup.unwrap_or(true));
    if !wanted.unwrap_or(false) {
        return;
    }
    match cleanup_metadata(table, None).await {
        Ok(0) => {}
        // What is held of the log may refer to those that are gone.
        Ok(_) => {
            let mut renewed = DeltaTable::new(table.log_store());
            if renewed.load().await.is_ok() {
                table.state = renewed.state;
            }
        }
        Err(error) => tracing::debug!(%error, "delta: expired entries of the log stay"),
    }
}

async fn put_file(store: &dyn ObjectStore, file: &DataFile) -> Result<(), ObjectStoreError> {
    put(store, &Path::parse(&file.add.path)?, &file.bytes).await
}

/// A task's position and its move.
pub(super) struct Position {
    /// Application id.
    pub id: String,
    /// The epoch that the table holds; `None`: none of this task.
    pub before: Option<i64>,
    /// The epoch that the commit brings.
    pub epoch: i64,
}

/// Files on their way into the table.
pub(super) struct Roll {
    files: Vec<DataFile>,
    stored: usize,
    positions: Vec<Position>,
    /// Whether the snapshot may be newer than what the positions were read from.
    renewed: bool,
    /// The table's version when a commit was last tried.
    tried_at: Option<Version>,
}

impl Roll {
    /// Files, and the positions of the tasks whose rows they hold; `renewed`: the snapshot may be newer than what those were
    /// read from.
    pub fn new(files: Vec<DataFile>, positions: Vec<Position>, renewed: bool) -> Self {
        Self { files, stored: 0, positions, renewed, tried_at: None }
    }

    /// Puts the files and commits them; returns the version that holds them. After an error: call again.
    pub async fn land(&mut self, table: &mut DeltaTable) -> DeltaResult<Version> {
        let store = table.object_store();
        while self.stored < self.files.len() {
            let next = &self.files[self.stored..self.files.len().min(self.stored + AT_ONCE)];
            let puts = next.iter().map(|file| put_file(store.as_ref(), file));
            self.stored += try_join_all(puts).await?.len();
            failpoint::reach("delta.put");
        }
        if let Some(version) = self.find(table).await? {
            return Ok(version);
        }
        if self.renewed || self.tried_at.is_some_and(|at| table.version() != Some(at)) {
            self.check_positions(table).await?;
        }
        self.tried_at = table.version();
        let snapshot = table.snapshot()?;
        let partition_by = snapshot.metadata().partition_columns().to_vec();
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: (!partition_by.is_empty()).then_some(partition_by),
            predicate: None,
        };
        // The crate's post-commit hook writes a checkpoint of the log each delta.checkpointInterval versions. It would also look
        // for expired entries after each commit, and list the whole log for that.
        let positions = self.positions.iter().map(|p| Transaction::new(&p.id, p.epoch)).collect();
        let properties =
            CommitProperties::default().with_application_transactions(positions).with_cleanup_expired_logs(Some(false));
        failpoint::reach("delta.before-commit");
        let done = CommitBuilder::from(properties)
            .with_actions(self.files.iter().map(|file| Action::Add(file.add.clone())).collect())
            .build(Some(snapshot), table.log_store(), operation)
            .await?;
        failpoint::reach("delta.after-commit");
        let (version, checkpointed) = (done.version(), done.metrics.new_checkpoint_created);
        table.state = Some(done.snapshot());
        if checkpointed {
            forget_expired(table).await;
        }
        Ok(version)
    }

    /// Fails where another run has moved a position.
    async fn check_positions(&self, table: &DeltaTable) -> DeltaResult<()> {
        let snapshot = table.snapshot()?;
        for Position { id, before, .. } in &self.positions {
            if snapshot.transaction_version(table.log_store().as_ref(), id).await? != *before {
                let source = TransactionError::CommitConflict(CommitConflictError::ConcurrentTransaction);
                return Err(DeltaTableError::Transaction { source });
            }
        }
        Ok(())
    }

    /// The version that holds this roll already, if an earlier try got that far.
    async fn find(&self, table: &mut DeltaTable) -> DeltaResult<Option<Version>> {
        let (Some(tried_at), Some(file)) = (self.tried_at, self.files.first()) else { return Ok(None) };
        find(table, tried_at, &file.add.path).await
    }
}

/// The version behind `tried_at` whose entry names this file; the table is brought up to date.
pub(super) async fn find(table: &mut DeltaTable, tried_at: Version, file: &str) -> DeltaResult<Option<Version>> {
    let name = file.rsplit('/').next().unwrap_or(file).as_bytes();
    table.update_state().await?;
    for version in tried_at + 1..=table.version().unwrap_or(tried_at) {
        let entry = table.log_store().read_commit_entry(version).await?;
        if entry.is_some_and(|entry| entry.windows(name.len()).any(|part| part == name)) {
            return Ok(Some(version));
        }
    }
    Ok(None)
}
