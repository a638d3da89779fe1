//! Options: what is refused, what reaches librdkafka, and what is told of it.

use super::super::config::Config;
use super::super::properties::is_secret;
use super::super::start::StartingOffsets;
use super::*;

#[test]
fn a_description_of_what_is_possible_depends_on_the_keys() {
    let kafka = connector().unwrap();
    let capable = |more: &[(&str, &str)]| kafka.check(&table("localhost:9092", "orders", more)).unwrap();
    let by_primary_key = capable(&[]);
    assert!(by_primary_key.source && by_primary_key.sink && by_primary_key.upsert && by_primary_key.delete);
    assert!(!capable(&[("key", "n")]).delete, "a tombstone for n would not name the row");
}

#[test]
fn options_that_cannot_be_are_refused_without_a_broker() {
    let refused = [
        ("topic", "^a.*", "topic_pattern"),
        ("topic", "a b", "letters"),
        ("topic", "a,", "letters"),
        ("topic", "a,b,a", "named twice"),
        ("topic_pattern", "a.*", "'topic' is there too"),
        ("key", "nobody", "no column 'nobody'"),
        ("partitions", "0", "at least one"),
        ("starting_offsets", "soon", "earliest"),
        ("starting_offsets", "{\"0\": -7}", "JSON"),
        ("starting_offsets", "{\"orders\": {\"0\": 1}, \"1\": 2}", "JSON"),
        ("compression", "brotli", "none, gzip, snappy, lz4, zstd"),
        ("isolation_level", "serializable", "read_committed, read_uncommitted"),
        ("retention", "a while", "duration"),
        ("kafka.enable.idempotence", "false", "Riverrun's to set"),
        ("kafka.group.id", "mine", "use the option 'group'"),
        ("kafka.isolation.level", "read_uncommitted", "use the option 'isolation_level'"),
        ("kafka.enable.auto.commit", "true", "positions are kept"),
        ("kafka.bootstrap.servers", "elsewhere:9092", "use the option 'brokers'"),
        ("kafka.no.such.property", "1", "no.such.property"),
        ("kafka.linger.ms", "soon", "linger.ms"),
        ("security_protocol", "carrier_pigeon", "security.protocol"),
        ("fail_on_data_loss", "perhaps", "true or false"),
    ];
    for (name, value, part) in refused {
        let error = failure(connector().unwrap().check(&table("localhost:9092", "orders", &[(name, value)])));
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
        assert!(error.to_string().contains(part), "{name} = {value}: {error}");
    }
}

#[test]
fn a_table_that_is_only_written_names_one_topic_and_json() {
    let refused = |more: &[(&str, &str)]| {
        let mut table = table("localhost:9092", "orders", more);
        table.columns.clear();
        failure(connector().unwrap().check(&table)).to_string()
    };
    assert!(refused(&[("topic", "a,b")]).contains("one topic"));
    assert!(refused(&[("format", "csv")]).contains("as JSON or Avro"));
    let csv = table("localhost:9092", "orders", &[("format", "csv")]);
    let can = connector().unwrap().check(&csv).unwrap();
    assert!(can.source && !can.sink, "CSV is read, not written");
    let error = failure(sink(&csv));
    assert!(error.to_string().contains("as JSON or Avro"), "{error}");
}

/// Each option, the client that it is for, and the property that it must become.
#[test]
fn every_option_reaches_the_client() {
    type Client = fn(&Config) -> rdkafka::ClientConfig;
    let (reads, writes): (Client, Client) = (Config::consumer, Config::producer);
    let both = [
        ("brokers", "a:1,b:2", "bootstrap.servers"),
        ("client_id", "me", "client.id"),
        ("security_protocol", "sasl_plaintext", "security.protocol"),
        ("sasl_mechanism", "PLAIN", "sasl.mechanism"),
        ("sasl_username", "alice", "sasl.username"),
        ("sasl_password", "secret", "sasl.password"),
        ("ssl_ca_location", "/ca.pem", "ssl.ca.location"),
        ("ssl_certificate_location", "/cert.pem", "ssl.certificate.location"),
        ("ssl_key_location", "/key.pem", "ssl.key.location"),
        ("ssl_key_password", "secret", "ssl.key.password"),
        ("ssl_endpoint_identification", "none", "ssl.endpoint.identification.algorithm"),
        ("kafka.socket.keepalive.enable", "true", "socket.keepalive.enable"),
    ];
    let one = [
        (reads, "group", "mine", "group.id"),
        (reads, "isolation_level", "read_uncommitted", "isolation.level"),
        (reads, "kafka.fetch.wait.max.ms", "7", "fetch.wait.max.ms"),
        (writes, "compression", "gzip", "compression.type"),
        (writes, "kafka.linger.ms", "77", "linger.ms"),
    ];
    let both = both.into_iter().flat_map(|(option, value, property)| [reads, writes].map(|c| (c, option, value, property)));
    for (client, option, value, property) in both.chain(one) {
        let options = Options::of(&[("topic", "orders"), (option, value)]);
        let made = client(&Config::of_options(&options, "test").unwrap());
        assert_eq!(made.get(property), Some(value), "{option}");
    }
}

