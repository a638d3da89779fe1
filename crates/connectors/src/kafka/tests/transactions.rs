//! The journal on Kafka. The mock cluster shows what was aborted too, fences nobody, and can neither create topics, describe
//! them nor remove records: what that takes is in `services/tests/test_exactly_once.py`.

use rdkafka::producer::BaseProducer;
use riverrun_engine::graph::{Graph, Node, NodeKind, Parallelism};
use riverrun_engine::journal::{Epoch, Genesis, Journal, Record};

use super::super::config::Config;
use super::*;

const JOURNAL: &str = "riverrun-test-journal";
const TASKS: u32 = 2;

/// A cluster with a topic and the journal's.
fn with_journal(partitions: i32) -> Cluster {
    let cluster = cluster("orders");
    cluster.create_topic(JOURNAL, partitions, 1).unwrap();
    cluster
}

/// The topic as a table. The mock cluster leaves questions unanswered: so nobody waits for long.
fn orders(cluster: &Cluster, more: &[(&str, &str)]) -> Table {
    table(&cluster.bootstrap_servers(), "orders", &[more, &[("kafka.socket.timeout.ms", "1000")]].concat())
}

fn graph(tables: &[(bool, Table)]) -> Graph {
    let node = |(is_source, table): &(bool, Table)| {
        let mut table = table.clone();
        let kind = if *is_source {
            NodeKind::Source(SourceNode { schema: table.schema(), table })
        } else {
            table.columns.truncate(2);
            let schema = table.schema();
            NodeKind::Sink(SinkNode { table, schema, emit: Emit::Update, trigger: std::time::Duration::ZERO, key: vec![0] })
        };
        Node { name: "n".into(), inputs: Vec::new(), kind, identity: String::new() }
    };
    Graph { nodes: tables.iter().map(node).collect(), parallelism: Parallelism::Partitioned, ignored_options: Vec::new() }
}

fn journal_of(graph: &Graph, run: i64) -> Result<Option<Box<dyn Journal>>> {
    let context = Context { clock: Arc::new(ManualClock::at(run)), ..context() };
    connector().unwrap().journal(graph, &context)
}

/// The journal of a pipeline that reads nothing and writes one topic; runs have numbers.
fn journal(table: &Table, run: i64) -> Box<dyn Journal> {
    journal_of(&graph(&[(false, table.clone())]), run).unwrap().unwrap()
}

/// A table, and the journal of a pipeline that writes it, whose life has begun.
fn begun(cluster: &Cluster, more: &[(&str, &str)]) -> (Table, Box<dyn Journal>) {
    let table = orders(cluster, more);
    let mut journal = journal(&table, 1);
    again(|| journal.recover());
    again(|| journal.begin(&genesis()));
    (table, journal)
}

fn genesis() -> Genesis {
    Genesis {
        lineage: "test-1".into(),
        graph: "g".into(),
        tasks: TASKS,
        starts: vec![(0, 0, 5).into()],
        sources: vec!["a".into()],
    }
}

/// An epoch with these rows for the sink.
fn epoch(table: &Table, task: u32, epoch: u64, numbers: std::ops::Range<i64>) -> Epoch {
    let rows = rows(table, numbers);
    let (lifts, ended, count) = (Vec::new(), Vec::new(), rows.num_rows() as u64);
    let chunks = vec![vec![(0, task, epoch as i64).into()]];
    let outputs = vec![EpochOutput { task, epoch, clock: 0, batches: vec![Batch { rows, change: Change::Upsert }] }];
    let ends = vec![(0, task, epoch as i64).into()];
    Epoch { record: Record { task, epoch, clock: 0, chunks, lifts, ended, rows: vec![count] }, outputs, ends }
}

/// Calls again while an error may pass.
fn again<T>(mut call: impl FnMut() -> Result<T>) -> T {
    until(|| match call() {
        Ok(value) => Some(value),
        Err(error) if error.is_transient() => None,
        Err(error) => panic!("{error}"),
    })
}

fn numbers(table: &Table) -> Vec<i64> {
    let source = source(table).unwrap();
    let mut numbers = read_all(source.as_ref()).column(1).as_primitive::<Int64Type>().values().to_vec();
    numbers.sort_unstable();
    numbers
}

