//! What the sink writes and when.

use super::failing::{Failing, Fault};
use super::*;
use crate::delta::config::Config;
use crate::delta::place::Place;
use crate::delta::reader::Snapshot;
use deltalake_core::logstore::LogStoreRef;

const SECOND: i64 = 1_000_000;

/// A sink on failing storage.
fn open_failing(store: &Arc<Failing>, schema: &SchemaRef) -> DeltaSink {
    let config = Config::parse(&Options::of(&[("path", "/lake"), ("roll_size", "1 MiB")])).unwrap();
    DeltaSink::open_at(store.log(), config, "lake".to_owned(), schema).unwrap()
}

/// Rows that the newest version holds.
fn rows_at(log: LogStoreRef) -> u64 {
    Snapshot::newest(log, "the table").unwrap().rows()
}

fn rows_in(dir: &Path) -> u64 {
    let path = dir.join("lake");
    rows_at(Place::parse(path.to_str().unwrap(), Default::default()).unwrap().log().unwrap())
}

#[test]
fn files_are_partitioned_by_date() {
    let dir = tempfile::tempdir().unwrap();
    let rows = ids_by_date(0..10, 2);
    let mut sink = open(dir.path(), &rows.schema(), &[("partition_by", "date")]).unwrap();
    sink.write(&epoch(0, 1, rows)).unwrap();
    assert_eq!(sink.flush(0, true).unwrap(), Flushed::All);
    let folders: Vec<_> = data_files(dir.path()).into_keys().map(|f| f.split('/').next().unwrap().to_owned()).collect();
    assert_eq!(folders, ["date=2024-01-01", "date=2024-01-02"]);
}

#[test]
fn epochs_of_all_tasks_share_a_file_until_the_interval_has_passed() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(dir.path(), &ids_by_date(0..1, 1).schema(), &[("roll_interval", "10 seconds")]).unwrap();
    for n in 0..20 {
        sink.write(&epoch((n % 4) as u32, 1 + n as u64 / 4, ids_by_date(n * 10..n * 10 + 10, 1))).unwrap();
        assert_eq!(sink.flush(SECOND * (100 + n / 2), false).unwrap(), Flushed::Pending);
    }
    assert!(data_files(dir.path()).is_empty());
    assert_eq!(sink.flush(SECOND * 110, false).unwrap(), Flushed::All);
    assert_eq!(data_files(dir.path()).len(), 1);
    assert_eq!(rows_in(dir.path()), 200);
}

#[test]
fn a_full_file_is_committed_without_waiting_for_the_interval() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(dir.path(), &ids_by_date(0..1, 1).schema(), &[("roll_size", "100 kB")]).unwrap();
    let mut n = 0;
    while data_files(dir.path()).is_empty() {
        sink.write(&epoch(0, n + 1, ids_by_date(n as i64 * 5_000..(n as i64 + 1) * 5_000, 1))).unwrap();
        sink.flush(0, false).unwrap();
        n += 1;
        assert!(n < 100, "never committed");
    }
    assert!(n > 1, "committed every epoch");
    let size = *data_files(dir.path()).values().next().unwrap();
    assert!((50_000..400_000).contains(&size), "a file of {size} bytes");
}

