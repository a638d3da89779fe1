"""Options of the Kafka connector against a real broker: each test fails if the option is ignored."""

import json
import struct
import subprocess
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic
from kafka_clients import PATIENCE, new_topic, read, send, transactional
from runs import Run, bounded, rows, until

ORDER = "user_id VARCHAR, n BIGINT"


def client(kafka):
    return {"bootstrap.servers": kafka["KAFKA_BROKERS"]}


def keyed(kafka, topic, *pairs, headers=None):
    """Sends (key, object) pairs, to the partitions that Java clients choose."""
    producer = Producer({**client(kafka), "partitioner": "murmur2_random"})
    for key, value in pairs:
        producer.produce(topic, None if value is None else json.dumps(value), key, headers=headers)
    assert producer.flush(PATIENCE) == 0


def copy(kafka, columns=ORDER, select="*", **options):
    """A script that copies a Kafka table into a file, `out.jsonl`."""
    given = {"connector": "kafka", "brokers": kafka["KAFKA_BROKERS"], "starting_offsets": "earliest", **options}
    options = ", ".join(f"{name} = '{value}'" if "." not in name else f"'{name}' = '{value}'" for name, value in given.items())
    return f"""
    CREATE TABLE t ({columns}) WITH ({options});
    CREATE TABLE out WITH (connector = 'filesystem', path = 'out.jsonl');
    INSERT INTO out SELECT {select} FROM t;
    """


def to_topic(kafka, topic, source, select="*", primary="", **options):
    """A script that copies a file of JSON lines into a topic."""
    given = {"connector": "kafka", "brokers": kafka["KAFKA_BROKERS"], "topic": topic, **options}
    options = ", ".join(f"{name} = '{value}'" for name, value in given.items())
    return f"""
    CREATE TABLE t ({ORDER}) WITH (connector = 'filesystem', path = '{source}', format = 'json');
    CREATE TABLE sink {primary} WITH ({options});
    INSERT INTO sink SELECT {select} FROM t;
    """


def orders(folder, count=100):
    path = folder / "orders.jsonl"
    path.write_text("".join(json.dumps({"user_id": f"user_{n % 10}", "n": n}) + "\n" for n in range(count)))
    return path


def name():
    return f"test-{time.monotonic_ns()}"


# Sources

def test_topics_of_a_list_meet_in_one_task_by_key(kafka, riverrun, tmp_path):
    one, two = (new_topic(client(kafka), 3) for _ in range(2))
    keyed(kafka, one, *[(f"user_{n % 7}", {"user_id": f"user_{n % 7}", "at": f"2026-01-01T00:00:{n % 60:02}Z"}) for n in range(700)])
    keyed(kafka, two, *[(f"user_{n % 7}", {"user_id": f"user_{n % 7}", "at": f"2026-01-01T00:00:{n % 60:02}Z"}) for n in range(70)])
    script = f"""
    CREATE TABLE t (user_id VARCHAR, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1 hour') PARTITIONED BY (user_id)
    WITH (connector = 'kafka', brokers = '{kafka["KAFKA_BROKERS"]}', topic = '{one}, {two}', starting_offsets = 'earliest');
    CREATE TABLE out WITH (connector = 'filesystem', path = 'out.jsonl');
    INSERT INTO out SELECT user_id, count(*) AS n FROM t GROUP BY tumble(at, INTERVAL '1 hour'), user_id;
    """
    said = bounded(riverrun, script, tmp_path)
    assert "3 tasks" in said
    found = rows(tmp_path / "out.jsonl")
    assert sorted((r["user_id"], r["n"]) for r in found) == [(f"user_{u}", 110) for u in range(7)]


def test_a_pattern_reads_all_topics_that_fit(kafka, riverrun, tmp_path):
    prefix = name()
    admin = AdminClient(client(kafka))
    topics = [f"{prefix}-a", f"{prefix}-b", f"x{prefix}-a"]
    for future in admin.create_topics([NewTopic(t, 1, 1) for t in topics]).values():
        future.result(PATIENCE)
    for n, topic in enumerate(topics):
        send(client(kafka), topic, json.dumps({"n": n}))
    script = copy(kafka, "n BIGINT, topic VARCHAR METADATA", topic_pattern=f"{prefix}-.*")
    bounded(riverrun, script, tmp_path)
    assert sorted((r["n"], r["topic"]) for r in rows(tmp_path / "out.jsonl")) == [(0, topics[0]), (1, topics[1])]


