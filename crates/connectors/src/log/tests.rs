//! Tests of the store: appends, readers, groups, retention, several topics, opening again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use riverrun_engine::error::Kind;

use super::*;
use crate::partitioner::partition_of;

fn filled(log: &Log, topic: &Arc<Topic>, partition: u32, values: impl IntoIterator<Item = i64>) {
    let mut batch = Batch::new(Durability::Process);
    for value in values {
        push(&mut batch, topic, Some(partition), None, value);
    }
    log.append(&mut batch, 0).unwrap();
}

fn push(batch: &mut Batch, topic: &Arc<Topic>, partition: Option<u32>, key: Option<&str>, value: i64) -> u32 {
    let text = value.to_string();
    let record =
        NewRecord { partition, key: key.map(str::as_bytes), value: Some(text.as_bytes()), headers: &[], timestamp: value };
    batch.push(topic, record).unwrap()
}

/// All (offset, value) from `offset` on, read `step` records at a time.
fn values(log: &Arc<Log>, topic: &Arc<Topic>, partition: u32, offset: i64, step: usize) -> Vec<(i64, i64)> {
    let mut reader = Reader::open(Arc::clone(log), Arc::clone(topic), partition, offset, true).unwrap();
    let mut all = Vec::new();
    loop {
        let read = reader
            .read(step, usize::MAX, i64::MAX, |r| {
                all.push((r.offset, std::str::from_utf8(r.value.unwrap()).unwrap().parse().unwrap()));
            })
            .unwrap();
        if read.records == 0 {
            assert_eq!((reader.position(), reader.lag()), (topic.end(partition), 0));
            return all;
        }
    }
}

fn open(directory: &Path) -> (Arc<Log>, Arc<Topic>) {
    let log = Log::open(directory).unwrap();
    let topic = log.create_topic("t", None, None).unwrap();
    (log, topic)
}

#[test]
fn records_come_back_in_order_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let (log, topic) = open(directory.path());
    filled(&log, &topic, 3, 0..1000);
    filled(&log, &topic, 3, 1000..1005);
    filled(&log, &topic, 4, [7]);
    drop((log, topic));
    let (log, topic) = open(directory.path());
    assert_eq!((topic.start(3), topic.end(3), topic.end(4), topic.end(5)), (0, 1005, 1, 0));
    let expected: Vec<_> = (0..1005).map(|v| (v, v)).collect();
    for step in [1, 7, 5000] {
        assert_eq!(values(&log, &topic, 3, 0, step), expected);
        assert_eq!(values(&log, &topic, 3, 998, step), expected[998..]);
    }
    assert_eq!(values(&log, &topic, 4, 0, 10), [(0, 7)]);
}

#[test]
fn key_value_headers_and_time_are_kept_and_a_missing_value_is_a_tombstone() {
    let directory = tempfile::tempdir().unwrap();
    let (log, topic) = open(directory.path());
    let mut batch = Batch::new(Durability::Power);
    let headers = [("trace", Some(b"1".as_slice())), ("empty", None)];
    let record = NewRecord { partition: None, key: Some(b"user_1"), value: None, headers: &headers, timestamp: -5 };
    let partition = batch.push(&topic, record).unwrap();
    assert_eq!(partition, partition_of(b"user_1", DEFAULT_PARTITIONS));
    log.append(&mut batch, 0).unwrap();
    let mut reader = Reader::open(log, topic, partition, 0, true).unwrap();
    let read = reader.read(9, 9, i64::MAX, |r| {
        assert_eq!((r.offset, r.timestamp, r.key, r.value), (0, -5, Some(b"user_1".as_slice()), None));
        assert!(r.headers.iter().eq(headers));
    });
    assert_eq!(read.unwrap(), Read { records: 1, bytes: 6 });
}

#[test]
fn records_without_a_key_go_to_one_partition_per_batch_in_turn() {
    let directory = tempfile::tempdir().unwrap();
    let (log, topic) = open(directory.path());
    let mut batch = Batch::new(Durability::Process);
    let mut used = Vec::new();
    for _ in 0..3 {
        let partitions: Vec<_> = (0..4).map(|v| push(&mut batch, &topic, None, None, v)).collect();
        assert!(partitions.iter().all(|p| *p == partitions[0]));
        used.push(partitions[0]);
        log.append(&mut batch, 0).unwrap();
    }
    assert_eq!(used, [0, 1, 2]);
}

