//! Dead letters as users meet them: listed, replayed after the script was mended, each once, byte for byte.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use riverrun::connectors::log::{Batch, Durability, Log, NewRecord, Reader};
use serde_json::{Value, json};

/// A record of the embedded log: partition, key, value, headers, time.
type Raw = (u32, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>, i64);

const TIME: i64 = 1_714_564_800_000_000;

fn script(amount: &str, places: &str) -> String {
    format!(
        "SET pipeline.name = 'shop';
        CREATE TABLE orders (user_id VARCHAR NOT NULL, amount {amount} NOT NULL)
        WITH (connector = 'log', topic = 'orders', starting_offsets = 'earliest', max_record_bytes = '100 kB', {places});
        CREATE TABLE copy WITH (connector = 'filesystem', path = '${{DATA_DIR}}/copy.jsonl');
        INSERT INTO copy SELECT user_id, amount FROM orders;"
    )
}

/// Runs the program; gives what it prints.
fn riverrun(directory: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_riverrun"));
    let output = command.current_dir(directory).env("DATA_DIR", "data").args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn object(directory: &Path, arguments: &[&str]) -> Value {
    let said = riverrun(directory, &[arguments, &["--format", "json"]].concat()).unwrap();
    serde_json::from_str(&said).unwrap()
}

fn put(directory: &Path, records: &[Raw]) {
    let log = Log::open(&directory.join("data/log")).unwrap();
    let topic = log.create_topic("orders", Some(3), None).unwrap();
    let mut batch = Batch::new(Durability::Process);
    for (partition, key, value, headers, timestamp) in records {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_deref())).collect();
        let (partition, key, value) = (Some(*partition), key.as_deref(), value.as_deref());
        batch.push(&topic, NewRecord { partition, key, value, headers: &headers, timestamp: *timestamp }).unwrap();
    }
    log.append(&mut batch, TIME).unwrap();
}

/// All records of the topic from these offsets on.
fn records(directory: &Path, from: &BTreeMap<u32, i64>) -> Vec<Raw> {
    let log = Log::open(&directory.join("data/log")).unwrap();
    let topic = log.topic("orders").unwrap();
    let mut all = Vec::new();
    for partition in 0..topic.partitions() {
        let start = from.get(&partition).copied().unwrap_or(0);
        let mut reader = Reader::open(log.clone(), topic.clone(), partition, start, true).unwrap();
        let mut take = |r: riverrun::connectors::log::Record<'_>| {
            let headers = r.headers.iter().map(|(n, v)| (n.to_owned(), v.map(<[u8]>::to_vec))).collect();
            all.push((partition, r.key.map(<[u8]>::to_vec), r.value.map(<[u8]>::to_vec), headers, r.timestamp));
        };
        reader.read(usize::MAX, usize::MAX, i64::MAX, &mut take).unwrap();
    }
    all
}

