use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;

use super::*;
use crate::batch::{Batch, Change};
use crate::graph::digest;
use crate::sink::EpochOutput;

pub fn origin(graph: &str, tasks: usize) -> Origin {
    Origin { graph: digest(graph), tasks, parts: Vec::new() }
}

pub fn open(storage: &(impl Storage + Clone + 'static), keep: usize) -> Checkpoints {
    let operator = |name: &str| Operator { name: name.to_owned(), identity: format!("identity of {name}") };
    let nodes = ["source", "filter", "totals"].map(operator).to_vec();
    Checkpoints::new(Arc::new(storage.clone()), keep, origin("graph", 1), nodes)
}

/// Rows that do not compress to nothing, and are the same for the same numbers.
pub fn rows(seed: u64, count: usize) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("text", DataType::Utf8, false)]));
    let value = |i: usize| checksum(&[seed.to_le_bytes(), (i as u64).to_le_bytes()].concat());
    let numbers = Int64Array::from_iter((0..count).map(|i| (i % 7 != 3).then(|| value(i) as i64)));
    let texts = StringArray::from_iter_values((0..count).map(|i| format!("user {}", value(i) % 1000)));
    RecordBatch::try_new(schema, vec![Arc::new(numbers), Arc::new(texts)]).unwrap()
}

pub fn numbered(number: u64, count: usize) -> StatePart {
    StatePart { number: Some(number), rows: rows(number, count).into() }
}

pub fn at(epoch: u64, states: Vec<(NodeId, Vec<StatePart>)>) -> Checkpoint {
    let position = Position { source: "s".into(), partition: 3, offset: 42, newest: Some(7), floor: 5 };
    Checkpoint {
        epoch,
        clock: 1_000_000 * epoch as i64,
        lineage: Some("p-1".into()),
        positions: vec![position],
        states,
        pending: Vec::new(),
        made_by: None,
    }
}

/// A part of outputs of these epochs, some rows each.
pub fn outputs(epochs: std::ops::RangeInclusive<u64>, count: usize) -> PendingPart {
    let (first, last) = (*epochs.start(), *epochs.end());
    let of = |epoch| {
        let batches = vec![Batch { rows: rows(epoch, count), change: Change::Upsert }];
        Outputs::One(Arc::new(EpochOutput { task: 0, epoch, clock: epoch as i64, batches }))
    };
    PendingPart { first, last, outputs: epochs.map(of).collect() }
}

fn small(epoch: u64) -> Checkpoint {
    at(epoch, vec![(2, vec![StatePart::whole(rows(epoch, 3)), StatePart::whole(rows(epoch + 1, 2))])])
}

fn names(storage: &MemoryStorage, ending: &str) -> Vec<String> {
    storage.list("").unwrap().into_iter().map(|f| f.name).filter(|n| n.ends_with(ending)).collect()
}

#[test]
fn what_was_written_comes_back_and_only_the_newest_are_kept() {
    let storage = MemoryStorage::default();
    let checkpoints = open(&storage, 2);
    assert!(checkpoints.newest(0).unwrap().is_none());
    let oldest: Vec<_> = (8..=11).map(|epoch| checkpoints.write(0, &small(epoch)).unwrap().oldest).collect();
    assert_eq!(oldest, [None, Some(8), Some(9), Some(10)], "the journal before it is not needed");
    for checkpoints in [checkpoints, open(&storage, 2)] {
        let newest = checkpoints.newest(0).unwrap().unwrap();
        assert_eq!(newest.lineage.as_deref(), Some("p-1"));
        assert_eq!((newest.epoch, newest.clock), (11, 11_000_000));
        assert_eq!((&newest.positions, &newest.states), (&small(11).positions, &small(11).states));
    }
    assert_eq!((names(&storage, ".manifest").len(), names(&storage, ".data").len()), (2, 2));
}

#[test]
fn only_one_is_kept_if_one_is_asked_for() {
    let storage = MemoryStorage::default();
    let checkpoints = open(&storage, 1);
    assert_eq!(checkpoints.write(0, &small(1)).unwrap().oldest, Some(1));
    assert_eq!(checkpoints.write(0, &small(2)).unwrap().oldest, Some(2));
    assert_eq!(storage.list("").unwrap().len(), 2);
}

