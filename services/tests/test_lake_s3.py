"""Delta tables in an object store: each row once, as Python's deltalake and DuckDB read them, whatever dies or fails and whoever
else writes; compaction, vacuum, added columns, following."""

import json
import os
import random
import signal
import subprocess
import threading
from datetime import timedelta

import pyarrow
import pytest
from deltalake import QueryBuilder
from lake import Bucket, Troubled, once
from runs import Run, bounded, rows, until

# 100 rows a round, so that a run takes a while and commits often.
SCRIPT = """
SET pipeline.name = 'lake';
SET checkpoint.interval = '50 ms';
SET trigger.interval = '${ROUNDS:-20 ms}';
CREATE TABLE transactions (
    transaction_id VARCHAR NOT NULL, user_id VARCHAR NOT NULL, amount DOUBLE NOT NULL, timestamp TIMESTAMP NOT NULL,
    location STRUCT<lat DOUBLE, lon DOUBLE>, WATERMARK FOR timestamp AS timestamp - INTERVAL '2 minutes'
) WITH (connector = 'filesystem', path = '${INPUT}', format = 'json', max_offsets_per_trigger = 100);
CREATE TABLE lake WITH (
    connector = 'delta', path = '${LAKE}', partition_by = 'date', roll_interval = '${ROLL:-100 ms}', 'delta.checkpointInterval' = '5'
    ${MORE:-}
);
INSERT INTO lake SELECT transaction_id, amount, location, CAST(timestamp AS DATE) AS date FROM transactions;
"""


