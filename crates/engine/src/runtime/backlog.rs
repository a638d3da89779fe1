//! What a sink was handed and has not made safe: outputs of each task, in order, from the commit of their epochs to the
//! sink's acknowledgement. The feed writes from here, and a checkpoint takes from here what the sink is behind with.
//!
//! Invariants: outputs of a task leave at the front, once they are safe. Those that the sink has taken are kept up to a bound;
//! what is let go beyond it is known (`lost`), and a checkpoint must wait for it. Epochs on both sides of a checkpoint that
//! waits (`seal`) are not merged. All is of one term of the task: nothing is left of an earlier one.

mod entry;
mod packs;
mod segments;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use self::entry::{Entry, Held};
use super::queue::Handed;
use super::terms::Terms;
use crate::Result;
use crate::batch::Batch;
use crate::checkpoint::PendingPart;
use crate::sink::EpochOutput;
use crate::time::Micros;

/// Rows of a keyed sink that are put up with before the newest by key are looked for.
const ROUGH: usize = 8192;

/// Most record times that are kept one by one; of more, neighbours are taken together under the older of their times.
const TIMES: usize = 4096;

/// The outputs that one sink owes.
pub struct Backlog {
    tasks: BTreeMap<u32, OfTask>,
    /// How many bytes of what the sink has taken are kept.
    keep: usize,
    taken_bytes: usize,
    /// Outputs that the sink has not taken.
    waiting: usize,
}

#[derive(Default)]
struct OfTask {
    term: u64,
    entries: VecDeque<Entry>,
    /// How many at the front the sink has taken.
    taken: usize,
    /// Outputs up to this epoch were let go before they were safe.
    lost: u64,
    /// The sink takes nothing more in this term.
    refused: bool,
    /// The epoch of the newest checkpoint that was taken.
    seal: u64,
    /// The newest record times of so many epochs up to this one, that the sink has not taken.
    times: VecDeque<(u64, Micros, u64)>,
    /// Rows that wait: as they came, and behind a merge.
    rough: usize,
    merged: usize,
    /// Outputs that came since some were packed.
    loose: usize,
}

/// What a sink is to be given next.
pub struct Due {
    /// The output.
    pub output: Arc<EpochOutput>,
    /// The term of its task.
    pub term: u64,
}

/// Outputs of a keyed sink that can be merged into one.
pub struct Mergeable {
    /// The task, and its term.
    pub of: (u32, u64),
    /// First and last epoch.
    pub epochs: (u64, u64),
    /// The clock of the last.
    pub clock: Micros,
    /// The rows.
    pub batches: Vec<Batch>,
}

impl Backlog {
    /// An empty one; `keep` bytes of what the sink has taken and not made safe are kept.
    pub fn new(keep: usize) -> Self {
        Self { tasks: BTreeMap::new(), keep, taken_bytes: 0, waiting: 0 }
    }

    /// Adds an output of so many bytes. Gives whether it waits by itself, and the bytes that wait no more: of earlier terms, and
    /// what packing saves.
    pub fn push(&mut self, handed: Handed, bytes: usize) -> (bool, usize) {
        let Handed { output, record_time, term } = handed;
        let (task, epoch, rows) = (output.task, output.epoch, output.rows());
        let freed = self.begin(task, term);
        let Some(of) = self.tasks.get_mut(&task).filter(|of| of.term == term && !of.refused) else { return (false, freed) };
        of.add_time(epoch, record_time);
        let (taken, seal) = (of.taken, of.seal);
        let has_waiting = of.entries.len() > taken;
        // An epoch without rows only moves the position.
        if let Some(last) = of.entries.back_mut().filter(|last| has_waiting && rows == 0 && last.rows == 0)
            && !(last.epoch <= seal && seal < epoch)
        {
            (last.epoch, last.clock, last.held) = (epoch, output.clock, Held::Whole(Arc::new(output)));
            return (false, freed);
        }
        of.rough += rows;
        of.entries.push_back(Entry::new(epoch, output, bytes, false));
        self.waiting += 1;
        (true, freed + of.came())
    }