#[test]
fn one_append_writes_several_topics_and_the_journal_or_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (log, first) = open(directory.path());
    let second = log.create_topic("u", Some(2), None).unwrap();
    let mut batch = Batch::new(Durability::Process);
    push(&mut batch, &first, Some(1), None, 1);
    push(&mut batch, &second, Some(0), None, 2);
    push(&mut batch, &second, Some(0), None, 3);
    batch.journal("task/0", Some(b"epoch 1".to_vec()));
    batch.journal("gone", None);
    let appended = log.append(&mut batch, 0).unwrap();
    assert_eq!(
        appended,
        [Appended { topic: 0, partition: 1, base: 0, records: 1 }, Appended { topic: 1, partition: 0, base: 0, records: 2 }]
    );
    assert!(batch.is_empty());
    assert_eq!(log.journal(b"task/0").unwrap().unwrap(), b"epoch 1");
    assert_eq!(log.journal_entries(b"task/").unwrap(), [(b"task/0".to_vec(), b"epoch 1".to_vec())]);
    assert_eq!(log.append(&mut batch, 0).unwrap(), []);
}

#[test]
fn a_reader_stops_at_its_stop_offset_and_at_its_limits() {
    let directory = tempfile::tempdir().unwrap();
    let (log, topic) = open(directory.path());
    filled(&log, &topic, 0, 100..200);
    let mut reader = Reader::open(log, Arc::clone(&topic), 0, 10, true).unwrap();
    let mut read = |records, bytes, stop| reader.read(records, bytes, stop, |_| {}).unwrap().records;
    assert_eq!(read(5, 99, 50), 5);
    assert_eq!(read(5, 6, 50), 2, "a limit in bytes is passed by one record at most");
    assert_eq!(read(100, 9999, 50), 33);
    assert_eq!(read(100, 9999, 50), 0);
    assert_eq!(read(100, 9999, i64::MAX), 50);
}

#[test]
fn who_waits_is_woken_by_an_append_and_told_when_nothing_came() {
    let directory = tempfile::tempdir().unwrap();
    let (log, topic) = open(directory.path());
    assert!(!topic.wait(0, 0, Duration::ZERO));
    let waiter = Arc::clone(&topic);
    let waiting = std::thread::spawn(move || waiter.wait(0, 0, Duration::from_secs(60)));
    filled(&log, &topic, 0, [1]);
    assert!(waiting.join().unwrap());
}

#[test]
fn a_group_keeps_its_position_apart_from_others() {
    let directory = tempfile::tempdir().unwrap();
    let (log, topic) = open(directory.path());
    assert_eq!(log.committed("g", &topic, 1).unwrap(), None);
    log.commit("g", &topic, &[(1, 5), (2, 9)]).unwrap();
    log.commit("h", &topic, &[(1, 6)]).unwrap();
    drop((log, topic));
    let (log, topic) = open(directory.path());
    assert_eq!(log.committed("g", &topic, 1).unwrap(), Some(5));
    assert_eq!(log.committed("g", &topic, 2).unwrap(), Some(9));
    assert_eq!(log.committed("h", &topic, 1).unwrap(), Some(6));
    assert_eq!(log.committed("h", &topic, 2).unwrap(), None);
}

#[test]
fn an_offset_by_time_is_that_of_the_first_record_at_or_past_it() {
    let directory = tempfile::tempdir().unwrap();
    let (log, topic) = open(directory.path());
    filled(&log, &topic, 0, [10, 20, 15]);
    filled(&log, &topic, 0, [5, 30]);
    for (time, offset) in [(0, 0), (10, 0), (11, 1), (20, 1), (21, 4), (31, 5)] {
        assert_eq!(log.offset_at(&topic, 0, time).unwrap(), offset, "{time}");
    }
}

#[test]
fn the_number_of_partitions_is_fixed_and_the_name_is_checked() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    assert_eq!(log.create_topic("t", Some(10), None).unwrap().partitions(), 10);
    let error = log.create_topic("t", Some(4), None).unwrap_err();
    assert!(error.message().contains("10 partitions, not 4") && error.kind() == Kind::Invalid, "{error}");
    assert!(log.create_topic("no spaces", None, None).unwrap_err().message().contains("'no spaces'"));
    assert!(log.create_topic("v", Some(0), None).is_err());
    let names: Vec<_> = log.topics().iter().map(|t| t.name().to_owned()).collect();
    assert_eq!(names, ["t"]);
}

