"""Killed at every named place, in an order and at moments that a seed gives: a reader of committed records, the Delta table and the
folder hold each output exactly once. `RIVERRUN_CRASHES=25 services/test crash_matrix checkpoints_s3` runs 25 seeds."""

import os
import random
import signal

import pytest
from runs import Sending, until
from test_group import SCRIPT, Pipeline

SEEDS = [pytest.param(seed, marks=pytest.mark.long if seed > 1 else ()) for seed in range(1, 1 + int(os.environ.get("RIVERRUN_CRASHES", "2")))]
PLACES = [
    "kafka.sent", "kafka.committed", "journal.before-commit", "journal.committed", "delta.before-commit", "delta.after-commit", "files.before-rename",
    "files.after-rename", "checkpoint.before-manifest", "checkpoint.before-deletion", "checkpoint.in-deletion", "restore", "repeat",
]


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_at_every_place(kafka, riverrun, tmp_path, seed, request, monkeypatch):
    script = SCRIPT.replace("checkpoint.interval = '1 second'", "checkpoint.interval = '200 ms'").replace("'1 second'", "'300 ms'")
    pipeline = Pipeline(kafka, riverrun, tmp_path, 2000, script)
    request.addfinalizer(lambda: [run.process.kill() for run in pipeline.runs if run.process.poll() is None])
    kill_at_every_place(pipeline, seed, PLACES, monkeypatch)


def kill_at_every_place(pipeline, seed, places, monkeypatch):
    """Kills a pipeline at each place in turn while it is sent events, and checks what has come out in the end."""
    chance, missed = random.Random(seed), []
    sending = Sending(pipeline.send, 1000)
    for place in chance.sample(places, len(places)):
        # Where a start reaches a place at most some times, later counts are not reached.
        count = chance.choice([1, 2, 3]) if place in ("restore", "repeat") else chance.choice([1, 2, 5, 12])
        monkeypatch.setenv("RIVERRUN_FAILPOINT", f"{place}:{count}")
        with pipeline.start() as run:
            try:
                until(lambda run=run: run.process.poll() is not None, 30)
            except AssertionError:
                missed.append(f"{place}:{count}")
                run.process.kill()
            assert run.process.wait() == -signal.SIGKILL, run.said()
    monkeypatch.delenv("RIVERRUN_FAILPOINT")
    assert len(missed) <= 3, f"not reached: {missed}"
    sending.done()
    with pipeline.start() as run:
        pipeline.close_windows()
        pipeline.check()
        assert run.stop() == 0, run.said()
    print(f"seed {seed}: killed at {len(places) - len(missed)} places, {pipeline.sent} events; not reached: {missed}")