#[test]
fn what_is_promised_holds_by_default() {
    let config = Config::of_options(&Options::of(&[("topic", "orders")]), "pipeline").unwrap();
    let (reads, writes) = (config.consumer(), config.producer());
    let read = reads.config_map();
    assert_eq!((read["isolation.level"], read["enable.auto.commit"]), ("read_committed", "false"));
    assert_eq!((read["group.id"], read["auto.offset.reset"]), ("pipeline", "error"));
    let written = writes.config_map();
    assert_eq!((written["enable.idempotence"], written["acks"]), ("true", "all"));
    assert_eq!((written["compression.type"], written["message.timeout.ms"]), ("lz4", "0"));
}

#[test]
fn an_option_and_its_property_do_not_contradict_each_other() {
    let more = [("sasl_username", "alice"), ("kafka.sasl.username", "bob")];
    let error = failure(connector().unwrap().check(&table("localhost:9092", "orders", &more)));
    assert!(error.to_string().contains("'sasl_username' says it already"), "{error}");
}

#[test]
fn no_message_shows_a_secret() {
    assert!(is_secret("sasl.password") && is_secret("ssl.key.password") && is_secret("ssl.key.pem"));
    assert!(!is_secret("sasl.username"));
    // An empty secret of OAuth's is refused by librdkafka with a message that names the property and the value.
    for (name, value) in [("kafka.sasl.oauthbearer.client.secret.nope", "hunter2"), ("kafka.sasl.password", "hunter2\0")] {
        let more = [(name, value), ("security_protocol", "sasl_plaintext"), ("sasl_mechanism", "PLAIN")];
        let result = connector().unwrap().check(&table("localhost:9092", "orders", &more));
        let Err(error) = result else { continue };
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[cfg(not(any(feature = "kafka-tls", feature = "kafka-tls-vendored")))]
#[test]
fn a_program_without_tls_says_how_to_get_it() {
    for (option, value) in [("security_protocol", "ssl"), ("security_protocol", "SASL_SSL"), ("sasl_mechanism", "SCRAM-SHA-512")]
    {
        let error = failure(connector().unwrap().check(&table("localhost:9092", "orders", &[(option, value)])));
        let told = error.to_string();
        assert!(told.contains(option) && told.contains(value) && told.contains("--features kafka-tls"), "{told}");
    }
    let plain =
        [("security_protocol", "sasl_plaintext"), ("sasl_mechanism", "PLAIN"), ("sasl_username", "a"), ("sasl_password", "b")];
    connector().unwrap().check(&table("localhost:9092", "orders", &plain)).unwrap();
}

#[test]
fn starting_offsets_are_words_times_or_json_by_partition() {
    let of = |text: &str| StartingOffsets::parse(text).unwrap();
    assert_eq!(of("earliest"), StartingOffsets::All(Start::Earliest));
    assert_eq!(of("1700000000000"), StartingOffsets::All(Start::Time(1_700_000_000_000_000)));
    assert_eq!(of("2023-11-14T22:13:20Z"), StartingOffsets::All(Start::Time(1_700_000_000_000_000)));
    let expected = [Start::Offset(3), Start::Latest, Start::Earliest, Start::Earliest];
    for json in ["{\"0\": 3, \"1\": -1, \"2\": -2}", "{\"orders\": {\"0\": 3, \"1\": -1, \"2\": -2}}"] {
        let starts = of(json);
        assert_eq!([0, 1, 2, 3].map(|p| starts.of("orders", p)), expected);
    }
    assert_eq!(of("{\"orders\": {\"0\": 3}}").of("other", 0), Start::Earliest);
}
