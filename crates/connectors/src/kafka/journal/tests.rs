//! What librdkafka does not do in time, against its mock cluster.

use std::sync::Arc;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::BaseRecord;
use rdkafka::topic_partition_list::Offset;
use riverrun_engine::Result;
use riverrun_engine::table::Options;
use riverrun_engine::time::Stopwatch;

use super::transaction::Transactions;
use crate::kafka::config::Config;

/// A producer that can begin a transaction.
fn ready(config: &Config) -> Transactions {
    let mut transactions = Transactions::new(config, "id", "t").unwrap();
    let stopwatch = Stopwatch::start();
    while let Err(error) = transactions.init() {
        assert!(error.is_transient() && stopwatch.nanos() < 60_000_000_000, "{error}");
    }
    transactions
}

/// A transaction with a record and an offset, up to before its commit.
fn fill(transactions: &mut Transactions, config: &Config) -> Result<()> {
    transactions.begin()?;
    transactions.send(BaseRecord::to("t").partition(0).key(&b"k"[..]).payload(&b"v"[..]))?;
    let member: BaseConsumer = config.consumer().create().unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset("t", 0, Offset::Offset(1)).unwrap();
    transactions.offsets(&offsets, &Arc::new(member.group_metadata().unwrap()))?;
    transactions.delivered()
}

#[test]
fn a_group_coordinator_that_is_away_is_not_waited_for_without_end() {
    let cluster = MockCluster::new(2).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    cluster.partition_leader("t", 0, Some(1)).unwrap();
    cluster.coordinator(MockCoordinator::Transaction("id".into()), 1).unwrap();
    cluster.coordinator(MockCoordinator::Group("g".into()), 2).unwrap();
    let options = [("topic", "t"), ("group", "g"), ("kafka.socket.timeout.ms", "1000")];
    let options = Options::of(&options).with("brokers", &cluster.bootstrap_servers());
    let config = Config::of_options(&options, "p").unwrap();
    let mut transactions = ready(&config);
    fill(&mut transactions, &config).unwrap();
    transactions.commit().unwrap();

    cluster.broker_down(2).unwrap();
    let stopwatch = Stopwatch::start();
    let error = fill(&mut transactions, &config).unwrap_err();
    assert!(error.is_transient() && error.message().contains("adding offsets"), "{error}");
    assert!(stopwatch.nanos() < 20_000_000_000, "{error}");

    // Whoever takes over goes on as soon as there is a coordinator.
    cluster.coordinator(MockCoordinator::Group("g".into()), 1).unwrap();
    let mut next = ready(&config);
    fill(&mut next, &config).unwrap();
    assert_eq!(next.commit().unwrap().len(), 1);
}
