"""Killed at every named place, and at random moments, with Cassandra, a Delta table and the checkpoints in an object store beside
Kafka: each sink holds each output exactly once, and in Cassandra the newest of each key. `RIVERRUN_CRASHES=10 services/test
crash_stores` runs 10 seeds."""

import os
import random
import time

import cassandra_tables as tables
import pytest
from lake import Bucket
from runs import Sending, until
from test_cassandra import connect
from test_crash_matrix import PLACES, kill_at_every_place
from test_group import SCRIPT, Pipeline

OURS = [*PLACES, "delta.put", "cassandra.written"]
SEEDS = [pytest.param(seed, marks=pytest.mark.long if seed > 1 else ()) for seed in range(1, 1 + int(os.environ.get("RIVERRUN_CRASHES", "2")))]
STORES = """
SET checkpoint.location = '${CHECKPOINTS}';
CREATE TABLE steps_by_number (PRIMARY KEY (n)) WITH (connector = 'cassandra', contact_points = '${CASSANDRA}', keyspace = '${KEYSPACE}');
CREATE TABLE totals (PRIMARY KEY (k)) WITH (connector = 'cassandra', contact_points = '${CASSANDRA}', keyspace = '${KEYSPACE}');
INSERT INTO steps_by_number SELECT k, n, place, last_five FROM steps;
INSERT INTO totals SELECT k, count(*) AS events, sum(n) AS total, max(n) AS newest FROM events GROUP BY k;
"""


class WithStores(Pipeline):
    """The pipeline with its lake and checkpoints in a bucket, and rows by key and totals in Cassandra."""

    def __init__(self, kafka, s3, cassandra, riverrun, folder, keys, script):
        super().__init__(kafka, riverrun, folder, keys, script + STORES)
        self.bucket, self.cassandra, self.keyspace = Bucket(s3), cassandra["CASSANDRA"], tables.keyspace()
        self.lake = self.bucket.url("lake")
        self.cluster, self.session = connect(self.cassandra)

    def variables(self):
        return {**super().variables(), "CHECKPOINTS": self.bucket.url("checkpoints"), "CASSANDRA": self.cassandra, "KEYSPACE": self.keyspace}

    def lake_rows(self):
        return [row for row in self.bucket.table("lake").to_pyarrow_table().to_pylist() if row["n"] >= 0]

    def steps(self):
        found = tables.rows(self.session, f"{self.keyspace}.steps_by_number")
        return sorted((row["n"], row["k"], row["place"], row["last_five"]) for row in found if row["n"] >= 0)

    def totals(self):
        found = tables.rows(self.session, f"{self.keyspace}.totals")
        return {row["k"]: (row["events"], row["total"], row["newest"]) for row in found if row["newest"] >= 0}

    def check(self, patience=120):
        super().check(patience)
        steps = [(n, *self.expected[n]) for n in range(self.sent)]
        totals = {key: (len(numbers), sum(numbers), numbers[-1]) for key, numbers in self.last.items()}
        until(lambda: self.steps() == steps and self.totals() == totals, patience, lambda: self.unlike(steps, totals))

    def unlike(self, steps, totals):
        """What differs in Cassandra."""
        rows, sums = self.steps(), self.totals()
        return f"{set(steps) ^ set(rows)} {({key: (sums.get(key), of) for key, of in totals.items() if sums.get(key) != of})}; {self.said()}"

    def close(self):
        for run in self.runs:
            if run.process.poll() is None:
                run.process.kill()
            run.process.wait()
        self.session.execute(f"DROP KEYSPACE IF EXISTS {self.keyspace}", timeout=60)
        self.cluster.shutdown()


@pytest.fixture
def stores(kafka, s3, cassandra, riverrun, tmp_path, request, monkeypatch):
    """Makes such a pipeline."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)

    def make(keys, script=SCRIPT):
        made = WithStores(kafka, s3, cassandra, riverrun, tmp_path, keys, script)
        request.addfinalizer(made.close)
        return made

    return make


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_at_every_place(stores, seed, monkeypatch):
    script = SCRIPT.replace("checkpoint.interval = '1 second'", "checkpoint.interval = '200 ms'").replace("'1 second'", "'300 ms'")
    kill_at_every_place(stores(2000, script), seed, OURS, monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
def test_rounds_of_kills(stores, seed):
    """Of three instances that share the tasks."""
    chance, pipeline = random.Random(seed), stores(5000)
    runs = {name: pipeline.start(name) for name in "abc"}
    sending = Sending(pipeline.send, 1000)
    for _ in range(8):
        name = chance.choice("abc")
        time.sleep(chance.uniform(0.5, 8))
        runs[name].process.kill()
        runs[name].process.wait()
        time.sleep(chance.choice([0, chance.uniform(0, 8)]))
        runs[name] = pipeline.start(name)
    sending.done()
    pipeline.close_windows()
    pipeline.check()
    for run in runs.values():
        assert run.stop() == 0, run.said()
    print(f"seed {seed}: 8 kills, {pipeline.sent} events")
