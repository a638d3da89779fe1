//! Which files are merged: of each partition the small ones, oldest first, such that each result is about as large as asked for.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use deltalake_core::kernel::{LogicalFileView, Remove};
use deltalake_core::{DeltaResult, DeltaTable};
use riverrun_engine::time::Micros;

use crate::delta::data::File;

/// Files that are written in one commit, at most: what a conflict costs is no more than that.
const FILES: usize = 8;
/// Small files of a partition that are too many …
const MANY: usize = 32;
/// … and of one that nobody has written to …
const SOME: usize = 8;
/// … for so long.
const FINISHED: Duration = Duration::from_secs(3600);

/// Values of the partition columns, as text (`None`: NULL).
pub(in crate::delta) type Values = HashMap<String, Option<String>>;

/// Which partitions are looked at.
#[derive(Debug, Clone, Copy)]
pub(in crate::delta) enum When {
    /// All that have files to merge.
    Asked,
    /// Those where it pays now: beside a sink that goes on.
    Due(Micros),
}

/// A file that goes into a larger one.
#[derive(Debug, Clone)]
pub(in crate::delta) struct Small {
    pub file: File,
    /// What takes it out of the table.
    pub remove: Remove,
    written: i64,
}

/// What one commit does.
#[derive(Debug)]
pub(in crate::delta) struct Group {
    /// Values of the partition columns.
    pub partition: BTreeMap<String, Option<String>>,
    /// For each file that is written, those that go into it: two at least.
    pub merges: Vec<Vec<Small>>,
}

impl Group {
    /// All files that are read.
    pub fn files(&self) -> impl Iterator<Item = &Small> {
        self.merges.iter().flatten()
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.files().map(|small| small.file.size).sum()
    }

    /// The partition, as folders name it.
    pub fn name(&self) -> String {
        let value = |(name, value): (&String, &Option<String>)| format!("{name}={}", value.as_deref().unwrap_or("NULL"));
        if self.partition.is_empty() {
            "the table".to_owned()
        } else {
            self.partition.iter().map(value).collect::<Vec<_>>().join("/")
        }
    }
}

/// What is to be done to a table whose files should have about `target` bytes, in the partitions that `wanted` lets through.
pub(in crate::delta) fn plan(
    table: &DeltaTable,
    target: u64,
    when: When,
    wanted: &dyn Fn(&Values) -> bool,
) -> DeltaResult<Vec<Group>> {
    let mut partitions: BTreeMap<BTreeMap<String, Option<String>>, Partition> = BTreeMap::new();
    for view in table.snapshot()?.log_data().iter() {
        let values = view.partition_values_map();
        if wanted(&values) {
            partitions.entry(values.clone().into_iter().collect()).or_default().take(&view, values, target);
        }
    }
    let due = partitions.into_iter().filter(|(_, partition)| partition.is_due(when));
    Ok(due.flat_map(|(values, partition)| partition.groups(&values, target)).collect())
}

#[derive(Default)]
struct Partition {
    small: Vec<Small>,
    newest: i64,
}

impl Partition {
    fn take(&mut self, view: &LogicalFileView, values: Values, target: u64) {
        let (size, written) = (u64::try_from(view.size()).unwrap_or(0), view.modification_time());
        self.newest = self.newest.max(written);
        // A file with a deletion vector has rows that are not there.
        if size <= target / 2 && view.deletion_vector_descriptor().is_none() {
            let rows = view.num_records().map(|rows| rows as u64);
            let file = File { path: view.object_store_path(), size, rows, partition: values };
            self.small.push(Small { file, remove: view.remove_action(false), written });
        }
    }

    fn is_due(&self, when: When) -> bool {
        let When::Due(now) = when else { return true };
        let finished = now / 1000 - self.newest >= FINISHED.as_millis() as i64;
        self.small.len() >= if finished { SOME } else { MANY }
    }

    fn groups(mut self, values: &BTreeMap<String, Option<String>>, target: u64) -> Vec<Group> {
        self.small.sort_by(|a, b| (a.written, &a.file.path).cmp(&(b.written, &b.file.path)));
        let mut merges: Vec<Vec<Small>> = Vec::new();
        let mut bytes = u64::MAX;
        for small in self.small {
            bytes = bytes.saturating_add(small.file.size);
            match merges.last_mut() {
                Some(merge) if bytes <= target => merge.push(small),
                _ => {
                    bytes = small.file.size;
                    merges.push(vec![small]);
                }
            }
        }
        merges.retain(|merge| merge.len() > 1);
        let mut groups = Vec::new();
        while !merges.is_empty() {
            let rest = merges.split_off(merges.len().min(FILES));
            groups.push(Group { partition: values.clone(), merges: std::mem::replace(&mut merges, rest) });
        }
        groups
    }
}
