"""Rows whose key is not the topic's go over repartition topics: every window comes out once and says what the input says, whatever
dies, whoever shares the work; watermarks travel with the rows."""

import contextlib
import json
import random
import signal
import subprocess
import threading
import time
from collections import defaultdict

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from deltalake import DeltaTable
from kafka_clients import new_topic
from runs import Run, Sending, bounded, until
from transactions import topic_rows

PARTITIONS = 5
BEGIN = 1_700_000_000_000
CLOSING = 1_800_000_000_000
WINDOW = 10_000

# By category, which is not what the topic is keyed by; then over all categories, a stage further.
SCRIPT = """
SET pipeline.name = '${NAME}';
SET checkpoint.interval = '1 second';
SET repartition.partitions = '${COUNT:-8}';
CREATE TABLE events (k VARCHAR NOT NULL, c VARCHAR NOT NULL, n BIGINT NOT NULL, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t - INTERVAL '5 seconds')
PARTITIONED BY (k)
WITH (connector = 'kafka', brokers = '${BROKERS}', topic = '${INPUT}', format = 'json', starting_offsets = 'earliest', late_rows = 'late',
      timestamp_format = 'unix_ms', max_ahead = '100000 days', idle_timeout = '${IDLE:-1 hour}', 'kafka.session.timeout.ms' = '6000');
CREATE TABLE late WITH (connector = 'kafka', brokers = '${BROKERS}', topic = '${INPUT}-late');
CREATE TABLE copies WITH (connector = 'kafka', brokers = '${BROKERS}', topic = '${INPUT}-copies');
CREATE TABLE windows WITH (connector = 'kafka', brokers = '${BROKERS}', topic = '${INPUT}-windows', partitions = '3');
CREATE TABLE places WITH (connector = 'kafka', brokers = '${BROKERS}', topic = '${INPUT}-places', emit = 'append');
CREATE TABLE totals WITH (connector = 'kafka', brokers = '${BROKERS}', topic = '${INPUT}-totals');
CREATE TABLE lake WITH (connector = 'delta', path = '${LAKE}', roll_interval = '1 second');
CREATE VIEW by_category AS
SELECT tumble(t, INTERVAL '10 seconds')['start'] AS w, c, count(*) AS count, sum(n) AS total FROM events GROUP BY tumble(t, INTERVAL '10 seconds'), c;
INSERT INTO copies SELECT k, n FROM events;
INSERT INTO windows SELECT CAST(w AS VARCHAR) AS w, c, count, total FROM by_category;
INSERT INTO lake SELECT CAST(w AS VARCHAR) AS w, c, count, total FROM by_category;
INSERT INTO places SELECT n, c, CAST(row_number() OVER (PARTITION BY c ORDER BY t) AS BIGINT) AS place FROM events;
INSERT INTO totals SELECT CAST(w AS VARCHAR) AS w, sum(count) AS count, sum(total) AS total FROM by_category GROUP BY w;
${MORE:-}
"""