    /// What is left of earlier terms of a task goes; gives the bytes that waited. (What comes late of an earlier term itself
    /// begins nothing.)
    fn begin(&mut self, task: u32, term: u64) -> usize {
        if self.tasks.get(&task).is_some_and(|of| of.term >= term) {
            return 0;
        }
        let freed = self.forget(task);
        self.tasks.insert(task, OfTask { term, ..OfTask::default() });
        freed
    }

    /// A checkpoint of this epoch was taken. Gives the bytes of earlier terms that wait no more.
    pub fn seal(&mut self, task: u32, term: u64, epoch: u64) -> usize {
        let freed = self.begin(task, term);
        if let Some(of) = self.tasks.get_mut(&task).filter(|of| of.term == term) {
            of.seal = epoch;
        }
        freed
    }

    /// Nothing of a task is written any more, in its term: a checkpoint must not rely on it. Gives the bytes that waited.
    pub fn forget(&mut self, task: u32) -> usize {
        let Some(of) = self.tasks.get_mut(&task) else { return 0 };
        let bytes = |entries: &mut dyn Iterator<Item = &Entry>| entries.map(|entry| entry.bytes).sum::<usize>();
        let (taken, freed) = (bytes(&mut of.entries.iter().take(of.taken)), bytes(&mut of.entries.iter().skip(of.taken)));
        self.taken_bytes -= taken;
        self.waiting -= of.entries.len() - of.taken;
        *of = OfTask { term: of.term, lost: u64::MAX, refused: true, ..OfTask::default() };
        freed
    }

    /// The same, if its term has ended.
    pub fn forget_ended(&mut self, task: u32, terms: &Terms) -> usize {
        let ended = self.tasks.get(&task).is_some_and(|of| !terms.holds(task, of.term));
        if ended { self.forget(task) } else { 0 }
    }

    /// Whether anything waits to be written.
    pub fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// The tasks of which something waits, each with its last epoch.
    pub fn waiting_tasks(&self) -> Vec<(u32, u64)> {
        let waiting = self.tasks.iter().filter(|(_, of)| of.entries.len() > of.taken);
        waiting.filter_map(|(task, of)| Some((*task, of.entries.back()?.epoch))).collect()
    }

    /// The next output of a task, or with `keyed` all that wait as one: its rows are still to be merged.
    ///
    /// # Errors
    /// Rows cannot be copied.
    pub fn due(&self, task: u32, keyed: bool) -> Result<Option<Due>> {
        let Some(of) = self.tasks.get(&task) else { return Ok(None) };
        let mut waiting = of.entries.range(of.taken..);
        let Some(first) = waiting.next() else { return Ok(None) };
        let (term, last) = (of.term, waiting.next_back().unwrap_or(first));
        let batches = match &first.held {
            Held::Whole(output) if !keyed || last.epoch == first.epoch => return Ok(Some(Due { output: output.clone(), term })),
            Held::Packed(packed, begin) if !keyed => packed.unpacked(*begin..begin + first.rows)?,
            _ => of.entries.range(of.taken..).flat_map(Entry::batches).collect(),
        };
        let Entry { epoch, clock, .. } = *if keyed { last } else { first };
        Ok(Some(Due { output: Arc::new(EpochOutput { task, epoch, clock, batches }), term }))
    }

    /// The sink has taken the outputs of a task up to `epoch`. Gives the bytes that wait no more.
    pub fn took(&mut self, task: u32, term: u64, epoch: u64) -> usize {
        let Some(of) = self.tasks.get_mut(&task).filter(|of| of.term == term) else { return 0 };
        let mut freed = 0;
        while let Some(entry) = of.entries.get(of.taken).filter(|entry| entry.epoch <= epoch) {
            freed += entry.bytes;
            let rows = if entry.is_merged { &mut of.merged } else { &mut of.rough };
            *rows -= entry.rows;
            of.taken += 1;
            self.waiting -= 1;
        }
        self.taken_bytes += freed;
        if self.taken_bytes > self.keep {
            self.tasks.values_mut().for_each(OfTask::let_go);
            self.taken_bytes = 0;
        }
        freed
    }

    /// The record times of so many epochs of a task, up to `epoch`; once.
    pub fn take_times(&mut self, task: u32, epoch: u64) -> Vec<(Micros, u64)> {
        let Some(of) = self.tasks.get_mut(&task) else { return Vec::new() };
        let count = of.times.iter().take_while(|(last, ..)| *last <= epoch).count();
        of.times.drain(..count).map(|(_, time, epochs)| (time, epochs)).collect()
    }

