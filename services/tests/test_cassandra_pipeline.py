"""The shipped pipeline on Kafka and Cassandra at once: every row equal to DuckDB's, through kills and outages."""

import json
import random
import signal
import threading
import time

import cassandra_tables as tables
import pytest
import transactions
from confluent_kafka import Consumer, TopicPartition
from runs import TRANSACTIONS, Run, bounded, until
from test_cassandra import connect
from transactions import RAPID, Expected

KEYSPACE = "realtime_analytics"
NUMBERS = ("transaction_count", "total_amount", "avg_amount", "max_amount", "min_amount")
SPENDING = """SELECT user_id, coalesce(category, ''), time_bucket(INTERVAL '5 minutes', timestamp) AS w, w + INTERVAL '5 minutes',
  coalesce(list(merchant ORDER BY seq) FILTER (merchant IS NOT NULL), []), count(*), sum(amount), avg(amount), max(amount), min(amount)
  FROM t GROUP BY w, user_id, category"""


@pytest.fixture
def client(kafka):
    client = {"bootstrap.servers": kafka["KAFKA_BROKERS"]}
    transactions.fresh_topics(client)
    return client


@pytest.fixture
def session(cassandra):
    cluster, session = connect(cassandra["CASSANDRA"])
    session.execute(f"DROP KEYSPACE IF EXISTS {KEYSPACE}", timeout=60)
    yield session
    session.execute(f"DROP KEYSPACE IF EXISTS {KEYSPACE}", timeout=60)
    cluster.shutdown()


def variables(client, cassandra, folder, **more):
    return {
        "BUS": "kafka", "KAFKA_BROKERS": client["bootstrap.servers"], "AGGREGATES": "cassandra", "CASSANDRA": cassandra["CASSANDRA"],
        "LAKE": folder / "data" / "lake", "SCREEN": "blackhole", "STARTING_OFFSETS": "earliest", **more,
    }


def check(session, expected):
    """Each row of both tables is DuckDB's, merchants in their order; sums up to their last digits. Gives how many there are of each."""
    found = {(r["user_id"], r["category"], r["window_start"]): r for r in tables.rows(session, f"{KEYSPACE}.transaction_aggregates")}
    wanted = {row[:3]: row[3:] for row in expected.query(SPENDING)}
    unlike = found.keys() ^ wanted.keys()  # pytest would compare them word by word
    assert not unlike, f"{len(found)} rows, DuckDB has {len(wanted)}"
    for key, (end, merchants, *numbers) in wanted.items():
        row = found[key]
        assert (row["window_end"], row["merchants"] or []) == (end, merchants), (key, row)
        assert all(abs(row[name] - n) <= 1e-9 * max(1.0, abs(n)) for name, n in zip(NUMBERS, numbers, strict=True)), (key, row, numbers)
    rapid = {(r["user_id"], r["window_start"]): (r["txn_count"], r["total_spent"]) for r in tables.rows(session, f"{KEYSPACE}.rapid_users")}
    transactions.same(rapid, {(user, w): numbers for user, w, *numbers in expected.query(RAPID)}, len(rapid))
    return len(found), len(rapid)


def same(session, expected):
    try:
        check(session, expected)
    except (AssertionError, KeyError):
        return False
    return True


def test_what_is_there_is_read_to_its_end(client, cassandra, session, riverrun, tmp_path):
    sample = transactions.generate(riverrun, tmp_path / "transactions.jsonl", 20_000)
    transactions.send(client, sample)
    bounded(riverrun, TRANSACTIONS, tmp_path, **variables(client, cassandra, tmp_path))
    check(session, Expected(sample))


class Alerts:
    """Tells when each alert came to a reader of committed records."""

    def __init__(self, client):
        self.came = {}
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(client,))
        self.thread.start()

    def run(self, client):
        consumer = Consumer({**client, "group.id": "not-used", "isolation.level": "read_committed"})
        partitions = consumer.list_topics("fraud-alerts", timeout=30).topics["fraud-alerts"].partitions
        consumer.assign([TopicPartition("fraud-alerts", p, 0) for p in partitions])
        while not self.ended.is_set():
            for message in consumer.consume(1000, 0.1):
                if not message.error():
                    self.came.setdefault(json.loads(message.value())["transaction_id"], time.monotonic())
        consumer.close()

    def end(self):
        self.ended.set()
        self.thread.join(30)