/// Good ones, and bad ones of every kind: amounts that are text, bytes that are no UTF-8, a tombstone, one that is too large.
fn mixed() -> Vec<Raw> {
    let some = |text: &str| Some(text.as_bytes().to_vec());
    let header = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
    vec![
        (0, some("ann"), some(r#"{"user_id":"ann","amount":1.5}"#), vec![], TIME),
        (
            0,
            some("ann"),
            some(r#"{"user_id":"ann","amount":"two"}"#),
            vec![header("trace", Some(b"\xff\x01")), header("n", None)],
            TIME + 1,
        ),
        (1, Some(b"\xfe".to_vec()), some(r#"{"user_id":"bob","amount":"three"}"#), vec![], TIME + 2),
        (1, None, Some(b"{\"user_id\":\"\xff\"}".to_vec()), vec![], TIME + 3),
        (2, some("eve"), None, vec![], TIME + 4),
        (2, some("eve"), some("base64:aGk="), vec![], TIME + 5),
        (2, some("eve"), Some(vec![b'x'; 200_000]), vec![], TIME + 6),
    ]
}

/// A directory whose topic was read by the script that takes amounts for numbers.
fn with_dead_letters(places: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    put(directory.path(), &mixed());
    std::fs::write(directory.path().join("shop.sql"), script("DOUBLE", places)).unwrap();
    std::fs::write(directory.path().join("fixed.sql"), script("VARCHAR", places)).unwrap();
    riverrun(directory.path(), &["run", "shop.sql", "--bounded"]).unwrap();
    directory
}

fn counts(replayed: &Value) -> Value {
    let source = &replayed["sources"][0];
    json!([source["letters"], source["replayed"], source["before"], source["incomplete"], source["bad"]])
}

#[test]
fn they_are_listed_with_reason_position_and_counts() {
    for places in
        ["dead_letter_topic = 'dlq'", "dead_letter_path = '${DATA_DIR}/dead.jsonl'", "dead_letter_path = '${DATA_DIR}/dead'"]
    {
        let directory = with_dead_letters(places);
        let listed = object(directory.path(), &["dead-letters", "list", "shop.sql"]);
        let counts: BTreeMap<_, _> =
            listed["counts"].as_array().unwrap().iter().map(|c| (c["reason"].as_str().unwrap(), &c["letters"])).collect();
        assert_eq!(json!(counts), json!({"wrong_type": 2, "malformed": 2, "empty": 1, "too_large": 1}), "{places}");
        let letters = listed["letters"].as_array().unwrap();
        let of =
            |partition: i64, offset: i64| letters.iter().find(|l| l["partition"] == partition && l["offset"] == offset).unwrap();
        assert_eq!((&of(0, 1)["payload"], &of(0, 1)["key"]), (&json!(r#"{"user_id":"ann","amount":"two"}"#), &json!("ann")));
        assert!(of(0, 1)["detail"].as_str().unwrap().contains("amount") && of(0, 1)["read_time"].is_string(), "{}", of(0, 1));
        assert_eq!(of(0, 1)["record_time"], "2024-05-01T12:00:00.000001Z");
        assert_eq!((&of(1, 0)["key"], &of(2, 0)["payload"]), (&json!("base64:/g=="), &Value::Null));

        let some = object(directory.path(), &["dead-letters", "list", "shop.sql", "--reason", "wrong_type", "--limit", "1"]);
        assert_eq!((some["counts"].as_array().unwrap().len(), some["letters"].as_array().unwrap().len()), (1, 1));
        let none = object(directory.path(), &["dead-letters", "list", "shop.sql", "--since", "2200-01-01"]);
        assert_eq!(none, json!({"counts": [], "letters": []}));
        let people = riverrun(directory.path(), &["dead-letters", "list", "shop.sql", "--source", "orders"]).unwrap();
        assert!(people.starts_with("orders: 6 dead letters\n") && people.contains("orders/0/1  wrong_type: "), "{people}");
        let wrong = riverrun(directory.path(), &["dead-letters", "list", "shop.sql", "--source", "nobody"]).unwrap_err();
        assert!(wrong.contains("there is no source nobody"), "{wrong}");
    }
}

#[test]
fn what_decodes_after_the_fix_is_given_again_once_byte_for_byte() {
    for places in ["dead_letter_topic = 'dlq'", "dead_letter_path = '${DATA_DIR}/dead.jsonl'"] {
        let directory = with_dead_letters(places);
        let path = directory.path();
        let still = json!({"malformed": 2, "empty": 1});
        let unfixed = object(path, &["dead-letters", "replay", "shop.sql"]);
        assert_eq!(
            counts(&unfixed),
            json!([6, 0, 0, 1, {"malformed": 2, "empty": 1, "wrong_type": 2}]),
            "the script is as it was"
        );

        let looked = object(path, &["dead-letters", "replay", "fixed.sql", "--dry-run"]);
        assert_eq!(counts(&looked), json!([6, 2, 0, 1, still]));
        let outcome = |partition: i64, offset: i64| {
            let records = looked["records"].as_array().unwrap();
            let found = records.iter().find(|r| r["partition"] == partition && r["offset"] == offset).unwrap();
            found["outcome"].as_str().unwrap().to_owned()
        };
        assert_eq!([outcome(0, 1), outcome(1, 1), outcome(2, 2)], ["replayed", "bad", "incomplete"]);
        assert_eq!(records(path, &BTreeMap::new()).len(), mixed().len(), "a dry run gives nothing");

        assert_eq!(counts(&object(path, &["dead-letters", "replay", "fixed.sql"])), json!([6, 2, 0, 1, still]));
        let from = |header: &str| ("riverrun-replayed-from".to_owned(), Some(header.as_bytes().to_vec()));
        let [mut first, mut second] = [mixed().remove(1), mixed().remove(2)];
        first.3.push(from("orders/0/1"));
        second.3.push(from("orders/1/0"));
        assert_eq!(records(path, &BTreeMap::from([(0, 2), (1, 2), (2, 3)])), [first, second]);

        let again = object(path, &["dead-letters", "replay", "fixed.sql"]);
        assert_eq!(counts(&again), json!([6, 0, 2, 1, still]), "what was given is not given twice");
        riverrun(path, &["run", "fixed.sql", "--bounded"]).unwrap();
        let rows = std::fs::read_to_string(path.join("data/copy.jsonl")).unwrap();
        assert!(rows.contains(r#"{"user_id":"bob","amount":"three"}"#), "{rows}");
    }
}

#[test]
fn all_of_them_are_given_where_that_is_asked_for_but_what_was_cut() {
    let directory = with_dead_letters("dead_letter_topic = 'dlq'");
    let path = directory.path();
    let some = object(path, &["dead-letters", "replay", "shop.sql", "--all", "--reason", "malformed", "--limit", "1"]);
    assert_eq!(counts(&some), json!([1, 1, 0, 0, {}]));
    assert_eq!(counts(&object(path, &["dead-letters", "replay", "shop.sql", "--all"])), json!([6, 4, 1, 1, {}]));
    let mut given = records(path, &BTreeMap::from([(0, 2), (1, 2), (2, 3)]));
    given.iter_mut().for_each(|record| drop(record.3.pop()));
    given.sort_by_key(|record| record.4);
    assert_eq!(given, mixed()[1..6], "bytes that are no UTF-8, tombstones and text that looks encoded included");
}

#[test]
fn where_nothing_can_be_given_to_it_says_what_to_do_and_writes_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let script = |amount: &str| {
        format!(
            "CREATE TABLE orders (user_id VARCHAR NOT NULL, amount {amount}) WITH (connector = 'filesystem', path = 'in.jsonl', dead_letter_path = 'dead');
            CREATE TABLE copy WITH (connector = 'blackhole');
            INSERT INTO copy SELECT * FROM orders;"
        )
    };
    std::fs::write(path.join("shop.sql"), script("DOUBLE")).unwrap();
    std::fs::write(path.join("fixed.sql"), script("VARCHAR")).unwrap();
    std::fs::write(path.join("in.jsonl"), "{\"user_id\":\"a\",\"amount\":\"x\"}\n{\"user_id\":\"a\",\"amount\":1}\nnonsense\n")
        .unwrap();
    let none = riverrun(path, &["dead-letters", "list", "shop.sql"]).unwrap();
    assert_eq!(none, "orders: 0 dead letters\n");
    let nothing = riverrun(path, &["dead-letters", "replay", "shop.sql", "--out", "none.jsonl"]).unwrap();
    assert!(nothing.contains("orders: 0 dead letters: 0 replayed"), "{nothing}");
    riverrun(path, &["run", "shop.sql", "--bounded"]).unwrap();

    let refused = riverrun(path, &["dead-letters", "replay", "fixed.sql"]).unwrap_err();
    assert!(refused.contains("connector 'filesystem' has no topics") && refused.contains("--out FILE"), "{refused}");
    let told = riverrun(path, &["dead-letters", "replay", "fixed.sql", "--out", "again.jsonl"]).unwrap();
    assert_eq!(told, "orders: 2 dead letters: 1 replayed, 1 would be bad again (1 malformed)\n");
    assert_eq!(std::fs::read_to_string(path.join("again.jsonl")).unwrap(), "{\"user_id\":\"a\",\"amount\":\"x\"}\n");
    let there = riverrun(path, &["dead-letters", "replay", "fixed.sql", "--out", "again.jsonl"]).unwrap_err();
    assert!(there.contains("again.jsonl cannot be made") && there.contains("name a file that is not there"), "{there}");
}

#[test]
fn whoever_only_looks_makes_no_topic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::write(path.join("shop.sql"), script("DOUBLE", "dead_letter_topic = 'dlq'")).unwrap();
    assert_eq!(riverrun(path, &["dead-letters", "list", "shop.sql"]).unwrap(), "orders: 0 dead letters\n");
    assert!(!path.join("data").exists());
    put(path, &mixed()[..1]);
    assert_eq!(riverrun(path, &["dead-letters", "list", "shop.sql"]).unwrap(), "orders: 0 dead letters\n");
    let topics: Vec<_> =
        Log::open(&path.join("data/log")).unwrap().topics().iter().map(|topic| topic.name().to_owned()).collect();
    assert_eq!(topics, ["orders"]);
}
