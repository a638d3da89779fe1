//! A table is followed: each row that is added comes once, in order, whatever happens to files.

use std::sync::atomic::AtomicBool;

use riverrun_engine::source::{Limit, PartitionReader, Poll, Source, Start};

use super::source::{column, path, source_with, write};
use super::*;
use crate::delta::{DeltaSource, Maintained};

const FOLLOW: [(&str, &str); 2] = [("follow", "true"), ("poll_interval", "1 ms")];

fn following(dir: &Path, options: &[(&str, &str)]) -> riverrun_engine::Result<DeltaSource> {
    source_with(dir, vec![column("id", DataType::Int64, None)], &[&FOLLOW, options].concat())
}

fn ids(rows: &RecordBatch) -> Vec<i64> {
    rows.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
}

/// Polls until so many rows came; gives them, and where to go on.
fn read(reader: &mut dyn PartitionReader, count: usize, most: usize) -> (Vec<i64>, i64) {
    let (mut rows, mut next) = (Vec::new(), 0);
    while rows.len() < count {
        if let Poll::Ready(fetch) = reader.poll(Limit::new(most.min(count - rows.len()), 1 << 20), 0).unwrap() {
            rows.extend(ids(&fetch.rows));
            next = fetch.next_offset;
        }
    }
    (rows, next)
}

fn error_of(reader: &mut dyn PartitionReader) -> riverrun_engine::Error {
    loop {
        match reader.poll(Limit::new(1_000, 1 << 20), 0) {
            Ok(Poll::End) => panic!("it ends"),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

fn compact(dir: &Path) -> usize {
    let mut merged = 0;
    let mut table = Maintained::open(&path(dir), BTreeMap::new()).unwrap();
    table.compact(128 << 20, Default::default(), false, &AtomicBool::new(false), &mut |c| merged += c.from.0).unwrap();
    merged
}

#[test]
fn rows_come_as_they_are_added_and_from_every_offset_again() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[], &[ids_by_date(0..10, 1), ids_by_date(10..20, 1)]);
    let source = following(dir.path(), &[]).unwrap();
    let begin = source.resolve(0, Start::Earliest).unwrap();
    let mut reader = source.open(0, begin, None).unwrap();
    let mut offsets = vec![begin];
    for n in 0..10 {
        // Between what is appended lie versions that add nothing.
        if n % 3 == 2 {
            assert!(compact(dir.path()) > 0);
        }
        write(dir.path(), &[], &[ids_by_date(20 + n * 2..20 + n * 2 + 2, 1)]);
    }
    let mut all = Vec::new();
    while all.len() < 40 {
        let (rows, next) = read(reader.as_mut(), 1, 1);
        all.extend(rows);
        offsets.push(next);
    }
    assert_eq!(all, (0..40).collect::<Vec<_>>());
    assert!(offsets.is_sorted_by(|a, b| a < b));
    assert!(matches!(reader.poll(Limit::new(1, 1), 0).unwrap(), Poll::Pending));
    // A later start, at which other files hold the rows.
    let again = following(dir.path(), &[]).unwrap();
    for (at, offset) in offsets.iter().enumerate().take(40) {
        let mut reader = again.open(0, *offset, None).unwrap();
        let left = (offsets.len() - 1 - at).min(7);
        let (rows, next) = read(reader.as_mut(), left, 100);
        assert_eq!(rows, (at as i64..(at + left) as i64).collect::<Vec<_>>());
        assert_eq!(next, offsets[at + left]);
    }
}

#[test]
fn a_bounded_run_ends_where_the_table_was() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[], &[ids_by_date(0..10, 1), ids_by_date(10..20, 1)]);
    let source = following(dir.path(), &[("starting_version", "2")]).unwrap();
    write(dir.path(), &[], &[ids_by_date(20..30, 1)]);
    let begin = source.resolve(0, Start::Earliest).unwrap();
    let mut reader = source.open(0, begin, source.end_offset(0).unwrap()).unwrap();
    assert_eq!(read(reader.as_mut(), 10, 100).0, (10..20).collect::<Vec<_>>());
    while let Poll::Pending = reader.poll(Limit::new(1, 1), 0).unwrap() {}
    assert!(matches!(reader.poll(Limit::new(1, 1), 0).unwrap(), Poll::End));
}

#[test]
fn reading_starts_at_the_version_that_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[], &[ids_by_date(0..10, 1), ids_by_date(10..20, 1)]);
    let first = |version: &str| {
        let source = following(dir.path(), &[("starting_version", version)]).unwrap();
        source.resolve(0, Start::Earliest).and_then(|begin| source.open(0, begin, None))
    };
    for (version, row) in [("0", 0), ("1", 0), ("2", 10)] {
        assert_eq!(read(first(version).unwrap().as_mut(), 1, 1).0, [row], "{version}");
    }
    let mut latest = first("latest").unwrap();
    assert!(matches!(latest.poll(Limit::new(1, 1), 0).unwrap(), Poll::Pending));
    write(dir.path(), &[], &[ids_by_date(20..30, 1)]);
    assert_eq!(read(latest.as_mut(), 1, 1).0, [20]);
    assert_eq!(first("9").err().unwrap().kind(), Kind::Invalid);
    for wrong in [("starting_version", "first"), ("ignore_deletes", "perhaps")] {
        assert_eq!(following(dir.path(), &[wrong]).err().unwrap().kind(), Kind::Invalid);
    }
    let at_rest = source_with(dir.path(), Vec::new(), &[("starting_version", "1")]).err().unwrap();
    assert!(at_rest.to_string().contains("follow = 'true'"), "{at_rest}");
}

