//! What stands in the journal's topic, and what it means.
//!
//! Partition 0 tells of the pipeline: each beginning of a life ([`GENESIS`]) and each run that took an instance's place over
//! ([`OWNER`]: `<instance>/<run>`). Task
//! t's epochs ([`EPOCH`]) are in partition t + 1, behind a copy of their life's genesis, which is removed with them once they
//! are not needed; that in partition 0 stays. A life begins in all partitions in one transaction: so what stands in front of
//! a genesis belongs to an earlier life, and where there is none all is of the newest.
//!
//! Invariant: a task's records follow each other without gap or repetition; else the pipeline stops and says so.

use std::collections::{BTreeMap, VecDeque};

use riverrun_engine::journal::{Genesis, Record, Recorded};
use riverrun_engine::{Error, Result};

/// Key of a genesis.
pub(super) const GENESIS: &[u8] = b"genesis";
/// Key of the name of a run.
pub(super) const OWNER: &[u8] = b"owner";
/// The instance that has no name of its own.
pub(super) const DEFAULT_INSTANCE: &str = "default";
/// Key of an epoch's record.
pub(super) const EPOCH: &[u8] = b"epoch";

/// The partition of a task.
pub(super) fn partition_of(task: u32) -> i32 {
    task as i32 + 1
}

/// The newest life, as it is read.
#[derive(Default)]
pub(super) struct Entries {
    /// How it began.
    pub genesis: Option<Genesis>,
    /// By instance, the run that took its place over last.
    pub owners: BTreeMap<String, String>,
    tasks: Vec<Task>,
}

#[derive(Default)]
struct Task {
    genesis: Option<Genesis>,
    records: Vec<Record>,
    offsets: Offsets,
}

impl Entries {
    /// Takes what stands next in a partition.
    pub fn take(&mut self, (partition, offset): (i32, i64), key: &[u8], value: &[u8]) -> Result<()> {
        let within = |e: Error| e.within(format!("partition {partition}, offset {offset}"));
        match (key, partition) {
            (GENESIS, 0) => self.genesis = Some(Genesis::decode(value).map_err(within)?),
            (OWNER, 0) => {
                let text = String::from_utf8_lossy(value);
                // There was a time without names.
                let (instance, run) = text.rsplit_once('/').unwrap_or((DEFAULT_INSTANCE, &text));
                self.owners.insert(instance.to_owned(), run.to_owned());
            }
            (GENESIS, _) => {
                let genesis = Some(Genesis::decode(value).map_err(within)?);
                *self.task(partition) = Task { genesis, ..Task::default() };
            }
            (EPOCH, 1..) => {
                let record = Record::decode(value).map_err(within)?;
                self.task(partition).follow(partition, record, offset).map_err(within)?;
            }
            _ => {
                let what = format!("'{}' is no entry of a journal", String::from_utf8_lossy(key));
                return Err(within(Error::permanent(what)).hint("nobody but Riverrun, of this version, may write to this topic"));
            }
        }
        Ok(())
    }

    fn task(&mut self, partition: i32) -> &mut Task {
        let task = partition.unsigned_abs() as usize - 1;
        if self.tasks.len() <= task {
            self.tasks.resize_with(task + 1, Task::default);
        }
        &mut self.tasks[task]
    }

    /// Whether an epoch of a task is there.
    pub fn has(&self, task: u32, epoch: u64) -> bool {
        let records = self.tasks.get(task as usize).map(|task| &task.records);
        records.is_some_and(|records| records.iter().rev().any(|record| record.epoch == epoch))
    }