#[test]
fn retention_by_time_drops_old_blocks_and_tells_readers_what_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    let topic = log.create_topic("t", None, Some(Retention { micros: Some(100), bytes: None })).unwrap();
    let append = |value: i64| {
        let mut batch = Batch::new(Durability::Process);
        push(&mut batch, &topic, Some(0), None, value);
        log.append(&mut batch, value).unwrap();
    };
    (0..10).map(|i| i * 50).for_each(append);
    // At 450 what is older than 350 goes.
    assert_eq!((topic.start(0), topic.end(0)), (7, 10));
    append(10_000);
    assert_eq!((topic.start(0), topic.end(0)), (10, 11), "the newest record stays");
    let error = Reader::open(Arc::clone(&log), Arc::clone(&topic), 0, 2, true).map(|_| ()).unwrap_err();
    assert!(error.message().contains("records 2 to 9 were deleted"), "{error}");
    let reader = Reader::open(Arc::clone(&log), Arc::clone(&topic), 0, 2, false).unwrap();
    assert_eq!(reader.position(), 10);
    drop((reader, topic, log));
    let (_, topic) = open(directory.path());
    assert_eq!((topic.start(0), topic.end(0)), (10, 11));
}

#[test]
fn retention_by_bytes_keeps_about_that_much() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    let topic = log.create_topic("t", Some(1), Some(Retention { micros: None, bytes: Some(2000) })).unwrap();
    for value in 0..100 {
        filled(&log, &topic, 0, [value; 100]);
    }
    let kept = topic.end(0) - topic.start(0);
    assert_eq!(topic.end(0), 10_000);
    assert!((300..=600).contains(&kept), "{kept} records of about 5 bytes");
    assert_eq!(values(&log, &topic, 0, topic.start(0), 1000).len() as i64, kept);
}

#[test]
fn a_position_past_the_end_is_refused_or_moved_to_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let (log, topic) = open(directory.path());
    filled(&log, &topic, 0, 0..3);
    let error = Reader::open(Arc::clone(&log), Arc::clone(&topic), 0, 9, true).map(|_| ()).unwrap_err();
    assert!(error.message().contains("ends at 3, before the position 9"), "{error}");
    assert_eq!(Reader::open(log, topic, 0, 9, false).unwrap().position(), 3);
}

#[test]
fn a_directory_that_cannot_be_one_is_a_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = Log::open(&file).map(|_| ()).unwrap_err();
    assert!(error.message().contains("not a directory") && error.kind() == Kind::Permanent, "{error}");
}

#[test]
fn users_of_one_directory_share_one_log() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    assert!(Arc::ptr_eq(&log, &Log::open(&directory.path().join(".")).unwrap()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn any_appends_read_in_any_steps_give_every_record_once_in_order(
        appends in prop::collection::vec(prop::collection::vec((0u32..3, prop::collection::vec(any::<u8>(), 0..3000)), 0..60), 0..8),
        step in 1usize..50,
        from in 0i64..20,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::open(directory.path()).unwrap();
        let topic = log.create_topic("t", Some(3), None).unwrap();
        let mut batch = Batch::new(Durability::Process);
        let mut expected = vec![Vec::new(); 3];
        for append in &appends {
            for (partition, value) in append {
                batch.push(&topic, NewRecord { partition: Some(*partition), value: Some(value), ..NewRecord::default() }).unwrap();
                expected[*partition as usize].push(value.clone());
            }
            log.append(&mut batch, 0).unwrap();
        }
        for (partition, expected) in (0..).zip(expected) {
            let from = from.min(expected.len() as i64);
            let mut reader = Reader::open(Arc::clone(&log), Arc::clone(&topic), partition, from, true).unwrap();
            let mut read = Vec::new();
            while reader.read(step, 10_000, i64::MAX, |r| read.push((r.offset, r.value.unwrap().to_vec()))).unwrap().records > 0 {}
            let expected: Vec<_> = (0..).zip(expected).skip(from as usize).collect();
            prop_assert_eq!(read, expected);
        }
    }
}
