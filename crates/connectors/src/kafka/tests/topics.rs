//! Several topics in one table, and headers.

use arrow::array::{MapArray, StructArray};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use riverrun_engine::source::Part;

use super::*;

fn several(topics: &[(&str, u32)]) -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    for (topic, partitions) in topics {
        cluster.create_topic(topic, *partitions as i32, 1).unwrap();
    }
    cluster
}

fn part(topic: &str, partition: u32) -> Option<Part> {
    Some(Part { topic: topic.into(), partition })
}

fn metadata(name: &str, data_type: DataType, metadata: Metadata) -> Column {
    Column { field: Arc::new(Field::new(name, data_type, true)), metadata: Some(metadata), location: Location::default() }
}

#[test]
fn a_list_of_topics_is_read_as_named_and_each_row_says_whence() {
    let cluster = several(&[("b", 2), ("a", 2), ("c", 2)]);
    let brokers = cluster.bootstrap_servers();
    for (topic, numbers) in [("a", 0..100), ("b", 100..250), ("c", 250..251)] {
        write(&table(&brokers, topic, &[]), numbers);
    }
    let mut both = table(&brokers, "b, a", &[]);
    both.columns.push(metadata("t", DataType::Utf8, Metadata::Topic));
    let source = source(&both).unwrap();
    assert_eq!(source.partitions().unwrap(), 4);
    let parts: Vec<_> = (0..5).map(|p| source.part(p)).collect();
    assert_eq!(parts, [part("b", 0), part("b", 1), part("a", 0), part("a", 1), None]);
    let rows = read_all(source.as_ref());
    let (numbers, topics) = (rows.column(1).as_primitive::<Int64Type>(), rows.column(5).as_string::<i32>());
    assert_eq!(rows.num_rows(), 250);
    for row in 0..rows.num_rows() {
        assert_eq!(topics.value(row), if numbers.value(row) < 100 { "a" } else { "b" });
    }
    source.commit(&[(0, 3), (3, 5)]).unwrap();
    assert_eq!([0, 1, 2, 3].map(|p| source.committed(p).unwrap()), [Some(3), None, None, Some(5)]);
}

#[test]
fn a_pattern_means_all_topics_whose_whole_name_fits() {
    let cluster = several(&[("tx-b", 1), ("tx-a", 2), ("my-tx-a", 1), ("tx", 1)]);
    let mut options = table(&cluster.bootstrap_servers(), "unused", &[]);
    options.options =
        Options::of(&[("connector", "kafka"), ("brokers", &cluster.bootstrap_servers()), ("topic_pattern", "tx-[a-z]|nothing")]);
    let found = source(&options).unwrap();
    let parts: Vec<_> = (0..found.partitions().unwrap()).map(|p| found.part(p)).collect();
    assert_eq!(parts, [part("tx-a", 0), part("tx-a", 1), part("tx-b", 0)], "by name");

    options.options = options.options.with("topic_pattern", "nothing.*");
    let error = failure(source(&options));
    assert!(error.message().contains("nothing.*") && error.hint_text().unwrap().contains("my-tx-a, tx, tx-a, tx-b"), "{error}");
}

#[test]
fn one_topic_by_name_has_no_parts() {
    let cluster = several(&[("a", 2)]);
    assert_eq!(source(&table(&cluster.bootstrap_servers(), "a", &[])).unwrap().part(1), None);
}

#[test]
fn equal_keys_must_be_able_to_meet_in_one_task() {
    let cluster = several(&[("a", 2), ("b", 3)]);
    let mut both = table(&cluster.bootstrap_servers(), "a,b", &[]);
    assert_eq!(source(&both).unwrap().partitions().unwrap(), 5);
    both.partitioned_by = vec![0];
    let error = failure(source(&both));
    assert!(error.message().contains("'a' has 2 partitions and topic 'b' has 3"), "{error}");
}

#[test]
fn offsets_to_start_from_are_by_topic_where_there_are_several() {
    let cluster = several(&[("a", 1), ("b", 1)]);
    let brokers = cluster.bootstrap_servers();
    let by_topic = table(&brokers, "a,b", &[("starting_offsets", "{\"b\": {\"0\": 4}}")]);
    let source = source(&by_topic).unwrap();
    assert_eq!([0, 1].map(|p| source.start(p)), [Start::Earliest, Start::Offset(4)]);
    let error = failure(connector().unwrap().check(&table(&brokers, "a,b", &[("starting_offsets", "{\"0\": 4}")])));
    assert!(error.to_string().contains("by topic and partition"), "{error}");
}

#[test]
fn headers_are_a_list_or_a_map() {
    let cluster = several(&[("a", 1)]);
    let brokers = cluster.bootstrap_servers();
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let header = |key, value| Header { key, value };
    let headers = OwnedHeaders::new().insert(header("trace", Some("1"))).insert(header("none", None::<&str>));
    let headers = headers.insert(header("trace", Some("2")));
    producer.send(BaseRecord::<(), str>::to("a").payload("{}").headers(headers)).unwrap();
    producer.send(BaseRecord::<(), str>::to("a").payload("{}")).unwrap();
    producer.flush(std::time::Duration::from_secs(30)).unwrap();

    let fields = |value| vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)];
    let item = DataType::Struct(fields(DataType::Utf8).into());
    let entries = Arc::new(Field::new("entries", DataType::Struct(fields(DataType::Binary).into()), false));
    let mut table = table(&brokers, "a", &[]);
    table.columns = vec![
        metadata("list", DataType::new_list(item, true), Metadata::Headers),
        metadata("map", DataType::Map(entries, false), Metadata::Headers),
    ];
    table.primary_key.clear();
    let source = source(&table).unwrap();
    let rows = read(source.as_ref(), 0, 0, 2).0;
    let rows = concat_batches(&rows[0].schema(), &rows).unwrap();
    let list = rows.column(0).as_list::<i32>();
    assert_eq!((list.value_length(0), list.value_length(1)), (3, 0));
    let all: StructArray = list.value(0).as_struct().clone();
    let values: Vec<_> = all.column(1).as_string::<i32>().iter().collect();
    assert_eq!(values, [Some("1"), None, Some("2")]);
    let map: &MapArray = rows.column(1).as_map();
    let entries = map.value(0);
    assert_eq!(entries.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["none", "trace"]);
    assert_eq!(entries.column(1).as_binary::<i32>().value(1), b"2", "the last of a name");
    assert_eq!(map.value_length(1), 0);
}
