//! What was committed, for ever, and the invariants of the protocol over it.

use riverrun_engine::journal::{Genesis, Record, Recorded};

use riverrun_engine::checkpoint::PendingOutputs;

use crate::plan::Kind;
use crate::world::State;

/// All records of all lives, and what may still be read of them.
#[derive(Debug, Clone)]
pub struct History {
    /// How it began.
    pub genesis: Option<Genesis>,
    /// By task, all records: epoch n at place n - 1.
    pub records: Vec<Vec<Record>>,
    /// By task: records up to this epoch are gone.
    pub cut: Vec<u64>,
    /// By task: the checkpoints that are visible, oldest first.
    pub checkpoints: Vec<Vec<Visible>>,
}

/// A checkpoint that is visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visible {
    /// Its epoch.
    pub epoch: u64,
    /// Whether it is as it was written.
    pub intact: bool,
    /// What it holds for its sinks.
    pub pending: Vec<PendingOutputs>,
}

impl History {
    /// Of so many tasks.
    pub fn new(tasks: u32) -> Self {
        let tasks = tasks as usize;
        let (records, cut, checkpoints) = (vec![Vec::new(); tasks], vec![0; tasks], vec![Vec::new(); tasks]);
        Self { genesis: None, records, cut, checkpoints }
    }

    /// What a journal that keeps all but what was cut gives to a new owner.
    pub fn recorded(&self) -> Recorded {
        let left = |(records, cut): (&Vec<Record>, &u64)| records[(*cut as usize).min(records.len())..].to_vec();
        Recorded { genesis: self.genesis.clone(), records: self.records.iter().zip(&self.cut).map(left).collect() }
    }

    /// The last committed epoch of a task.
    pub fn end(&self, task: usize) -> u64 {
        self.records[task].len() as u64
    }

    /// Whether an epoch is committed.
    pub fn has(&self, task: u32, epoch: u64) -> bool {
        epoch <= self.end(task as usize)
    }

    /// Where epochs up to `epoch` left a partition; `None`: where it began.
    pub fn position(&self, task: usize, partition: u32, epoch: u64) -> Option<i64> {
        let of = |record: &Record| record.chunks.iter().flatten().filter(|s| s.partition == partition).map(|s| s.offset).max();
        self.records[task].iter().take(epoch as usize).filter_map(of).max()
    }
}

impl State {
    /// A record was committed.
    pub fn committed(&mut self, record: &Record) {
        let (task, epoch) = (record.task as usize, record.epoch);
        let last = self.history.records[task].last();
        if epoch != self.history.end(task) + 1 {
            let end = self.history.end(task);
            return self.violate(|| format!("task {task}: epoch {epoch} is committed, and the journal ends at epoch {end}"));
        }
        if let Some(last) = last.filter(|last| last.clock >= record.clock) {
            let (before, after) = (last.clock, record.clock);
            self.violate(|| format!("task {task}, epoch {epoch}: its clock is {after}, behind {before}"));
        }
        for partition in 0..self.plan.partitions.max(self.plan.exchange_partitions) {
            let mut before = self.history.position(task, partition, epoch);
            for stop in record.chunks.iter().flatten().filter(|stop| stop.partition == partition) {
                if before.is_some_and(|before| stop.offset <= before) {
                    self.violate(|| {
                        format!("task {task}, epoch {epoch}: partition {partition} goes back to offset {}", stop.offset)
                    });
                }
                before = Some(stop.offset);
            }
        }
        self.history.records[task].push(record.clone());
    }

    /// Whether the epochs that happened have read all records, and the tables have what they gave.
    pub fn is_done(&self) -> bool {
        self.lacking().is_empty()
    }

    /// What is lacking of that.
    pub fn lacking(&self) -> String {
        let is_unread = |(partition, entries): &(u32, &Vec<crate::source::Entry>)| {
            let task = if self.plan.tasks == 1 { 0 } else { *partition as usize };
            let read = self.history.position(task, *partition, u64::MAX);
            entries.last().is_some_and(|last| read.is_none_or(|read| read <= last.offset))
        };
        if let Some((partition, _)) = (0..).zip(&self.topic.partitions).find(is_unread) {
            return format!("partition {partition} is not read to its end");
        }
        if !self.exchanges_are_read() {
            return "a repartition topic is not read to its end".to_owned();
        }
        let pairs = (0..self.tables.len()).flat_map(|sink| (0..self.plan.tasks as usize).map(move |task| (sink, task)));
        let mut lacks =
            pairs.filter(|(sink, task)| self.tables[*sink].landed_to(*task as u32) < self.needed(*sink, *task, u64::MAX));
        lacks.next().map_or_else(String::new, |(sink, task)| format!("{} lacks rows of task {task}", self.tables[sink].name))
    }

    /// The last epoch up to `epoch` that gave a sink rows; 0: none did.
    fn needed(&self, sink: usize, task: usize, epoch: u64) -> u64 {
        let with_rows = |record: &&Record| record.epoch <= epoch && record.rows[sink] > 0;
        self.history.records[task].iter().rev().find(with_rows).map_or(0, |record| record.epoch)
    }

