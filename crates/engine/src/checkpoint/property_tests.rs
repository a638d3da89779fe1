//! Random lives of a task: parts that come and go, checkpoints, crashes between any two calls to the storage, acknowledgements
//! that are lost, an earlier owner that goes on, files that are damaged. What comes back is always what was written, bit for
//! bit, and nothing needed is ever removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use bytes::Bytes;
use proptest::prelude::*;

use super::tests::{at, numbered, open, origin, rows};
use super::*;
use crate::{Error, Result};

/// A storage that is lost to its process after some calls: the last one may still happen.
#[derive(Debug, Clone)]
struct Mortal {
    files: MemoryStorage,
    left: Arc<AtomicI64>,
    last_happens: bool,
}

impl Mortal {
    fn call<T>(&self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.left.fetch_sub(1, Relaxed) {
            2.. => call(),
            1 if self.last_happens => call().and_then(|_| Err(Error::transient("the acknowledgement is lost"))),
            _ => Err(Error::transient("the process is dead")),
        }
    }
}

impl fmt::Display for Mortal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

impl Storage for Mortal {
    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.call(|| self.files.get(name))
    }
    fn put_if_absent(&self, name: &str, bytes: Bytes) -> Result<Put> {
        self.call(|| self.files.put_if_absent(name, bytes))
    }
    fn list(&self, prefix: &str) -> Result<Vec<Stored>> {
        self.call(|| self.files.list(prefix))
    }
    fn delete(&self, name: &str) -> Result<()> {
        self.call(|| self.files.delete(name))
    }
}

/// What a process does next.
#[derive(Debug, Clone)]
enum Step {
    /// Some epochs pass: parts with numbers come, others go.
    Work { new: usize, gone: Vec<usize> },
    /// A checkpoint; the process dies at the storage's n-th call from here.
    Checkpoint { dies: Option<(i64, bool)> },
    /// Starts again from the newest checkpoint.
    Restart,
    /// The other process has its turn.
    Switch,
}

fn step() -> impl Strategy<Value = Step> {
    let dies = prop_oneof![3 => Just(None), 2 => (1..14i64, any::<bool>()).prop_map(Some)];
    prop_oneof![
        4 => (0..4usize, prop::collection::vec(0..20usize, 0..5)).prop_map(|(new, gone)| Step::Work { new, gone }),
        5 => dies.prop_map(|dies| Step::Checkpoint { dies }),
        1 => Just(Step::Restart),
        1 => Just(Step::Switch),
    ]
}

/// An owner of the task: the one that is, or one that was and does not know it.
struct Process {
    checkpoints: Checkpoints,
    left: Arc<AtomicI64>,
    epoch: u64,
    parts: Vec<StatePart>,
}

impl Process {
    fn start(files: &MemoryStorage, keep: usize) -> Self {
        let checkpoints = open(files, keep);
        let newest = checkpoints.newest(0).unwrap();
        let (epoch, states) = newest.map_or((0, Vec::new()), |c| (c.epoch, c.states));
        let mut parts: Vec<StatePart> = states.into_iter().flat_map(|(_, parts)| parts).collect();
        parts.retain(|part| part.number.is_some());
        Self { checkpoints, left: Arc::new(AtomicI64::new(i64::MAX)), epoch, parts }
    }

    /// The state, a function of the epoch and the parts.
    fn checkpoint(&self) -> Checkpoint {
        let mut states = vec![(1, vec![StatePart::whole(rows(self.epoch, 2))])];
        states.push((2, self.parts.clone()));
        at(self.epoch, states)
    }
}

/// What must hold at any time: each manifest that counts is whole.
fn check(files: &MemoryStorage, keep: usize, written: &BTreeMap<u64, Checkpoint>, acknowledged: u64) {
    let newest = open(files, keep).newest(0).unwrap();
    let (inspected, all) = inspect(files).unwrap();
    if let Some(newest) = newest {
        let expected = &written[&newest.epoch];
        assert_eq!((&newest.states, &newest.positions), (&expected.states, &expected.positions));
        assert!(newest.epoch >= acknowledged);
    } else {
        assert!(inspected.is_empty() && acknowledged == 0);
    }
    let newest_ones: Vec<_> = inspected.iter().rev().take(keep).collect();
    for one in &newest_ones {
        let manifest = one.manifest.as_ref().unwrap();
        assert_eq!(verify(files, manifest).unwrap(), Ok(()), "one of the newest {keep} lacks something");
    }
    assert!(all.len() < 200, "{} files: something is never collected", all.len());
}