    /// All that was recorded, and where it stands.
    pub fn finish(self) -> Result<(Recorded, Vec<Offsets>)> {
        let Some(genesis) = self.genesis else { return Ok((Recorded::default(), Vec::new())) };
        let mut tasks = self.tasks;
        // A topic may have more partitions: of an earlier life with more tasks.
        tasks.resize_with(genesis.tasks as usize, Task::default);
        if let Some(task) = tasks.iter().position(|task| task.genesis.as_ref().is_some_and(|theirs| *theirs != genesis)) {
            let what = format!("partition {} tells of another life than partition 0", partition_of(task as u32));
            return Err(Error::permanent(what).hint("start under another pipeline.name"));
        }
        let (records, offsets) = tasks.into_iter().map(|task| (task.records, task.offsets)).unzip();
        Ok((Recorded { genesis: Some(genesis), records }, offsets))
    }

    /// What was recorded of one task in the life that began so, and where it stands.
    pub fn take_task(&mut self, task: u32, genesis: &Genesis) -> Result<(Vec<Record>, Offsets)> {
        let Some(found) = self.tasks.get_mut(task as usize).map(std::mem::take) else { return Ok(Default::default()) };
        if found.genesis.is_some_and(|theirs| theirs != *genesis) {
            let what = format!("partition {} tells of another life than partition 0", partition_of(task));
            return Err(Error::permanent(what).hint("start under another pipeline.name"));
        }
        Ok((found.records, found.offsets))
    }
}

impl Task {
    fn follow(&mut self, partition: i32, record: Record, offset: i64) -> Result<()> {
        let (task, epoch) = (record.task, record.epoch);
        let hint = "start under another pipeline.name, or from a copy of the topic";
        if partition_of(task) != partition {
            return Err(Error::permanent(format!("a record of task {task} stands in another task's partition")).hint(hint));
        }
        // A life may begin behind a checkpoint that was made without a journal: its first epoch has any number.
        let expected = self.records.last().map_or(epoch, |last| last.epoch + 1);
        if epoch != expected {
            let how = if epoch < expected { "a second time" } else { "too early" };
            let what = format!("task {task}: epoch {epoch} comes {how}, where epoch {expected} should be");
            return Err(Error::permanent(what).hint(hint));
        }
        self.records.push(record);
        self.offsets.push(epoch, offset);
        Ok(())
    }
}

/// Where the epochs of a task stand: all, or, when they are many, some.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Offsets(VecDeque<(u64, i64)>);

impl Offsets {
    /// As many are kept: a checkpoint that lags by more is found less exactly, and some records stay longer.
    const MOST: usize = 16_384;

    /// The next epoch stands there.
    pub fn push(&mut self, epoch: u64, offset: i64) {
        if self.0.len() >= Self::MOST {
            let mut odd = false;
            self.0.retain(|_| {
                odd = !odd;
                odd
            });
        }
        self.0.push_back((epoch, offset));
    }