class Pipeline:
    """A pipeline on topics of its own, its runs, and what must come out."""

    def __init__(self, kafka, riverrun, folder):
        self.client = {"bootstrap.servers": kafka["KAFKA_BROKERS"]}
        self.riverrun, self.folder = riverrun, folder
        self.input = new_topic(self.client, PARTITIONS)
        self.name, self.lake = f"pipeline-{self.input}", folder / "lake"
        self.sent, self.late, self.runs = [], 0, []

    def variables(self, **more):
        return {"NAME": self.name, "BROKERS": self.client["bootstrap.servers"], "INPUT": self.input, "LAKE": self.lake, **more}

    def start(self, instance=None, **more):
        run = Run(self.riverrun, SCRIPT, self.folder, *(["--instance", instance] if instance else []), **self.variables(**more))
        self.runs.append(run)
        return run

    def send_some_late(self, count):
        self.send(count, late=1 if len(self.sent) > 1000 else 0)

    def send(self, count, late=0, keys=300):
        """Sends events with rising times, and behind them some that are late."""
        producer, failed = Producer({**self.client, "enable.idempotence": True, "linger.ms": 5}), []

        def produce(record, key, **place):
            producer.produce(self.input, json.dumps(record), key, on_delivery=lambda e, _: failed.append(e) if e else None, **place)
            producer.poll(0)

        for _ in range(count):
            n = len(self.sent)
            event = {"k": f"key-{n * 7919 % keys}", "c": f"category-{n * 31 % 40}", "n": n, "t": BEGIN + 20 * n}
            self.sent.append(event)
            produce(event, event["k"])
        for _ in range(late):
            self.late += 1
            produce({"k": "key-0", "c": "category-1", "n": 1_000_000 + self.late, "t": BEGIN - 3_600_000}, "key-0")
        assert producer.flush(60) == 0 and not failed, failed[:1]

    def close_windows(self, partitions=range(PARTITIONS)):
        producer = Producer(self.client)
        for partition in partitions:
            producer.produce(self.input, json.dumps({"k": "closing", "c": "closing", "n": 0, "t": CLOSING}), "closing", partition=partition)
        assert producer.flush(60) == 0

    def said(self):
        return "\n".join(f"--- run {i}\n{run.said()[-6000:]}" for i, run in enumerate(self.runs))

    def rows(self, topic):
        return [row for row in topic_rows(self.client, f"{self.input}-{topic}") if row.get("c") != "closing" and row.get("k") != "closing"]

    def expected(self):
        windows, totals, ranks, places = defaultdict(lambda: [0, 0]), defaultdict(lambda: [0, 0]), defaultdict(int), []
        for event in self.sent:
            start = event["t"] // WINDOW * WINDOW
            for sums in (windows[start, event["c"]], totals[start]):
                sums[0] += 1
                sums[1] += event["n"]
            ranks[event["c"]] += 1
            places.append((event["n"], event["c"], ranks[event["c"]]))
        return {
            "windows": sorted((stamp(w), c, *sums) for (w, c), sums in windows.items()),
            "totals": sorted((stamp(w), *sums) for w, sums in totals.items()),
            "places": sorted(places),
            "copies": sorted([*(e["n"] for e in self.sent), *(1_000_001 + i for i in range(self.late))]),
            "late": sorted(1_000_001 + i for i in range(self.late)),
        }

    def found(self, what):
        rows = self.rows(what)
        match what:
            case "windows":
                return sorted((r["w"], r["c"], r["count"], r["total"]) for r in rows)
            case "totals":
                return sorted((r["w"], r["count"], r["total"]) for r in rows if r["w"] < "2027")
            case "places":
                return sorted((r["n"], r["c"], r["place"]) for r in rows)
            case _:
                return sorted(r["n"] for r in rows)

    def check(self, patience=120):
        """Waits until as much has come out as must, and compares all."""
        expected = self.expected()
        for what, rows in expected.items():
            until(lambda what=what, rows=rows: len(self.found(what)) >= len(rows), patience,
                  lambda what=what, rows=rows: f"{len(rows)} {what}, not {len(self.found(what))}; {self.said()}")
        until(lambda: len(self.lake_rows()) >= len(expected["windows"]), patience, lambda: f"{len(expected['windows'])} in the lake; {self.said()}")
        threading.Event().wait(1)
        for what, rows in expected.items():
            found = self.found(what)
            assert found == rows, f"{what}: {[pair for pair in zip(found, rows) if pair[0] != pair[1]][:3]}, {len(found)} of {len(rows)}; {self.said()}"
        assert self.lake_rows() == expected["windows"], self.said()

    def lake_rows(self):
        if not DeltaTable.is_deltatable(str(self.lake)):
            return []
        rows = DeltaTable(str(self.lake)).to_pyarrow_table().to_pylist()
        return sorted((r["w"], r["c"], r["count"], r["total"]) for r in rows if r["c"] != "closing")

    def topics(self):
        names = Producer(self.client).list_topics(timeout=30).topics
        return {name: len(topic.partitions) for name, topic in names.items() if name.startswith(f"riverrun-{self.name}-repartition-")}


def stamp(millis):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(millis / 1000))


@pytest.fixture
def pipeline(kafka, riverrun, tmp_path):
    made = Pipeline(kafka, riverrun, tmp_path)
    yield made
    for run in made.runs:
        if run.process.poll() is None:
            run.process.send_signal(signal.SIGCONT)
            run.process.kill()
            run.process.wait()


