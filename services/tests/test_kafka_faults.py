"""Brokers die, hang and come back, by the commands that other tests will use for that."""

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from kafka_clients import new_topic, read, send


def answers(client):
    """Whether the broker tells its topics within two seconds."""
    try:
        return bool(AdminClient(client).list_topics(timeout=2).brokers)
    except KafkaException:
        return False


def test_killed_and_back(kafka, services):
    client = {"bootstrap.servers": kafka["KAFKA_BROKERS"]}
    topic = new_topic(client)
    send(client, topic, "before")
    services.run("kill", "kafka")
    assert services.states()["kafka.1"] == "dead"
    assert not answers(client)
    services.run("start", "kafka")
    send(client, topic, "after")
    assert read(client, topic) == ["before", "after"]


def test_frozen_and_thawed(kafka, services):
    client = {"bootstrap.servers": kafka["KAFKA_BROKERS"]}
    topic = new_topic(client)
    services.run("freeze", "kafka.1")
    try:
        assert services.states()["kafka.1"] == "frozen"
        assert not answers(client)
    finally:
        services.run("thaw", "kafka.1")
    send(client, topic, "after")
    assert read(client, topic) == ["after"]


@pytest.mark.long
def test_two_of_three_brokers_carry_on(apart):
    apart.run("start", "kafka", "brokers=3", "heap=256m")
    client = {"bootstrap.servers": apart.env()["KAFKA_BROKERS"]}
    topic = new_topic(client, replicas=3, **{"min.insync.replicas": "2"})
    send(client, topic, "before", acks="all")
    leader = AdminClient(client).list_topics(topic, timeout=10).topics[topic].partitions[0].leader
    apart.run("kill", f"kafka.{leader}")
    send(client, topic, "without the leader", acks="all")
    assert read(client, topic) == ["before", "without the leader"]
    apart.run("start", "kafka")
    assert set(apart.states().values()) == {"running"}