    /// Forgets epochs up to this one; the offset of the last of them.
    pub fn take_to(&mut self, epoch: u64) -> Option<i64> {
        let gone = self.0.partition_point(|(e, _)| *e <= epoch);
        self.0.drain(..gone).next_back().map(|(_, offset)| offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn genesis(lineage: &str) -> Genesis {
        Genesis { lineage: lineage.into(), graph: "g".into(), tasks: 2, starts: Vec::new(), sources: Vec::new() }
    }

    fn epoch(task: u32, epoch: u64) -> Vec<u8> {
        let (chunks, lifts, ended) = Default::default();
        Record { task, epoch, clock: 0, chunks, lifts, ended, rows: Vec::new() }.encode().unwrap()
    }

    /// Entries by partition, in the order of their offsets.
    fn read(partitions: &[Vec<(&[u8], Vec<u8>)>]) -> Result<Entries> {
        let mut entries = Entries::default();
        for (partition, all) in partitions.iter().enumerate() {
            for (offset, (key, value)) in all.iter().enumerate() {
                entries.take((partition as i32, offset as i64), key, value)?;
            }
        }
        Ok(entries)
    }

    fn begins(lineage: &str) -> (&'static [u8], Vec<u8>) {
        (GENESIS, genesis(lineage).encode().unwrap())
    }

    #[test]
    fn only_the_newest_life_counts() {
        let pipeline =
            vec![begins("a"), (OWNER, b"1-1".to_vec()), begins("b"), (OWNER, b"2-2".to_vec()), (OWNER, b"b/1/3-3".to_vec())];
        let first = vec![begins("a"), (EPOCH, epoch(0, 1)), (EPOCH, epoch(0, 2)), begins("b"), (EPOCH, epoch(0, 1))];
        // The genesis of the second task's partition is gone with the records behind it.
        let second = vec![(EPOCH, epoch(1, 7)), (EPOCH, epoch(1, 8))];
        let entries = read(&[pipeline, first, second]).unwrap();
        assert!(entries.has(1, 8) && !entries.has(0, 2) && !entries.has(5, 1));
        assert_eq!(entries.owners, BTreeMap::from([(DEFAULT_INSTANCE.into(), "2-2".into()), ("b/1".into(), "3-3".into())]));
        let (recorded, offsets) = entries.finish().unwrap();
        assert_eq!(recorded.genesis, Some(genesis("b")));
        let epochs: Vec<Vec<u64>> = recorded.records.iter().map(|task| task.iter().map(|r| r.epoch).collect()).collect();
        assert_eq!(epochs, [vec![1], vec![7, 8]]);
        assert_eq!(offsets[0].clone().take_to(9), Some(4));
    }

    #[test]
    fn a_task_is_read_by_itself() {
        let mut entries = read(&[vec![], vec![begins("a"), (EPOCH, epoch(0, 1))], vec![(EPOCH, epoch(1, 5))]]).unwrap();
        assert!(entries.take_task(0, &genesis("b")).unwrap_err().message().contains("another life"));
        let (records, mut offsets) = entries.take_task(1, &genesis("b")).unwrap();
        assert_eq!((records[0].epoch, offsets.take_to(5)), (5, Some(0)));
        assert!(entries.take_task(7, &genesis("b")).unwrap().0.is_empty(), "nothing was recorded of it");
    }

    #[test]
    fn a_topic_without_entries_is_a_pipeline_that_never_ran() {
        let (recorded, _) = Entries::default().finish().unwrap();
        assert!(recorded.genesis.is_none() && recorded.records.is_empty());
        // Whatever else was there: a genesis in partition 0 decides.
        assert!(read(&[vec![(OWNER, b"1-1".to_vec())]]).unwrap().finish().unwrap().0.genesis.is_none());
    }

    #[test]
    fn gaps_and_repetitions_stop_the_pipeline() {
        for (epochs, told) in [(vec![1, 3], "too early"), (vec![1, 1], "a second time"), (vec![2, 3, 1], "should be")] {
            let mut task = vec![begins("a")];
            task.extend(epochs.iter().map(|n| (EPOCH, epoch(0, *n))));
            let error = read(&[vec![begins("a")], task]).err().unwrap();
            assert!(error.message().contains(told) && error.message().starts_with("partition 1, offset"), "{error}");
        }
        let strange = read(&[vec![], vec![(EPOCH, epoch(1, 1))]]).err().unwrap();
        assert!(strange.message().contains("another task's partition"), "{strange}");
        let foreign = read(&[vec![(b"k", b"v".to_vec())]]).err().unwrap();
        assert!(foreign.message().contains("'k' is no entry"), "{foreign}");
        let torn = read(&[vec![begins("b")], vec![begins("a")]]).unwrap().finish().err().unwrap();
        assert!(torn.message().contains("another life"), "{torn}");
    }

    #[test]
    fn offsets_are_bounded_and_never_name_a_later_epoch() {
        let mut offsets = Offsets::default();
        (1..100_000u64).for_each(|epoch| offsets.push(epoch, epoch as i64 * 2));
        assert!(offsets.0.len() <= Offsets::MOST);
        let found = offsets.take_to(50_000).unwrap();
        assert!(found <= 100_000 && found > 99_000, "{found}");
        assert_eq!(offsets.take_to(50_000), None);
        assert_eq!(offsets.take_to(u64::MAX), Some(199_998));
    }
}
