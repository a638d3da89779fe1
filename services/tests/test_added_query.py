"""A query that is added to a script on Kafka and begins where its table says (`start`), beside one that goes on: each counts each record once,
whatever is killed meanwhile."""

import contextlib
import itertools
import json

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from kafka_clients import new_topic, read
from runs import Run, until

PARTITIONS, USERS = 3, 40


@pytest.fixture
def bus(kafka):
    """A client, a topic that is read, and two that are written."""
    client = {"bootstrap.servers": kafka["KAFKA_BROKERS"]}
    return client, new_topic(client, PARTITIONS), new_topic(client), new_topic(client)


def script(bus, *, start=None):
    client, source, counts, sums = bus
    at = f"connector = 'kafka', brokers = '{client['bootstrap.servers']}'"
    text = f"""SET pipeline.name = 'added-{source}'; SET checkpoint.interval = '1 second';
    CREATE TABLE events (user_id VARCHAR NOT NULL, amount DOUBLE NOT NULL, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '1 minute')
      PARTITIONED BY (user_id) WITH ({at}, topic = '{source}', starting_offsets = 'earliest');
    CREATE TABLE counts WITH ({at}, topic = '{counts}', emit = 'update');
    INSERT INTO counts SELECT user_id, row_number() OVER (PARTITION BY user_id ORDER BY at) AS n FROM events;
    """
    if start:
        text += f"""CREATE TABLE sums WITH ({at}, topic = '{sums}', emit = 'update', start = '{start}');
        INSERT INTO sums SELECT user_id, amount * row_number() OVER (PARTITION BY user_id ORDER BY at) AS total FROM events;
        """
    return text


def give(bus, begin, end):
    """Events of these seconds, one a user and second; each user has a partition."""
    client, source, *_ = bus
    producer = Producer({**client, "enable.idempotence": True})
    for second, user in itertools.product(range(begin, end), range(USERS)):
        producer.produce(source, json.dumps({"user_id": f"u{user}", "amount": user, "at": moment(second)}), partition=user % PARTITIONS)
    assert producer.flush(30) == 0


def moment(second):
    return f"2026-01-01T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"


def found(bus, topic):
    return sorted(tuple(json.loads(value).values()) for value in read(bus[0], topic))


def offsets(bus, group):
    """What a group has committed of the topic that is read; None while nobody can tell."""
    client, source, *_ = bus
    consumer = Consumer({**client, "group.id": group})
    try:
        return [place.offset for place in consumer.committed([TopicPartition(source, p) for p in range(PARTITIONS)], timeout=30)]
    except KafkaException as error:
        assert error.args[0].retriable() or error.args[0].code() == KafkaError.NOT_COORDINATOR, error
        return None
    finally:
        consumer.close()


def ends(seconds):
    return [seconds * len(range(partition, USERS, PARTITIONS)) for partition in range(PARTITIONS)]


@contextlib.contextmanager
def instances(riverrun, folder, text, count):
    """Instances that run a script, each with its own folder, started one after the other; killed at the end."""
    runs = []
    try:
        for name in (f"i{i}" for i in range(count)):
            (folder / name).mkdir(exist_ok=True)
            runs.append(Run(riverrun, text, folder / name, *(["--instance", name] if count > 1 else [])))
            runs[-1].started()
        yield runs
    finally:
        for run in runs:
            run.__exit__()


def said(runs):
    return "\n".join(run.said() for run in runs)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_it_begins_there_and_both_go_on_through_kills(bus, riverrun, tmp_path, start, count):
    source, of_counts, of_sums = bus[1:]
    pipeline, shared = f"added-{source}", f"SET checkpoint.location = '{tmp_path}/shared';"
    give(bus, 0, 200)
    with instances(riverrun, tmp_path, shared + script(bus), count) as runs:
        until(lambda: offsets(bus, pipeline) == ends(200), what=lambda: said(runs))
        assert [run.stop() for run in runs] == [0] * count, said(runs)
    give(bus, 200, 400)
    changed = shared + script(bus, start=start)
    for kill in range(4):
        with instances(riverrun, tmp_path, changed, count) as runs:
            if kill == 0:
                until(lambda runs=runs: offsets(bus, pipeline) == ends(400), what=lambda runs=runs: said(runs))
            give(bus, 400 + 50 * kill, 450 + 50 * kill)
    give(bus, 600, 700)
    with instances(riverrun, tmp_path, changed, count) as runs:
        until(lambda: offsets(bus, pipeline) == ends(700) and offsets(bus, f"{pipeline}@{start}") == ends(700), what=lambda: said(runs))
        assert [run.stop() for run in runs] == [0] * count, said(runs)
    users, seconds = range(USERS), 700 if start == "earliest" else 300
    assert found(bus, of_counts) == sorted((f"u{user}", n) for user in users for n in range(1, 701))
    assert found(bus, of_sums) == sorted((f"u{user}", float(user * n)) for user in users for n in range(1, seconds + 1))