#[test]
fn records_and_rows_are_there_for_the_next_run() {
    let cluster = with_journal(TASKS as i32 + 1);
    let table = orders(&cluster, &[]);
    let mut first = journal(&table, 1);
    assert_eq!(first.takes(), [0]);
    assert!(again(|| first.recover()).genesis.is_none());
    again(|| first.begin(&genesis()));
    let epochs = [epoch(&table, 0, 1, 0..40), epoch(&table, 1, 1, 40..70), epoch(&table, 0, 2, 70..70)];
    again(|| first.commit(&epochs));
    again(|| first.commit(&[epoch(&table, 1, 2, 70..100)]));
    // This cluster can remove nothing: that is told, and hurts nobody.
    first.truncate(0, 1).unwrap();
    assert_eq!(numbers(&table), (0..100).collect::<Vec<_>>());

    let mut second = journal(&table, 2);
    let recorded = again(|| second.recover());
    assert_eq!(recorded.genesis, Some(genesis()));
    let [one, two] = &recorded.records[..] else { panic!("{recorded:?}") };
    assert_eq!(one, &[epochs[0].record.clone(), epochs[2].record.clone()]);
    assert_eq!(two.iter().map(|record| record.epoch).collect::<Vec<_>>(), [1, 2]);
    again(|| second.commit(&[epoch(&table, 0, 3, 100..110)]));
    assert_eq!(numbers(&table), (0..110).collect::<Vec<_>>());
}

#[test]
fn a_new_life_forgets_the_one_before() {
    let cluster = with_journal(TASKS as i32 + 1);
    let (table, mut journal) = begun(&cluster, &[]);
    again(|| journal.commit(&[epoch(&table, 0, 1, 0..1), epoch(&table, 0, 2, 1..2)]));
    let other = Genesis { lineage: "test-2".into(), tasks: 1, ..genesis() };
    again(|| journal.begin(&other));
    again(|| journal.commit(&[epoch(&table, 0, 1, 2..3)]));
    let recorded = again(|| journal.recover());
    assert_eq!(recorded.genesis, Some(other));
    assert_eq!(recorded.records, [vec![epoch(&table, 0, 1, 2..3).record]]);
}

#[test]
fn who_is_taken_over_commits_nothing_and_says_so() {
    let cluster = with_journal(TASKS as i32 + 1);
    let table = orders(&cluster, &[]);
    let mut zombie = journal(&table, 1);
    again(|| zombie.recover());
    again(|| zombie.begin(&genesis()));
    again(|| zombie.commit(&[epoch(&table, 0, 1, 0..1)]));
    assert_eq!(again(|| journal(&table, 2).recover()).records[0].len(), 1);
    // What a broker answers to whom it has fenced.
    cluster.request_errors(RDKafkaApiKey::EndTxn, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED]);
    let lost = [epoch(&table, 0, 2, 5..6)];
    let error = until(|| Some(failure(zombie.commit(&lost))).filter(|error| !error.is_transient()));
    assert_eq!(error.kind(), Kind::Permanent);
    assert!(error.message().contains("another run of pipeline 'test' has taken over"), "{error}");
    assert!(error.hint_text().is_some());
}

#[test]
fn a_producer_that_died_without_an_heir_is_replaced_and_nothing_is_sent_twice() {
    let cluster = with_journal(TASKS as i32 + 1);
    let (table, mut journal) = begun(&cluster, &[]);
    // What a broker answers that gave up the transaction. (This one has committed it: its rows are seen.)
    cluster.request_errors(RDKafkaApiKey::EndTxn, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED]);
    let lost = [epoch(&table, 0, 1, 0..20), epoch(&table, 1, 1, 20..30)];
    let error = failure(journal.commit(&lost));
    assert!(error.is_transient(), "{error}");
    again(|| journal.commit(&lost));
    assert_eq!(numbers(&table), (0..30).collect::<Vec<_>>());
    again(|| journal.commit(&[epoch(&table, 0, 2, 30..31)]));
    assert_eq!(again(|| journal.recover()).records.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn a_new_producer_that_cannot_take_over_at_once_tries_again() {
    let cluster = with_journal(TASKS as i32 + 1);
    let (table, mut journal) = begun(&cluster, &[]);
    cluster.request_errors(RDKafkaApiKey::EndTxn, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED]);
    let epochs = [epoch(&table, 0, 1, 0..20)];
    failure(journal.commit(&epochs));
    // Some seconds of them: librdkafka asks again twice a second.
    cluster.request_errors(RDKafkaApiKey::InitProducerId, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; 6]);
    let error = failure(journal.commit(&epochs));
    assert!(error.is_transient() && error.message().contains("taking over transactions"), "{error}");
    again(|| journal.commit(&epochs));
    again(|| journal.commit(&[epoch(&table, 0, 2, 20..30)]));
    assert_eq!(numbers(&table), (0..30).collect::<Vec<_>>());
}