#[test]
fn a_change_of_any_byte_and_a_missing_file_are_noticed_and_the_one_before_is_used() {
    let storage = MemoryStorage::default();
    let checkpoints = open(&storage, 2);
    checkpoints.write(0, &small(1)).unwrap();
    checkpoints.write(0, &small(2)).unwrap();
    for name in [names(&storage, ".manifest").pop().unwrap(), names(&storage, ".data").pop().unwrap()] {
        let whole = storage.get(&name).unwrap().unwrap();
        let newest = || open(&storage, 2).newest(0).unwrap().unwrap().epoch;
        for i in 0..whole.len() {
            for bit in [0, 5] {
                let mut bytes = whole.to_vec();
                bytes[i] ^= 1 << bit;
                storage.replace(&name, bytes.into());
                assert_eq!(newest(), 1, "{name}: bit {bit} of byte {i}");
            }
            storage.replace(&name, whole.slice(..i));
            assert_eq!(newest(), 1, "{name}: cut at {i}");
        }
        storage.delete(&name).unwrap();
        assert_eq!(newest(), 1, "{name} is missing");
        storage.replace(&name, whole);
        assert_eq!(newest(), 2);
    }
}

#[test]
fn a_checkpoint_that_was_passed_over_is_nothing_to_fall_back_on() {
    let storage = MemoryStorage::default();
    let first = open(&storage, 2);
    first.write(0, &small(1)).unwrap();
    first.write(0, &small(2)).unwrap();
    storage.replace(&names(&storage, ".data").pop().unwrap(), Bytes::from_static(b"damaged"));
    let second = open(&storage, 2);
    assert_eq!(second.newest(0).unwrap().unwrap().epoch, 1);
    assert_eq!(second.write(0, &small(3)).unwrap().oldest, Some(1), "epoch 1 is kept");
    assert_eq!(second.write(0, &small(4)).unwrap().oldest, Some(3));
    assert_eq!(
        (names(&storage, ".manifest").len(), names(&storage, ".data").len()),
        (2, 2),
        "what is damaged is removed in the end"
    );
}

#[test]
fn none_that_is_intact_stops_the_start() {
    let storage = MemoryStorage::default();
    open(&storage, 2).write(0, &small(1)).unwrap();
    storage.replace(&names(&storage, ".data")[0], Bytes::new());
    let error = open(&storage, 2).newest(0).unwrap_err();
    assert_eq!(error.message(), "none of the 1 checkpoints in memory/task-0 is intact");
}

#[test]
fn the_state_of_another_partition_count_is_refused_and_that_of_another_script_names_it() {
    let storage = MemoryStorage::default();
    open(&storage, 2).write(0, &small(1)).unwrap();
    let newest = |graph, tasks| {
        let checkpoints = Checkpoints::new(Arc::new(storage.clone()), 2, origin(graph, tasks), Vec::new());
        checkpoints.newest(0)
    };
    assert_eq!(newest("other", 1).unwrap().unwrap().made_by.unwrap().graph, digest("graph"));
    let error = newest("graph", 2).unwrap_err().message().to_owned();
    assert!(error.contains("are of 1 tasks, this run has 2"), "{error}");
}

#[test]
fn a_part_that_is_stored_is_not_written_again() {
    let storage = MemoryStorage::default();
    let old: Vec<StatePart> = (0..125).map(|n| numbered(n, 8_000)).collect();
    let checkpoints = open(&storage, 2);
    let first = checkpoints.write(0, &at(1, vec![(2, old.clone())])).unwrap().bytes;
    let next: Vec<StatePart> = old.into_iter().chain([numbered(125, 1000)]).collect();
    let second = checkpoints.write(0, &at(2, vec![(2, next.clone())])).unwrap().bytes;
    assert!(first > 8_000_000, "{first} bytes for 1,000,000 rows");
    assert!(second < 50_000, "{second} bytes for 1,000 rows more");
    // Nor after a restart.
    let again = open(&storage, 2);
    assert_eq!(again.newest(0).unwrap().unwrap().states, [(2, next.clone())]);
    let third = again.write(0, &at(3, vec![(2, next.clone())])).unwrap().bytes;
    assert!(third < 30_000, "{third} bytes for nothing new");
    assert_eq!(open(&storage, 2).newest(0).unwrap().unwrap().states, [(2, next)]);
}

