"""Checkpoints in an object store: a pipeline that is killed between its steps, or whose store is away or damaged, gives the same rows."""

import json
import os
import random
import signal
import subprocess
import time
import uuid

import pytest
from runs import Run, rows, until
from test_s3 import connect

SCRIPT = """
SET pipeline.name = 'steps';
SET checkpoint.location = '${LOCATION}';
SET checkpoint.interval = '10 ms';
SET trigger.interval = '20 ms';
CREATE TABLE transactions (
    transaction_id VARCHAR NOT NULL, user_id VARCHAR NOT NULL, amount DOUBLE NOT NULL, timestamp TIMESTAMP NOT NULL,
    WATERMARK FOR timestamp AS timestamp - INTERVAL '2 minutes'
) WITH (connector = 'filesystem', path = '${INPUT}', format = 'json', max_offsets_per_trigger = 100);
CREATE TABLE steps (transaction_id VARCHAR, user_id VARCHAR, amount DOUBLE, before DOUBLE)
WITH (connector = 'filesystem', path = '${DATA_DIR}/steps.jsonl', format = 'json', emit = 'update');
CREATE TABLE totals (user_id VARCHAR, window_start TIMESTAMP, n BIGINT, total DOUBLE)
WITH (connector = 'filesystem', path = '${DATA_DIR}/totals.jsonl', format = 'json');
INSERT INTO steps
SELECT transaction_id, user_id, amount, LAG(amount) OVER (PARTITION BY user_id ORDER BY timestamp) AS before FROM transactions;
INSERT INTO totals
SELECT user_id, tumble(timestamp, INTERVAL '1 minute')['start'] AS window_start, count(*) AS n, sum(amount) AS total
FROM transactions GROUP BY tumble(timestamp, INTERVAL '1 minute'), user_id;
"""
TABLES = ("steps", "totals")


@pytest.fixture(scope="module")
def sample(riverrun, tmp_path_factory):
    path = tmp_path_factory.mktemp("input") / "transactions.jsonl"
    words = ["--count", "12000", "--users", "200", "--events-per-second", "5", "--out", path]
    subprocess.run([riverrun, "generate", "transactions", *words], check=True, capture_output=True)
    return path


def written(folder):
    return {table: sorted(json.dumps(row) for row in rows(folder / "data" / f"{table}.jsonl")) for table in TABLES}


@pytest.fixture(scope="module")
def expected(riverrun, sample, tmp_path_factory):
    """What a run without a failure writes, with checkpoints in a directory."""
    folder = tmp_path_factory.mktemp("expected")
    with Run(riverrun, SCRIPT, folder, INPUT=sample, LOCATION=folder / "checkpoints") as run:
        assert run.ends() == 0, run.said()
    tables = written(folder)
    assert len(tables["steps"]) > 10_000 and tables["totals"]
    return tables


