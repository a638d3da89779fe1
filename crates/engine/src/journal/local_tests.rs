//! What survives a crash, torn ends, damage, and truncation.

use super::*;

fn genesis() -> Genesis {
    Genesis { lineage: "p-1".into(), graph: "g".into(), tasks: 2, starts: vec![(0, 0, 5).into()], sources: vec!["a".into()] }
}

fn epoch(task: u32, epoch: u64) -> Epoch {
    let chunks = vec![vec![(0, task, 10 * epoch as i64).into()]];
    let record = Record { task, epoch, clock: epoch as i64, chunks, lifts: Vec::new(), ended: Vec::new(), rows: vec![1] };
    Epoch { record, outputs: Vec::new(), ends: Vec::new() }
}

fn numbers(recorded: &Recorded) -> Vec<Vec<u64>> {
    recorded.records.iter().map(|task| task.iter().map(|r| r.epoch).collect()).collect()
}

/// Opens the journal again, as after a crash.
fn reopened(directory: &Path) -> (LocalJournal, Recorded) {
    let mut journal = LocalJournal::open(directory).unwrap();
    let recorded = journal.recover().unwrap();
    (journal, recorded)
}

#[test]
fn what_was_committed_is_there_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, recorded) = reopened(directory.path());
    assert_eq!(recorded.genesis, None);
    journal.begin(&genesis()).unwrap();
    journal.commit(&[epoch(0, 1), epoch(1, 1), epoch(0, 2)]).unwrap();
    drop(journal);
    let (mut journal, recorded) = reopened(directory.path());
    assert_eq!(recorded.genesis, Some(genesis()));
    assert_eq!(recorded.records[0], [epoch(0, 1).record, epoch(0, 2).record]);
    journal.commit(&[epoch(1, 2)]).unwrap();
    drop(journal);
    assert_eq!(numbers(&reopened(directory.path()).1), [vec![1, 2], vec![1, 2]]);
}

#[test]
fn a_torn_or_corrupt_end_was_never_committed_and_is_written_over() {
    for cut in 1..60 {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = reopened(directory.path());
        journal.begin(&genesis()).unwrap();
        journal.commit(&[epoch(0, 1)]).unwrap();
        let before = journal.segments[0].length;
        journal.commit(&[epoch(0, 2)]).unwrap();
        let path = journal.segments[0].path.clone();
        drop(journal);
        let mut bytes = fs::read(&path).unwrap();
        match cut % 2 {
            0 => bytes.truncate(before as usize + cut),
            _ => bytes[before as usize + cut] ^= 1,
        }
        fs::write(&path, bytes).unwrap();
        let (mut journal, recorded) = reopened(directory.path());
        assert_eq!(numbers(&recorded), [vec![1], vec![]], "cut {cut}");
        journal.commit(&[epoch(0, 2), epoch(0, 3)]).unwrap();
        drop(journal);
        assert_eq!(numbers(&reopened(directory.path()).1), [vec![1, 2, 3], vec![]]);
    }
}

#[test]
fn damage_in_the_middle_is_named_and_nothing_is_guessed() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = reopened(directory.path());
    journal.begin(&genesis()).unwrap();
    journal.commit(&[epoch(0, 1), epoch(0, 2)]).unwrap();
    let path = journal.segments[0].path.clone();
    drop(journal);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"clock\":1", "\"clock\":9", 1)).unwrap();
    let error = LocalJournal::open(directory.path()).unwrap().recover().unwrap_err();
    assert!(error.message().ends_with("line 3: its checksum does not fit"), "{error}");
    let lines: Vec<&str> = text.lines().collect();
    fs::write(&path, [lines[0], lines[1], lines[2], lines[2]].join("\n") + "\n" + lines[3] + "\n").unwrap();
    let error = LocalJournal::open(directory.path()).unwrap().recover().unwrap_err();
    assert!(error.message().ends_with("line 4: task 0 goes from epoch 1 to epoch 1"), "{error}");
}

#[test]
fn one_process_at_a_time_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let _first = LocalJournal::open(directory.path()).unwrap();
    let error = LocalJournal::open(directory.path()).unwrap_err();
    assert!(error.message().starts_with("another run of this pipeline is using"), "{error}");
}

#[test]
fn files_are_deleted_once_no_task_needs_them() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = reopened(directory.path());
    journal.begin(&genesis()).unwrap();
    for n in 1..=3 {
        journal.commit(&[epoch(0, n), epoch(1, n)]).unwrap();
        journal.roll().unwrap();
    }
    journal.truncate(0, 2).unwrap();
    assert_eq!(journal.segments.len(), 4, "task 1 still needs the first");
    journal.truncate(1, 1).unwrap();
    drop(journal);
    let (mut journal, recorded) = reopened(directory.path());
    assert_eq!((recorded.genesis.clone(), numbers(&recorded)), (Some(genesis()), vec![vec![2, 3], vec![2, 3]]));
    journal.begin(&Genesis { lineage: "p-2".into(), ..genesis() }).unwrap();
    drop(journal);
    let recorded = reopened(directory.path()).1;
    assert_eq!((recorded.genesis.unwrap().lineage.as_str(), recorded.records.concat().len()), ("p-2", 0));
}
