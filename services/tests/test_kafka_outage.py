"""Brokers that die under a running pipeline: what it says, what goes on by itself, and that nothing is lost or there twice."""

import json
import threading

import pytest
import transactions
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from kafka_clients import new_topic, send
from runs import TRANSACTIONS, Run, bounded, until
from test_kafka_loss import values
from test_kafka_options import client, copy

pytestmark = pytest.mark.long
EVENTS = 60_000
CLIENTS = 5  # of the shipped pipeline: the source, and the sinks that are topics


def warnings(said):
    """What was said at level WARN or worse."""
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return [line["fields"]["message"] for line in lines if line["level"] in ("WARN", "ERROR")]


class Slowly:
    """Sends a sample over about a minute, on a thread: through any outage, since a producer keeps what is not acknowledged."""

    def __init__(self, kafka, sample, parts=60):
        self.thread = threading.Thread(target=self.run, args=(kafka, sample, parts))
        self.error = None
        self.thread.start()

    def run(self, kafka, sample, parts):
        try:
            step = EVENTS // parts
            for part in range(parts):
                transactions.send(client(kafka), sample, first=part * step, last=(part + 1) * step)
                threading.Event().wait(1)
        except BaseException as error:  # noqa: BLE001 - told by join
            self.error = error

    def join(self):
        self.thread.join(300)
        assert self.error is None, self.error


@pytest.fixture
def sample(riverrun, tmp_path):
    return transactions.generate(riverrun, tmp_path / "transactions.jsonl", EVENTS)


def variables(kafka, folder):
    return {"BUS": "kafka", "KAFKA_BROKERS": kafka["KAFKA_BROKERS"], "LAKE": folder / "data" / "lake", "SCREEN": "blackhole", "STARTING_OFFSETS": "earliest"}


def check(kafka, run, folder, sample):
    """Waits for the last alert, stops, and compares everything."""
    expected = transactions.Expected(sample)
    count = len(expected.alerts())
    until(lambda: len(transactions.topic_rows(client(kafka), "fraud-alerts")) >= count, 120, run.said)
    assert run.stop() == 0, run.said()
    expected.check_alerts(transactions.topic_rows(client(kafka), "fraud-alerts"))
    expected.check_lake(folder / "data" / "lake" / "transactions")


def test_killed_for_30_seconds_under_load(apart, riverrun, tmp_path, sample):
    apart.run("start", "kafka")
    kafka = apart.env()
    transactions.fresh_topics(client(kafka))
    with Run(riverrun, TRANSACTIONS, tmp_path, **variables(kafka, tmp_path)) as run:
        run.started()
        sending = Slowly(kafka, sample)
        until(lambda: len(transactions.topic_rows(client(kafka), "fraud-alerts")) > 0, what=run.said)
        apart.run("kill", "kafka")
        run.wait_for("cannot be reached")
        threading.Event().wait(30)
        assert run.process.poll() is None, run.said()
        apart.run("start", "kafka")
        sending.join()
        check(kafka, run, tmp_path, sample)
    told = warnings(run.said())
    assert len([w for w in told if "cannot be reached" in w]) <= CLIENTS, told
    assert len(told) <= CLIENTS + 1, told
    assert "works again" in run.said()


def test_dead_at_the_start_and_for_good(apart, riverrun, tmp_path):
    apart.run("start", "kafka")
    kafka = apart.env()
    topic = new_topic(client(kafka))
    script = copy(kafka, topic=topic)
    with Run(riverrun, script, tmp_path) as run:
        run.started()
        apart.run("kill", "kafka")
        run.wait_for("cannot be reached")
        assert run.stop() == 0, "a source that is away does not hold up a stop"
    said = bounded(riverrun, script, tmp_path, fails=True)
    assert "no answer about" in said and "Connection refused" in said and "is Kafka running" in said
    # A commit that is not acknowledged: the stop waits for its deadline, and says what becomes of it.
    apart.run("start", "kafka")
    sink = f"CREATE TABLE sink WITH (connector = 'kafka', brokers = '{kafka['KAFKA_BROKERS']}', topic = '{topic}-out'); INSERT INTO sink SELECT n FROM g;"
    script = f"CREATE TABLE g (user_id VARCHAR, n VARCHAR) WITH (connector = 'generator', rate = 100); {sink}"
    with Run(riverrun, script, tmp_path) as run:
        run.started()
        until(lambda: AdminClient(client(kafka)).list_topics(timeout=10).topics.get(f"{topic}-out"), what=run.said)
        apart.run("kill", "kafka")
        run.wait_for("records of a transaction wait")
        assert run.stop(90) != 0
        assert "gave up at the stop's deadline" in run.said()


def test_a_leader_that_restarts_is_not_noticed(apart, riverrun, tmp_path, sample):
    apart.run("start", "kafka", "brokers=3", "heap=256m")
    kafka = apart.env()
    transactions.fresh_topics(client(kafka), replicas=3)
    with Run(riverrun, TRANSACTIONS, tmp_path, **variables(kafka, tmp_path)) as run:
        run.started()
        sending = Slowly(kafka, sample)
        for broker in (1, 2, 3):
            until(lambda: len(transactions.topic_rows(client(kafka), "fraud-alerts")) > 0, what=run.said)
            apart.run("kill", f"kafka.{broker}")
            threading.Event().wait(5)
            apart.run("start", "kafka")
            threading.Event().wait(5)
        sending.join()
        check(kafka, run, tmp_path, sample)
    assert not [w for w in warnings(run.said()) if "cannot be reached" in w], run.said()


def test_retention_by_time_passes_a_stopped_pipeline(kafka, riverrun, tmp_path):
    topic = new_topic(client(kafka), **{"retention.ms": "1000", "segment.bytes": str(1 << 20)})
    script = "SET checkpoint.interval = '100 ms';" + copy(kafka, topic=topic)
    send(client(kafka), topic, *values(0, 1))
    with Run(riverrun, script, tmp_path) as run:
        until(lambda: (tmp_path / "out.jsonl").exists() and len((tmp_path / "out.jsonl").read_text().splitlines()) == 2, what=run.said)
        assert run.stop() == 0
    for _ in range(4):
        send(client(kafka), topic, *(json.dumps({"n": n, "x": "y" * 10_000}) for n in range(100)))
    # Deleted before the next start, which else would read on in time.
    until(lambda: first_offset(client(kafka), topic) > 2, 120)
    with Run(riverrun, script, tmp_path) as run:
        assert run.ends(30) != 0
        assert "are gone before they were read" in run.said()


def first_offset(properties, topic):
    """The first offset of a topic's only partition that is still there."""
    consumer = Consumer({**properties, "group.id": "not-used"})
    first, _ = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
    consumer.close()
    return first
