"""What a run does when its topic or its broker is not what it was: it says what happened, and what to do."""

import json
import time

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions
from kafka_clients import PATIENCE, new_topic, send
from runs import Run, bounded, rows, until
from test_kafka_options import client, copy


def values(*numbers):
    return [json.dumps({"n": n}) for n in numbers]


def delete_before(kafka, topic, offset):
    """What retention does: the first offset that is there becomes `offset`."""
    admin = AdminClient(client(kafka))
    for future in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        future.result(PATIENCE)


def grow(kafka, topic, partitions):
    admin = AdminClient(client(kafka))
    admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(PATIENCE)


def numbers(folder):
    return [row["n"] for row in rows(folder / "out.jsonl")]


def stopped_at_two(kafka, riverrun, folder, topic, **options):
    """A pipeline that read 0 and 1 and was stopped; then 2 to 9 come, of which 2 to 6 go before it starts again."""
    script = "SET checkpoint.interval = '100 ms';" + copy(kafka, topic=topic, **options)
    send(client(kafka), topic, *values(0, 1))
    with Run(riverrun, script, folder) as run:
        until(lambda: numbers(folder) == [0, 1], what=run.said)
        assert run.stop() == 0, run.said()
    send(client(kafka), topic, *values(*range(2, 10)))
    delete_before(kafka, topic, 7)
    return script


def test_retention_that_passes_a_stopped_pipeline_stops_its_start(kafka, riverrun, tmp_path):
    topic = new_topic(client(kafka))
    script = stopped_at_two(kafka, riverrun, tmp_path, topic)
    with Run(riverrun, script, tmp_path) as run:
        assert run.ends() != 0
        said = run.said()
    assert f"partition 0 of topic '{topic}': offsets 2 to 6 are gone" in said and "fail_on_data_loss = 'false'" in said
    assert numbers(tmp_path) == [0, 1]


def test_without_fail_on_data_loss_it_goes_on_and_tells_how_much_is_lost(kafka, riverrun, tmp_path):
    topic = new_topic(client(kafka))
    script = stopped_at_two(kafka, riverrun, tmp_path, topic, fail_on_data_loss="false")
    with Run(riverrun, script, tmp_path) as run:
        until(lambda: numbers(tmp_path) == [0, 1, 7, 8, 9], what=run.said)
        assert "offsets 2 to 6 are gone before they were read: 5 lost; going on at 7" in run.said()
        assert run.stop() == 0


def test_retention_that_passes_a_running_pipeline_is_told(kafka, riverrun, tmp_path):
    """One record at a time is fetched, and none ahead: the reader stands at an offset that is deleted under it."""
    for loss, told in (("true", "are gone before they were read; the first one that is there is"), ("false", "lost; going on at 2000")):
        topic = new_topic(client(kafka))
        send(client(kafka), topic, *(json.dumps({"n": n, "x": "y" * 500}) for n in range(2000)), **{"batch.num.messages": 1})
        slow = {"kafka.fetch.max.bytes": 1000, "kafka.fetch.message.max.bytes": 1000, "kafka.queued.min.messages": 1, "kafka.message.max.bytes": 1000}
        folder = tmp_path / loss
        folder.mkdir()
        script = "SET trigger.interval = '1 second';" + copy(kafka, topic=topic, max_offsets_per_trigger=1, fail_on_data_loss=loss, **slow)
        with Run(riverrun, script, folder) as run:
            until(lambda folder=folder: len(numbers(folder)) > 1, what=run.said)
            delete_before(kafka, topic, 2000)
            run.wait_for(told)
            assert (run.ends() != 0) if loss == "true" else (run.stop() == 0)


def test_added_partitions_stop_a_run_or_are_told_once(kafka, riverrun, tmp_path):
    for loss in ("true", "false"):
        topic = new_topic(client(kafka), 2)
        folder = tmp_path / loss
        folder.mkdir()
        script = copy(kafka, topic=topic, fail_on_data_loss=loss, **{"kafka.topic.metadata.refresh.interval.ms": 500})
        with Run(riverrun, script, folder) as run:
            run.started()
            grow(kafka, topic, 3)
            run.wait_for(f"topic '{topic}' has 3 partitions, and had 2 when this run began")
            if loss == "true":
                assert run.ends() != 0
                assert "SET another pipeline.name" in run.said()
                continue
            time.sleep(3)  # statistics come each second: it would be told again by now
            assert run.said().count("when this run began") == 1
            assert run.stop() == 0


