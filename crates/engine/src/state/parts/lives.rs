//! For tests: an operator and those that were restored from it, side by side. What one gives the others must give too, and
//! the parts of each must keep to their contract.

use std::collections::BTreeMap;
use std::io::Cursor;

use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use super::*;
use crate::batch::Batch;
use crate::checkpoint::{Checkpoint, Checkpoints, MemoryStorage, Origin};
use crate::operator::{Operator, Output, StateSize};
use crate::state::{Backend, Disk};

/// The numbered parts that an operator has given.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ledger(BTreeMap<u64, RecordBatch>);

impl Ledger {
    /// Notes a snapshot's parts, and gives the bytes of those that a checkpoint has to write.
    pub(crate) fn note(&mut self, parts: &[StatePart]) -> usize {
        let mut numbers: Vec<_> = parts.iter().filter_map(|part| part.number).collect();
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "a number stands for two parts: {numbers:?}");
        let newest = self.0.last_key_value().map(|(number, _)| *number);
        let mut bytes = 0;
        for StatePart { number, rows } in parts {
            let rows = rows.load().unwrap();
            match number.and_then(|number| self.0.get(&number)) {
                Some(known) => assert!(*known == rows, "part {number:?} has changed"),
                None => bytes += encode(&rows).len(),
            }
            if let Some(number) = number.filter(|number| !self.0.contains_key(number)) {
                assert!(newest.is_none_or(|newest| newest < number), "{number} comes after {newest:?}");
                self.0.insert(number, rows);
            }
        }
        bytes
    }
}

fn encode(rows: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), rows.schema_ref()).unwrap();
    writer.write(rows).unwrap();
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

/// The parts as they come back from files.
pub(crate) fn written_and_read(parts: Vec<StatePart>) -> Vec<StatePart> {
    let read = |part: StatePart| {
        let mut reader = StreamReader::try_new(Cursor::new(encode(&part.rows.load().unwrap())), None).unwrap();
        StatePart { number: part.number, rows: reader.next().unwrap().unwrap().into() }
    };
    parts.into_iter().map(read).collect()
}

/// Checkpoints of one operator, in memory, written as they are in a directory.
pub(crate) struct Kept {
    ledger: Ledger,
    checkpoints: Checkpoints,
    epoch: u64,
}

impl Kept {
    pub(crate) fn new() -> Self {
        let origin = Origin { graph: "g".into(), tasks: 1, parts: Vec::new() };
        let checkpoints = Checkpoints::new(Arc::new(MemoryStorage::default()), 2, origin, Vec::new());
        Self { ledger: Ledger::default(), checkpoints, epoch: 0 }
    }

    /// Writes the next checkpoint; gives the bytes that were written for it.
    pub(crate) fn write(&mut self, parts: Vec<StatePart>) -> usize {
        self.ledger.note(&parts);
        self.epoch += 1;
        let states = vec![(0, parts)];
        let (positions, pending) = (Vec::new(), Vec::new());
        let checkpoint = Checkpoint { epoch: self.epoch, clock: 0, lineage: None, positions, states, pending, made_by: None };
        self.checkpoints.write(0, &checkpoint).unwrap().bytes as usize
    }

    /// The parts of the newest checkpoint, read.
    pub(crate) fn read(&self) -> Vec<StatePart> {
        self.checkpoints.newest(0).unwrap().unwrap().states.pop().unwrap().1
    }
}

/// A backend on disk that keeps as little as it can in memory.
pub(crate) fn on_disk() -> Backend {
    Backend::Disk(Disk::small().space().unwrap())
}

/// Makes an operator with empty state.
type Make = Box<dyn Fn(&Backend) -> Box<dyn Operator> + Send>;

/// An operator in memory and one on disk, and what was restored from the snapshots of the newest one, in turn on disk and in
/// memory. All get the same input, and must give the same.
pub(crate) struct Lives {
    make: Make,
    all: Vec<(Box<dyn Operator>, Ledger)>,
    restarts: usize,
}

impl Lives {
    pub(crate) fn new(make: impl Fn(&Backend) -> Box<dyn Operator> + Send + 'static) -> Self {
        let all = [Backend::Memory, on_disk()].map(|backend| (make(&backend), Ledger::default()));
        Self { make: Box::new(make), all: all.into(), restarts: 0 }
    }

    /// Begins another life from a snapshot of the newest one. The older ones go on.
    pub(crate) fn restart(&mut self) {
        let parts = self.snapshot().unwrap();
        let ledger = self.all.last().unwrap().1.clone();
        self.restarts += 1;
        // Memory from disk, disk from memory, and each from its own kind.
        let backend = if (self.restarts / 2).is_multiple_of(2) { Backend::Memory } else { on_disk() };
        let mut fresh = (self.make)(&backend);
        fresh.restore(written_and_read(parts.clone())).unwrap();
        let again = fresh.snapshot().unwrap();
        let numbers = |parts: &[StatePart]| parts.iter().map(|part| part.number).collect::<Vec<_>>();
        let mut known = ledger.clone();
        known.note(&again);
        assert!(numbers(&again).iter().all(|number| numbers(&parts).contains(number)), "nothing is written anew for a restart");
        self.all.push((fresh, ledger));
        self.all.drain(2..self.all.len().saturating_sub(2).max(2));
    }

    fn each(&mut self, out: &mut Output, run: impl Fn(&mut dyn Operator, &mut Output) -> Result<()>) -> Result<()> {
        let mut given = Vec::new();
        for (operator, _) in &mut self.all {
            let mut own = Output::default();
            run(operator.as_mut(), &mut own)?;
            given.push(own.take());
        }
        for (life, (batches, late)) in given.iter().enumerate().skip(1) {
            assert_eq!(late, &given[0].1);
            assert_eq!(batches.len(), given[0].0.len(), "life {life}");
            for (a, b) in batches.iter().zip(&given[0].0) {
                assert_eq!((a.0, a.1.change), (b.0, b.1.change));
                assert_eq!(a.1.rows, b.1.rows, "life {life}");
            }
        }
        let (batches, late) = given.pop().unwrap();
        batches.into_iter().for_each(|(port, batch)| out.push(port, batch));
        out.count_late(late as usize);
        Ok(())
    }
}

impl Operator for Lives {
    fn on_batch(&mut self, input: usize, batch: Batch, out: &mut Output) -> Result<()> {
        self.each(out, |operator, out| operator.on_batch(input, batch.clone(), out))
    }

    fn on_watermark(&mut self, watermark: Micros, out: &mut Output) -> Result<()> {
        self.each(out, |operator, out| operator.on_watermark(watermark, out))
    }

    fn on_epoch_end(&mut self, out: &mut Output) -> Result<()> {
        self.each(out, |operator, out| operator.on_epoch_end(out))
    }

    fn state_size(&self) -> StateSize {
        let sizes: Vec<_> = self.all.iter().map(|(operator, _)| operator.state_size()).collect();
        assert!(sizes.iter().all(|size| size.rows == sizes[0].rows), "{sizes:?}");
        StateSize { bytes: sizes.iter().map(|size| size.bytes).max().unwrap_or(0), ..sizes[0] }
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        let mut newest = Vec::new();
        for (operator, ledger) in &mut self.all {
            newest = operator.snapshot()?;
            ledger.note(&newest);
        }
        Ok(newest)
    }
}