#[test]
fn positions_are_committed_with_the_rows_and_read_back_by_lineage() {
    let dir = tempfile::tempdir().unwrap();
    let schema = ids_by_date(0..1, 1).schema();
    let reopened = || open(dir.path(), &schema, &[]).unwrap();
    let mut sink = reopened();
    assert_eq!(sink.recover("p-1", 2).unwrap(), Some(vec![0, 0]));
    sink.write(&epoch(0, 41, ids_by_date(0..5, 1))).unwrap();
    sink.write(&epoch(1, 7, ids_by_date(5..9, 1))).unwrap();
    assert_eq!(reopened().recover("p-1", 2).unwrap(), Some(vec![0, 0]), "not before the commit");
    sink.flush(0, true).unwrap();
    sink.write(&epoch(0, 42, RecordBatch::new_empty(schema.clone()))).unwrap();
    assert_eq!(sink.flush(0, true).unwrap(), Flushed::All);
    assert_eq!(reopened().recover("p-1", 1).unwrap(), Some(vec![41]), "an epoch without rows alone makes no commit");
    sink.write(&epoch(0, 43, ids_by_date(9..20, 1))).unwrap();
    // Dropped as by a crash: nothing of epoch 43 is there.
    drop(sink);
    let mut again = reopened();
    assert_eq!(again.recover("p-1", 3).unwrap(), Some(vec![41, 7, 0]));
    again.write(&epoch(0, 43, ids_by_date(9..20, 1))).unwrap();
    again.flush(0, true).unwrap();
    assert_eq!(reopened().recover("p-1", 3).unwrap(), Some(vec![43, 7, 0]));
    assert_eq!(reopened().recover("p-2", 3).unwrap(), Some(vec![0, 0, 0]));
    assert_eq!(rows_in(dir.path()), 20);
}

#[test]
fn a_run_that_is_not_asked_keeps_no_positions_and_appends_again() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut sink = open(dir.path(), &ids_by_date(0..1, 1).schema(), &[]).unwrap();
        sink.write(&epoch(0, 1, ids_by_date(0..5, 1))).unwrap();
        sink.flush(0, true).unwrap();
    }
    assert_eq!(rows_in(dir.path()), 10);
    let log = dir.path().join("lake/_delta_log");
    let entries = std::fs::read_dir(&log).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    assert!(entries.into_iter().all(|entry| !entry.contains("\"txn\"")));
}

#[test]
fn where_another_instance_has_moved_a_position_what_is_held_is_dropped_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let schema = ids_by_date(0..1, 1).schema();
    let (mut late, mut heir) = (open(dir.path(), &schema, &[]).unwrap(), open(dir.path(), &schema, &[]).unwrap());
    let flush = |sink: &mut DeltaSink| assert_eq!(sink.flush(0, true).unwrap(), Flushed::All);
    assert_eq!(late.take("p-1", &[0, 1]).unwrap(), Some(vec![0, 0]));
    late.write(&epoch(0, 1, ids_by_date(0..5, 1))).unwrap();
    late.write(&epoch(1, 1, ids_by_date(5..8, 1))).unwrap();
    // Task 0 goes to another, who looks too early.
    assert_eq!(heir.take("p-1", &[0]).unwrap(), Some(vec![0]));
    flush(&mut late);
    assert_eq!((late.take_moved(), rows_in(dir.path())), (vec![], 8));
    heir.write(&epoch(0, 1, ids_by_date(0..5, 1))).unwrap();
    flush(&mut heir);
    assert_eq!((heir.take_moved(), rows_in(dir.path())), (vec![0], 8));
    heir.write(&epoch(0, 2, ids_by_date(8..9, 1))).unwrap();
    flush(&mut heir);
    assert_eq!(rows_in(dir.path()), 8, "nothing is taken before it was asked again");
    assert_eq!(heir.take("p-1", &[0]).unwrap(), Some(vec![1]));
    heir.write(&epoch(0, 2, ids_by_date(8..9, 1))).unwrap();
    flush(&mut heir);
    assert_eq!((heir.take_moved(), rows_in(dir.path())), (vec![], 9));
    // The earlier owner has not heard of it. What is in the same commit is dropped with it.
    late.write(&epoch(0, 2, ids_by_date(8..9, 1))).unwrap();
    late.write(&epoch(1, 2, ids_by_date(9..12, 1))).unwrap();
    flush(&mut late);
    assert_eq!((late.take_moved(), rows_in(dir.path())), (vec![0, 1], 9));
    late.release(0);
    assert_eq!(late.take("p-1", &[1]).unwrap(), Some(vec![1]));
    late.write(&epoch(1, 2, ids_by_date(9..12, 1))).unwrap();
    flush(&mut late);
    late.write(&epoch(1, 3, ids_by_date(12..14, 1))).unwrap();
    late.release(1);
    flush(&mut late);
    assert_eq!(rows_in(dir.path()), 12);
    assert_eq!(heir.take("p-1", &[1, 0]).unwrap(), Some(vec![2, 2]));
}