def test_bad_records_of_several_topics_say_which(kafka, riverrun, tmp_path):
    one, two = sorted(new_topic(client(kafka)) for _ in range(2))
    send(client(kafka), one, '{"n": 1}')
    send(client(kafka), two, '{"n": 2}', "nonsense")
    script = copy(kafka, topic=f"{one},{two}", dead_letter_path="bad.jsonl")
    bounded(riverrun, script, tmp_path)
    [bad] = rows(tmp_path / "bad.jsonl")
    assert (bad["source"], bad["partition"], bad["offset"], bad["payload"]) == (f"t/{two}", 0, 1, "nonsense")


@pytest.mark.parametrize("level, seen", [(None, [1, 3]), ("read_committed", [1, 3]), ("read_uncommitted", [1, 2, 3])])
def test_isolation_level(kafka, riverrun, tmp_path, level, seen):
    topic = new_topic(client(kafka))
    producer = transactional(client(kafka), name())
    for n in (1, 2, 3):
        producer.begin_transaction()
        producer.produce(topic, json.dumps({"n": n}))
        producer.flush(PATIENCE)
        producer.abort_transaction(PATIENCE) if n == 2 else producer.commit_transaction(PATIENCE)
    bounded(riverrun, copy(kafka, topic=topic, **({"isolation_level": level} if level else {})), tmp_path)
    assert [r["n"] for r in rows(tmp_path / "out.jsonl")] == seen


def test_starting_offsets(kafka, riverrun, tmp_path):
    topic = new_topic(client(kafka), 2, **{"retention.ms": "-1"})
    producer = Producer(client(kafka))
    for partition in (0, 1):
        for n in range(5):
            producer.produce(topic, json.dumps({"n": 10 * partition + n}), partition=partition, timestamp=1_700_000_000_000 + n * 1000)
    assert producer.flush(PATIENCE) == 0

    def read_from(start):
        (tmp_path / "out.jsonl").unlink(missing_ok=True)
        bounded(riverrun, copy(kafka, topic=topic, starting_offsets=start), tmp_path)
        return sorted(r["n"] for r in rows(tmp_path / "out.jsonl"))

    assert read_from("earliest") == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    assert read_from('{"0": 3, "1": 5}') == [3, 4]
    assert read_from(f'{{"{topic}": {{"0": 4, "1": 4}}}}') == [4, 14]
    assert read_from("1700000003000") == [3, 4, 13, 14]
    assert read_from("2023-11-14T22:13:24Z") == [4, 14]


def test_headers_come_as_a_list_or_a_map(kafka, riverrun, tmp_path):
    topic = new_topic(client(kafka))
    keyed(kafka, topic, ("k", {"n": 1}), headers=[("trace", b"abc"), ("trace", b"def"), ("hop", b"1")])
    columns = "n BIGINT, m MAP<VARCHAR, VARCHAR> METADATA FROM 'headers', l STRUCT<key VARCHAR, value VARCHAR>[] METADATA FROM 'headers'"
    bounded(riverrun, copy(kafka, columns, topic=topic), tmp_path)
    [row] = rows(tmp_path / "out.jsonl")
    assert row["m"] == {"trace": "def", "hop": "1"}
    assert [(h["key"], h["value"]) for h in row["l"]] == [("trace", "abc"), ("trace", "def"), ("hop", "1")]


def test_a_tombstone_is_a_bad_record_that_says_so(kafka, riverrun, tmp_path):
    topic = new_topic(client(kafka))
    keyed(kafka, topic, ("a", {"n": 1}), ("a", None), ("b", {"n": 2}))
    said = bounded(riverrun, copy(kafka, topic=topic), tmp_path, fails=True)
    assert "partition 0, offset 1" in said and "tombstone" in said
    (tmp_path / "out.jsonl").unlink(missing_ok=True)
    bounded(riverrun, copy(kafka, topic=topic, bad_records="drop"), tmp_path)
    assert [r["n"] for r in rows(tmp_path / "out.jsonl")] == [1, 2]


