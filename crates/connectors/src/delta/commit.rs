//! Commits: data files and the positions of the tasks, in one version of the table.
//!
//! A roll is put to storage and committed as one; after an error it goes on where it was. A commit whose outcome is not
//! known (the log entry may have been written before the error) is looked for in the log before it is tried again: the
//! files' names are unique, so an entry that names one of them is that commit. Hence no row is committed twice.

use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake_core::kernel::{Action, Transaction, Version};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::{DeltaResult, DeltaTable, ObjectStoreError};
use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use super::writer::DataFile;

/// Files on their way into the table.
pub(super) struct Roll {
    files: Vec<DataFile>,
    stored: usize,
    positions: Vec<Transaction>,
    /// The table's version when a commit was last tried.
    tried_at: Option<Version>,
}

impl Roll {
    /// Files, and (application id, epoch) of each task whose rows they hold.
    pub fn new(files: Vec<DataFile>, positions: Vec<(String, i64)>) -> Self {
        let positions = positions.into_iter().map(|(id, epoch)| Transaction::new(id, epoch)).collect();
        Self { files, stored: 0, positions, tried_at: None }
    }

    /// Puts the files and commits them; returns the version that holds them. After an error: call again.
    pub async fn land(&mut self, table: &mut DeltaTable) -> DeltaResult<Version> {
        let store = table.object_store();
        for file in &self.files[self.stored..] {
            let path = Path::parse(&file.add.path).map_err(ObjectStoreError::from)?;
            store.put(&path, file.bytes.clone().into()).await?;
            self.stored += 1;
        }
        if let Some(version) = self.find(table).await? {
            return Ok(version);
        }
        self.tried_at = table.version();
        let snapshot = table.snapshot()?;
        let partition_by = snapshot.metadata().partition_columns().to_vec();
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: (!partition_by.is_empty()).then_some(partition_by),
            predicate: None,
        };
        // The crate's post-commit hook writes a checkpoint of the log each delta.checkpointInterval versions.
        let properties = CommitProperties::default().with_application_transactions(self.positions.clone());
        let done = CommitBuilder::from(properties)
            .with_actions(self.files.iter().map(|file| Action::Add(file.add.clone())).collect())
            .build(Some(snapshot), table.log_store(), operation)
            .await?;
        table.state = Some(done.snapshot());
        Ok(done.version())
    }

    /// The version that holds this roll already, if an earlier try got that far.
    async fn find(&self, table: &mut DeltaTable) -> DeltaResult<Option<Version>> {
        let (Some(tried_at), Some(file)) = (self.tried_at, self.files.first()) else { return Ok(None) };
        let name = file.add.path.rsplit('/').next().unwrap_or(&file.add.path).as_bytes();
        table.update_state().await?;
        for version in tried_at + 1..=table.version().unwrap_or(tried_at) {
            let entry = table.log_store().read_commit_entry(version).await?;
            if entry.is_some_and(|entry| entry.windows(name.len()).any(|part| part == name)) {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }
}