/// Appends an entry to the log as another program would: it is there as a whole, or not at all.
fn commit(dir: &Path, version: u64, actions: &[serde_json::Value]) {
    let text: Vec<_> = actions.iter().map(ToString::to_string).collect();
    let (hidden, entry) = (dir.join("entry"), dir.join(format!("lake/_delta_log/{version:020}.json")));
    std::fs::write(&hidden, text.join("\n")).unwrap();
    std::fs::rename(hidden, entry).unwrap();
}

#[test]
fn rows_that_are_taken_away_stop_it_unless_they_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[], &[ids_by_date(0..10, 1)]);
    let file = data_files(dir.path()).into_keys().next().unwrap();
    let open = |options: &[(&str, &str)]| {
        let source = following(dir.path(), options).unwrap();
        source.open(0, source.resolve(0, Start::Earliest).unwrap(), None).unwrap()
    };
    let (mut strict, mut lenient) = (open(&[]), open(&[("ignore_deletes", "true")]));
    commit(dir.path(), 2, &[serde_json::json!({"remove": {"path": file, "dataChange": true, "deletionTimestamp": 1}})]);
    write(dir.path(), &[], &[ids_by_date(10..20, 1)]);
    assert_eq!(read(strict.as_mut(), 10, 100).0, (0..10).collect::<Vec<_>>());
    let error = error_of(strict.as_mut());
    assert_eq!(error.kind(), Kind::Permanent);
    assert!(
        error.message().starts_with("version 2 of the Delta table at ") && error.message().contains("takes rows away"),
        "{error}"
    );
    assert_eq!(read(lenient.as_mut(), 20, 100).0, (0..20).collect::<Vec<_>>());
}

#[test]
fn what_is_gone_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[], &[ids_by_date(0..10, 1), ids_by_date(10..20, 1)]);
    let source = following(dir.path(), &[("starting_version", "1")]).unwrap();
    let begin = source.resolve(0, Start::Earliest).unwrap();
    assert_eq!(compact(dir.path()), 2);
    let removed = Maintained::open(&path(dir.path()), BTreeMap::new()).unwrap();
    let error = removed.vacuum(std::time::Duration::ZERO, false, false).unwrap_err();
    assert!(error.kind() == Kind::Invalid && error.message().contains("keeps files for 7 days"), "{error}");
    let found = removed.vacuum(std::time::Duration::ZERO, true, true).unwrap();
    assert!(found.len() == 2 && found.iter().all(|(_, bytes)| *bytes > 100), "{found:?}");
    assert_eq!(data_files(dir.path()).len(), 3, "a dry run deletes nothing");
    let newest = following(dir.path(), &[]).unwrap();
    assert_eq!(removed.vacuum(std::time::Duration::ZERO, true, false).unwrap(), found);
    assert_eq!(data_files(dir.path()).len(), 1);
    let error = error_of(source.open(0, begin, None).unwrap().as_mut());
    assert_eq!(error.kind(), Kind::Permanent);
    assert!(error.message().starts_with("version 1: ") && error.to_string().contains("vacuum took it"), "{error}");
    // Who reads the newest version lost nothing.
    let all = |source: &DeltaSource| {
        let mut reader = source.open(0, source.resolve(0, Start::Earliest).unwrap(), None).unwrap();
        read(reader.as_mut(), 20, 100).0
    };
    assert_eq!(all(&newest), (0..20).collect::<Vec<_>>());
    std::fs::remove_file(dir.path().join("lake/_delta_log/00000000000000000001.json")).unwrap();
    let error = error_of(source.open(0, begin, None).unwrap().as_mut());
    assert!(error.message().contains("has no version 1 any more"), "{error}");
}

#[test]
fn a_version_that_went_before_it_was_seen_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[], &[ids_by_date(0..10, 1)]);
    let source = following(dir.path(), &[("starting_version", "latest")]).unwrap();
    write(dir.path(), &[], &[ids_by_date(10..20, 1), ids_by_date(20..30, 1)]);
    std::fs::remove_file(dir.path().join("lake/_delta_log/00000000000000000002.json")).unwrap();
    let next = source.resolve(0, Start::Earliest).unwrap();
    let error = error_of(source.open(0, next, None).unwrap().as_mut());
    assert!(error.message().contains("has no version 2 any more"), "{error}");
}
