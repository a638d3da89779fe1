//! Where a pipeline keeps its state while it runs: what `SET state.backend`, `state.path` and `state.memory` say.

use std::path::PathBuf;
use std::sync::Arc;

use riverrun_engine::Result;
use riverrun_engine::connect::Context;
use riverrun_engine::state::Disk;
use riverrun_sql::plan::{Settings, StateBackend};

/// Opens the directory for state, if state is to lie on disk.
///
/// # Errors
/// It cannot be written to.
pub(crate) fn open(settings: &Settings, context: &Context) -> Result<Option<Arc<Disk>>> {
    match settings.state_backend {
        StateBackend::Memory => Ok(None),
        StateBackend::Disk => Disk::open(path(settings, context), settings.state_memory).map(Some),
    }
}

/// A line about it; none where state is in memory.
pub(crate) fn explain(settings: &Settings, context: &Context) -> String {
    match settings.state_backend {
        StateBackend::Memory => String::new(),
        StateBackend::Disk => {
            let (path, memory) = (path(settings, context), settings.state_memory >> 20);
            format!("state: on disk in {}, {memory} MiB of it in memory\n", path.display())
        }
    }
}

/// `state.path`, by default in the data directory; one folder per pipeline.
fn path(settings: &Settings, context: &Context) -> PathBuf {
    let parent = settings.state_path.as_ref().map_or_else(|| context.data_dir.join("state"), PathBuf::from);
    parent.join(&context.pipeline)
}
