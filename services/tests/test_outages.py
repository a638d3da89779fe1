"""A minute without Cassandra, or without the object store that holds the lake and the checkpoints: alerts on Kafka come as fast as
before, nothing is lost and nothing is there twice."""

import contextlib
import itertools
import json
import threading
import time

import pytest
import transactions
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from everything import Everything, Sender, metric, wait_until_read
from lake import Troubled
from runs import Run, until

RATE = 400  # transactions a second
BEFORE, AFTER = 20, 15  # seconds
WARM = 5  # seconds whose alerts are not counted
LATEST = 5  # seconds that an alert may take


class Steady:
    """Sends the transactions of a file at a rate, on a thread; tells when each was sent."""

    def __init__(self, everything, path):
        self.everything, self.path, self.sent, self.over, self.error = everything, path, {}, threading.Event(), None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            sender, begun = Sender(self.everything), time.monotonic()
            with self.path.open("rb") as lines:
                for n, line in enumerate(lines):
                    row = json.loads(line)
                    if n % 20 == 0:
                        time.sleep(max(0.0, begun + n / RATE - time.monotonic()))
                    sender.give(row)
                    self.sent[row["transaction_id"]] = time.monotonic()
            sender.end()
        except BaseException as error:  # noqa: BLE001 - told by done
            self.error = error

    def done(self):
        self.thread.join(300)
        assert self.error is None, self.error


class Alerts:
    """Tells when each alert came to a reader of committed records."""

    def __init__(self, everything):
        self.came, self.ended = {}, threading.Event()
        self.thread = threading.Thread(target=self.run, args=(everything,), daemon=True)
        self.thread.start()

    def run(self, everything):
        deserializer = AvroDeserializer(SchemaRegistryClient({"url": everything.url}))
        context = SerializationContext("fraud-alerts", MessageField.VALUE)
        consumer = Consumer({**everything.client, "group.id": "not-used", "isolation.level": "read_committed", "fetch.wait.max.ms": 20})
        partitions = consumer.list_topics("fraud-alerts", timeout=30).topics["fraud-alerts"].partitions
        consumer.assign([TopicPartition("fraud-alerts", p, 0) for p in partitions])
        while not self.ended.is_set():
            message = consumer.poll(0.1)
            if message is not None and not message.error():
                self.came.setdefault(deserializer(message.value(), context)["transaction_id"], time.monotonic())
        consumer.close()

    def end(self):
        self.ended.set()
        self.thread.join(30)


def told(waits):
    waits = sorted(waits)
    at = {p: waits[int(len(waits) * p / 100)] for p in (50, 95, 99)}
    return f"{len(waits)} alerts, " + " ".join(f"p{p} {1000 * wait:.0f} ms" for p, wait in at.items()) + f" most {1000 * waits[-1]:.0f} ms"


class Trouble:
    """What keeps a sink from writing for a while, and how that is seen to bite."""

    def __init__(self, services, store, run, seconds):
        self.services, self.store, self.run, self.seconds = services, store, run, seconds

    def lasts(self, sink=None):
        """Waits for its time; `sink` must have failed in it, and be tried again."""
        begun = time.monotonic()
        if sink:
            until(lambda: metric(self.run, "riverrun_sink_failing", sink=sink) == 1, self.seconds, self.run.said)
        time.sleep(max(0.0, begun + self.seconds - time.monotonic()))
        if sink:
            assert metric(self.run, "riverrun_sink_failing", sink=sink) == 1, "it has not bitten to the end"

    def cassandra_is_frozen(self):
        self.services.run("freeze", "cassandra")
        try:
            self.lasts("transaction_aggregates")
        finally:
            self.services.run("thaw", "cassandra")

    def cassandra_is_killed(self):
        self.services.run("kill", "cassandra")
        try:
            self.lasts("transaction_aggregates")
        finally:
            self.services.run("start", "cassandra")

    def store_answers(self, status):
        with self.store.trouble(share=1.0, status=status):
            self.lasts("lake")

    def store_is_unreachable(self):
        with self.store.trouble(share=1.0, status=None):
            self.lasts("lake")

    def store_is_slow(self):
        before = self.store.slowed
        with self.store.trouble(delay=3.0):
            self.lasts()
        assert self.store.slowed - before > 10


KINDS = {
    "Cassandra frozen": Trouble.cassandra_is_frozen,
    "Cassandra killed": Trouble.cassandra_is_killed,
    "store answers 503": lambda trouble: trouble.store_answers(503),
    "store answers 500": lambda trouble: trouble.store_answers(500),
    "store cuts connections": Trouble.store_is_unreachable,
    "store slow": Trouble.store_is_slow,
}
LENGTHS = [pytest.param(kind, seconds, marks=pytest.mark.long if seconds > 25 else (), id=f"{kind}, {seconds} s")
           for seconds, kind in itertools.product((25, 60), KINDS) if seconds > 25 or kind in ("Cassandra frozen", "store answers 503")]


