//! Small files become large ones, with the same rows, whoever else writes.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use super::source::{path, write};
use super::*;
use crate::delta::{Compacted, Maintained, scan};

static GO: AtomicBool = AtomicBool::new(false);

fn table(dir: &Path) -> Maintained {
    Maintained::open(&path(dir), BTreeMap::new()).unwrap()
}

fn compact(table: &mut Maintained, target: u64, dry_run: bool) -> Vec<Compacted> {
    let mut told = Vec::new();
    table.compact(target, HashMap::new(), dry_run, &GO, &mut |c| told.push(c)).unwrap();
    told
}

/// All ids, in order.
fn ids(dir: &Path) -> Vec<i64> {
    let batches = scan(&path(dir), Some(&[0])).unwrap().map(Result::unwrap);
    let mut ids: Vec<i64> =
        batches.flat_map(|b| b.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()).collect();
    ids.sort_unstable();
    ids
}

fn live_files(dir: &Path) -> usize {
    crate::delta::reader::Snapshot::newest(
        crate::delta::place::Place::parse(&path(dir), BTreeMap::new()).unwrap().log().unwrap(),
        "the table",
    )
    .unwrap()
    .files
    .len()
}

fn log_entry(dir: &Path, version: u64) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(dir.join(format!("lake/_delta_log/{version:020}.json"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_partition_becomes_one_file_and_no_data_changes() {
    let dir = tempfile::tempdir().unwrap();
    let batches: Vec<_> = (0..6).map(|n| ids_by_date(n * 10..n * 10 + 10, 2)).collect();
    write(dir.path(), &[("partition_by", "date")], &batches);
    let before = ids(dir.path());
    assert_eq!(live_files(dir.path()), 12);
    let planned = compact(&mut table(dir.path()), 128 << 20, true);
    assert_eq!((planned.len(), live_files(dir.path())), (2, 12), "a dry run does nothing");
    let done = compact(&mut table(dir.path()), 128 << 20, false);
    assert_eq!(
        done.iter().map(|c| (c.partition.as_str(), c.from, c.into.0)).collect::<Vec<_>>(),
        planned.iter().map(|c| (c.partition.as_str(), c.from, c.into.0)).collect::<Vec<_>>()
    );
    assert_eq!(done[0].partition, "date=2024-01-01");
    assert_eq!((live_files(dir.path()), ids(dir.path())), (2, before));
    let actions = log_entry(dir.path(), 7);
    let changes: Vec<_> =
        actions.iter().filter_map(|a| a.get("add").or(a.get("remove"))).map(|a| a["dataChange"].clone()).collect();
    assert_eq!(changes, vec![serde_json::Value::Bool(false); 7]);
    assert!(actions.iter().all(|action| action.get("txn").is_none()));
    let stats = actions.iter().find_map(|a| a.get("add")).unwrap()["stats"].as_str().unwrap().to_owned();
    assert!(stats.contains("\"numRecords\":30") && stats.contains("\"minValues\":{\"id\":0}"), "{stats}");
    assert!(compact(&mut table(dir.path()), 128 << 20, false).is_empty(), "there is nothing left to do");
}

#[test]
fn only_small_files_of_the_partition_that_is_named_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[("partition_by", "date")],
        &[ids_by_date(0..20_000, 2), ids_by_date(20_000..20_010, 2), ids_by_date(20_010..20_020, 2)],
    );
    let largest = *data_files(dir.path()).values().max().unwrap();
    let mut told = Vec::new();
    let day = HashMap::from([("date".to_owned(), Some("2024-01-02".to_owned()))]);
    table(dir.path()).compact(largest, day, false, &GO, &mut |c| told.push(c)).unwrap();
    assert_eq!(told.iter().map(|c| (c.partition.as_str(), c.from.0, c.into.0)).collect::<Vec<_>>(), [("date=2024-01-02", 2, 1)]);
    assert_eq!(ids(dir.path()), (0..20_020).collect::<Vec<_>>());
    let unknown = HashMap::from([("day".to_owned(), None)]);
    let error = table(dir.path()).compact(largest, unknown, false, &GO, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("not partitioned by day") && error.to_string().contains("date"), "{error}");
}

#[test]
fn an_append_meanwhile_is_no_conflict_and_positions_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(dir.path(), &ids_by_date(0..1, 1).schema(), &[]).unwrap();
    sink.recover("p-1", 1).unwrap();
    let mut append = |n: i64| {
        sink.write(&epoch(0, n as u64 + 1, ids_by_date(n * 10..n * 10 + 10, 1))).unwrap();
        sink.flush(0, true).unwrap();
    };
    (0..4).for_each(&mut append);
    let mut stale = table(dir.path());
    append(4);
    assert_eq!(compact(&mut stale, 128 << 20, false)[0].from.0, 4);
    append(5);
    assert_eq!(ids(dir.path()), (0..60).collect::<Vec<_>>());
    assert_eq!(live_files(dir.path()), 3);
    assert_eq!(open(dir.path(), &ids_by_date(0..1, 1).schema(), &[]).unwrap().recover("p-1", 1).unwrap(), Some(vec![6]));
}

#[test]
fn of_two_compactions_of_the_same_files_one_starts_over() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[], &(0..4).map(|n| ids_by_date(n * 10..n * 10 + 10, 1)).collect::<Vec<_>>());
    let (mut first, mut second) = (table(dir.path()), table(dir.path()));
    assert_eq!(compact(&mut first, 128 << 20, false).len(), 1);
    let files = data_files(dir.path()).len();
    assert!(compact(&mut second, 128 << 20, false).is_empty());
    assert_eq!(data_files(dir.path()).len(), files, "what was written in vain is removed");
    assert_eq!(ids(dir.path()), (0..40).collect::<Vec<_>>());
    write(dir.path(), &[], &[ids_by_date(40..50, 1)]);
    std::thread::scope(|scope| {
        for mut table in [first, second] {
            scope.spawn(move || compact(&mut table, 128 << 20, false));
        }
    });
    assert_eq!(ids(dir.path()), (0..50).collect::<Vec<_>>());
}

#[test]
fn a_sink_merges_many_small_files_beside_what_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let rows = ids_by_date(0..1, 1);
    for (compact, files) in [("off", 40), ("auto", 1)] {
        let mut sink = open(dir.path(), &rows.schema(), &[("compact", compact)]).unwrap();
        sink.recover("p-1", 1).unwrap();
        if compact == "off" {
            for n in 0..40 {
                sink.write(&epoch(0, n as u64 + 1, ids_by_date(n..n + 1, 1))).unwrap();
                sink.flush(n, true).unwrap();
            }
        }
        // Not before a minute has passed.
        for minute in 0..3 {
            sink.flush(minute * 60_000_000, false).unwrap();
            sink.wait_for_compaction();
            if minute == 0 {
                assert_eq!(live_files(dir.path()), 40);
            }
        }
        assert_eq!(live_files(dir.path()), files, "{compact}");
    }
    assert_eq!(ids(dir.path()), (0..40).collect::<Vec<_>>());
}
