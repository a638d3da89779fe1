use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use riverrun_engine::checkpoint::{Put, Storage, Stored};

use super::Location;

#[test]
fn a_location_is_a_path_or_a_url() {
    let directory = |text| Location::parse(text).unwrap().directory().map(Path::to_owned);
    assert_eq!(directory("/a/b"), Some("/a/b".into()));
    assert_eq!(directory("file:///a/b"), Some("/a/b".into()));
    assert_eq!(directory("a"), Some(std::env::current_dir().unwrap().join("a")));
    let s3 = Location::parse("s3://bucket/a/b/").unwrap();
    assert_eq!((s3.to_string(), s3.folder("p").to_string()), ("s3://bucket/a/b".into(), "s3://bucket/a/b/p".into()));
    assert_eq!(Location::parse("s3://bucket").unwrap().folder("p").to_string(), "s3://bucket/p");
    for wrong in ["s3://", "gopher://a/b", "file://host/a"] {
        assert!(Location::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_directory_keeps_files_and_the_first_of_two_stands() {
    let dir = tempfile::tempdir().unwrap();
    let location = Location::Directory(dir.path().join("some where/p#1"));
    let storage = location.open(&BTreeMap::new()).unwrap();
    let (one, other) = (Bytes::from_static(b"one"), Bytes::from_static(b"other"));
    assert_eq!(storage.list("").unwrap(), []);
    assert_eq!(storage.get("a/b").unwrap(), None);
    assert_eq!(storage.put_if_absent("a/b", one.clone()).unwrap(), Put::Stored);
    assert_eq!(storage.put_if_absent("a/b", one.clone()).unwrap(), Put::Stored);
    assert_eq!(storage.put_if_absent("a/b", other.clone()).unwrap(), Put::Taken);
    storage.put_if_absent("ab/c", other).unwrap();
    assert_eq!(storage.list("a/").unwrap(), [Stored { name: "a/b".into(), bytes: 3 }]);
    assert_eq!(storage.list("").unwrap().len(), 2);
    assert_eq!(storage.get_many(&["a/b".into(), "a/x".into()]).unwrap(), [Some(one), None]);
    storage.delete("a/b").unwrap();
    storage.delete("a/b").unwrap();
    assert_eq!(storage.list("a/").unwrap(), []);
}

#[tokio::test]
async fn it_may_be_used_and_dropped_within_async_code() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Location::Directory(dir.path().into()).open(&BTreeMap::new()).unwrap();
    assert_eq!(storage.put_if_absent("a", Bytes::from_static(b"1")).unwrap(), Put::Stored);
}

#[cfg(not(feature = "s3"))]
#[test]
fn without_the_feature_s3_is_refused() {
    let error = Location::parse("s3://bucket/x").unwrap().open(&BTreeMap::new()).unwrap_err();
    assert_eq!(error.message(), "location s3://bucket/x: this riverrun is built without S3");
}
