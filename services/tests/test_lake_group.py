"""Instances of one pipeline commit into one Delta table in an object store, come, die and freeze: each row is there once and right."""

import threading

import pytest
from lake import Bucket
from test_group import PARTITIONS, Pipeline, Sending, runs_tasks
from runs import until


class InTheBucket(Pipeline):
    """As it is, with its table in a bucket."""

    def __init__(self, kafka, riverrun, folder, bucket):
        super().__init__(kafka, riverrun, folder, 500)
        self.bucket, self.lake = bucket, bucket.url("lake")

    def lake_rows(self):
        return [dict(zip(("n", "k", "place", "last_five"), row)) for row in self.bucket.rows("lake", "n, k, place, last_five", "n >= 0")]


@pytest.fixture
def pipeline(kafka, s3, riverrun, tmp_path, monkeypatch):
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    made = InTheBucket(kafka, riverrun, tmp_path, Bucket(s3))
    yield made
    for run in made.runs:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()


def test_two_instances_commit_into_one_table(pipeline):
    first = pipeline.start("a")
    runs_tasks(first, PARTITIONS)
    sending = Sending(pipeline, 1000)
    second = pipeline.start("b")
    second.wait_for("this instance runs ")
    until(lambda: pipeline.count() > 3000, what=pipeline.said)
    third = pipeline.start("c")
    third.wait_for("this instance runs ")
    second.process.kill()
    second.process.wait()
    threading.Event().wait(3)
    sending.done()
    pipeline.close_windows()
    pipeline.check()
    writers = {action.split("/")[-1] for entry in pipeline.bucket.table("lake").history() for action in [entry["operation"]]}
    assert "WRITE" in writers
    assert first.stop() == 0, first.said()
    assert third.stop() == 0, third.said()
