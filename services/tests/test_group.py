"""Instances of one pipeline share its tasks, come, leave, die and freeze: a reader of committed records and the Delta table hold
each output exactly once, and each is what the input says."""

import json
import random
import signal
import threading
import time
from collections import defaultdict

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from deltalake import DeltaTable
from kafka_clients import PATIENCE, new_topic
from runs import Run, Sending, until
from transactions import topic_rows

PARTITIONS = 5

# What a row says depends on those of its key before it: state that was lost or moved wrongly shows.
SCRIPT = """
SET pipeline.name = '${NAME}';
SET checkpoint.interval = '1 second';
CREATE TABLE events (k VARCHAR NOT NULL, n BIGINT NOT NULL, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t) PARTITIONED BY (k)
WITH (connector = 'kafka', brokers = '${BROKERS}', topic = '${INPUT}', format = 'json', starting_offsets = 'earliest',
      timestamp_format = 'unix_ms', max_ahead = '100000 days', 'kafka.session.timeout.ms' = '6000');
CREATE VIEW steps AS
SELECT k, n, CAST(row_number() OVER w AS BIGINT) AS place, sum(n) OVER (PARTITION BY k ORDER BY t ROWS BETWEEN 4 PRECEDING AND CURRENT ROW) AS last_five
FROM events WINDOW w AS (PARTITION BY k ORDER BY t);
CREATE TABLE copies WITH (connector = 'kafka', brokers = '${BROKERS}', topic = '${OUTPUT}', partitions = '3', key = 'k', emit = 'update');
CREATE TABLE lake WITH (connector = 'delta', path = '${LAKE}', roll_interval = '1 second');
CREATE TABLE folder WITH (connector = 'filesystem', path = '${FOLDER}/', format = 'json', roll_interval = '1 second');
INSERT INTO copies SELECT k, n, place, last_five FROM steps;
INSERT INTO lake SELECT k, n, place, last_five FROM steps;
INSERT INTO folder SELECT k, n, place, last_five FROM steps;
"""


class Pipeline:
    """A pipeline on topics of its own, its instances, and what must come out."""

    def __init__(self, kafka, riverrun, folder, keys, script=SCRIPT, replicas=1):
        self.client = {"bootstrap.servers": kafka["KAFKA_BROKERS"]}
        self.riverrun, self.folder, self.keys, self.script = riverrun, folder, keys, script
        self.input = new_topic(self.client, PARTITIONS, replicas)
        self.name, self.output = f"group-{self.input}", f"{self.input}-copies"
        self.lake, self.files = folder / "lake", folder / "files"
        self.expected, self.last, self.sent = {}, defaultdict(list), 0
        self.runs = []

    def variables(self):
        return {
            "NAME": self.name, "BROKERS": self.client["bootstrap.servers"], "INPUT": self.input, "OUTPUT": self.output, "LAKE": self.lake,
            "FOLDER": self.files,
        }

    def start(self, instance=None, log=None):
        run = Run(self.riverrun, self.script, self.folder, *(["--instance", instance] if instance else []), log=log, **self.variables())
        self.runs.append(run)
        return run

    def send(self, count):
        """Sends events with rising times, and notes what must come of each."""
        failed = []
        producer = Producer({**self.client, "enable.idempotence": True, "linger.ms": 5})
        for _ in range(count):
            n = self.sent
            key = f"key-{n * 7919 % self.keys}"
            before = self.last[key]
            before.append(n)
            self.expected[n] = (key, len(before), sum(before[-5:]))
            record = json.dumps({"k": key, "n": n, "t": 1_700_000_000_000 + n})
            producer.produce(self.input, record, key, on_delivery=lambda e, _: failed.append(e) if e else None)
            producer.poll(0)
            self.sent += 1
        assert producer.flush(60) == 0 and not failed, failed[:1]

    def close_windows(self):
        """Behind the last event, one in each partition: those before it are final then."""
        producer = Producer(self.client)
        for partition in range(PARTITIONS):
            record = json.dumps({"k": f"closing-{partition}", "n": -1, "t": 1_800_000_000_000})
            producer.produce(self.input, record, f"closing-{partition}", partition=partition)
        assert producer.flush(60) == 0

    def said(self):
        return "\n".join(f"--- run {i}\n{run.said()}" for i, run in enumerate(self.runs))

    def count(self):
        return sum(1 for row in topic_rows(self.client, self.output) if row["n"] >= 0)

    def lake_rows(self):
        rows = DeltaTable(str(self.lake)).to_pyarrow_table().to_pylist()
        return [row for row in rows if row["n"] >= 0]

    def file_rows(self):
        return [row for path in self.files.glob("part-*") for row in map(json.loads, path.read_text().splitlines()) if row["n"] >= 0]

    def check(self, patience=120):
        """Waits until all has come out, and looks at each row: there once, and right."""
        found = {"topic": lambda: [row for row in topic_rows(self.client, self.output) if row["n"] >= 0], "lake": self.lake_rows, "files": self.file_rows}
        for place, rows in found.items():
            until(lambda rows=rows: len(rows()) >= self.sent, patience, lambda place=place, rows=rows: f"{self.sent} in the {place}, not {len(rows())}; {self.said()}")
            ours = sorted((row["n"], row["k"], row["place"], row["last_five"]) for row in rows())
            theirs = [(n, *self.expected[n]) for n in range(self.sent)]
            assert ours == theirs, f"{place}: {[pair for pair in zip(ours, theirs) if pair[0] != pair[1]][:3]}, {len(ours)} rows\n{self.said()}"

    def kept(self):
        """The offset that the group keeps of each partition."""
        places = [TopicPartition(self.input, partition) for partition in range(PARTITIONS)]
        admin = AdminClient(self.client)  # kept: its questions die with it
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(self.name, places)], require_stable=True)
        return sum(place.offset for place in asked[self.name].result(PATIENCE).topic_partitions)

    def undecided(self):
        """Partitions of the output and the journal with a transaction that is neither committed nor aborted."""
        levels = ("read_committed", "read_uncommitted")
        consumers = [Consumer({**self.client, "group.id": "not-used", "isolation.level": level}) for level in levels]
        topics = consumers[0].list_topics(timeout=PATIENCE).topics
        found = []
        for topic in (self.output, f"riverrun-{self.name}-journal"):
            for partition in map(lambda number, topic=topic: TopicPartition(topic, number), topics[topic].partitions):
                stable, end = (consumer.get_watermark_offsets(partition, PATIENCE)[1] for consumer in consumers)
                found += [(topic, partition.partition, stable, end)] if stable < end else []
        for consumer in consumers:
            consumer.close()
        return found


