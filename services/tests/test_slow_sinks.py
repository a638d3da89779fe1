"""Sinks that do not answer for long: checkpoints go on, the journal is cut, recovery is short, and no row is lost.

Needs no server. A full disk is a small tmpfs, which only root can mount."""

import json
import os
import re
import subprocess
import threading
import time

import pytest
from deltalake import DeltaTable
from runs import Run, rows, until

SOURCE = """
SET pipeline.name = 'slow';
SET checkpoint.interval = '200 ms';
SET trigger.interval = '20 ms';
CREATE TABLE transactions (transaction_id VARCHAR NOT NULL, user_id VARCHAR NOT NULL, amount DOUBLE NOT NULL)
WITH (connector = 'filesystem', path = '${INPUT}', format = 'json', max_offsets_per_trigger = 40);
CREATE TABLE fast (transaction_id VARCHAR, amount DOUBLE) WITH (connector = 'filesystem', path = '${DATA_DIR}/fast.jsonl', format = 'json');
INSERT INTO fast SELECT transaction_id, amount FROM transactions;
"""
PIPE = """
CREATE TABLE slow (transaction_id VARCHAR, amount DOUBLE, user_id VARCHAR) WITH (connector = 'filesystem', path = '${PIPE}', format = 'json');
INSERT INTO slow SELECT transaction_id, amount, user_id FROM transactions;
"""
LAKE = """
CREATE TABLE lake (transaction_id VARCHAR, amount DOUBLE) WITH (connector = 'delta', path = '${LAKE}', roll_interval = '200 ms');
INSERT INTO lake SELECT transaction_id, amount FROM transactions;
"""
ROWS = 40_000


@pytest.fixture(scope="module")
def sample(riverrun, tmp_path_factory):
    path = tmp_path_factory.mktemp("input") / "transactions.jsonl"
    words = ["--count", str(ROWS), "--users", "200", "--out", path]
    subprocess.run([riverrun, "generate", "transactions", *words], check=True, capture_output=True)
    return path


def ids(path):
    return [row["transaction_id"] for row in rows(path)]


def newest(riverrun, folder):
    """The newest checkpoint, as `checkpoint list --json` says."""
    words = [riverrun, "checkpoint", "list", "--location", folder / "data" / "checkpoints", "--json"]
    listed = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    found = [json.loads(line) for line in listed.splitlines()]
    return found[-1] if found else {"epoch": 0, "pending_rows": 0}


def wait_for_checkpoint(riverrun, folder, run, behind):
    """Waits until a checkpoint holds so many rows that a sink lacks; gives it."""
    until(lambda: newest(riverrun, folder).get("pending_rows", 0) >= behind, what=run.said)
    return newest(riverrun, folder)


def repeated(run):
    """How many epochs were run again after a start."""
    found = re.search(r"epochs (\d+) to (\d+) are run again", run.said())
    return int(found[2]) - int(found[1]) + 1 if found else 0


def test_a_pipe_that_nobody_reads(riverrun, sample, tmp_path):
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    variables = {"INPUT": sample, "PIPE": pipe}
    with Run(riverrun, SOURCE + PIPE, tmp_path, log="info,riverrun=debug", **variables) as run:
        run.started()
        first = wait_for_checkpoint(riverrun, tmp_path, run, 1000)
        held = wait_for_checkpoint(riverrun, tmp_path, run, 6000)
        assert held["epoch"] > first["epoch"], "they go on"
        shown = subprocess.run(
            [riverrun, "checkpoint", "show", "--location", tmp_path / "data" / "checkpoints"], capture_output=True, text=True, check=True,
        ).stdout
        assert re.search(r"not safe in slow when it was written: [\d,]+ rows", shown) and "intact: all checksums fit" in shown
        run.process.kill()
    assert len(set(ids(tmp_path / "data" / "fast.jsonl"))) > held["pending_rows"], "the other sink was not held up"
    read = []

    def drain():
        with os.fdopen(reader, "rb") as lines:
            os.set_blocking(reader, True)
            read.extend(lines)

    with Run(riverrun, SOURCE + PIPE, tmp_path, **variables) as run:
        run.started().wait_for("outputs of the checkpoint that it did not have then")
        thread = threading.Thread(target=drain)
        thread.start()
        assert run.ends(120) == 0, run.said()
        assert repeated(run) < 100, run.said()
    thread.join(30)
    wanted = {json.loads(line)["transaction_id"] for line in sample.read_text().splitlines()}
    assert sorted(ids(tmp_path / "data" / "fast.jsonl")) == sorted(wanted), "each once"
    # A pipe keeps no position: what it had may come again. Its first line may be the rest of one that was torn by the kill.
    there = {json.loads(line)["transaction_id"] for line in read if line.startswith(b"{") and line.endswith(b"}\n")}
    assert wanted - there == set(), "none is lost"


def test_a_stop_does_not_wait_for_a_pipe_for_ever(riverrun, sample, tmp_path):
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with Run(riverrun, SOURCE + PIPE, tmp_path, INPUT=sample, PIPE=pipe) as run:
        run.started()
        wait_for_checkpoint(riverrun, tmp_path, run, 100)
        begun = time.monotonic()
        assert run.stop() > 0 and time.monotonic() - begun < 45
        assert "sink slow: a call has not returned by the stop's deadline" in run.said()
    os.close(reader)
    last = newest(riverrun, tmp_path)
    assert last["pending_rows"] > 0 and len(ids(tmp_path / "data" / "fast.jsonl")) > 0


@pytest.mark.long
def test_a_lake_whose_disk_is_full(riverrun, sample, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=True)
    try:
        lake, filler = disk / "lake", disk / "filler"
        variables = {"INPUT": sample, "LAKE": lake}
        with Run(riverrun, SOURCE + LAKE, tmp_path, **variables) as run:
            run.started()
            until(lambda: lake.exists() and DeltaTable(str(lake)).to_pyarrow_dataset().count_rows() > 0, what=run.said)
            fill(filler)
            run.wait_for("No space left on device")
            held = wait_for_checkpoint(riverrun, tmp_path, run, 4000)
            run.process.kill()
        with Run(riverrun, SOURCE + LAKE, tmp_path, **variables) as run:
            run.started().wait_for("outputs of the checkpoint that it did not have then")
            assert repeated(run) < 100, run.said()
            again = wait_for_checkpoint(riverrun, tmp_path, run, held["pending_rows"] + 1000)
            assert again["epoch"] > held["epoch"]
            run.process.kill()
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=400m", disk], check=True)
        with Run(riverrun, SOURCE + LAKE, tmp_path, **variables) as run:
            assert run.ends(120) == 0, run.said()
        wanted = sorted(json.loads(line)["transaction_id"] for line in sample.read_text().splitlines())
        assert sorted(ids(tmp_path / "data" / "fast.jsonl")) == wanted
        table = DeltaTable(str(lake)).to_pyarrow_dataset().to_table(columns=["transaction_id"])
        assert sorted(table["transaction_id"].to_pylist()) == wanted, "each row is there once"
    finally:
        subprocess.run(["umount", disk], check=False)


def fill(path):
    """Writes until there is no room."""
    try:
        with path.open("wb", buffering=0) as out:
            while True:
                out.write(bytes(1 << 16))
    except OSError:
        pass