@pytest.fixture
def store(s3, monkeypatch):
    """A fresh bucket: (client, bucket); riverrun finds the store by its variables."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    client, bucket = connect(s3), f"checkpoints-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    return client, bucket


def keys(client, bucket):
    return sorted(entry["Key"] for entry in client.list_objects_v2(Bucket=bucket).get("Contents", []))


def checkpoint(riverrun, *words):
    return subprocess.run([riverrun, "checkpoint", *words], capture_output=True, text=True, check=False, env=os.environ)


def test_killed_between_all_steps(riverrun, sample, expected, store, tmp_path, monkeypatch):
    client, bucket = store
    variables = {"INPUT": sample, "LOCATION": f"s3://{bucket}/some/where"}
    places = ["checkpoint.before-manifest:2", "checkpoint.in-deletion:1", "restore:1", "checkpoint.before-deletion:2", "journal.committed:9"]
    for place in places:
        monkeypatch.setenv("RIVERRUN_FAILPOINT", place)
        with Run(riverrun, SCRIPT, tmp_path, **variables) as run:
            assert run.ends() == -signal.SIGKILL, f"{place}: {run.said()}"
    monkeypatch.delenv("RIVERRUN_FAILPOINT")
    with Run(riverrun, SCRIPT, tmp_path, **variables) as run:
        assert run.ends() == 0, run.said()
    assert written(tmp_path) == expected
    manifests = [key for key in keys(client, bucket) if key.endswith(".manifest")]
    assert len(manifests) == 2, "older ones and orphans are removed"
    assert all(key.startswith("some/where/steps/task-0/") for key in keys(client, bucket))
    shown = checkpoint(riverrun, "show", "--location", f"s3://{bucket}/some/where", "--json")
    assert shown.returncode == 0 and json.loads(shown.stdout)["damage"] is None, shown.stderr


PLACES = [
    "journal.before-commit", "journal.committed", "checkpoint.before-manifest", "checkpoint.before-deletion", "checkpoint.in-deletion", "restore",
    "repeat", "file.after-append",
]
SEEDS = [pytest.param(seed, marks=pytest.mark.long if seed > 1 else ()) for seed in range(1, 1 + int(os.environ.get("RIVERRUN_CRASHES", "2")))]


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_at_every_place(riverrun, sample, expected, store, tmp_path, monkeypatch, seed):
    """In an order and at moments that the seed gives. A life that does not come to its place is killed wherever it is."""
    client, bucket = store
    chance, variables, kills = random.Random(seed), {"INPUT": sample, "LOCATION": f"s3://{bucket}"}, 0
    slowly = SCRIPT.replace("trigger.interval = '20 ms'", "trigger.interval = '100 ms'")  # so that all lives have something to do
    for place in chance.sample(PLACES, len(PLACES)):
        count = 1 if place in ("restore", "repeat") else chance.choice([1, 2, 5])
        monkeypatch.setenv("RIVERRUN_FAILPOINT", f"{place}:{count}")
        with Run(riverrun, slowly, tmp_path, **variables) as run:
            end = time.monotonic() + 3
            while time.monotonic() < end and run.process.poll() is None:
                time.sleep(0.02)
            assert run.process.poll() in (None, 0, -signal.SIGKILL), run.said()
            kills += run.process.poll() == -signal.SIGKILL
    monkeypatch.delenv("RIVERRUN_FAILPOINT")
    with Run(riverrun, SCRIPT, tmp_path, **variables) as run:
        assert run.ends() == 0, run.said()
    assert written(tmp_path) == expected
    assert kills >= 5, f"only {kills} of {len(PLACES)} places were reached"


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(riverrun, sample, expected, store, tmp_path, monkeypatch):
    client, bucket = store
    variables = {"INPUT": sample, "LOCATION": f"s3://{bucket}"}
    monkeypatch.setenv("RIVERRUN_FAILPOINT", "checkpoint.before-deletion:3")
    with Run(riverrun, SCRIPT, tmp_path, **variables) as run:
        assert run.ends() == -signal.SIGKILL, run.said()
    monkeypatch.delenv("RIVERRUN_FAILPOINT")
    newest = [key for key in keys(client, bucket) if key.endswith(".data")][-1]
    body = bytearray(client.get_object(Bucket=bucket, Key=newest)["Body"].read())
    body[len(body) // 2] ^= 1
    client.put_object(Bucket=bucket, Key=newest, Body=bytes(body))
    shown = checkpoint(riverrun, "show", "--location", f"s3://{bucket}")
    assert shown.returncode == 1 and "a checksum does not fit" in shown.stdout, shown.stdout + shown.stderr
    with Run(riverrun, SCRIPT, tmp_path, **variables) as run:
        assert run.ends() == 0, run.said()
        assert "the one before it is used" in run.said() and newest.rsplit("/", 1)[1] in run.said()
    assert written(tmp_path) == expected


def test_a_store_that_is_away_for_a_while_stops_nothing(riverrun, sample, expected, apart, tmp_path, monkeypatch):
    apart.run("start", "s3")
    env = apart.env()
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    client, bucket = connect(env), "checkpoints-away"
    client.create_bucket(Bucket=bucket)
    with Run(riverrun, SCRIPT, tmp_path, INPUT=sample, LOCATION=f"s3://{bucket}") as run:
        until(lambda: keys(client, bucket), what=run.said)
        apart.run("kill", "s3")
        # The input is read to its end meanwhile; the last checkpoint is tried at the stop, and given up.
        until(lambda: len(rows(tmp_path / "data" / "steps.jsonl")) == len(expected["steps"]), what=run.said)
        apart.run("start", "s3")
        run.ends(120)
    with Run(riverrun, SCRIPT, tmp_path, INPUT=sample, LOCATION=f"s3://{bucket}") as run:
        assert run.ends() == 0, run.said()
    assert written(tmp_path) == expected


def test_a_store_that_is_away_at_the_start_is_waited_for(riverrun, sample, expected, apart, tmp_path, monkeypatch):
    apart.run("start", "s3")
    env = apart.env()
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    client, bucket = connect(env), "checkpoints-late"
    client.create_bucket(Bucket=bucket)
    variables = {"INPUT": sample, "LOCATION": f"s3://{bucket}"}
    monkeypatch.setenv("RIVERRUN_FAILPOINT", "checkpoint.before-deletion:3")
    with Run(riverrun, SCRIPT, tmp_path, **variables) as run:
        assert run.ends() == -signal.SIGKILL, run.said()
    monkeypatch.delenv("RIVERRUN_FAILPOINT")
    apart.run("kill", "s3")
    with Run(riverrun, SCRIPT, tmp_path, **variables) as run:
        run.wait_for("trying again until it passes")
        assert run.stop() == 0 and "stopped before it could start" in run.said(), run.said()
    with Run(riverrun, SCRIPT, tmp_path, **variables) as run:
        run.wait_for("trying again until it passes")
        apart.run("start", "s3")
        assert run.ends(120) == 0, run.said()
        assert run.said().count("trying again until it passes") == 1, "told once"
    assert written(tmp_path) == expected


def test_what_is_wrong_with_the_store_is_told(riverrun, sample, store, tmp_path, monkeypatch):
    _, bucket = store
    for location, told in [(f"s3://{bucket}-missing/x", "NoSuchBucket"), ("gopher://x", "no store of this kind")]:
        with Run(riverrun, SCRIPT, tmp_path, INPUT=sample, LOCATION=location) as run:
            assert run.ends() > 0 and told in run.said(), run.said()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with Run(riverrun, SCRIPT, tmp_path, INPUT=sample, LOCATION=f"s3://{bucket}/x") as run:
        assert run.ends() > 0 and "check AWS_ACCESS_KEY_ID" in run.said(), run.said()