@pytest.fixture
def pipeline(kafka, riverrun, tmp_path):
    made = Pipeline(kafka, riverrun, tmp_path, 500)
    yield made
    for run in made.runs:
        if run.process.poll() is None:
            run.process.send_signal(signal.SIGCONT)
            run.process.kill()
            run.process.wait()


def runs_tasks(run, count, patience=30):
    """Waits until an instance has said that it runs so many tasks."""
    run.wait_for(f"this instance runs {count} of {PARTITIONS} tasks", patience)


def test_one_joins_one_dies_one_leaves(pipeline):
    first = pipeline.start("a")
    runs_tasks(first, PARTITIONS)
    sending = Sending(pipeline.send, 1000)
    until(lambda: pipeline.count() > 0, what=pipeline.said)
    second = pipeline.start("b")
    second.wait_for("this instance runs ")
    until(lambda: pipeline.count() > 3000, what=pipeline.said)
    second.process.kill()
    second.process.wait()
    runs_tasks(first, PARTITIONS)
    third = pipeline.start("c")
    third.wait_for("this instance runs ")
    began = time.monotonic()
    assert first.stop() == 0, first.said()
    runs_tasks(third, PARTITIONS)
    assert time.monotonic() - began < 15
    sending.done()
    pipeline.close_windows()
    pipeline.check()
    until(lambda: pipeline.kept() == pipeline.sent + PARTITIONS, what=lambda: f"{pipeline.kept()} kept, {pipeline.sent} sent")
    assert third.stop() == 0, third.said()


def test_a_run_of_the_same_name_takes_over_at_once(pipeline):
    sending = Sending(pipeline.send, 1000)
    for _ in range(3):
        run = pipeline.start()
        runs_tasks(run, PARTITIONS, 5)
        threading.Event().wait(1)
        run.process.kill()
        run.process.wait()
    first = pipeline.start()
    runs_tasks(first, PARTITIONS, 5)
    second = pipeline.start()
    runs_tasks(second, PARTITIONS, 5)
    assert first.ends() > 0
    assert "has taken over" in first.said(), first.said()
    sending.done()
    pipeline.close_windows()
    pipeline.check()
    assert second.stop() == 0, second.said()


