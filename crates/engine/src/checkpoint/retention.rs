//! Removing what no start needs any more.
//!
//! Kept are the newest manifests, as many as settings say, and the data files that they refer to. Removed are manifests that
//! are older than the oldest kept one, and data files whose number is lower than its and that no kept one refers to. By the
//! invariant of the chain no manifest that may still come refers to such a file: so this is safe for whoever does it, however
//! late. Files of a checkpoint that another process is writing have a higher number.

use std::collections::HashSet;

use super::names::{FileKind, TaskFile};
use super::read::read_manifest;
use super::{Chain, Checkpoints};
use crate::failpoint;
use crate::planted::{Fault, is_planted};
use crate::{Error, Result};

impl Checkpoints {
    /// Removes what is not needed of a task's `files`; gives the oldest epoch that a kept checkpoint could be restored from, once there is one to
    /// fall back on.
    pub(super) fn remove_unneeded(&self, files: &[TaskFile], chain: &mut Chain) -> Result<Option<u64>> {
        let of = |kind| files.iter().filter(move |f| f.kind == kind);
        let mut kept: Vec<_> = of(FileKind::Manifest).filter(|f| !chain.broken.contains(&f.sequence)).collect();
        kept.sort_by_key(|f| f.sequence);
        kept.drain(..kept.len().saturating_sub(self.keep));
        let Some(oldest) = kept.first().map(|f| f.sequence) else { return Ok(None) };
        let mut needed = HashSet::new();
        let mut epochs = Vec::new();
        let mut all_known = true;
        for file in &kept {
            let read;
            let manifest = match &chain.base {
                Some(base) if file.sequence == chain.newest => Some(base),
                _ => {
                    read = read_manifest(self.storage.as_ref(), &file.stored.name)?.ok();
                    read.as_ref()
                }
            };
            match manifest {
                Some(manifest) => {
                    needed.extend(manifest.files.iter().map(|f| f.name.clone()));
                    epochs.push(manifest.epoch);
                }
                None => all_known = false,
            }
        }
        if is_planted(Fault::NewestCheckpointDeleted)
            && let Some(newest) = kept.last().filter(|_| kept.len() == self.keep)
        {
            self.storage.delete(&newest.stored.name)?;
        }
        if is_planted(Fault::NeededFilesDeleted) {
            needed.clear();
        }
        let enough = kept.len() == self.keep;
        if enough && all_known {
            let (manifests, data): (Vec<_>, Vec<_>) = files
                .iter()
                .filter(|f| f.kind == FileKind::Version1 || f.sequence < oldest)
                .filter(|f| !needed.contains(&f.stored.name))
                .partition(|f| f.kind != FileKind::Data);
            // Manifests first: one that is there has its files.
            for (i, file) in manifests.into_iter().chain(data).enumerate() {
                let name = &file.stored.name;
                self.storage.delete(name).map_err(|e: Error| e.within("old checkpoint"))?;
                if i == 0 {
                    failpoint::reach("checkpoint.in-deletion");
                }
            }
            chain.broken.retain(|sequence| *sequence > oldest);
        }
        let restorable = epochs.len() >= self.keep.min(2);
        Ok(epochs.into_iter().min().filter(|_| restorable))
    }
}