    /// The sink has made safe what it took of a task up to `epoch`.
    pub fn acknowledged(&mut self, task: u32, epoch: u64) {
        let Some(of) = self.tasks.get_mut(&task) else { return };
        while of.taken > 0 && of.entries.front().is_some_and(|entry| entry.epoch <= epoch) {
            of.taken -= 1;
            self.taken_bytes -= of.entries.pop_front().map_or(0, |entry| entry.bytes);
        }
    }

    /// What waits for a keyed sink and is worth a merge.
    pub fn mergeable(&self) -> Vec<Mergeable> {
        let rough = self.tasks.iter().filter(|(_, of)| of.rough > of.merged + ROUGH);
        let groups = rough.flat_map(|(task, of)| {
            let behind_seal = |entry: &&Entry| entry.epoch > of.seal;
            let waiting = || of.entries.range(of.taken..);
            let before: Vec<&Entry> = waiting().filter(|entry| !behind_seal(entry)).collect();
            let behind: Vec<&Entry> = waiting().filter(behind_seal).collect();
            [before, behind].into_iter().filter(|group| group.len() > 1).map(move |group| {
                let (first, last) = (group[0], group[group.len() - 1]);
                let batches = group.iter().flat_map(|entry| entry.batches()).collect();
                Mergeable { of: (*task, of.term), epochs: (first.first, last.epoch), clock: last.clock, batches }
            })
        });
        groups.collect()
    }

    /// Outputs were merged; gives the bytes that wait no more.
    pub fn merged(&mut self, merged: Mergeable) -> usize {
        let Mergeable { of: (task, term), epochs: (first, last), clock, batches } = merged;
        let Some(of) = self.tasks.get_mut(&task).filter(|of| of.term == term) else { return 0 };
        let waiting = of.entries.range(of.taken..);
        let begin = of.taken + waiting.clone().take_while(|entry| entry.first < first).count();
        let count = waiting.skip(begin - of.taken).take_while(|entry| entry.epoch <= last).count();
        if count == 0 {
            return 0;
        }
        let output = EpochOutput { task, epoch: last, clock, batches };
        let (mut before, rows) = (0, output.rows());
        for entry in of.entries.range(begin..begin + count) {
            before += entry.bytes;
            let rows = if entry.is_merged { &mut of.merged } else { &mut of.rough };
            *rows -= entry.rows;
        }
        of.merged += rows;
        let bytes = output.bytes().min(before);
        let entry = Entry::new(first, output, bytes, true);
        of.entries.drain(begin..begin + count);
        of.entries.insert(begin, entry);
        self.waiting -= count - 1;
        before - bytes
    }

    /// What a checkpoint at the end of `epoch` must hold, for the sink has made safe only what came up to `acknowledged`.
    /// `None`: some of it is not here any more.
    pub fn pending(&mut self, task: u32, term: u64, epoch: u64, acknowledged: u64) -> Option<Vec<PendingPart>> {
        match self.tasks.get_mut(&task).filter(|of| of.term == term) {
            None => Some(Vec::new()),
            Some(of) if of.lost > acknowledged => None,
            Some(of) => Some(of.segments(epoch)),
        }
    }
}

impl OfTask {
    fn add_time(&mut self, epoch: u64, time: Option<Micros>) {
        self.times.extend(time.map(|time| (epoch, time, 1)));
        if self.times.len() > TIMES {
            let pairs = self.times.make_contiguous().chunks(2);
            let both = |pair: &[(u64, Micros, u64)]| {
                let time = pair.iter().map(|(_, time, _)| *time).min().unwrap_or_default();
                (pair[pair.len() - 1].0, time, pair.iter().map(|(.., epochs)| epochs).sum())
            };
            self.times = pairs.map(both).collect();
        }
    }

    /// What the sink has taken is not kept.
    fn let_go(&mut self) {
        self.lost = self.entries.range(..self.taken).last().map_or(self.lost, |entry| entry.epoch);
        self.entries.drain(..self.taken);
        self.taken = 0;
    }
}

#[cfg(test)]
mod tests;
