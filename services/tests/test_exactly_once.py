"""The shipped pipeline, killed again and again: a reader of committed records finds each of its outputs on Kafka exactly once."""

import random
import signal
import threading

import pytest
import transactions
from confluent_kafka import Consumer, TopicPartition
from kafka_clients import transactional
from proxy import Proxy
from runs import TRANSACTIONS, Run, until
from transactions import JOURNAL

pytestmark = pytest.mark.long
EVENTS = 60_000
PARTS = 30


@pytest.fixture(scope="module")
def sample(riverrun, tmp_path_factory):
    """Transactions, and those that close all windows before them."""
    return transactions.close_windows(transactions.generate(riverrun, tmp_path_factory.mktemp("input") / "transactions.jsonl", EVENTS))


@pytest.fixture
def client(kafka):
    client = {"bootstrap.servers": kafka["KAFKA_BROKERS"]}
    transactions.fresh_topics(client)
    return client


def variables(client, folder):
    return {
        "BUS": "kafka", "KAFKA_BROKERS": client["bootstrap.servers"], "LAKE": folder / "data" / "lake", "SCREEN": "blackhole",
        "STARTING_OFFSETS": "earliest",
    }


class Sending:
    """Sends the sample in parts on a thread."""

    def __init__(self, client, sample, pause):
        self.error = None
        self.thread = threading.Thread(target=self.run, args=(client, sample, pause))
        self.thread.start()

    def run(self, client, sample, pause):
        try:
            step = (EVENTS + transactions.CLOSING) // PARTS
            for part in range(PARTS):
                transactions.send(client, sample, first=part * step, last=(part + 1) * step if part + 1 < PARTS else None)
                threading.Event().wait(pause)
        except BaseException as error:  # noqa: BLE001 - told by done
            self.error = error

    def done(self):
        self.thread.join(300)
        assert self.error is None, self.error


def check(run, client, sample, folder):
    """Waits until as much is there as must be, stops, and compares everything."""
    expected = transactions.Expected(sample)
    counts = {"fraud-alerts": len(expected.alerts()), "rapid-transactions": len(expected.query(transactions.RAPID))}
    for topic, count in counts.items():
        until(lambda topic=topic, count=count: len(transactions.topic_rows(client, topic)) >= count, 180, run.said)
    assert run.stop() == 0, run.said()
    expected.check_alerts(transactions.topic_rows(client, "fraud-alerts"))
    expected.check_rapid(transactions.topic_rows(client, "rapid-transactions"))
    assert transactions.topic_rows(client, "financial-transactions-dlq") == []
    expected.check_lake(folder / "data" / "lake" / "transactions")


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments(client, riverrun, tmp_path, sample, seed):
    chance = random.Random(seed)
    sending = Sending(client, sample, 1)
    for _ in range(8):
        with Run(riverrun, TRANSACTIONS, tmp_path, **variables(client, tmp_path)) as run:
            run.started()
            threading.Event().wait(chance.uniform(0, 4))
            run.process.kill()
    sending.done()
    with Run(riverrun, TRANSACTIONS, tmp_path, **variables(client, tmp_path)) as run:
        check(run, client, sample, tmp_path)


@pytest.mark.parametrize("place", ["kafka.sent", "kafka.committed"])
def test_killed_around_a_commit(client, riverrun, tmp_path, sample, monkeypatch, place):
    sending = Sending(client, sample, 0.3)
    for count in (1, 2, 5, 20):
        monkeypatch.setenv("RIVERRUN_FAILPOINT", f"{place}:{count}")
        with Run(riverrun, TRANSACTIONS, tmp_path, **variables(client, tmp_path)) as run:
            assert run.ends() == -signal.SIGKILL, run.said()
    monkeypatch.delenv("RIVERRUN_FAILPOINT")
    sending.done()
    with Run(riverrun, TRANSACTIONS, tmp_path, **variables(client, tmp_path)) as run:
        check(run, client, sample, tmp_path)