def test_a_key_that_is_not_the_topics(pipeline):
    """Also: what the plan says, the topics as they are made, and what was consumed is removed from them."""
    path = pipeline.folder / "explained.sql"
    path.write_text(SCRIPT)
    given = [word for name, value in pipeline.variables().items() for word in ("--set", f"{name}={value}")]
    explained = subprocess.run([pipeline.riverrun, "explain", path, *given], check=True, capture_output=True, text=True).stdout
    assert explained.startswith("tasks: stage 0: one per partition; stage 1: one per partition of its repartition topics; stage 2"), explained
    assert explained.count("repartitioned at #") == 2, explained
    pipeline.send(3000)
    pipeline.send(0, late=10)
    with pipeline.start() as run:
        run.wait_for("this instance runs 21 of 21 tasks")
        for _ in range(6):  # some checkpoints
            pipeline.send(500)
            threading.Event().wait(1.2)
        until(lambda: all(first > 0 for first in firsts(pipeline)), 30, lambda: f"removed records: {firsts(pipeline)}; {run.said()}")
        pipeline.close_windows()
        pipeline.check()
        assert sorted(pipeline.topics().values()) == [8, 8]
        assert run.stop() == 0, run.said()
    with pipeline.start() as run:
        run.wait_for("this instance runs 21 of 21 tasks")
        threading.Event().wait(2)
        assert run.stop() == 0, run.said()
    pipeline.check()


def firsts(pipeline):
    """By repartition topic: the first offsets of all partitions, together."""
    consumer = Consumer({**pipeline.client, "group.id": "not-used"})
    found = []
    for name, count in pipeline.topics().items():
        bounds = [consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=30) for partition in range(count)]
        found.append(sum(first for first, _ in bounds))
    consumer.close()
    return found


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
def test_killed_at_random_moments(pipeline, seed):
    chance = random.Random(seed)
    sending = Sending(pipeline.send_some_late, 1500)
    for _ in range(8):
        with pipeline.start() as run:
            run.started()
            threading.Event().wait(chance.uniform(0, 4))
            run.process.kill()
    sending.done()
    with pipeline.start() as run:
        pipeline.close_windows()
        pipeline.check()
        assert run.stop() == 0, run.said()


PLACES = ["kafka.committed", "kafka.sent", "journal.committed", "restore", "repeat", "checkpoint.before-manifest", "checkpoint.in-deletion"]


@pytest.mark.parametrize("place", [PLACES[0], *(pytest.param(place, marks=pytest.mark.long) for place in PLACES[1:])])
def test_killed_at(pipeline, monkeypatch, place):
    sending, killed = Sending(pipeline.send_some_late, 1500), 0
    for count in (3, 10, 30):
        with pipeline.start() as run:
            run.started()
            threading.Event().wait(3)
            run.process.kill()
        monkeypatch.setenv("RIVERRUN_FAILPOINT", f"{place}:{count}")
        with pipeline.start() as run:
            with contextlib.suppress(subprocess.TimeoutExpired):  # a place that is not reached so often
                run.process.wait(20)
            assert run.process.returncode in (None, -signal.SIGKILL), run.said()
            killed += run.process.returncode is not None
        monkeypatch.delenv("RIVERRUN_FAILPOINT")
    assert killed, f"{place} was never reached"
    sending.done()
    with pipeline.start() as run:
        pipeline.close_windows()
        pipeline.check()
        assert run.stop() == 0, run.said()


def test_instances_share_all_stages(pipeline):
    first = pipeline.start("a")
    first.wait_for("this instance runs 21 of 21 tasks")
    sending = Sending(pipeline.send_some_late, 1000)
    second = pipeline.start("b")
    second.wait_for("this instance runs ")
    threading.Event().wait(4)
    second.process.kill()
    second.process.wait()
    third = pipeline.start("c")
    third.wait_for("this instance runs ")
    threading.Event().wait(4)
    assert first.stop() == 0, first.said()
    third.wait_for("this instance runs 21 of 21 tasks")
    sending.done()
    pipeline.close_windows()
    pipeline.check()
    assert third.stop() == 0, third.said()


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rounds_of_kills_and_freezes_of_instances(pipeline, seed):
    chance = random.Random(seed)
    runs = {name: pipeline.start(name) for name in "abc"}
    sending = Sending(pipeline.send_some_late, 1000)
    for _ in range(6):
        threading.Event().wait(chance.uniform(0.5, 8))
        name = chance.choice("abc")
        if chance.random() < 0.6:
            runs[name].process.kill()
            runs[name].process.wait()
            threading.Event().wait(chance.choice([0, chance.uniform(0, 12)]))
            runs[name] = pipeline.start(name)
        else:
            runs[name].process.send_signal(signal.SIGSTOP)
            threading.Event().wait(chance.choice([2, 8, 14]))
            runs[name].process.send_signal(signal.SIGCONT)
    sending.done()
    pipeline.close_windows()
    pipeline.check()
    for run in runs.values():
        assert run.stop() == 0, run.said()


