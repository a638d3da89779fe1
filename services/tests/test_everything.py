"""Kafka, Cassandra, Delta and checkpoints in an object store, and a schema registry at once, under one running pipeline: every row of
every sink is DuckDB's, through three versions of the records' schema."""

import pytest
import transactions
from everything import VERSIONS, Everything, wait_until_read, wait_until_written
from runs import Run


@pytest.mark.parametrize("events", [30_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_all_at_once(kafka, cassandra, s3, registry, services, riverrun, tmp_path, monkeypatch, events):
    everything = Everything(services.env())
    for name, value in everything.s3.items():
        monkeypatch.setenv(name, value)
    sample = transactions.generate(riverrun, tmp_path / "transactions.jsonl", events, users=max(10_000, events // 10))
    count = events + transactions.CLOSING
    transactions.close_windows(sample)
    with Run(riverrun, everything.script(), tmp_path, **everything.variables()) as run:
        run.started()
        for version in range(len(VERSIONS)):
            first, last = (count * n // len(VERSIONS) for n in (version, version + 1))
            everything.send(sample, first, last, version)
        wait_until_read(run, count)
        wait_until_written(run)
        assert run.stop() == 0, run.said()
    rows = everything.check(transactions.Expected(sample))
    print(f"\n{count:,} transactions; each row is DuckDB's: " + ", ".join(f"{n:,} in {sink}" for sink, n in rows.items()))