@pytest.fixture
def everything(kafka, cassandra, s3, registry, services, monkeypatch):
    made = Everything(services.env())
    for name, value in made.s3.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def store(everything, monkeypatch):
    """What stands before the object store; riverrun knows no other."""
    proxy = Troubled(everything.s3["AWS_ENDPOINT_URL"], 0.0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    with contextlib.closing(proxy):
        yield proxy


@pytest.mark.parametrize(("kind", "seconds"), LENGTHS)
def test_for_a_while(everything, store, services, riverrun, tmp_path, kind, seconds):
    sample = transactions.generate(riverrun, tmp_path / "transactions.jsonl", RATE * (BEFORE + seconds + AFTER), fraud=0.1)
    transactions.close_windows(sample)
    expected = transactions.Expected(sample)
    wanted = expected.alerts()
    with Run(riverrun, everything.script(), tmp_path, **everything.variables()) as run:
        run.wait_for("this instance runs 10 of 10 tasks")
        alerts, steady = Alerts(everything), Steady(everything, sample)
        try:
            time.sleep(BEFORE)
            begun = time.monotonic()
            KINDS[kind](Trouble(services, store, run, seconds))
            ended = time.monotonic()
            steady.done()
            until(lambda: len(alerts.came) >= len(wanted), 60, run.said)
        finally:
            alerts.end()
        first = min(steady.sent.values()) + WARM
        spans = {"before": (first, begun), "during": (begun, ended), "after": (ended, ended + 3600)}
        waits = {span: [alerts.came[t] - at for t in wanted if since <= (at := steady.sent[t]) < until_] for span, (since, until_) in spans.items()}
        print(f"\n{kind} for {ended - begun:.0f} s at {RATE} transactions/s: " + "; ".join(f"{span}: {told(those)}" for span, those in waits.items() if those))
        assert len(waits["during"]) > 2 * seconds and max(waits["during"]) < LATEST, "alerts waited"
        wait_until_read(run, RATE * (BEFORE + seconds + AFTER) + transactions.CLOSING, 60)
        until(lambda: everything.same(expected), 180, run.said)
        assert run.stop() == 0, run.said()
        said = run.said()
    everything.check(expected)
    assert said.count("trying again until it passes") <= 3, f"told once by each of those who were in trouble: {said}"


def test_cassandra_is_away_at_the_start(everything, services, riverrun, tmp_path):
    """Alerts come, and it gets its rows when it is there."""
    sample = transactions.close_windows(transactions.generate(riverrun, tmp_path / "transactions.jsonl", 5000))
    expected = transactions.Expected(sample)
    services.run("kill", "cassandra")
    try:
        with Run(riverrun, everything.script(), tmp_path, **everything.variables()) as run:
            run.started()
            everything.send(sample)
            until(lambda: len(everything.avro_rows("fraud-alerts")) == len(expected.alerts()), 60, run.said)
            run.wait_for("trying again until it passes", times=2)
            services.run("start", "cassandra")
            until(lambda: everything.same(expected), 120, run.said)
            assert run.stop() == 0, run.said()
            assert run.said().count("trying again until it passes") == 2, "told once by each of two tables"
    finally:
        services.run("start", "cassandra")
    everything.check(expected)


@pytest.mark.parametrize("status", [503, 500, None])
def test_the_store_is_away_at_the_start(everything, store, riverrun, tmp_path, status):
    """It is waited for, with what it is asked said once; what is wrong with the table ends the run all the same."""
    sample = transactions.close_windows(transactions.generate(riverrun, tmp_path / "transactions.jsonl", 5000))
    expected = transactions.Expected(sample)
    everything.send(sample)
    variables = everything.variables(DATA_DIR=tmp_path / "data")
    script = transactions.TRANSACTIONS.read_text()  # checkpoints on disk: the lake alone is away
    with Run(riverrun, script, tmp_path, **variables) as run:
        with store.trouble(share=1.0, status=status):
            run.wait_for("trying again until it passes")
            assert "sink lake" in run.said()
            time.sleep(10)
            assert run.process.poll() is None, run.said()
        run.started()
        wait_until_read(run, 5000 + transactions.CLOSING, 60)
        assert run.stop() == 0, run.said()
        assert run.said().count("trying again until it passes") == 1, run.said()
    everything.check(expected)
