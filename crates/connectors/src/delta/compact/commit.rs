//! The commit that swaps files.

use std::collections::HashSet;

use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties, TransactionError};
use deltalake_core::kernel::{Action, Add, Remove, Version};
use deltalake_core::protocol::DeltaOperation;
use deltalake_core::{DeltaResult, DeltaTable, DeltaTableError};
use riverrun_engine::failpoint;
use serde_json::json;

use crate::delta::commit::find;

/// Takes files out and puts others in, in one version, which it returns; `None`: some are not there any more, or the table
/// became another: nothing was committed.
pub(super) async fn commit(
    table: &mut DeltaTable,
    removes: Vec<Remove>,
    adds: Vec<Add>,
    target: u64,
) -> DeltaResult<Option<Version>> {
    let metadata = table.snapshot()?.metadata().clone();
    let metrics = json!({ "numFilesRemoved": removes.len(), "numFilesAdded": adds.len() });
    let output = adds.first().map(|add| add.path.clone()).unwrap_or_default();
    let removed: Vec<String> = removes.iter().map(|remove| remove.path.clone()).collect();
    let actions: Vec<Action> = removes.into_iter().map(Action::Remove).chain(adds.into_iter().map(Action::Add)).collect();
    failpoint::reach("delta.compact.before-commit");
    loop {
        let snapshot = table.snapshot()?;
        let there: HashSet<String> = snapshot.log_data().iter().map(|view| view.path().into_owned()).collect();
        if *snapshot.metadata() != metadata || !removed.iter().all(|path| there.contains(path)) {
            return Ok(None);
        }
        // No retries of the library's own: it would go onto a version that we have not seen.
        let properties = CommitProperties::default()
            .with_max_retries(0)
            .with_cleanup_expired_logs(Some(false))
            .with_metadata([("operationMetrics".to_owned(), metrics.clone())]);
        let tried_at = snapshot.version();
        let operation = DeltaOperation::Optimize { predicate: None, target_size: i64::try_from(target).unwrap_or(i64::MAX) };
        let done = CommitBuilder::from(properties)
            .with_actions(actions.clone())
            .build(Some(snapshot), table.log_store(), operation)
            .await;
        match done {
            Ok(done) => {
                failpoint::reach("delta.compact.after-commit");
                let version = done.version();
                table.state = Some(done.snapshot());
                return Ok(Some(version));
            }
            Err(error) if was_slower(&error) => table.update_state().await?,
            // It may have been committed all the same.
            Err(error) => return find(table, tried_at, &output).await?.map(Some).ok_or(error),
        }
    }
}

/// Whether another commit was there first.
fn was_slower(error: &DeltaTableError) -> bool {
    match error {
        DeltaTableError::VersionAlreadyExists(_) => true,
        DeltaTableError::Transaction { source } => matches!(source, TransactionError::MaxCommitAttempts(_)),
        _ => false,
    }
}