#[test]
fn a_file_that_is_mostly_dead_is_written_again_and_removed() {
    let storage = MemoryStorage::default();
    let checkpoints = open(&storage, 1);
    let parts = |numbers: std::ops::Range<u64>| vec![(2, numbers.map(|n| numbered(n, 500)).collect())];
    checkpoints.write(0, &at(1, parts(0..10))).unwrap();
    let bytes = || storage.list("").unwrap().iter().map(|f| f.bytes).sum::<u64>();
    let all = bytes();
    let most = checkpoints.write(0, &at(2, parts(4..10))).unwrap();
    assert!(most.bytes < all / 5, "six of ten are live: {most:?}");
    let few = checkpoints.write(0, &at(3, parts(7..10))).unwrap();
    assert!(few.bytes > all / 5, "three of ten are written again: {few:?}");
    assert_eq!(names(&storage, ".data").len(), 1);
    assert!(bytes() < all / 2);
    assert_eq!(open(&storage, 1).newest(0).unwrap().unwrap().states, parts(7..10));
}

#[test]
fn many_small_files_are_put_together() {
    let storage = MemoryStorage::default();
    let checkpoints = open(&storage, 2);
    for epoch in 1..300 {
        let parts = (0..epoch).map(|n| numbered(n, 5)).collect::<Vec<_>>();
        checkpoints.write(0, &at(epoch, vec![(2, parts)])).unwrap();
        assert!(names(&storage, ".data").len() <= 130, "{epoch}");
    }
    assert_eq!(open(&storage, 2).newest(0).unwrap().unwrap().states[0].1.len(), 299);
}

#[test]
fn a_zombie_is_told_or_superseded_and_never_takes_anothers_place() {
    let storage = MemoryStorage::default();
    let (one, other) = (open(&storage, 2), open(&storage, 2));
    one.write(0, &small(1)).unwrap();
    other.newest(0).unwrap();
    other.write(0, &small(5)).unwrap();
    // It is at an earlier epoch of the same life: what is there already is better.
    one.write(0, &small(3)).unwrap();
    assert_eq!(open(&storage, 2).newest(0).unwrap().unwrap().epoch, 5);
    // It is further: the chain goes on with it.
    one.write(0, &small(7)).unwrap();
    assert_eq!(open(&storage, 2).newest(0).unwrap().unwrap().states, small(7).states);
    let stranger = Checkpoint { lineage: Some("p-2".into()), ..small(9) };
    let error = other.write(0, &stranger).unwrap_err();
    assert!(error.message().ends_with("is of p-1, this run is p-2") && !error.is_transient(), "{error}");
}

#[test]
fn a_reset_begins_a_new_life_from_an_earlier_checkpoint() {
    let storage = MemoryStorage::default();
    let running = open(&storage, 5);
    for epoch in 1..=4 {
        running.write(0, &small(epoch)).unwrap();
    }
    let (chosen, _) = choose(&storage, At::Time(2_500_000)).unwrap();
    assert_eq!((chosen.manifests[0].epoch, chosen.lives.len()), (2, 1));
    assert!(choose(&storage, At::Time(10)).unwrap_err().message().contains("no intact checkpoint that early"));
    reset(&storage, &chosen, "p-2").unwrap();
    let next = open(&storage, 5);
    assert_eq!(next.reset_since(Some("p-1")).unwrap().as_deref(), Some("p-2"));
    assert_eq!(next.reset_since(None).unwrap().as_deref(), Some("p-2"));
    assert_eq!(next.reset_since(Some("p-2")).unwrap(), None, "begun already");
    assert!(next.reset_since(Some("p-0")).unwrap_err().message().contains("none of the lives before"));
    let state = next.newest(0).unwrap().unwrap();
    assert_eq!((state.epoch, state.lineage, &state.states), (2, None, &small(2).states));
    // Who runs on is told.
    assert!(!running.write(0, &small(5)).unwrap_err().is_transient());
    let goes_on = Checkpoint { lineage: Some("p-2".into()), ..small(3) };
    next.write(0, &goes_on).unwrap();
    assert_eq!(open(&storage, 5).reset_since(Some("p-2")).unwrap(), None);
    assert_eq!(open(&storage, 5).newest(0).unwrap().unwrap().states, small(3).states);
}

