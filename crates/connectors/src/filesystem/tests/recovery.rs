//! What the sinks tell after a crash, and that nothing is there twice. A crash is a sink that is forgotten: nothing of it is
//! closed, removed or unlocked, as when its process is killed; where locks matter it is dropped, as the system drops those.

use super::*;

/// The ids in a folder or file, sorted.
fn ids(path: &Path, format: &str) -> Vec<i64> {
    let mut ids = read_all(path, &[("format", format)]).ids();
    ids.sort_unstable();
    ids
}

fn finished(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| !name.starts_with('.')).collect()
}

#[test]
fn names_of_files_tell_how_far_each_task_is() {
    for format in ["json", "csv", "parquet"] {
        let folder = tempfile::tempdir().unwrap();
        let open = || sink(folder.path(), &[("format", format)]).unwrap();
        let mut killed = open();
        assert_eq!(killed.recover("p-1", 2).unwrap(), Some(vec![0, 0]));
        killed.write(&output(0, 1, &[Some(1)])).unwrap();
        killed.write(&output(0, 3, &[Some(2)])).unwrap();
        killed.write(&output(1, 7, &[Some(3)])).unwrap();
        killed.write(&output(1, 8, &[])).unwrap();
        killed.flush(CLOCK, true).unwrap();
        killed.write(&output(0, 4, &[Some(4)])).unwrap();
        killed.write(&output(1, 9, &[Some(5)])).unwrap();
        std::mem::forget(killed);
        assert_eq!(names(folder.path()).len(), 4);

        let mut again = open();
        assert_eq!(again.recover("p-1", 3).unwrap(), Some(vec![3, 7, 0]));
        assert_eq!(names(folder.path()), finished(folder.path()), "unfinished files are gone");
        again.write(&output(0, 4, &[Some(4)])).unwrap();
        again.write(&output(1, 9, &[Some(5)])).unwrap();
        again.write(&output(2, 1, &[Some(6)])).unwrap();
        again.flush(CLOCK, true).unwrap();
        assert_eq!(ids(folder.path(), format), [1, 2, 3, 4, 5, 6]);
        assert!(finished(folder.path())[0].starts_with("part-p-1-files-00000-000000000001-000000000003."));
    }
}

#[test]
fn a_task_that_another_instance_has_taken_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let (mut late, mut heir) = (sink(folder.path(), &[]).unwrap(), sink(folder.path(), &[]).unwrap());
    assert_eq!(late.take("p-1", &[0, 1]).unwrap(), Some(vec![0, 0]));
    late.write(&output(0, 1, &[Some(1)])).unwrap();
    late.write(&output(1, 1, &[Some(2)])).unwrap();
    assert_eq!(heir.take("p-1", &[0]).unwrap(), Some(vec![0]));
    // Its unfinished file of task 0 is gone, that of task 1 is not.
    late.flush(CLOCK, true).unwrap();
    assert_eq!((late.take_moved(), ids(folder.path(), "json")), (vec![0], vec![2]));
    late.write(&output(0, 2, &[Some(9)])).unwrap();
    late.flush(CLOCK, true).unwrap();
    heir.write(&output(0, 1, &[Some(1)])).unwrap();
    heir.flush(CLOCK, true).unwrap();
    assert_eq!((heir.take_moved(), ids(folder.path(), "json")), (vec![], vec![1, 2]));
    assert_eq!(late.take("p-1", &[0]).unwrap(), Some(vec![1]));
    late.write(&output(0, 2, &[Some(3)])).unwrap();
    late.flush(CLOCK, true).unwrap();
    heir.write(&output(0, 2, &[Some(3)])).unwrap();
    heir.write(&output(0, 3, &[Some(4)])).unwrap();
    heir.flush(CLOCK, true).unwrap();
    assert_eq!((heir.take_moved(), ids(folder.path(), "json")), (vec![0], vec![1, 2, 3]));
}

#[test]
fn lineages_sinks_and_runs_without_positions_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, lineage: Option<&str>| {
        let mut sink = named(name, folder.path(), &[]).unwrap();
        let told = lineage.map(|lineage| sink.recover(lineage, 1).unwrap().unwrap()[0]);
        sink.write(&output(0, 5, &[Some(1)])).unwrap();
        sink.flush(CLOCK, true).unwrap();
        told
    };
    assert_eq!(run("files", None), None);
    assert_eq!(run("files", None), None);
    for lineage in ["p", "p-files", "p-1", "00000"] {
        for name in ["files", "00000", "a/b-c"] {
            assert_eq!(run(name, Some(lineage)), Some(0), "{name} of {lineage}");
        }
    }
    assert_eq!(finished(folder.path()).len(), 14);
    let mut unfinished = named("00000", folder.path(), &[]).unwrap();
    unfinished.recover("p-files", 1).unwrap();
    unfinished.write(&output(0, 6, &[Some(1)])).unwrap();
    assert_eq!(sink(folder.path(), &[]).unwrap().recover("p", 1).unwrap(), Some(vec![5]));
    unfinished.flush(CLOCK, true).unwrap();
    assert_eq!(finished(folder.path()).len(), 15, "it is another's, and was not removed");
}