def test_the_group_keeps_the_positions(kafka, riverrun, tmp_path):
    topic, group = new_topic(client(kafka)), name()
    send(client(kafka), topic, *(json.dumps({"n": n}) for n in range(10)))
    script = "SET checkpoint.interval = '100 ms';" + copy(kafka, topic=topic, group=group)
    place = TopicPartition(topic, 0)
    admin = AdminClient(client(kafka))

    def kept():
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [place])])
        return asked[group].result(PATIENCE).topic_partitions[0].offset

    with Run(riverrun, script, tmp_path) as run:
        until(lambda: kept() == 10, what=run.said)
        assert run.stop() == 0, run.said()


def test_the_first_broker_may_be_dead(kafka, riverrun, tmp_path):
    topic = new_topic(client(kafka))
    send(client(kafka), topic, '{"n": 1}')
    bounded(riverrun, copy(kafka | {"KAFKA_BROKERS": f"127.0.0.1:1,{kafka['KAFKA_BROKERS']}"}, topic=topic), tmp_path)
    assert [r["n"] for r in rows(tmp_path / "out.jsonl")] == [1]


def test_a_property_of_librdkafka_is_passed_on(kafka, riverrun, tmp_path):
    # Read to its end: what librdkafka logs comes with its events.
    topic = new_topic(client(kafka), 1)
    keyed(kafka, topic, *[("a", {"user_id": "a", "n": n}) for n in range(100)])
    said = bounded(riverrun, copy(kafka, topic=topic, **{"kafka.debug": "conf"}), tmp_path, log="debug")
    assert "debug = conf" in said
    assert not [line for line in said.splitlines() if "client_id" in line], "statistics are not for the log"
    said = bounded(riverrun, copy(kafka, topic="nowhere", **{"kafka.enable.auto.commit": "true"}), tmp_path, fails=True)
    assert "'kafka.enable.auto.commit': this property is Riverrun's to set" in said


# Sinks

@pytest.mark.parametrize("codec, number", [("none", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), (None, 3), ("zstd", 4)])
def test_compression(kafka, riverrun, tmp_path, codec, number):
    topic, options = name(), {"compression": codec} if codec else {}
    without = codec == "zstd" and not has_zstd(riverrun, tmp_path)
    said = bounded(riverrun, to_topic(kafka, topic, orders(tmp_path, 2000), partitions=1, **options), tmp_path, fails=without)
    if without:
        assert "zstd was not compiled into this program" in said and "--features kafka-zstd" in said
        return
    [segment] = (Path(kafka["KAFKA_CA"]).parent.parent / "1" / "data" / f"{topic}-0").glob("*.log")
    # Attributes of a record batch: a 16-bit number at byte 21, whose lowest three bits are the codec.
    assert struct.unpack(">h", segment.read_bytes()[21:23])[0] & 7 == number


def has_zstd(riverrun, folder):
    """Whether the program was built with the feature kafka-zstd: librdkafka reads such a topic then, and writes it."""
    script = folder / "zstd.sql"
    script.write_text("CREATE TABLE g (n BIGINT) WITH (connector = 'generator'); CREATE TABLE t WITH (connector = 'kafka', topic = 't', compression = 'zstd'); INSERT INTO t SELECT n FROM g;")
    return subprocess.run([riverrun, "check", script], capture_output=True, check=False).returncode == 0


def test_a_topic_is_created_as_the_options_say(kafka, riverrun, tmp_path):
    topic = name()
    script = to_topic(kafka, topic, orders(tmp_path), partitions=4, replication=1, retention="3 days", retention_bytes="5 MiB")
    bounded(riverrun, script, tmp_path)
    admin = AdminClient(client(kafka))
    found = admin.list_topics(topic, timeout=PATIENCE).topics[topic]
    assert len(found.partitions) == 4
    config = admin.describe_configs([ConfigResource("topic", topic)])
    config = next(iter(config.values())).result(PATIENCE)
    assert config["retention.ms"].value == str(3 * 24 * 3600 * 1000)
    assert config["retention.bytes"].value == str(5 << 20)
    said = bounded(riverrun, to_topic(kafka, name(), orders(tmp_path), replication=3), tmp_path, fails=True)
    assert "cannot be created" in said and "replication" in said.lower()