#[test]
fn a_look_at_the_table_does_not_hide_that_a_position_was_moved() {
    let dir = tempfile::tempdir().unwrap();
    let schema = ids_by_date(0..1, 1).schema();
    let (mut owner, mut zombie) = (open(dir.path(), &schema, &[]).unwrap(), open(dir.path(), &schema, &[]).unwrap());
    zombie.take("p-1", &[0]).unwrap();
    owner.take("p-1", &[0]).unwrap();
    zombie.write(&epoch(0, 1, ids_by_date(0..5, 1))).unwrap();
    zombie.flush(0, true).unwrap();
    // This one's view of the table is now behind the zombie's commit.
    owner.take("p-1", &[1]).unwrap();
    owner.write(&epoch(0, 1, ids_by_date(0..5, 1))).unwrap();
    owner.flush(0, true).unwrap();
    assert_eq!((owner.take_moved(), rows_in(dir.path())), (vec![0], 5));
}

#[test]
fn a_run_whose_position_another_has_moved_stops() {
    for fault in [Fault::None, Fault::Log] {
        let store = Failing::new();
        let schema = ids_by_date(0..1, 1).schema();
        let (mut first, mut second) = (open_failing(&store, &schema), open_failing(&store, &schema));
        assert_eq!(first.recover("p-1", 1).unwrap(), second.recover("p-1", 1).unwrap());
        first.write(&epoch(0, 1, ids_by_date(0..5, 1))).unwrap();
        second.write(&epoch(0, 1, ids_by_date(0..5, 1))).unwrap();
        if fault == Fault::Log {
            store.set(fault);
            assert_eq!(second.flush(0, true).unwrap_err().kind(), Kind::Transient);
            store.set(Fault::None);
        }
        first.flush(0, true).unwrap();
        let error = second.flush(0, true).unwrap_err();
        assert_eq!(error.kind(), Kind::Permanent, "{error}");
        assert!(error.to_string().contains("another run of this pipeline"), "{error}");
        assert_eq!(rows_at(store.log()), 5);
        // A writer of other positions is in nobody's way.
        let mut other = open_failing(&store, &schema);
        other.write(&epoch(0, 1, ids_by_date(5..9, 1))).unwrap();
        other.flush(0, true).unwrap();
        first.write(&epoch(0, 2, ids_by_date(9..12, 1))).unwrap();
        first.flush(0, true).unwrap();
        assert_eq!(rows_at(store.log()), 12);
    }
}

#[test]
fn a_full_disk_is_transient_and_nothing_is_lost_or_repeated() {
    for fault in [Fault::Full, Fault::Log, Fault::LogAfter] {
        let store = Failing::new();
        let schema = ids_by_date(0..1, 1).schema();
        let mut sink = open_failing(&store, &schema);
        sink.recover("p-1", 1).unwrap();
        sink.write(&epoch(0, 1, ids_by_date(0..100, 1))).unwrap();
        store.set(fault);
        for _ in 0..3 {
            let tried = sink.flush(0, true);
            match fault {
                Fault::LogAfter => assert!(tried.is_err() || tried.unwrap() == Flushed::All),
                _ => assert_eq!(tried.unwrap_err().kind(), Kind::Transient, "{fault:?}"),
            }
        }
        sink.write(&epoch(0, 2, ids_by_date(100..150, 1))).unwrap();
        store.set(Fault::None);
        assert_eq!(sink.flush(0, true).unwrap(), Flushed::All);
        assert_eq!(rows_at(store.log()), 150, "{fault:?}");
        assert_eq!(open_failing(&store, &schema).recover("p-1", 1).unwrap(), Some(vec![2]), "{fault:?}");
    }
}