def through_a_freeze(client, cassandra, services, session, riverrun, folder, events, seconds):
    sample = transactions.generate(riverrun, folder / "transactions.jsonl", events)
    lines = [json.loads(line)["transaction_id"] for line in sample.read_text().splitlines()]
    expected = Expected(sample)
    wanted, parts = expected.alerts(), 2 * seconds
    with Run(riverrun, TRANSACTIONS, folder, **variables(client, cassandra, folder)) as run:
        run.started()
        alerts, step, sent = Alerts(client), events // (2 * parts), {}
        try:
            for part in range(2 * parts):
                if part == parts // 2:
                    services.run("freeze", "cassandra")
                    frozen = time.monotonic()
                if part == parts // 2 + parts:
                    services.run("thaw", "cassandra")
                    thawed = time.monotonic()
                last = (part + 1) * step if part + 1 < 2 * parts else events
                transactions.send(client, sample, first=part * step, last=last)
                sent.update(dict.fromkeys(lines[part * step : last], time.monotonic()))
                time.sleep(0.5 if part in range(parts // 2, parts // 2 + parts) else 0)
            until(lambda: len(alerts.came) >= len(wanted), 60, run.said)
        finally:
            alerts.end()
            services.run("thaw", "cassandra")
        assert thawed - frozen >= seconds
        during = [alerts.came[t] - sent[t] for t in wanted if frozen <= sent[t] <= thawed]
        assert len(during) > 10 and max(during) < 5, f"{len(during)} alerts, up to {max(during):.1f} s late while Cassandra was frozen"
        print(f"{len(during)} alerts while Cassandra was frozen for {thawed - frozen:.0f} s: at most {max(during):.2f} s after they were sent")
        until(lambda: same(session, expected), 120, run.said)
        assert run.stop() == 0, run.said()
        said = run.said()
    assert said.count("trying again until it passes") <= 2, "told once for each table"
    check(session, expected)


def test_cassandra_frozen_for_a_while(client, cassandra, services, session, riverrun, tmp_path):
    through_a_freeze(client, cassandra, services, session, riverrun, tmp_path, 20_000, 12)


@pytest.mark.long
def test_cassandra_frozen_for_a_minute_under_load(client, cassandra, services, session, riverrun, tmp_path):
    through_a_freeze(client, cassandra, services, session, riverrun, tmp_path, 200_000, 60)


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments(client, cassandra, session, riverrun, tmp_path, seed):
    chance, events = random.Random(seed), 200_000
    sample = transactions.generate(riverrun, tmp_path / "transactions.jsonl", events)
    given = variables(client, cassandra, tmp_path)
    sending = threading.Thread(target=send_slowly, args=(client, sample, events, 40, 0.5))
    sending.start()
    for _ in range(8):
        with Run(riverrun, TRANSACTIONS, tmp_path, **given) as run:
            run.started()
            time.sleep(chance.uniform(0, 4))
            run.process.kill()
    sending.join()
    finish(session, riverrun, tmp_path, given, Expected(sample))


@pytest.mark.long
def test_killed_when_rows_are_written(client, cassandra, session, riverrun, tmp_path, monkeypatch):
    events = 60_000
    sample = transactions.generate(riverrun, tmp_path / "transactions.jsonl", events)
    given = variables(client, cassandra, tmp_path)
    sending = threading.Thread(target=send_slowly, args=(client, sample, events, 30, 0.3))
    sending.start()
    for count in (1, 2, 5, 20):
        monkeypatch.setenv("RIVERRUN_FAILPOINT", f"cassandra.written:{count}")
        with Run(riverrun, TRANSACTIONS, tmp_path, **given) as run:
            assert run.ends() == -signal.SIGKILL, run.said()
    monkeypatch.delenv("RIVERRUN_FAILPOINT")
    sending.join()
    finish(session, riverrun, tmp_path, given, Expected(sample))


def send_slowly(client, sample, events, parts, pause):
    step = events // parts
    for part in range(parts):
        transactions.send(client, sample, first=part * step, last=(part + 1) * step)
        time.sleep(pause)


def finish(session, riverrun, folder, given, expected):
    """A last run that is not killed: in the end all is as if none had been."""
    with Run(riverrun, TRANSACTIONS, folder, **given) as run:
        run.started()
        until(lambda: same(session, expected), 180, run.said)
        assert run.stop() == 0, run.said()
    check(session, expected)


@pytest.mark.long
def test_cassandra_killed_and_started_again(apart, client, riverrun, tmp_path):
    apart.run("start", "cassandra")
    env, events = apart.env(), 60_000
    sample = transactions.generate(riverrun, tmp_path / "transactions.jsonl", events)
    expected = Expected(sample)
    with Run(riverrun, TRANSACTIONS, tmp_path, **variables(client, env, tmp_path)) as run:
        run.started()
        sending = threading.Thread(target=send_slowly, args=(client, sample, events, 30, 0.5))
        sending.start()
        time.sleep(4)
        apart.run("kill", "cassandra")
        run.wait_for("trying again until it passes")
        time.sleep(10)
        apart.run("start", "cassandra")
        sending.join()
        cluster, session = connect(env["CASSANDRA"])
        until(lambda: same(session, expected), 180, run.said)
        assert run.stop() == 0, run.said()
        check(session, expected)
        cluster.shutdown()
