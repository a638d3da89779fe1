"""Transactions behave as exactly-once needs them: what is aborted or open is invisible, who is fenced can do nothing."""

import time

import pytest
from confluent_kafka import KafkaError, KafkaException
from kafka_clients import PATIENCE, new_topic, read, send, transactional


@pytest.fixture
def client(kafka):
    return {"bootstrap.servers": kafka["KAFKA_BROKERS"]}


def test_aborted_and_open_transactions_are_invisible(client):
    topic = new_topic(client)
    producer = transactional(client, topic)
    for value, end in (("aborted", producer.abort_transaction), ("committed", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, value)
        assert producer.flush(PATIENCE) == 0
        end(PATIENCE)
    producer.begin_transaction()
    producer.produce(topic, "open")
    assert producer.flush(PATIENCE) == 0
    assert read(client, topic) == ["committed"]
    assert read(client, topic, "read_uncommitted") == ["aborted", "committed", "open"]
    producer.commit_transaction(PATIENCE)
    assert read(client, topic) == ["committed", "open"]


def test_a_transaction_over_partitions_is_one(client):
    topic = new_topic(client, partitions=2)
    producer = transactional(client, topic)
    producer.begin_transaction()
    for partition in (0, 1):
        producer.produce(topic, f"in {partition}", partition=partition)
    assert producer.flush(PATIENCE) == 0
    assert read(client, topic, partition=0) == read(client, topic, partition=1) == []
    producer.commit_transaction(PATIENCE)
    assert [read(client, topic, partition=p) for p in (0, 1)] == [["in 0"], ["in 1"]]


def test_a_fenced_producer_fails(client):
    topic = new_topic(client)
    zombie = transactional(client, topic)
    zombie.begin_transaction()
    zombie.produce(topic, "of the zombie")
    assert zombie.flush(PATIENCE) == 0
    heir = transactional(client, topic)
    with pytest.raises(KafkaException) as failure:
        zombie.commit_transaction(PATIENCE)
    assert failure.value.args[0].code() == KafkaError._FENCED
    assert failure.value.args[0].fatal()
    heir.begin_transaction()
    heir.produce(topic, "of the heir")
    heir.commit_transaction(PATIENCE)
    assert read(client, topic) == ["of the heir"]


def test_a_dead_writers_transaction_times_out(client):
    topic = new_topic(client)
    dead = transactional(client, topic, **{"transaction.timeout.ms": 1000})
    dead.begin_transaction()
    dead.produce(topic, "never committed")
    assert dead.flush(PATIENCE) == 0
    send(client, topic, "after")  # hidden behind the open transaction, until the broker aborts that
    end = time.monotonic() + PATIENCE
    while (seen := read(client, topic)) != ["after"]:
        assert seen == []
        assert time.monotonic() < end, "the transaction is open long after its time was up"