#[cfg(feature = "s3")]
#[test]
fn a_commit_that_the_client_repeats_is_not_taken_for_anothers() {
    let schema = ids_by_date(0..1, 1).schema();
    let flushed = |confirmed: bool| {
        let store = Failing::new();
        let config = Config::parse(&Options::of(&[("path", "/lake")])).unwrap();
        let log = if confirmed { store.confirmed_log() } else { store.log() };
        let mut sink = DeltaSink::open_at(log, config, "lake".to_owned(), &schema).unwrap();
        sink.recover("p-1", 1).unwrap();
        sink.write(&epoch(0, 1, ids_by_date(0..5, 1))).unwrap();
        store.set(Fault::Again);
        let flushed = sink.flush(0, true);
        assert_eq!(rows_at(store.log()), 5);
        flushed
    };
    assert_eq!(flushed(true).unwrap(), Flushed::All);
    let error = flushed(false).unwrap_err();
    assert!(error.to_string().contains("another run of this pipeline"), "what it would be without: {error}");
}

#[test]
fn while_storage_fails_at_most_two_rolls_are_held() {
    let store = Failing::new();
    let mut sink = open_failing(&store, &ids_by_date(0..1, 1).schema());
    store.set(Fault::Full);
    let mut taken = 0;
    let error = loop {
        match sink.write(&epoch(0, taken + 1, ids_by_date(taken as i64 * 50_000..(taken as i64 + 1) * 50_000, 1))) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        let _ = sink.flush(0, false);
        assert!(taken < 1_000, "takes rows without end");
    };
    assert_eq!(error.kind(), Kind::Transient);
    store.set(Fault::None);
    sink.write(&epoch(0, taken + 1, ids_by_date(taken as i64 * 50_000..(taken as i64 + 1) * 50_000, 1))).unwrap();
    sink.flush(0, true).unwrap();
    assert_eq!(rows_at(store.log()), (taken + 1) * 50_000);
}

#[test]
fn the_log_is_checkpointed_every_so_many_commits() {
    let dir = tempfile::tempdir().unwrap();
    let options = [("delta.checkpointInterval", "3")];
    let mut sink = open(dir.path(), &ids_by_date(0..1, 1).schema(), &options).unwrap();
    sink.recover("p-1", 1).unwrap();
    for n in 1..=5 {
        sink.write(&epoch(0, n, ids_by_date(0..3, 1))).unwrap();
        sink.flush(0, true).unwrap();
    }
    let log = dir.path().join("lake/_delta_log");
    let checkpoints =
        std::fs::read_dir(&log).unwrap().filter(|f| f.as_ref().unwrap().path().to_string_lossy().contains("checkpoint.parquet"));
    assert_eq!(checkpoints.count(), 2, "at versions 2 and 5");
    assert!(log.join("_last_checkpoint").exists());
    let mut again = open(dir.path(), &ids_by_date(0..1, 1).schema(), &[]).unwrap();
    assert_eq!((again.recover("p-1", 1).unwrap(), rows_in(dir.path())), (Some(vec![5]), 15));
}

#[test]
fn entries_of_the_log_that_expired_go_behind_a_checkpoint_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let options = [("delta.checkpointInterval", "3"), ("delta.logRetentionDuration", "interval 0 seconds")];
    let schema = ids_by_date(0..1, 1).schema();
    let mut sink = open(dir.path(), &schema, &options).unwrap();
    sink.recover("p-1", 1).unwrap();
    for n in 1..=7 {
        sink.write(&epoch(0, n, ids_by_date(0..3, 1))).unwrap();
        sink.flush(0, true).unwrap();
    }
    let entry = |version: u64| dir.path().join(format!("lake/_delta_log/{version:020}.json")).exists();
    let there: Vec<_> = (0..=7).filter(|version| entry(*version)).collect();
    assert_eq!(there, [5, 6, 7], "checkpoints are at versions 2 and 5");
    assert_eq!(rows_in(dir.path()), 21);
    assert_eq!(open(dir.path(), &schema, &[]).unwrap().recover("p-1", 1).unwrap(), Some(vec![7]));
}

