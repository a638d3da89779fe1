use super::*;

#[test]
fn what_others_left_is_removed_and_files_have_no_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("7-0.state"), "left").unwrap();
    std::fs::write(folder.path().join("notes.txt"), "not ours").unwrap();
    let disk = Disk::open(folder.path(), 0).unwrap();
    let space = disk.space().unwrap();
    let part = space.put(b"some bytes").unwrap();
    assert_eq!(part.bytes(5, 5).unwrap(), b"bytes");
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["notes.txt"]);
    assert_eq!(space.bytes(), 4096);
    drop(part);
    assert_eq!(space.bytes(), 0);
}

#[test]
fn a_directory_that_cannot_be_written_to_is_an_error_that_says_what_to_set() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let error = Disk::open(folder.path().join("file"), 0).unwrap_err();
    assert!(error.message().contains("file cannot be opened"), "{error}");
    assert!(error.hint_text().unwrap().contains("state.path"), "{error}");
}

/// `/dev/full` says of every write that the disk is full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), 0).unwrap();
    let full = std::fs::OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
    let space = Arc::new(Space::new(disk, full));
    let error = space.put(b"some bytes").unwrap_err();
    assert!(error.message().contains("cannot be written: No space left"), "{error}");
    assert!(error.hint_text().unwrap().starts_with("make room there"), "{error}");
    assert_eq!(space.bytes(), 0, "a part that was not written takes no room");
    let mut pages = Pages::new(space);
    pages.grow(1000);
    let fails = (0..1000).any(|page| pages.get_mut(page).is_err());
    assert!(fails);
}