def test_brokers_that_hang_for_longer_than_a_transaction_may_last(apart, riverrun, tmp_path, sample):
    apart.run("start", "kafka")
    client = {"bootstrap.servers": apart.env()["KAFKA_BROKERS"]}
    transactions.fresh_topics(client)
    with Run(riverrun, TRANSACTIONS, tmp_path, **variables(client, tmp_path)) as run:
        run.started()
        sending = Sending(client, sample, 1.5)
        until(lambda: len(transactions.topic_rows(client, "fraud-alerts")) > 0, what=run.said)
        apart.run("freeze", "kafka.1")
        threading.Event().wait(25)
        apart.run("thaw", "kafka.1")
        sending.done()
        check(run, client, sample, tmp_path)


def test_a_broker_that_for_a_moment_knows_of_no_brokers(apart, riverrun, tmp_path, sample):
    """As one does that hung, and that its controller took for dead. Clients must not take it at its word for ever."""
    proxy, chance = Proxy(), random.Random(1)
    apart.run("start", "kafka", f"server.advertised.listeners=PLAINTEXT://127.0.0.1:{proxy.port}")
    host, port = apart.env()["KAFKA_BROKERS"].split(":")
    proxy.broker = (host, int(port))
    client = {"bootstrap.servers": f"127.0.0.1:{proxy.port}"}
    transactions.fresh_topics(client)
    with Run(riverrun, TRANSACTIONS, tmp_path, **variables(client, tmp_path)) as run:
        run.started()
        transactions.send(client, sample, last=EVENTS // 2)
        until(lambda: len(transactions.topic_rows(client, "fraud-alerts")) > 0, what=run.said)
        proxy.lying.set()
        for _ in range(60):
            proxy.cut()
            threading.Event().wait(chance.uniform(0.02, 0.5))
        proxy.lying.clear()
        assert proxy.lies > 0
        transactions.send(client, sample, first=EVENTS // 2)
        check(run, client, sample, tmp_path)
    proxy.close()


def test_who_is_taken_over_stops_and_says_so(client, riverrun, tmp_path, sample):
    with Run(riverrun, TRANSACTIONS, tmp_path, **variables(client, tmp_path)) as run:
        run.started()
        transactions.send(client, sample, last=EVENTS // 2)
        until(lambda: len(transactions.topic_rows(client, "fraud-alerts")) > 0, what=run.said)
        # What another run does first: its producer, and its name in the journal.
        heir = transactional(client, "riverrun-transactions")
        heir.begin_transaction()
        heir.produce(JOURNAL, "another", "owner", partition=0)
        heir.commit_transaction(30)
        transactions.send(client, sample, first=EVENTS // 2)
        assert run.ends() > 0
        assert "another run of pipeline 'transactions' has taken over" in run.said()
    # Nothing was lost by it: the next run takes over in turn.
    with Run(riverrun, TRANSACTIONS, tmp_path, **variables(client, tmp_path)) as run:
        check(run, client, sample, tmp_path)


def test_records_below_the_oldest_checkpoint_are_removed(client, riverrun, tmp_path, sample):
    with Run(riverrun, TRANSACTIONS, tmp_path, **variables(client, tmp_path)) as run:
        run.started()
        sending = Sending(client, sample, 1)
        until(lambda: all(first_offset(client, task + 1) > 0 for task in range(transactions.PARTITIONS)), 120, run.said)
        assert first_offset(client, 0) == 0, "where it all began is kept"
        run.process.kill()
    sending.done()
    with Run(riverrun, TRANSACTIONS, tmp_path, **variables(client, tmp_path)) as run:
        check(run, client, sample, tmp_path)


def first_offset(client, partition):
    """The first offset of a partition of the journal that is still there."""
    consumer = Consumer({**client, "group.id": "not-used"})
    first, _ = consumer.get_watermark_offsets(TopicPartition(JOURNAL, partition), timeout=30)
    consumer.close()
    return first
