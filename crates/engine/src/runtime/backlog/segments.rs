//! How outputs that are not safe are cut into the parts of a checkpoint, so that each is written a few times at most: a part
//! is known by its first and last epoch, and stays what it is from one checkpoint to the next. New outputs make a new part,
//! which takes in those before it that are not much larger: so there are few parts, whatever waits for how long.

use super::OfTask;
use super::entry::{Entry, Held};
use crate::checkpoint::{Outputs, PendingPart};

/// A part takes in no more beyond this many bytes in memory.
const SEGMENT_BYTES: usize = 8 << 20;

/// Entries of one part.
struct Run {
    begin: usize,
    end: usize,
    bytes: usize,
    segment: Option<(u64, u64)>,
}

impl Run {
    /// Whether an entry, or a part, of so many bytes can come into it.
    fn takes(&self, bytes: usize) -> bool {
        self.bytes + bytes <= SEGMENT_BYTES
    }
}

impl OfTask {
    /// The parts of what is not safe up to the end of `epoch`.
    pub(super) fn segments(&mut self, epoch: u64) -> Vec<PendingPart> {
        let mut runs: Vec<Run> = Vec::new();
        let up_to = self.entries.iter().take_while(|entry| entry.epoch <= epoch);
        for (at, Entry { bytes, segment, .. }) in up_to.enumerate().filter(|(_, entry)| entry.rows > 0) {
            let (bytes, segment) = (*bytes, *segment);
            match runs.last_mut().filter(|run| run.segment == segment && (segment.is_some() || run.takes(bytes))) {
                Some(run) => (run.end, run.bytes) = (at + 1, run.bytes + bytes),
                None => runs.push(Run { begin: at, end: at + 1, bytes, segment }),
            }
        }
        let mut settled: Vec<Run> = Vec::with_capacity(runs.len());
        for mut run in runs {
            while run.segment.is_none()
                && let Some(before) = settled.pop_if(|before| before.bytes <= 2 * run.bytes && before.takes(run.bytes))
            {
                (run.begin, run.bytes) = (before.begin, run.bytes + before.bytes);
            }
            settled.push(run);
        }
        settled.into_iter().map(|run| self.part(&run)).collect()
    }

    fn part(&mut self, run: &Run) -> PendingPart {
        let (begin, end) = (run.begin, run.end);
        let name = || (self.entries[begin].first, self.entries[end - 1].epoch);
        let (first, last) = run.segment.unwrap_or_else(name);
        self.entries.range_mut(begin..end).for_each(|entry| entry.segment = Some((first, last)));
        PendingPart { first, last, outputs: outputs(self.entries.range(begin..end).filter(|entry| entry.rows > 0)) }
    }
}

/// The outputs of these entries; those that lie beside each other are taken together.
fn outputs<'a>(mut entries: impl Iterator<Item = &'a Entry>) -> Vec<Outputs> {
    let mut outputs = Vec::new();
    let mut next = entries.next();
    while let Some(entry) = next {
        next = entries.next();
        match &entry.held {
            Held::Whole(output) => outputs.push(Outputs::One(output.clone())),
            Held::Packed(packed, begin) => {
                let mut end = begin + entry.rows;
                while let Some(beside) = next.filter(|beside| beside.held.lies_in(packed)) {
                    end += beside.rows;
                    next = entries.next();
                }
                outputs.push(Outputs::Packed(packed.part(*begin..end)));
            }
        }
    }
    outputs
}