@pytest.fixture(scope="module")
def sample(riverrun, tmp_path_factory):
    path = tmp_path_factory.mktemp("input") / "transactions.jsonl"
    words = ["--count", "12000", "--users", "200", "--events-per-second", "0.1", "--out", path]
    subprocess.run([riverrun, "generate", "transactions", *words], check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def expected(sample):
    found = {row["transaction_id"] for row in rows(sample)}
    assert len(found) == 12_000
    return found


@pytest.fixture
def bucket(s3, monkeypatch):
    """A bucket; riverrun finds the store by its variables."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    return Bucket(s3)


def command(riverrun, *words, fails=False):
    done = subprocess.run([riverrun, *map(str, words)], capture_output=True, text=True, check=False, timeout=120, env=os.environ)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def ids(bucket, path="lake"):
    return [row[0] for row in bucket.rows(path, "transaction_id")]


def test_killed_between_all_steps(riverrun, sample, expected, bucket, tmp_path, monkeypatch):
    variables = {"INPUT": sample, "LAKE": bucket.url("lake")}
    for place in ["delta.put:1", "delta.before-commit:2", "delta.after-commit:1", "delta.put:3", "delta.after-commit:3", "delta.before-commit:1"]:
        monkeypatch.setenv("RIVERRUN_FAILPOINT", place)
        with Run(riverrun, SCRIPT, tmp_path, **variables) as run:
            assert run.ends() == -signal.SIGKILL, f"{place}: {run.said()}"
    monkeypatch.delenv("RIVERRUN_FAILPOINT")
    with Run(riverrun, SCRIPT, tmp_path, **variables) as run:
        assert run.ends() == 0, run.said()
    once(ids(bucket), expected)
    table = bucket.table("lake")
    assert len(table.partitions()) > 1 and table.metadata().partition_columns == ["date"]
    log = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix="lake/_delta_log/")["Contents"]
    assert any("checkpoint.parquet" in entry["Key"] for entry in log)


def test_statistics_serve_other_readers(riverrun, sample, expected, bucket, tmp_path):
    bounded(riverrun, SCRIPT, tmp_path, INPUT=sample, LAKE=bucket.url("lake"))
    adds = pyarrow.table(bucket.table("lake").get_add_actions(flatten=True)).to_pylist()
    truth = bucket.rows("lake", "date, count(*), min(amount), max(amount), min(location.lat), max(location.lat)", "true GROUP BY date")
    assert sum(add["num_records"] for add in adds) == len(expected)
    for date, count, *least_and_most in truth:
        files = [add for add in adds if add["partition.date"] == date]
        assert sum(add["num_records"] for add in files) == count
        assert min(add["min.amount"] for add in files) == least_and_most[0] and max(add["max.amount"] for add in files) == least_and_most[1]
        assert min(add["min.location.lat"] for add in files) == least_and_most[2]
        assert max(add["max.location.lat"] for add in files) == least_and_most[3]
        assert all(add["null_count.location.lat"] == 0 for add in files)
    # A reader that goes by them opens no file of another day, and still finds every row.
    day = truth[0][0]
    found = pyarrow.table(QueryBuilder().register("lake", bucket.table("lake")).execute(f"SELECT count(*) AS n FROM lake WHERE location['lat'] > 40 AND date = '{day}'").read_all())
    assert found["n"].to_pylist() == [bucket.rows("lake", "count(*)", f"location.lat > 40 AND date = '{day}'")[0][0]]


def test_a_large_file_goes_in_parts(riverrun, bucket, tmp_path):
    path = tmp_path / "large.jsonl"
    chance = random.Random(7)
    with path.open("w") as out:
        for n in range(150_000):
            out.write(json.dumps({"n": n, "noise": f"{chance.getrandbits(1024):x}"}) + "\n")
    script = f"""
    CREATE TABLE numbers (n BIGINT NOT NULL, noise VARCHAR) WITH (connector = 'filesystem', path = '{path}', format = 'json');
    CREATE TABLE lake WITH (connector = 'delta', path = '{bucket.url("large")}');
    INSERT INTO lake SELECT * FROM numbers;
    """
    bounded(riverrun, script, tmp_path)
    sizes = list(bucket.objects("large").values())
    assert max(sizes) > 20 << 20, sizes
    assert bucket.rows("large", "count(DISTINCT n), count(*), min(n), max(n)") == [(150_000, 150_000, 0, 149_999)]
    uploads = bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])
    assert not uploads


def test_options_of_the_table_go_before_the_environment(riverrun, sample, s3, tmp_path, monkeypatch):
    bucket = Bucket(s3)
    for name in s3:
        monkeypatch.delenv(name, raising=False)
    for name, value in [("AWS_ACCESS_KEY_ID", "other"), ("AWS_SECRET_ACCESS_KEY", "other"), ("AWS_REGION", "eu-north-1"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:9")]:
        monkeypatch.setenv(name, value)
    options = {
        "s3.endpoint": s3["AWS_ENDPOINT_URL"], "s3.region": s3["AWS_REGION"], "s3.access_key_id": s3["AWS_ACCESS_KEY_ID"],
        "s3.secret_access_key": s3["AWS_SECRET_ACCESS_KEY"], "s3.virtual_hosted_style_request": "false",
    }
    more = ", " + ", ".join(f"'{name}' = '{value}'" for name, value in options.items())
    variables = {"INPUT": sample, "LAKE": bucket.url("lake")}
    said = bounded(riverrun, SCRIPT, tmp_path, MORE=more, **variables)
    assert s3["AWS_SECRET_ACCESS_KEY"] not in said
    assert len(ids(bucket)) == 12_000
    for left_out in options:
        if left_out in ("s3.virtual_hosted_style_request", "s3.region"):
            continue
        less = ", " + ", ".join(f"'{name}' = '{value}'" for name, value in options.items() if name != left_out)
        said = bounded(riverrun, SCRIPT, tmp_path, MORE=less, fails=True, **variables)
        assert s3["AWS_SECRET_ACCESS_KEY"] not in said, left_out
    # The region is part of what is signed; the token goes with each request, which this store does not know.
    other = more.replace(f"'s3.region' = '{s3['AWS_REGION']}'", "'s3.region' = 'elsewhere'")
    bounded(riverrun, SCRIPT, tmp_path, MORE=other, fails=True, **variables)
    listed = command(riverrun, "compact", bucket.url("lake"), "--dry-run", *[word for name, value in options.items() for word in ("--s3", f"{name[3:]}={value}")])
    assert "would become" in listed or "nothing to merge" in listed
    explained = tmp_path / "explained.sql"
    explained.write_text(SCRIPT.replace("${MORE:-}", more))
    said = command(riverrun, "explain", explained, "--set", f"INPUT={sample}", "--set", f"LAKE={bucket.url('lake')}")
    assert s3["AWS_SECRET_ACCESS_KEY"] not in said


def test_what_is_wrong_with_the_store_is_told(riverrun, sample, bucket, tmp_path, monkeypatch):
    def refused(lake):
        return bounded(riverrun, SCRIPT, tmp_path, INPUT=sample, LAKE=lake, fails=True)

    assert "NoSuchBucket" in refused(f"s3://{bucket.name}-missing/lake")
    assert "names no table in a bucket" in refused(f"s3://{bucket.name}")
    assert "no store of this kind" in refused("gopher://x/y")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    said = refused(bucket.url("lake"))
    assert "SignatureDoesNotMatch" in said and "check AWS_ACCESS_KEY_ID" in said, said
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bucket.env["AWS_SECRET_ACCESS_KEY"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    assert "No user exists with the provided access key ID" in refused(bucket.url("lake"))


def test_a_store_that_answers_503_and_may_have_done_it(riverrun, sample, expected, bucket, tmp_path, monkeypatch):
    troubled = Troubled(bucket.env["AWS_ENDPOINT_URL"], 0.2)
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", troubled.url)
        with Run(riverrun, SCRIPT, tmp_path, INPUT=sample, LAKE=bucket.url("lake")) as run:
            assert run.ends(180) == 0, run.said()
        # Without positions in the table nothing but the commits themselves tells what is there.
        bounded(riverrun, SCRIPT, tmp_path, INPUT=sample, LAKE=bucket.url("bounded"))
    finally:
        troubled.close()
    assert troubled.before > 10 and troubled.after > 10
    once(ids(bucket), expected)
    once(ids(bucket, "bounded"), expected)


@pytest.mark.parametrize("how", ["freeze", "kill"])
def test_a_store_that_is_away_under_load(riverrun, sample, expected, apart, tmp_path, monkeypatch, how):
    apart.run("start", "s3")
    for name, value in apart.env().items():
        monkeypatch.setenv(name, value)
    bucket = Bucket(apart.env())
    with Run(riverrun, SCRIPT, tmp_path, INPUT=sample, LAKE=bucket.url("lake")) as run:
        until(lambda: bucket.objects("lake"), what=run.said)
        apart.run(how, "s3")
        threading.Event().wait(15)
        assert run.process.poll() is None, run.said()
        apart.run("thaw" if how == "freeze" else "start", "s3")
        assert run.ends(180) == 0, run.said()
    once(ids(bucket), expected)


def test_compaction_and_vacuum_beside_a_run(riverrun, sample, expected, bucket, tmp_path):
    variables = {"INPUT": sample, "LAKE": bucket.url("lake")}
    with Run(riverrun, SCRIPT, tmp_path, **variables, ROUNDS="60 ms") as run:
        until(lambda: len(bucket.objects("lake")) > 10, what=run.said)
        merges = 0
        while run.process.poll() is None:
            merges += "became" in command(riverrun, "compact", bucket.url("lake"))
        assert run.ends() == 0, run.said()
    assert merges > 0
    once(ids(bucket), expected)
    command(riverrun, "compact", bucket.url("lake"))
    table = bucket.table("lake")
    files = len(table.file_uris())
    assert files == len(table.partitions()), "one file a day"
    assert "OPTIMIZE" in {entry["operation"] for entry in table.history()}
    before = table.version()
    # What compaction has replaced is there for readers of older versions, and vacuum knows it.
    assert len(bucket.objects("lake")) > files
    assert "keeps files for 7 days" in command(riverrun, "vacuum", bucket.url("lake"), "--retain", "1 hour", fails=True)
    assert " 0 files" in " " + command(riverrun, "vacuum", bucket.url("lake")).splitlines()[-1]
    dry = command(riverrun, "vacuum", bucket.url("lake"), "--retain", "0", "--force", "--dry-run")
    theirs = table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=True, full=True)
    assert len(dry.splitlines()) == len(theirs) + 1 and len(bucket.objects("lake")) > files
    done = command(riverrun, "vacuum", bucket.url("lake"), "--retain", "0", "--force")
    assert sorted(dry.splitlines()[:-1]) == sorted(done.splitlines()[:-1]) and "deleted" in done.splitlines()[-1]
    assert len(bucket.objects("lake")) == files
    assert bucket.table("lake").version() > before
    once(ids(bucket), expected)


def test_compaction_that_is_killed_changes_nothing(riverrun, sample, expected, bucket, tmp_path, monkeypatch):
    with Run(riverrun, SCRIPT, tmp_path, INPUT=sample, LAKE=bucket.url("lake")) as run:
        assert run.ends() == 0, run.said()
    for place in ["delta.compact.before-commit:1", "delta.compact.after-commit:1"]:
        monkeypatch.setenv("RIVERRUN_FAILPOINT", place)
        killed = subprocess.run([riverrun, "compact", bucket.url("lake")], capture_output=True, check=False, env=os.environ)
        assert killed.returncode == -signal.SIGKILL
        once(ids(bucket), expected)
    monkeypatch.delenv("RIVERRUN_FAILPOINT")
    both = [subprocess.Popen([riverrun, "compact", bucket.url("lake")], env=os.environ, stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    once(ids(bucket), expected)
    table = bucket.table("lake")
    assert len(table.file_uris()) == len(table.partitions())


def test_columns_are_added_on_request(riverrun, sample, expected, bucket, tmp_path):
    variables = {"INPUT": sample, "LAKE": bucket.url("lake")}
    bounded(riverrun, SCRIPT, tmp_path, **variables)
    wider = SCRIPT.replace("SELECT transaction_id, amount,", "SELECT transaction_id, amount, upper(user_id) AS who,")
    said = bounded(riverrun, wider, tmp_path, fails=True, **variables)
    assert "column who (VARCHAR) is not in the table" in said and "add_columns = 'true'" in said, said
    bounded(riverrun, wider, tmp_path, MORE=", add_columns = 'true'", **variables)
    assert bucket.rows("lake", "count(*), count(who), min(who) LIKE 'USER_%'") == [(24_000, 12_000, True)]
    assert "ADD COLUMN" in {entry["operation"] for entry in bucket.table("lake").history()}


FOLLOWER = """
SET pipeline.name = 'follower';
SET checkpoint.interval = '20 ms';
CREATE TABLE lake (transaction_id VARCHAR, amount DOUBLE, at BIGINT METADATA FROM 'offset')
WITH (connector = 'delta', path = '${LAKE}', follow = 'true', poll_interval = '50 ms', max_offsets_per_trigger = 50 ${MORE:-});
CREATE TABLE copies WITH (connector = 'filesystem', path = '${DATA_DIR}/copies.jsonl', format = 'json');
INSERT INTO copies SELECT transaction_id, at FROM lake;
"""


def test_a_table_is_followed_through_kills_and_compaction(riverrun, sample, expected, bucket, tmp_path):
    folder = tmp_path / "follower"
    folder.mkdir()
    copies = folder / "data" / "copies.jsonl"
    chance = random.Random(5)
    with Run(riverrun, SCRIPT, tmp_path, INPUT=sample, LAKE=bucket.url("lake"), ROUNDS="100 ms") as writer:
        until(lambda: bucket.objects("lake"), what=writer.said)
        while writer.process.poll() is None:
            with Run(riverrun, FOLLOWER, folder, LAKE=bucket.url("lake")) as reader:
                threading.Event().wait(chance.uniform(0.3, 1.5))
                reader.process.kill()
            command(riverrun, "compact", bucket.url("lake"))
        assert writer.ends() == 0, writer.said()
    with Run(riverrun, FOLLOWER, folder, LAKE=bucket.url("lake")) as reader:
        until(lambda: len(rows(copies)) >= len(expected), what=reader.said)
        assert reader.stop() == 0, reader.said()
    found = rows(copies)
    once([row["transaction_id"] for row in found], expected)
    offsets = [row["at"] for row in found]
    assert offsets == sorted(offsets) and len(set(offsets)) == len(offsets)


def test_following_stops_at_rows_that_another_client_deletes(riverrun, sample, bucket, tmp_path):
    bounded(riverrun, SCRIPT, tmp_path, INPUT=sample, LAKE=bucket.url("lake"))
    copies = tmp_path / "data" / "copies.jsonl"
    with Run(riverrun, FOLLOWER, tmp_path, LAKE=bucket.url("lake")) as reader:
        until(lambda: len(rows(copies)) == 12_000, what=reader.said)
        bucket.table("lake").delete("amount > 100")
        assert reader.ends() > 0
        assert "takes rows away" in reader.said() and "ignore_deletes" in reader.said(), reader.said()
    with Run(riverrun, FOLLOWER, tmp_path, LAKE=bucket.url("lake"), MORE=", ignore_deletes = 'true'") as reader:
        reader.started()
        assert reader.stop() == 0, reader.said()


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_random_kills(riverrun, sample, expected, bucket, tmp_path, seed):
    chance = random.Random(seed)
    variables = {"INPUT": sample, "LAKE": bucket.url("lake"), "ROLL": "30 ms"}
    kills = 0
    while True:
        with Run(riverrun, SCRIPT, tmp_path, **variables) as run:
            threading.Event().wait(chance.uniform(0.2, 1.5))
            if run.process.poll() is not None:
                assert run.ends() == 0, run.said()
                break
            run.process.kill()
        kills += 1
    assert kills > 2
    once(ids(bucket), expected)
    # What the kills left behind is found by its age alone.
    orphans = command(riverrun, "vacuum", bucket.url("lake"), "--dry-run").splitlines()[-1]
    assert orphans.startswith("0 files"), orphans
    assert bucket.table("lake").vacuum(retention_hours=int(timedelta(days=7).total_seconds() // 3600), dry_run=True) == []


@pytest.mark.long
def test_a_sink_merges_its_small_files_in_the_background(riverrun, bucket, tmp_path):
    script = f"""
    SET pipeline.name = 'background';
    CREATE TABLE made (transaction_id VARCHAR NOT NULL, amount DOUBLE NOT NULL, timestamp TIMESTAMP NOT NULL)
    WITH (connector = 'generator', rate = 100, count = 15000);
    CREATE TABLE lake WITH (connector = 'delta', path = '{bucket.url("lake")}', roll_interval = '500 ms');
    INSERT INTO lake SELECT transaction_id, amount FROM made;
    """
    with Run(riverrun, script, tmp_path) as run:
        run.wait_for("files became 1", 200)
        assert run.ends(200) == 0, run.said()
    table = bucket.table("lake")
    assert "OPTIMIZE" in {entry["operation"] for entry in table.history()}
    assert len(table.file_uris()) < len(bucket.objects("lake")) / 2
    assert bucket.rows("lake", "count(*), count(DISTINCT transaction_id)") == [(15_000, 15_000)]
