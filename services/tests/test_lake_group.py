"""Instances of one pipeline commit into one Delta table in an object store, come, die and freeze: each row is there once and right."""

import subprocess
import threading
from datetime import date

import pytest
from kafka_clients import new_topic
from lake import Bucket
from test_group import PARTITIONS, Pipeline, runs_tasks
from runs import TRANSACTIONS, Sending, bounded, until

TELLS_COMMITS = "info,riverrun_connectors::delta=debug"


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
    first = pipeline.start("a", log=TELLS_COMMITS)
    runs_tasks(first, PARTITIONS)
    sending = Sending(pipeline.send, 1000)
    second = pipeline.start("b", log=TELLS_COMMITS)
    second.wait_for("this instance runs ")
    until(lambda: pipeline.count() > 3000, what=pipeline.said)
    third = pipeline.start("c", log=TELLS_COMMITS)
    third.wait_for("this instance runs ")
    second.process.kill()
    second.process.wait()
    threading.Event().wait(3)
    sending.done()
    pipeline.close_windows()
    pipeline.check()
    assert sum("is at version" in run.said() for run in pipeline.runs) > 1, "one instance only has committed"
    assert first.stop() == 0, first.said()
    assert third.stop() == 0, third.said()


def test_the_shipped_script_writes_what_the_lake_should_hold(kafka, s3, riverrun, tmp_path, monkeypatch):
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    bucket, brokers = Bucket(s3), kafka["KAFKA_BROKERS"]
    client = {"bootstrap.servers": brokers}
    topic = new_topic(client, 3)
    words = ["--count", "2000", "--malformed", "0", "--brokers", brokers, "--topic", topic]
    subprocess.run([riverrun, "generate", "transactions", *words], check=True, capture_output=True)
    script = TRANSACTIONS.read_text().replace("'financial-transactions", f"'{topic}").replace("'fraud-alerts'", f"'{topic}-alerts'")
    script = script.replace("'rapid-transactions'", f"'{topic}-rapid'")
    bounded(riverrun, script, tmp_path, BUS="kafka", KAFKA_BROKERS=brokers, LAKE=bucket.url("data"), SCREEN="blackhole", STARTING_OFFSETS="earliest")
    path = "data/transactions"
    table = bucket.table(path)
    fields = {field.name: str(field.type.type if hasattr(field.type, "type") else field.type) for field in table.schema().fields}
    assert list(fields) == [
        "transaction_id", "user_id", "amount", "merchant", "category", "timestamp", "location", "device_type", "kafka_key", "kafka_timestamp",
        "partition", "offset", "processing_time", "date",
    ]
    assert {fields[name] for name in ("timestamp", "kafka_timestamp", "processing_time")} == {"timestamp"}
    assert (fields["amount"], fields["partition"], fields["offset"], fields["date"], fields["location"]) == ("double", "integer", "long", "date", "struct")
    assert table.metadata().partition_columns == ["date"]
    [(count, ids, places, keys, days, times)] = bucket.rows(
        path,
        'count(*), count(DISTINCT transaction_id), count(DISTINCT partition * 1000000 + "offset"), count(*) FILTER (kafka_key = user_id), '
        "count(*) FILTER (date = CAST(timestamp AT TIME ZONE 'UTC' AS DATE)), count(kafka_timestamp) + count(processing_time)",
    )
    assert (count, ids, places, keys, days, times) == (2000, 2000, 2000, 2000, 2000, 4000)
    assert all(isinstance(day, date) for (day,) in bucket.rows(path, "DISTINCT date"))
