use riverrun_engine::error::Kind;

use super::*;
use crate::connector::{option, required};

static BUS: Description = Description {
    name: "bus",
    feature: Some("bus"),
    docs: "For tests.",
    options: &[required("topic", "which topic"), option("brokers", "localhost:9092", "where"), option("key", "", "column")],
    pass_through: Some("bus."),
};
static FILES: Description =
    Description { name: "files", feature: None, docs: "For tests.", options: &[required("path", "where")], pass_through: None };
static ABSENT: Description =
    Description { name: "absent", feature: Some("far"), docs: "", options: &[option("keyspace", "", "")], pass_through: None };

struct Both;

impl Connector for Both {
    fn check(&self, _: &Table) -> Result<Capabilities> {
        Ok(Capabilities { source: true, sink: true, ..Capabilities::default() })
    }
}

fn registry() -> Registry {
    let mut registry = Registry { entries: Vec::new() };
    registry.add(&BUS, Some(Box::new(Both)));
    registry.add(&FILES, Some(Box::new(Both)));
    registry.add(&ABSENT, None);
    registry
}

fn table(options: &[(&str, &str)]) -> Table {
    Table {
        name: "t".into(),
        columns: Vec::new(),
        watermark: None,
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        options: Options::of(options),
        location: Location::default(),
    }
}

fn refused(options: &[(&str, &str)]) -> String {
    let error = registry().check(&table(options)).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
    error.to_string()
}

#[test]
fn an_unknown_connector_names_the_nearest() {
    let told = refused(&[("connector", "fils")]);
    assert!(told.contains("no connector 'fils'") && told.contains("did you mean 'files'?"), "{told}");
}

#[test]
fn a_connector_that_is_not_compiled_in_names_its_feature() {
    let told = refused(&[("connector", "absent")]);
    assert!(told.contains("--features far"), "{told}");
}

#[test]
fn an_unknown_option_names_the_nearest() {
    let told = refused(&[("connector", "bus"), ("topic", "x"), ("broker", "y")]);
    assert!(told.contains("'broker'") && told.contains("did you mean 'brokers'?"), "{told}");
    let told = refused(&[("connector", "files"), ("path", "x"), ("bad_record", "drop")]);
    assert!(told.contains("did you mean 'bad_records'?"), "{told}");
}

#[test]
fn options_of_another_connector_are_ignored_and_listed() {
    let t = table(&[("connector", "files"), ("path", "x"), ("topic", "y"), ("keyspace", "z"), ("bus.linger", "5")]);
    assert_eq!(registry().check(&t).unwrap().ignored, ["bus.linger", "keyspace", "topic"]);
}

#[test]
fn a_required_option_that_is_missing_is_named() {
    let told = refused(&[("connector", "bus")]);
    assert!(told.contains("the option 'topic' is missing"), "{told}");
}

#[test]
fn values_of_common_options_are_checked() {
    for (name, value) in [
        ("emit", "upsert"),
        ("trigger", "soon"),
        ("format", "xml"),
        ("format", "json_schema"),
        ("format", "protobuf"),
        ("format", "avro-confluent"),
        ("bad_records", "ignore"),
        ("bad_records", "dead_letter"),
        ("max_offsets_per_trigger", "0"),
        ("max_record_bytes", "large"),
        ("fail_on_data_loss", "maybe"),
    ] {
        let told = refused(&[("connector", "files"), ("path", "x"), (name, value)]);
        assert!(told.contains(&format!("option '{name}'")), "{told}");
    }
}

#[test]
fn dead_letters_go_to_a_path_or_to_a_topic_of_the_same_connector() {
    let path = table(&[("connector", "bus"), ("topic", "x"), ("dead_letter_path", "/tmp/dead.jsonl")]);
    let dead = registry().dead_letters(&path).unwrap().unwrap();
    assert_eq!(dead.connector().unwrap(), "filesystem");
    assert_eq!(dead.options.get("path").unwrap(), "/tmp/dead.jsonl");
    assert_eq!(dead.schema(), dead_letter::schema());

    let topic =
        table(&[("connector", "bus"), ("topic", "x"), ("brokers", "b:1"), ("late_rows", "l"), ("dead_letter_topic", "dlq")]);
    let dead = registry().dead_letters(&topic).unwrap().unwrap();
    assert_eq!(dead.connector().unwrap(), "bus");
    assert_eq!(dead.options.get("topic").unwrap(), "dlq");
    assert_eq!(dead.options.get("brokers").unwrap(), "b:1");
    assert_eq!(dead.options.get("late_rows"), None);

    let dropped = table(&[("connector", "bus"), ("topic", "x"), ("bad_records", "drop"), ("dead_letter_topic", "dlq")]);
    assert!(registry().dead_letters(&dropped).unwrap().is_none());
    let nowhere = table(&[("connector", "files"), ("path", "x"), ("dead_letter_topic", "dlq")]);
    assert!(registry().dead_letters(&nowhere).unwrap_err().to_string().contains("dead_letter_path"));
}

#[test]
fn options_of_a_schema_registry_belong_to_connectors_with_topics() {
    let registry = Registry::default();
    let check = |options: &[(&str, &str)]| registry.check(&table(options));
    let files = [("connector", "console"), ("schema_registry", "http://r:1"), ("subject", "s")];
    assert_eq!(check(&files).unwrap().ignored, ["schema_registry", "subject"]);
    let told = check(&[("connector", "console"), ("schema_registri", "http://r:1")]).unwrap_err().to_string();
    assert!(told.contains("no such option"), "{told}");
    #[cfg(feature = "log")]
    {
        let log = [("connector", "log"), ("topic", "t"), ("schema_registry", "http://r:1"), ("subject", "s")];
        assert!(check(&log).unwrap().ignored.is_empty());
        let told = check(&[("connector", "log"), ("topic", "t"), ("subjects", "s")]).unwrap_err().to_string();
        assert!(told.contains("did you mean 'subject'?"), "{told}");
        let told = check(&[("connector", "log"), ("topic", "t"), ("format", "avro")]).unwrap_err().to_string();
        assert!(told.contains("needs the option 'schema_registry'") && told.contains("http://host:8081"), "{told}");
    }
}

#[test]
fn formats_that_are_not_there_say_what_to_do() {
    let told = |format: &str| refused(&[("connector", "bus"), ("topic", "t"), ("format", format)]);
    assert!(told("json_schema").contains("format = 'avro'") && told("PROTOBUF").contains("format = 'avro'"));
    assert!(told("avro-confluent").contains("schema_registry = 'http"));
}
