//! What `kill -9` leaves behind: this test program starts itself as a child that appends, and kills it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::*;

/// Names the directory to the child.
const CHILD: &str = "RIVERRUN_TEST_LOG_CHILD";
const ACK: &str = "acknowledged ";

#[test]
fn acknowledged_records_survive_kill_9_and_offsets_have_no_gap() {
    if let Ok(directory) = std::env::var(CHILD) {
        append_until_killed(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["acknowledged_records_survive_kill_9", "--nocapture"])
        .env(CHILD, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut acknowledged = lines.filter_map(|line| line.split_once(ACK).map(|(_, offset)| offset.parse::<i64>().unwrap()));
    assert_eq!(acknowledged.by_ref().take(200).count(), 200);

    let error = Log::open(directory.path()).map(|_| ()).unwrap_err();
    assert!(error.message().contains(&format!("process {} has it open", child.id())), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    // What it wrote before it died was acknowledged too.
    let last = acknowledged.last().unwrap_or(199);

    let log = Log::open(directory.path()).unwrap();
    let topic = log.topic("t").unwrap();
    assert!(topic.end(0) > last && topic.end(0) == topic.end(1), "{} and {}, {last} acknowledged", topic.end(0), topic.end(1));
    assert_eq!(log.journal(b"task").unwrap().unwrap(), (topic.end(0) - 1).to_string().into_bytes());
    for partition in 0..2 {
        let mut reader = Reader::open(Arc::clone(&log), Arc::clone(&topic), partition, 0, true).unwrap();
        let mut next = 0;
        while reader
            .read(100, usize::MAX, i64::MAX, |r| {
                assert_eq!((r.offset, r.value.unwrap()), (next, next.to_string().as_bytes()));
                next += 1;
            })
            .unwrap()
            .records
            > 0
        {}
        assert_eq!(next, topic.end(partition));
    }
}

/// One record to each of two partitions and a journal entry per append; says so when it is acknowledged.
fn append_until_killed(directory: &Path) {
    let log = Log::open(directory).unwrap();
    let topic = log.create_topic("t", Some(2), None).unwrap();
    let mut batch = Batch::new(Durability::Process);
    for number in 0i64.. {
        let value = number.to_string().into_bytes();
        for partition in [0, 1] {
            batch.push(&topic, NewRecord { partition: Some(partition), value: Some(&value), ..NewRecord::default() }).unwrap();
        }
        batch.journal("task", Some(value));
        log.append(&mut batch, 0).unwrap();
        println!("{ACK}{number}");
    }
}