#[test]
fn brokers_that_go_away_hold_a_commit_back_and_no_more() {
    let cluster = with_journal(TASKS as i32 + 1);
    let (table, mut journal) = begun(&cluster, &[]);
    cluster.broker_down(1).unwrap();
    let epochs = [epoch(&table, 0, 1, 0..50)];
    let error = failure(journal.commit(&epochs));
    assert!(error.is_transient(), "{error}");
    cluster.broker_up(1).unwrap();
    again(|| journal.commit(&epochs));
    again(|| journal.commit(&[epoch(&table, 0, 2, 50..60)]));
    assert_eq!(numbers(&table), (0..60).collect::<Vec<_>>());
    assert_eq!(again(|| journal.recover()).records[0].len(), 2);
}

#[test]
fn rows_that_can_never_be_delivered_stop_the_pipeline() {
    let cluster = with_journal(TASKS as i32 + 1);
    let (table, mut journal) = begun(&cluster, &[("kafka.message.max.bytes", "1000")]);
    let mut large = epoch(&table, 1, 1, 0..3);
    let batch = &mut large.outputs[0].batches[0].rows;
    let users = StringArray::from(vec!["a".to_owned(), "b".repeat(2_000), "c".to_owned()]);
    *batch = RecordBatch::try_new(batch.schema(), vec![Arc::new(users), Arc::clone(batch.column(1))]).unwrap();
    let error = failure(journal.commit(&[large]));
    assert_eq!(error.kind(), Kind::Permanent);
    assert!(error.message().contains("task 1, epoch 1") && error.message().contains("row 1"), "{error}");
}

#[test]
fn a_delivery_that_is_forbidden_ends_its_transaction() {
    let cluster = with_journal(TASKS as i32 + 1);
    let (table, mut journal) = begun(&cluster, &[]);
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 8]);
    let error = failure(journal.commit(&[epoch(&table, 0, 1, 0..20)]));
    assert_eq!(error.kind(), Kind::Permanent, "{error}");
    assert!(error.hint_text().is_some(), "{error}");
}

#[test]
fn a_topic_with_too_few_partitions_is_of_another_life() {
    let cluster = with_journal(TASKS as i32);
    let table = orders(&cluster, &[]);
    let mut journal = journal(&table, 1);
    again(|| journal.recover());
    let error = failure(journal.begin(&genesis()));
    assert_eq!(error.kind(), Kind::Permanent);
    assert!(error.message().contains("has 2 partitions, and 2 tasks need 3"), "{error}");
}

#[test]
fn the_journal_takes_the_sinks_of_one_cluster_or_is_refused() {
    let cluster = cluster("orders");
    let brokers = cluster.bootstrap_servers();
    let here = || table(&brokers, "orders", &[]);
    let mut blackhole = here();
    blackhole.options = Options::of(&[("connector", "blackhole")]);
    assert!(journal_of(&graph(&[(true, here()), (false, blackhole.clone())]), 1).unwrap().is_none());
    let taken = journal_of(&graph(&[(true, here()), (false, here()), (false, blackhole), (false, here())]), 1).unwrap().unwrap();
    assert_eq!(taken.takes(), [1, 3]);

    let elsewhere = || table("elsewhere:9092", "orders", &[]);
    for tables in [[(false, here()), (false, elsewhere())], [(true, elsewhere()), (false, here())]] {
        let error = failure(journal_of(&graph(&tables), 1));
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(
            error.to_string().contains("different Kafka clusters") && error.to_string().contains("second pipeline"),
            "{error}"
        );
    }
    let plain =
        [("security_protocol", "sasl_plaintext"), ("sasl_mechanism", "PLAIN"), ("sasl_username", "a"), ("sasl_password", "b")];
    let error = failure(journal_of(&graph(&[(false, here()), (false, table(&brokers, "orders", &plain))]), 1));
    assert!(error.message().contains("in different ways"), "{error}");
}

#[test]
fn no_time_of_a_transactional_producer_is_longer_than_a_transaction() {
    let long = [("kafka.socket.timeout.ms", "60000"), ("kafka.message.timeout.ms", "0"), ("kafka.linger.ms", "20")];
    for (more, timeout) in [(&long[..0], "10000"), (&long, "10000"), (&[("kafka.transaction.timeout.ms", "4000")], "4000")] {
        let config = Config::of_options(&table("127.0.0.1:1", "orders", more).options, "p").unwrap().transactional("riverrun-p");
        // librdkafka refuses what contradicts itself only now.
        config.create::<BaseProducer>().unwrap();
        let set = config.config_map();
        assert_eq!((set["transactional.id"], set["transaction.timeout.ms"]), ("riverrun-p", timeout));
        assert_eq!((set["message.timeout.ms"], set["enable.idempotence"], set["acks"]), (timeout, "true", "all"));
        assert_eq!(set["linger.ms"], if more.len() > 1 { "20" } else { "0" });
    }
}