#[test]
fn a_table_with_other_columns_is_refused_with_the_difference() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), &ids_by_date(0..1, 1).schema(), &[("partition_by", "date")]).unwrap();
    let other = Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("date", DataType::Date32, true),
        Field::new("extra", DataType::Boolean, true),
    ]);
    let error = open(dir.path(), &Arc::new(other), &[]).err().unwrap();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.message().contains("column id is BIGINT in the table, VARCHAR here"), "{error}");
    assert!(error.message().contains("column extra (BOOLEAN) is not in the table"), "{error}");
    assert!(error.hint_text().unwrap().contains("add_columns = 'true'"), "{error}");
    let error = open(dir.path(), &ids_by_date(0..1, 1).schema(), &[("partition_by", "id")]).err().unwrap();
    assert!(error.message().contains("is partitioned by date, not id"), "{error}");
}

#[test]
fn a_path_below_a_file_is_a_permanent_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let error = open(&dir.path().join("file"), &ids_by_date(0..1, 1).schema(), &[]).err().unwrap();
    assert_eq!(error.kind(), Kind::Permanent, "{error}");
    assert!(error.message().contains("file/lake"), "{error}");
}

#[test]
fn a_table_that_is_deleted_meanwhile_stops_the_pipeline() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(dir.path(), &ids_by_date(0..1, 1).schema(), &[]).unwrap();
    sink.write(&epoch(0, 1, ids_by_date(0..5, 1))).unwrap();
    std::fs::remove_dir_all(dir.path().join("lake")).unwrap();
    let error = sink.flush(0, true).unwrap_err();
    assert_eq!(error.kind(), Kind::Permanent);
    assert!(error.message().contains("was deleted"), "{error}");
}

#[test]
fn updates_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let rows = ids_by_date(0..5, 1);
    let mut sink = open(dir.path(), &rows.schema(), &[]).unwrap();
    for change in [Change::Upsert, Change::Delete] {
        let output = EpochOutput { task: 0, epoch: 1, clock: 0, batches: vec![Batch { rows: rows.clone(), change }] };
        assert_eq!(sink.write(&output).unwrap_err().kind(), Kind::Permanent);
    }
}

#[test]
fn a_null_in_a_not_null_column_names_the_column() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(dir.path(), &ids_by_date(0..1, 1).schema(), &[]).unwrap();
    let loose = Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("date", DataType::Date32, true)]);
    let rows = RecordBatch::try_new(
        Arc::new(loose),
        vec![Arc::new(Int64Array::from(vec![None])), Arc::new(Date32Array::from(vec![Some(1)]))],
    );
    let error = sink.write(&epoch(0, 1, rows.unwrap())).unwrap_err();
    assert_eq!(error.kind(), Kind::Permanent);
    assert!(error.message().contains("'id'"), "{error}");
}

/// `id BIGINT` and `seq`, the numbers from 1 without a sign.
fn numbered(ids: std::ops::Range<i64>, first: u64) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("seq", DataType::UInt64, true)]);
    let seq = arrow::array::UInt64Array::from_iter_values(ids.clone().map(|id| first + id.unsigned_abs()));
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(seq)]).unwrap()
}

