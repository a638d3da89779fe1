"""Clients of Kafka for tests: confluent-kafka, with deadlines."""

import time
import uuid

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PATIENCE = 30  # seconds until a test gives up


def new_topic(client, partitions=1, replicas=1, **config):
    """Makes a topic of a name that no other test has. `client`: properties to connect with."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    topic = NewTopic(name, num_partitions=partitions, replication_factor=replicas, config=config)
    admin = AdminClient(client)  # kept: its questions die with it
    admin.create_topics([topic], operation_timeout=PATIENCE)[name].result(PATIENCE)
    return name


def send(client, topic, *values, **properties):
    """Sends values and waits until each is acknowledged."""
    errors = []
    producer = Producer({**client, "message.timeout.ms": PATIENCE * 1000, **properties})
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: errors.append(error) if error else None)
    left = producer.flush(PATIENCE)
    if errors or left:
        raise KafkaException(errors[0] if errors else KafkaError(KafkaError._MSG_TIMED_OUT))


def read(client, topic, isolation="read_committed", partition=0):
    """All values of a partition, from its beginning to its end as `isolation` sees it."""
    return [value.decode() for value in read_bytes(client, topic, isolation, partition)]


def read_bytes(client, topic, isolation="read_committed", partition=0):
    """As `read`, as bytes; None for a tombstone."""
    properties = {"group.id": "not-used", "enable.partition.eof": True, "isolation.level": isolation, "enable.auto.commit": False}
    consumer = Consumer({**client, **properties})
    consumer.assign([TopicPartition(topic, partition, 0)])
    values, end = [], time.monotonic() + PATIENCE
    try:
        while time.monotonic() < end:
            message = consumer.poll(0.5)
            if message is None:
                continue
            if not message.error():
                values.append(message.value())
            elif message.error().code() == KafkaError._PARTITION_EOF:
                return values
            elif message.error().fatal() or not message.error().retriable():
                raise KafkaException(message.error())
        raise TimeoutError(f"no end of {topic} after {PATIENCE} s; read {len(values)}")
    finally:
        consumer.close()


def transactional(client, identity, **properties):
    """A producer of transactions, ready to begin one."""
    producer = Producer({**client, "transactional.id": identity, "transaction.timeout.ms": 10_000, **properties})
    producer.init_transactions(PATIENCE)
    return producer
