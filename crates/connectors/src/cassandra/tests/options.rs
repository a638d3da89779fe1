//! Options: what is refused, what is said of them, and that the documentation has them all.

use super::super::config::Replication;
use super::*;

#[test]
fn a_table_can_be_read_and_its_rows_replaced_and_deleted() {
    let can = connector().unwrap().check(&table(&[])).unwrap();
    assert!(can.source && can.sink && can.upsert && can.delete);
}

#[test]
fn options_that_cannot_be_are_refused_without_a_node() {
    let wrong = [
        ("contact_points", " , ", "names no node"),
        ("keyspace", "my-keyspace", "no name in Cassandra"),
        ("table", "1st", "no name in Cassandra"),
        ("partition_key", "user_id, total", "total is not in PRIMARY KEY (user_id, category, at)"),
        ("partition_key", "user_id, user_id", "twice"),
        ("create", "perhaps", "true or false"),
        ("replication", "0", "no number of copies"),
        ("replication", "dc1:3, dc2", "dc1:3, dc2:2"),
        ("compaction", "a:1", "no strategy"),
        ("compaction", "LeveledCompactionStrategy, 160", "'160' is no option"),
        ("ttl", "a while", "duration"),
        ("ttl", "8000 days", "20 years"),
        ("timestamps", "text", "timestamp, bigint"),
        ("null_keys", "skip", "fail, empty"),
        ("consistency", "any", "local_quorum"),
        ("concurrency", "0", "from 1 to 32768"),
        ("request_timeout", "0", "more than 0"),
        ("username", "me", "no password"),
        ("password", "secret", "no username"),
        ("tls", "yes", "true or false"),
        ("ssl_ca_location", "/ca.pem", "TLS is off"),
        ("ssl_key_location", "/key.pem", "TLS is off"),
        ("ssl_endpoint_identification", "maybe", "https, none"),
    ];
    for (name, value, part) in wrong {
        let told = refused(&[(name, value)]);
        assert!(told.contains(part) && told.contains(name), "{name} = {value}: {told}");
        assert!(!told.contains("secret"), "{told}");
    }
    let half = refused(&[("tls", "true"), ("ssl_certificate_location", "/me.pem")]);
    assert!(half.contains("needs 'ssl_key_location'"), "{half}");
}

#[test]
fn a_table_without_a_key_is_refused_when_it_is_planned() {
    let error = connector().unwrap().check(&Table { primary_key: Vec::new(), ..table(&[]) }).unwrap_err();
    assert!(error.kind() == Kind::Invalid && error.to_string().contains("needs a PRIMARY KEY"), "{error}");
}

#[test]
fn metadata_columns_are_refused_and_a_table_with_a_watermark_is_only_read() {
    let field = Arc::new(Field::new("at", times(), true));
    let column = Declared { field, metadata: Some(riverrun_engine::table::Metadata::Offset), location: Location::default() };
    let error = connector().unwrap().check(&Table { columns: vec![column], ..table(&[]) }).unwrap_err();
    assert!(error.to_string().contains("no metadata"), "{error}");
    let watermark = riverrun_engine::table::Watermark { column: 0, delay: std::time::Duration::ZERO };
    let read = connector().unwrap().check(&Table { watermark: Some(watermark), ..table(&[]) }).unwrap();
    assert!(read.source && !read.sink);
}

#[test]
fn values_are_read_as_people_write_them() {
    let read = config(&[
        ("contact_points", "a:1, b:2"),
        ("partition_key", "category, user_id"),
        ("replication", "east:3, west:2"),
        ("compaction", "LeveledCompactionStrategy, sstable_size_in_mb: 160"),
        ("ttl", "1500 ms"),
        ("consistency", "EACH_QUORUM"),
        ("username", ""),
        ("password", ""),
    ]);
    assert_eq!(read.contact_points, ["a:1", "b:2"]);
    assert_eq!(read.partition_key.as_deref(), Some(&["category".to_owned(), "user_id".to_owned()][..]));
    assert_eq!(read.replication, Replication::Datacenters(vec![("east".into(), 3), ("west".into(), 2)]));
    let (class, options) = read.compaction.unwrap();
    assert_eq!((class.as_str(), options), ("LeveledCompactionStrategy", vec![("sstable_size_in_mb".into(), "160".into())]));
    assert_eq!(read.ttl, Some(2), "a row lives at least as long as it says");
    assert_eq!(read.consistency, scylla::statement::Consistency::EachQuorum);
    assert!(read.login.is_none(), "an empty variable of a script is no user");
}

#[test]
fn no_password_is_in_what_is_told_of_a_configuration() {
    let told = format!("{:?}", config(&[("username", "me"), ("password", "hunter2")]));
    assert!(told.contains("me") && !told.contains("hunter2"), "{told}");
}

#[test]
fn the_page_of_connectors_has_every_option_with_its_default() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/connectors.md")).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with("cassandra\n")).unwrap();
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter(|line| !line.starts_with("T[]"))
        .map(|line| line.split(" | ").collect())
        .collect();
    let names: Vec<_> = rows.iter().map(|row| row[0].trim_end_matches('`')).collect();
    assert_eq!(names, DESCRIPTION.options.iter().map(|o| o.name).collect::<Vec<_>>());
    for (row, option) in rows.iter().zip(DESCRIPTION.options) {
        let told = row[1].trim().trim_matches('`');
        assert!(option.default.is_empty() || told == option.default, "{}: {told}", option.name);
        assert_eq!(told == "required", option.required, "{}", option.name);
    }
}

#[test]
fn certificates_that_cannot_be_read_are_named_by_their_option() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "no certificate").unwrap();
    for path in [directory.path().join("nowhere.pem"), empty] {
        let config = config(&[("tls", "true"), ("ssl_ca_location", path.to_str().unwrap())]);
        let error = super::super::tls::client(&config.tls.unwrap()).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains("'ssl_ca_location'") && error.to_string().contains(".pem"), "{error}");
    }
}