#[test]
fn numbers_without_a_sign_fit_the_table_that_they_made() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..2 {
        let mut sink = open(dir.path(), &numbered(0..1, 0).schema(), &[]).unwrap();
        sink.write(&epoch(0, n + 1, numbered(0..3, 1))).unwrap();
        sink.flush(0, true).unwrap();
    }
    assert_eq!(rows_in(dir.path()), 6);
    let mut sink = open(dir.path(), &numbered(0..1, 0).schema(), &[]).unwrap();
    let error = sink.write(&epoch(0, 3, numbered(0..1, u64::MAX))).unwrap_err();
    assert_eq!(error.kind(), Kind::Permanent);
    assert!(error.message().starts_with("column seq: the Delta table has BIGINT"), "{error}");
}

#[test]
fn columns_are_added_on_request_and_rows_that_were_there_have_none() {
    let dir = tempfile::tempdir().unwrap();
    let narrow = ids_by_date(0..3, 1);
    let wide = numbered(3..6, 0);
    let wide = RecordBatch::try_new(
        Arc::new(Schema::new(vec![
            narrow.schema().fields()[0].clone(),
            narrow.schema().fields()[1].clone(),
            wide.schema().fields()[1].clone(),
        ])),
        vec![wide.column(0).clone(), ids_by_date(3..6, 1).column(1).clone(), wide.column(1).clone()],
    )
    .unwrap();
    let add = [("add_columns", "true")];
    let mut old = open(dir.path(), &narrow.schema(), &add).unwrap();
    old.recover("p-1", 1).unwrap();
    old.write(&epoch(0, 1, narrow.clone())).unwrap();
    old.flush(0, true).unwrap();
    assert!(open(dir.path(), &wide.schema(), &[]).is_err());
    let mut new = open(dir.path(), &wide.schema(), &add).unwrap();
    new.write(&epoch(0, 1, wide.clone())).unwrap();
    new.flush(0, true).unwrap();
    // The run that was there before goes on without the column.
    old.write(&epoch(0, 2, ids_by_date(6..9, 1))).unwrap();
    while let Err(error) = old.flush(0, true) {
        assert_eq!(error.kind(), Kind::Transient, "{error}");
    }
    let path = dir.path().join("lake");
    let read: Vec<_> = crate::delta::scan(path.to_str().unwrap(), None).unwrap().collect::<Result<_, _>>().unwrap();
    let nulls: Vec<_> = read.iter().map(|b| (b.num_rows(), b.column_by_name("seq").unwrap().null_count())).collect();
    assert_eq!(nulls, [(3, 3), (3, 0), (3, 3)]);
    // Nor is it refused when it starts again; a NOT NULL column that rows lack is.
    open(dir.path(), &narrow.schema(), &add).unwrap();
    let lacks_id = Arc::new(narrow.schema().project(&[1]).unwrap());
    let error = open(dir.path(), &lacks_id, &add).err().unwrap();
    assert!(error.message().contains("column id (BIGINT) of the table is missing"), "{error}");
}

#[test]
fn statistics_of_columns_are_in_the_log_nested_ones_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(dir.path(), &all_types().schema(), &[]).unwrap();
    sink.write(&epoch(0, 1, all_types())).unwrap();
    sink.flush(0, true).unwrap();
    let entry = std::fs::read_to_string(dir.path().join("lake/_delta_log/00000000000000000001.json")).unwrap();
    let actions = entry.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let add = actions.into_iter().find(|action| action.get("add").is_some()).unwrap();
    let stats: serde_json::Value = serde_json::from_str(add["add"]["stats"].as_str().unwrap()).unwrap();
    let of = |what: &str| {
        let values = &stats[what];
        serde_json::json!([values["id"], values["place"]["lat"], values["amount"], values["date"]])
    };
    assert_eq!(stats["numRecords"], 3);
    assert_eq!(of("minValues"), serde_json::json!([1, 1.5, 0.1, "2024-01-01"]));
    assert_eq!(of("maxValues"), serde_json::json!([3, 1.5, f64::MAX, "2024-01-02"]));
    assert_eq!(of("nullCount"), serde_json::json!([0, 2, 1, 1]));
}