def test_after_a_restart_one_task_reads_added_partitions_from_their_start(kafka, riverrun, tmp_path):
    topic = new_topic(client(kafka), 1)
    script = f"""
    SET checkpoint.interval = '100 ms';
    CREATE TABLE t (n BIGINT, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1 hour')
    WITH (connector = 'kafka', brokers = '{kafka["KAFKA_BROKERS"]}', topic = '{topic}', starting_offsets = 'latest');
    CREATE TABLE sums (PRIMARY KEY (window_start)) WITH (connector = 'table');
    CREATE TABLE out WITH (connector = 'filesystem', path = 'out.jsonl');
    INSERT INTO out SELECT n FROM t;
    INSERT INTO sums SELECT tumble(at, INTERVAL '1 hour')['start'] AS window_start, count(*) AS c FROM t GROUP BY tumble(at, INTERVAL '1 hour');
    """
    record = '{"n": %d, "at": "2026-01-01T00:00:00Z"}'
    with Run(riverrun, script, tmp_path) as run:
        run.started()
        send(client(kafka), topic, record % 1)
        until(lambda: numbers(tmp_path) == [1], what=run.said)
        assert run.stop() == 0
    grow(kafka, topic, 2)
    producer = Producer(client(kafka))
    producer.produce(topic, record % 2, partition=1)
    assert producer.flush(PATIENCE) == 0
    with Run(riverrun, script, tmp_path) as run:
        until(lambda: numbers(tmp_path) == [1, 2], what=run.said)
        assert run.stop() == 0


def test_a_topic_that_is_not_there_is_told_with_those_near_it(kafka, riverrun, tmp_path):
    topic = new_topic(client(kafka))
    said = bounded(riverrun, copy(kafka, topic=topic[:-1]), tmp_path, fails=True)
    assert f"has no topic '{topic[:-1]}'" in said and "did you mean" in said and topic in said
    said = bounded(riverrun, copy(kafka, topic_pattern="no-such-.*"), tmp_path, fails=True)
    assert "has no topics like 'no-such-.*'" in said
    topics = AdminClient(client(kafka)).list_topics(timeout=PATIENCE).topics
    assert topic[:-1] not in topics, "asking for a topic does not create it"


def test_a_topic_that_is_deleted_under_a_run_stops_it(kafka, riverrun, tmp_path):
    topic = new_topic(client(kafka))
    quick = {"kafka.topic.metadata.refresh.interval.ms": 500, "kafka.topic.metadata.propagation.max.ms": 1000}
    with Run(riverrun, copy(kafka, topic=topic, **quick), tmp_path) as run:
        run.started()
        admin = AdminClient(client(kafka))
        admin.delete_topics([topic])[topic].result(PATIENCE)
        assert run.ends() != 0
        assert f"'{topic}'" in run.said() and "deleted" in run.said()


def test_other_topics_under_a_checkpoint_are_refused(kafka, riverrun, tmp_path):
    one, two, three = (new_topic(client(kafka)) for _ in range(3))
    for topic in (one, two, three):
        send(client(kafka), topic, *values(1))
    script = "SET checkpoint.interval = '100 ms';" + copy(kafka, topic=f"{one},{two}")
    with Run(riverrun, script, tmp_path) as run:
        until(lambda: numbers(tmp_path) == [1, 1], what=run.said)
        assert run.stop() == 0
    with Run(riverrun, script.replace(two, three), tmp_path) as run:
        assert run.ends() != 0
        assert "are of other topics" in run.said() and two in run.said() and three in run.said()


def test_no_broker_at_the_start_is_told_within_a_bounded_time(riverrun, tmp_path):
    began = time.monotonic()
    said = bounded(riverrun, copy({"KAFKA_BROKERS": "127.0.0.1:1"}, topic="t", **{"kafka.socket.timeout.ms": 2000}), tmp_path, fails=True)
    assert time.monotonic() - began < 20
    assert "no answer about topic 't' from Kafka at 127.0.0.1:1 within 2s" in said and "Connection refused" in said