#[test]
fn a_copy_holds_the_same() {
    let (from, to) = (MemoryStorage::default(), MemoryStorage::default());
    let checkpoints = open(&from, 2);
    checkpoints.write(0, &at(1, vec![(2, vec![numbered(1, 50)])])).unwrap();
    checkpoints.write(0, &at(2, vec![(2, vec![numbered(1, 50), numbered(2, 10)])])).unwrap();
    let (chosen, _) = choose(&from, At::Latest).unwrap();
    copy(&from, &to, &chosen).unwrap();
    assert_eq!(open(&to, 2).newest(0).unwrap().unwrap().states, open(&from, 2).newest(0).unwrap().unwrap().states);
    copy(&from, &to, &chosen).unwrap();
    open(&to, 2).write(0, &small(3)).unwrap();
}

/// Table, parts by epochs, and of each epoch its rows.
type Lacking<'a> = (&'a str, Vec<(u64, u64)>, Vec<(u64, RecordBatch)>);

/// What sinks lack.
fn lacking(checkpoint: &Checkpoint) -> Vec<Lacking<'_>> {
    let of = |pending: &Pending| {
        let epochs = pending.parts.iter().map(|part| (part.first, part.last)).collect();
        let packed: Vec<_> = pending.parts.iter().map(|part| Packed::pack(&part.outputs).unwrap()).collect();
        let outputs = packed.iter().flat_map(|packed| packed.outputs(0).map(Result::unwrap));
        (epochs, outputs.map(|output| (output.epoch, output.batches[0].rows.clone())).collect())
    };
    let named = |pending| {
        let (epochs, rows) = of(pending);
        (pending.sink.as_str(), epochs, rows)
    };
    checkpoint.pending.iter().map(named).collect()
}

#[test]
fn outputs_come_back_and_are_written_once() {
    let storage = MemoryStorage::default();
    let checkpoints = open(&storage, 2);
    let of = |parts: &[PendingPart]| vec![Pending { sink: "lake".into(), parts: parts.to_vec() }];
    let (large, next) = (outputs(3..=7, 2000), outputs(8..=8, 10));
    let first = Checkpoint { pending: of(std::slice::from_ref(&large)), ..small(7) };
    let bytes = checkpoints.write(0, &first).unwrap().bytes;
    let second = Checkpoint { pending: of(&[large, next]), ..small(8) };
    let more = checkpoints.write(0, &second).unwrap().bytes;
    assert!(bytes > 50_000 && more < 10_000, "{bytes}, then {more}");
    let read = open(&storage, 2).newest(0).unwrap().unwrap();
    assert_eq!(lacking(&read), lacking(&second));
    let (inspected, _) = inspect(&storage).unwrap();
    let manifest = inspected[1].manifest.as_ref().unwrap();
    assert_eq!((manifest.pending_parts().map(|part| part.rows).sum::<u64>(), manifest.pending.len()), (10_010, 1));
    let data = names(&storage, ".data");
    let damaged = [storage.get(&data[0]).unwrap().unwrap().as_ref(), b"?"].concat();
    storage.replace(&data[0], damaged.into());
    assert!(verify(&storage, manifest).unwrap().is_err(), "they are covered by checksums");
}