def test_the_key_is_what_the_options_say(kafka, riverrun, tmp_path):
    def keys(**options):
        topic = name()
        bounded(riverrun, to_topic(kafka, topic, orders(tmp_path, 20), **options), tmp_path)
        consumer = Consumer({**client(kafka), "group.id": "not-used", "enable.partition.eof": True})
        consumer.assign([TopicPartition(topic, p, 0) for p in range(10)])
        found, ended = [], set()
        while len(ended) < 10:
            message = consumer.poll(PATIENCE)
            if message.error():
                ended.add(message.partition())
            else:
                found.append(message.key())
        consumer.close()
        return set(found)

    assert keys() == {None}
    assert keys(key="user_id") == {f"user_{n}".encode() for n in range(10)}
    assert keys(key="n") == {str(n).encode() for n in range(20)}
    assert keys(primary="(PRIMARY KEY (user_id))") == {f"user_{n}".encode() for n in range(10)}
    assert keys(key="user_id, n") == {f'{{"user_id":"user_{n % 10}","n":{n}}}'.encode() for n in range(20)}


def test_a_row_that_is_no_longer_true_is_a_tombstone(kafka, riverrun, tmp_path):
    """HAVING on an open window: a sum that passed and then fails takes its row back."""
    source, topic = new_topic(client(kafka)), name()
    script = f"""
    SET pipeline.name = '{topic}';
    CREATE TABLE t (user_id VARCHAR, n BIGINT, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1 hour')
    WITH (connector = 'kafka', brokers = '{kafka["KAFKA_BROKERS"]}', topic = '{source}', starting_offsets = 'earliest');
    CREATE TABLE sums (PRIMARY KEY (user_id, day)) WITH (connector = 'kafka', brokers = '{kafka["KAFKA_BROKERS"]}', topic = '{topic}', partitions = 1);
    CREATE VIEW s AS SELECT user_id, tumble(at, INTERVAL '1 day')['start'] AS day, sum(n) AS total FROM t GROUP BY tumble(at, INTERVAL '1 day'), user_id HAVING sum(n) > 10;
    INSERT INTO sums SELECT user_id, day, total FROM s;
    """
    def give(n):
        keyed(kafka, source, ("a", {"user_id": "a", "n": n, "at": "2026-01-01T00:00:00Z"}))

    def found():
        consumer = Consumer({**client(kafka), "group.id": "not-used", "enable.partition.eof": True})
        consumer.assign([TopicPartition(topic, 0, 0)])
        messages = []
        while not (message := consumer.poll(PATIENCE)).error():
            messages.append((message.key(), message.value()))
        consumer.close()
        return messages

    with Run(riverrun, script, tmp_path) as run:
        run.started()
        give(20)
        until(lambda: len(found()) == 1, what=run.said)
        give(-15)
        until(lambda: len(found()) == 2, what=run.said)
        assert run.stop() == 0, run.said()
    [(key, value), tombstone] = found()
    assert (json.loads(key)["user_id"], json.loads(value)["total"], tombstone) == ("a", 20, (key, None))


def test_rows_are_written_as_json_or_avro_only(kafka, riverrun, tmp_path):
    said = bounded(riverrun, to_topic(kafka, name(), orders(tmp_path), format="csv"), tmp_path, fails=True)
    assert "as JSON or Avro" in said and "'format'" in said


def test_csv_is_read(kafka, riverrun, tmp_path):
    topic = new_topic(client(kafka))
    send(client(kafka), topic, "user_1,7", "user_2,8")
    bounded(riverrun, copy(kafka, topic=topic, format="csv"), tmp_path)
    assert [(r["user_id"], r["n"]) for r in rows(tmp_path / "out.jsonl")] == [("user_1", 7), ("user_2", 8)]