#[test]
fn a_finished_file_that_is_there_is_adopted_and_another_run_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let mut sink = sink(folder.path(), &[]).unwrap();
        assert_eq!(sink.recover("p-1", 1).unwrap(), Some(vec![0]));
        sink
    };
    let (mut first, mut second, mut third) = (open(), open(), open());
    let one = |epoch: u64| output(0, epoch, &[Some(epoch as i64)]);
    // Opened first by none of them: nothing was there to remove.
    for sink in [&mut first, &mut second, &mut third] {
        sink.write(&one(1)).unwrap();
    }
    third.write(&one(2)).unwrap();
    first.flush(CLOCK, true).unwrap();
    assert_eq!(second.flush(CLOCK, true).unwrap(), Flushed::All);
    second.write(&one(2)).unwrap();
    second.flush(CLOCK, true).unwrap();
    let error = third.flush(CLOCK, true).unwrap_err().to_string();
    assert!(error.contains("another run of this pipeline") && error.contains("is at epoch 2, not 0"), "{error}");
    assert_eq!(ids(folder.path(), "json"), [1, 2]);
}

#[test]
fn the_mark_of_an_appended_file_says_where_its_epochs_end() {
    for format in ["json", "csv"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead.jsonl");
        let open = || sink(&path, &[("format", format)]).unwrap();
        let mut killed = open();
        assert_eq!(killed.recover("p-1", 2).unwrap(), Some(vec![0, 0]));
        // A crash before the first flush: not even a header stays.
        killed.write(&output(0, 1, &[Some(1)])).unwrap();
        drop(killed);
        let mut killed = open();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        assert_eq!(killed.recover("p-1", 2).unwrap(), Some(vec![0, 0]));
        killed.write(&output(0, 1, &[Some(1)])).unwrap();
        killed.write(&output(1, 4, &[Some(2)])).unwrap();
        killed.write(&output(1, 5, &[])).unwrap();
        killed.flush(CLOCK, false).unwrap();
        killed.write(&output(0, 2, &[Some(3)])).unwrap();
        drop(killed);
        assert_eq!(ids(&path, format), [1, 2, 3]);

        let mut again = open();
        assert_eq!(ids(&path, format), [1, 2]);
        assert_eq!(again.recover("p-1", 3).unwrap(), Some(vec![1, 4, 0]));
        again.write(&output(0, 2, &[Some(3)])).unwrap();
        again.flush(CLOCK, true).unwrap();
        again.close().unwrap();
        drop(again);
        assert_eq!(open().recover("p-2", 1).unwrap(), Some(vec![0]));
        assert_eq!(open().recover("p-1", 1).unwrap(), Some(vec![2]));
        assert_eq!(ids(&path, format), [1, 2, 3]);
    }
}

#[test]
fn what_others_appended_after_a_crash_or_a_stop_is_left_alone() {
    for stopped in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead.jsonl");
        let mut first = sink(&path, &[]).unwrap();
        first.recover("p-1", 1).unwrap();
        first.write(&output(0, 1, &[Some(1)])).unwrap();
        first.flush(CLOCK, true).unwrap();
        match stopped {
            true => first.close().unwrap(),
            false => first.write(&output(0, 2, &[Some(2)])).unwrap(),
        }
        drop(first);
        // A bounded run is never asked.
        sink(&path, &[]).unwrap().write(&output(0, 1, &[Some(9)])).unwrap();
        let mut again = sink(&path, &[]).unwrap();
        assert_eq!(again.recover("p-1", 1).unwrap(), Some(vec![1]));
        again.write(&output(0, 2, &[Some(2)])).unwrap();
        again.flush(CLOCK, true).unwrap();
        assert_eq!(ids(&path, "json"), [1, 2, 9]);
    }
}

#[test]
fn a_file_that_others_append_to_keeps_no_position() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.jsonl");
    let both = || (named("a", &path, &[]).unwrap(), named("b", &path, &[]).unwrap());
    let (mut a, mut b) = both();
    for sink in [&mut a, &mut b] {
        assert_eq!(sink.recover("p-1", 1).unwrap(), Some(vec![0]));
        sink.write(&output(0, 1, &[Some(1)])).unwrap();
        sink.flush(CLOCK, true).unwrap();
    }
    drop((a, b));
    let (mut a, mut b) = both();
    assert_eq!((a.recover("p-1", 1).unwrap(), b.recover("p-1", 1).unwrap()), (None, None));
    a.write(&output(0, 2, &[Some(2)])).unwrap();
    assert_eq!(ids(&path, "json"), [1, 1, 2]);

    // A person appends while a run has the file for itself.
    let path = folder.path().join("other.jsonl");
    let mut ours = sink(&path, &[]).unwrap();
    assert_eq!(ours.recover("p-1", 1).unwrap(), Some(vec![0]));
    ours.write(&output(0, 1, &[Some(1)])).unwrap();
    ours.flush(CLOCK, true).unwrap();
    let text = std::fs::read_to_string(&path).unwrap() + &lines(7..8);
    std::fs::write(&path, text).unwrap();
    ours.write(&output(0, 2, &[Some(2)])).unwrap();
    let error = sink(&path, &[]).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("another run appends to it"), "{error}");
    drop(ours);
    assert_eq!(sink(&path, &[]).unwrap().recover("p-1", 1).unwrap(), None);
    assert_eq!(ids(&path, "json"), [1, 2, 7]);
}