    /// Records of a task up to `epoch` were removed.
    pub fn was_cut(&mut self, task: u32, epoch: u64) {
        let cut = &mut self.history.cut[task as usize];
        *cut = epoch.max(*cut);
        self.cut_exchange(task, epoch);
        self.check_recoverable(task as usize);
    }

    /// The checkpoints of a task that are visible now, oldest first.
    pub fn checkpoints_are(&mut self, task: usize, now: Vec<Visible>) {
        let before = std::mem::replace(&mut self.history.checkpoints[task], now.clone());
        if before == now {
            return;
        }
        let told: Vec<_> = now.iter().map(|Visible { epoch, intact, pending }| (*epoch, *intact, pending.len())).collect();
        self.note(|| format!("task {task}: checkpoints (epoch, intact, sinks behind) are {told:?}"));
        for visible in now.iter().filter(|visible| visible.intact && !before.contains(visible)) {
            self.check_checkpoint(task, visible);
        }
        self.check_recoverable(task);
    }

    /// A checkpoint that has become visible needs nothing that could be lost: it holds what its sinks have not.
    fn check_checkpoint(&mut self, task: usize, visible: &Visible) {
        let epoch = visible.epoch;
        if !self.history.has(task as u32, epoch) {
            let end = self.history.end(task);
            return self.violate(|| format!("task {task}: a checkpoint of epoch {epoch} is visible, the journal ends at {end}"));
        }
        for sink in 0..self.tables.len() {
            let (name, held) = (self.tables[sink].name.clone(), self.tables[sink].landed_to(task as u32));
            let of_sink = || visible.pending.iter().filter(|pending| pending.sink == name).flat_map(|pending| &pending.parts);
            let records = self.history.records[task].iter().take(epoch as usize);
            let lacking: Vec<_> = records.filter(|record| record.epoch > held && record.rows[sink] > 0).collect();
            let is_held = |epoch: u64| of_sink().any(|part| (part.first..=part.last).contains(&epoch));
            let rows = (of_sink().map(|part| part.place.rows).sum(), lacking.iter().map(|record| record.rows[sink]).sum());
            let (there, needed): (u64, u64) = rows;
            let lost = lacking.iter().map(|record| record.epoch).find(|lacking| !is_held(*lacking));
            let is_short = !self.tables[sink].coalesced && there < needed;
            if let Some(lost) = lost {
                self.violate(|| {
                    format!("task {task}: a checkpoint of epoch {epoch} is visible, {name} has nothing behind epoch {held}, and epoch {lost} is in neither")
                });
            } else if is_short {
                self.violate(|| {
                    format!("task {task}: a checkpoint of epoch {epoch} holds {there} rows for {name}, which lacks {needed}")
                });
            }
        }
    }

    /// Each of the two newest intact checkpoints can be gone on from; without any, the beginning.
    fn check_recoverable(&mut self, task: usize) {
        let cut = self.history.cut[task];
        let intact: Vec<u64> =
            self.history.checkpoints[task].iter().filter(|visible| visible.intact).map(|visible| visible.epoch).collect();
        let needed = intact.iter().rev().take(2).min().copied().unwrap_or(0);
        if cut > needed {
            self.violate(|| format!("task {task}: the journal is cut behind epoch {cut}, its checkpoints are {intact:?}"));
        }
        if intact.is_empty() && !self.history.checkpoints[task].is_empty() {
            self.violate(|| format!("task {task}: no checkpoint is intact"));
        }
    }

    /// A position was told to the source: the state of the newest checkpoint has all before it.
    pub fn check_position(&mut self, partition: u32, offset: i64) {
        let task = if self.plan.tasks == 1 { 0 } else { partition as usize };
        let newest = self.history.checkpoints[task].iter().map(|visible| visible.epoch).max();
        let entries = &self.topic.partitions[partition as usize];
        let begin = entries.first().map_or(0, |entry| entry.offset);
        let held = newest.and_then(|newest| self.history.position(task, partition, newest)).unwrap_or(begin);
        if entries.iter().any(|entry| entry.offset >= held && entry.offset < offset) {
            self.violate(|| format!("partition {partition}: offset {offset} is told, the newest checkpoint is of {held}"));
        }
    }

    /// A sink is given an epoch: it must have happened.
    pub fn check_given(&mut self, sink: usize, task: u32, epoch: u64) {
        if !self.history.has(task, epoch) {
            let (name, end) = (self.tables[sink].name.clone(), self.history.end(task as usize));
            self.violate(|| format!("{name} is given epoch {epoch} of task {task}, and the journal ends at {end}"));
        }
        if self.tables[sink].kind == Kind::Taken {
            let name = self.tables[sink].name.clone();
            self.violate(|| format!("{name} is taken by the journal, and given epoch {epoch} of task {task} beside it"));
        }
    }
}