/// Orphans are gone once as many checkpoints as are kept were written undisturbed.
fn check_no_orphans(files: &MemoryStorage) {
    let (inspected, all) = inspect(files).unwrap();
    let oldest = inspected.first().unwrap().file.sequence;
    let needed: BTreeSet<_> =
        inspected.iter().flat_map(|i| i.manifest.as_ref().unwrap().files.iter().map(|f| f.name.clone())).collect();
    for file in all.iter().filter(|f| f.kind == FileKind::Data && f.sequence < oldest) {
        assert!(needed.contains(&file.stored.name), "{} is needed by none", file.stored.name);
    }
}

fn run(steps: Vec<Step>, keep: usize) {
    let files = MemoryStorage::default();
    let mut written = BTreeMap::new();
    let (mut made, mut acknowledged) = (0, 0);
    let mut processes = [Process::start(&files, keep), Process::start(&files, keep)];
    for step in steps {
        let [process, _] = &mut processes;
        match step {
            Step::Work { new, gone } => {
                process.epoch += 1;
                for index in gone {
                    if index < process.parts.len() {
                        process.parts.remove(index);
                    }
                }
                for i in 0..new as u64 {
                    // Two processes may give one number to parts that differ: what one of them stored is not the other's.
                    made += 1;
                    let number = Some(100 * process.epoch + i);
                    process.parts.push(StatePart { number, rows: rows(made, 1 + made as usize % 5).into() });
                }
            }
            Step::Checkpoint { dies } => {
                // Each epoch has one state: the two processes are never at the same one with others.
                process.epoch = process.epoch.max(written.keys().next_back().copied().unwrap_or(0)) + 1;
                let checkpoint = process.checkpoint();
                written.insert(process.epoch, checkpoint.clone());
                process.checkpoints.storage = Arc::new(match dies {
                    None => Mortal { files: files.clone(), left: Arc::new(AtomicI64::new(i64::MAX)), last_happens: false },
                    Some((left, last_happens)) => {
                        process.left.store(left, Relaxed);
                        Mortal { files: files.clone(), left: process.left.clone(), last_happens }
                    }
                });
                let outcome = process.checkpoints.write(0, &checkpoint);
                let died = dies.is_some() && process.left.load(Relaxed) <= 0;
                assert!(died || outcome.is_ok(), "{outcome:?}");
                acknowledged = if outcome.is_ok() { process.epoch } else { acknowledged };
                check(&files, keep, &written, acknowledged);
                if died {
                    *process = Process::start(&files, keep);
                }
            }
            Step::Restart => *process = Process::start(&files, keep),
            Step::Switch => processes.swap(0, 1),
        }
    }
    let [process, _] = &mut processes;
    *process = Process::start(&files, keep);
    process.epoch = process.epoch.max(written.keys().next_back().copied().unwrap_or(0));
    for _ in 0..=keep {
        process.epoch += 1;
        written.insert(process.epoch, process.checkpoint());
        process.checkpoints.write(0, &process.checkpoint()).unwrap();
        check(&files, keep, &written, process.epoch);
    }
    check_no_orphans(&files);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_newest_checkpoint_comes_back_and_orphans_go(
        steps in prop::collection::vec(step(), 1..60),
        keep in 1..4usize,
    ) {
        run(steps, keep);
    }

    #[test]
    fn damage_is_noticed_and_what_is_not_damaged_is_used(
        epochs in 2..6u64,
        file in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        change in 1..=255u8,
        missing in any::<bool>(),
    ) {
        let files = MemoryStorage::default();
        let checkpoints = Checkpoints::new(Arc::new(files.clone()), 5, origin("graph", 1), Vec::new());
        let state = |epoch: u64| vec![(2, (1..=epoch).map(|n| numbered(n, 20)).chain([StatePart::whole(rows(epoch, 2))]).collect())];
        for epoch in 1..=epochs {
            checkpoints.write(0, &at(epoch, state(epoch))).unwrap();
        }
        let all = files.list("").unwrap();
        let name = &all[file.index(all.len())].name;
        let mut bytes = files.get(name).unwrap().unwrap().to_vec();
        let at = byte.index(bytes.len());
        bytes[at] ^= change;
        if missing {
            files.delete(name).unwrap();
        } else {
            files.replace(name, bytes.into());
        }
        let damaged = TaskFile::of(Stored { name: name.clone(), bytes: 0 }).unwrap();
        match open(&files, 5).newest(0) {
            // A manifest counts alone; a data file for all that still refer to it.
            Ok(Some(newest)) => {
                assert_eq!(newest.states, state(newest.epoch));
                if damaged.kind == FileKind::Manifest {
                    assert_eq!(newest.epoch, if damaged.sequence == epochs { epochs - 1 } else { epochs });
                }
            }
            Ok(None) => panic!("nothing was found"),
            Err(error) => assert!(damaged.kind == FileKind::Data && damaged.sequence == 1, "{error}"),
        }
    }
}