@pytest.mark.parametrize("moment", [0.0, 0.1, 0.3])
def test_killed_between_the_two_rounds_of_a_rebalance(pipeline, moment):
    """What the first round took from one, the second was to give to another: it never comes, for the group takes both for unharmed."""
    first = pipeline.start("a")
    runs_tasks(first, PARTITIONS)
    second = pipeline.start("b")
    first.wait_for("are given up")
    threading.Event().wait(moment)
    for run in (first, second):
        run.process.kill()
        run.process.wait()
    first, second = pipeline.start("a"), pipeline.start("b")
    pipeline.send(5000)
    pipeline.close_windows()
    pipeline.check()
    assert [run.stop() for run in (first, second)] == [0, 0], pipeline.said()


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rounds_of_kills(kafka, riverrun, tmp_path, seed, request):
    chance = random.Random(seed)
    pipeline = Pipeline(kafka, riverrun, tmp_path, 20_000)
    request.addfinalizer(lambda: [run.process.kill() for run in pipeline.runs if run.process.poll() is None])
    runs = {name: pipeline.start(name) for name in "abc"}
    sending = Sending(pipeline.send, 2000)
    for _ in range(8):
        threading.Event().wait(chance.uniform(0.5, 8))
        name = chance.choice("abc")
        runs[name].process.kill()
        runs[name].process.wait()
        threading.Event().wait(chance.choice([0, chance.uniform(0, 12)]))
        runs[name] = pipeline.start(name)
    sending.done()
    pipeline.close_windows()
    pipeline.check()
    for run in runs.values():
        assert run.stop() == 0, run.said()


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_zombies(kafka, riverrun, tmp_path, seed, request):
    chance = random.Random(seed)
    pipeline = Pipeline(kafka, riverrun, tmp_path, 20_000)
    request.addfinalizer(lambda: [run.process.kill() for run in pipeline.runs if run.process.poll() is None])
    runs = {name: pipeline.start(name) for name in "abc"}
    sending = Sending(pipeline.send, 2000)
    for _ in range(5):
        threading.Event().wait(chance.uniform(1, 5))
        run = runs[chance.choice("abc")]
        run.process.send_signal(signal.SIGSTOP)
        threading.Event().wait(chance.choice([2, 8, 14, 20]))
        run.process.send_signal(signal.SIGCONT)
    sending.done()
    pipeline.close_windows()
    pipeline.check()
    for run in runs.values():
        assert run.process.poll() is None, run.said()
        assert run.stop() == 0, run.said()


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rounds_of_broker_kills(apart, riverrun, tmp_path, seed, request):
    """Three instances on three brokers, of which one after the other dies and comes back, and with them an instance now and then, or
    it stands still: nothing is lost or doubled, nothing stays open, and no instance ends by itself."""
    chance = random.Random(seed)
    apart.run("start", "kafka", "brokers=3", "heap=256m")
    pipeline = Pipeline(apart.env(), riverrun, tmp_path, 20_000, replicas=3)
    request.addfinalizer(lambda: [run.process.kill() for run in pipeline.runs if run.process.poll() is None])
    runs = {name: pipeline.start(name) for name in "abc"}
    until(lambda: sum("this instance runs " in run.said() for run in runs.values()) == 3, what=pipeline.said)
    sending = Sending(pipeline.send, 500)
    for _ in range(6):
        threading.Event().wait(chance.uniform(1, 5))
        apart.run("kill", f"kafka.{chance.choice([1, 2, 3])}")
        name, what = chance.choice("abc"), chance.choice(["none", "kill", "freeze"])
        if what == "kill":
            runs[name].process.kill()
            runs[name].process.wait()
        elif what == "freeze":
            runs[name].process.send_signal(signal.SIGSTOP)
        threading.Event().wait(chance.uniform(1, 10))
        apart.run("start", "kafka")
        if what == "kill":
            runs[name] = pipeline.start(name)
        elif what == "freeze":
            runs[name].process.send_signal(signal.SIGCONT)
    sending.done()
    pipeline.close_windows()
    pipeline.check()
    for run in runs.values():
        assert run.process.poll() is None, run.said()
    until(lambda: pipeline.kept() == pipeline.sent + PARTITIONS, what=lambda: f"{pipeline.kept()} kept, {pipeline.sent} sent")
    assert not pipeline.undecided()
    for run in runs.values():
        assert run.stop() == 0, run.said()