#[test]
fn outputs_survive_copies_and_resets() {
    let (storage, to) = (MemoryStorage::default(), MemoryStorage::default());
    let pending = vec![Pending { sink: "lake".into(), parts: vec![outputs(3..=7, 20)] }];
    let written = Checkpoint { pending, ..small(7) };
    open(&storage, 2).write(0, &written).unwrap();
    let (chosen, _) = choose(&storage, At::Latest).unwrap();
    copy(&storage, &to, &chosen).unwrap();
    reset(&storage, &chosen, "p-2").unwrap();
    for storage in [storage, to] {
        assert_eq!(lacking(&open(&storage, 2).newest(0).unwrap().unwrap()), lacking(&written));
    }
}

const VERSION_1: &[u8] = include_bytes!("fixtures/version-1.checkpoint");
const VERSION_2: &[u8] = include_bytes!("fixtures/version-2.manifest");
const VERSION_2_DATA: (&str, &[u8]) =
    ("task-0/00000000000000000001-c7ba5b654b9e0689.data", include_bytes!("fixtures/version-2.data"));
const VERSION_3: &[u8] = include_bytes!("fixtures/version-3.manifest");
const VERSION_3_DATA: (&str, &[u8]) =
    ("task-0/00000000000000000001-72c3f3d21fd21a21.data", include_bytes!("fixtures/version-3.data"));

#[test]
fn what_earlier_versions_wrote_is_read() {
    let storage = MemoryStorage::default();
    storage.replace("task-0/00000000000000000007.checkpoint", Bytes::from_static(VERSION_1));
    let first = open(&storage, 2);
    assert_eq!(first.newest(0).unwrap().unwrap().states, small(7).states);
    first.write(0, &small(8)).unwrap();
    first.write(0, &small(9)).unwrap();
    assert!(names(&storage, ".checkpoint").is_empty(), "it goes once there are enough others");
    let storage = MemoryStorage::default();
    storage.replace("task-0/00000000000000000001.manifest", Bytes::from_static(VERSION_2));
    storage.replace(VERSION_2_DATA.0, Bytes::from_static(VERSION_2_DATA.1));
    let read = open(&storage, 2).newest(0).unwrap().unwrap();
    assert_eq!((read.epoch, &read.states), (7, &vec![(2, vec![numbered(5, 40), StatePart::whole(rows(1, 3))])]));
    let storage = MemoryStorage::default();
    storage.replace("task-0/00000000000000000001.manifest", Bytes::from_static(VERSION_3));
    storage.replace(VERSION_3_DATA.0, Bytes::from_static(VERSION_3_DATA.1));
    let read = open(&storage, 2).newest(0).unwrap().unwrap();
    assert_eq!(lacking(&read), lacking(&with_outputs()));
}

fn with_outputs() -> Checkpoint {
    let pending = vec![Pending { sink: "lake".into(), parts: vec![outputs(5..=7, 4)] }];
    Checkpoint { pending, ..at(7, vec![(2, vec![numbered(5, 40), StatePart::whole(rows(1, 3))])]) }
}

#[test]
fn a_later_version_is_refused() {
    let storage = MemoryStorage::default();
    let json = b"{}";
    let sum = twox_hash::XxHash3_64::oneshot_with_seed(4, json);
    let bytes = [format!("RIVERRUN-CHECKPOINT-4 {sum:016x}\n").as_bytes(), json].concat();
    storage.replace("task-0/00000000000000000001.manifest", bytes.into());
    let error = open(&storage, 2).newest(0).unwrap_err();
    assert!(error.message().ends_with("it is of version 4, this riverrun knows versions up to 3"), "{error}");
}

#[test]
#[ignore = "writes the fixture of the newest version; those of others stay as they are"]
fn write_fixtures() {
    let fixtures = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/checkpoint/fixtures"));
    let storage = MemoryStorage::default();
    open(&storage, 2).write(0, &with_outputs()).unwrap();
    for file in storage.list("").unwrap() {
        let ending = file.name.rsplit('.').next().unwrap();
        std::fs::write(fixtures.join(format!("version-3.{ending}")), storage.get(&file.name).unwrap().unwrap()).unwrap();
        println!("{}", file.name);
    }
}