def test_an_idle_partition_holds_no_window_open(pipeline):
    """All keys lie in one partition, the others have nothing, ever."""
    with pipeline.start(IDLE="2 seconds") as run:
        pipeline.send(2000, keys=1)
        counts = lambda: len(pipeline.found("windows"))  # noqa: E731
        pipeline.close_windows([partition_of_key_0(pipeline)])
        until(lambda: counts() >= len(pipeline.expected()["windows"]), 60, lambda: f"{counts()} windows; {run.said()}")
        pipeline.check()
        assert run.stop() == 0, run.said()


def partition_of_key_0(pipeline):
    consumer = Consumer({**pipeline.client, "group.id": "not-used"})
    ends = [consumer.get_watermark_offsets(TopicPartition(pipeline.input, p), timeout=30)[1] for p in range(PARTITIONS)]
    consumer.close()
    return max(range(PARTITIONS), key=ends.__getitem__)


def test_a_bounded_run_gives_the_same(pipeline):
    pipeline.send(4000, late=5)
    bounded(pipeline.riverrun, SCRIPT, pipeline.folder, **pipeline.variables())
    pipeline.check()
    assert pipeline.topics() == {}


def test_what_does_not_fit_is_refused(pipeline):
    pipeline.send(2000)
    with pipeline.start() as run:
        run.wait_for("this instance runs 21 of 21 tasks")
        until(lambda: len(pipeline.rows("copies")) == 2000, what=run.said)
        threading.Event().wait(3)
        assert run.stop() == 0, run.said()
    with pipeline.start(COUNT=9) as run:
        assert run.ends() == 2, run.said()
        assert "has 8 partitions, and repartition.partitions is 9" in run.said(), run.said()
    more = "CREATE TABLE more WITH (connector = 'blackhole', emit = 'append'); INSERT INTO more SELECT tumble(t, INTERVAL '1 minute'), k, c, max(n) FROM events GROUP BY 1, 2, 3;"
    with pipeline.start(MORE=more) as run:
        pipeline.close_windows()
        until(lambda: len(pipeline.found("windows")) >= len(pipeline.expected()["windows"]), what=pipeline.said)
        pipeline.check()
        assert run.stop() == 0, run.said()
    changed = "CREATE TABLE more WITH (connector = 'blackhole', emit = 'append'); INSERT INTO more SELECT tumble(t, INTERVAL '1 minute'), n, count(*) FROM events GROUP BY 1, 2;"
    with pipeline.start(MORE=changed) as run:
        assert run.ends() == 2, run.said()
        assert "the script has changed what is repartitioned" in run.said(), run.said()


def test_sensors_by_site_without_a_sink_on_kafka(kafka, riverrun, tmp_path):
    """The journal then lives on Kafka for the sake of the repartition topic alone."""
    client = {"bootstrap.servers": kafka["KAFKA_BROKERS"]}
    topic = new_topic(client, 3)
    script = """
SET pipeline.name = '${NAME}';
SET repartition.partitions = '4';
CREATE TABLE readings (device VARCHAR NOT NULL, site VARCHAR NOT NULL, v DOUBLE NOT NULL, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t)
PARTITIONED BY (device) WITH (connector = 'kafka', brokers = '${BROKERS}', topic = '${TOPIC}', starting_offsets = 'earliest',
    timestamp_format = 'unix_ms', max_ahead = '100000 days');
CREATE TABLE sites WITH (connector = 'filesystem', path = '${OUT}/', format = 'json', roll_interval = '1 second');
INSERT INTO sites SELECT site, count(*) AS n, CAST(min(t) AS VARCHAR) AS first FROM readings GROUP BY tumble(t, INTERVAL '10 seconds'), site;
"""
    producer = Producer(client)
    for n in range(900):
        producer.produce(topic, json.dumps({"device": f"d{n % 30}", "site": f"site-{n % 4}", "v": 1.0, "t": BEGIN + n * 100}), partition=n % 3)
    for partition in range(3):
        producer.produce(topic, json.dumps({"device": "x", "site": "closing", "v": 1.0, "t": CLOSING}), partition=partition)
    assert producer.flush(60) == 0
    out = tmp_path / "out"
    rows = lambda: [r for f in out.glob("part-*") for r in map(json.loads, f.read_text().splitlines())] if out.exists() else []  # noqa: E731
    with Run(riverrun, script, tmp_path, NAME=f"sites-{topic}", BROKERS=client["bootstrap.servers"], TOPIC=topic, OUT=out) as run:
        until(lambda: sum(r["n"] for r in rows()) >= 900, what=run.said)
        assert len(rows()) == 36 and sum(r["n"] for r in rows()) == 900
        assert run.stop() == 0, run.said()
