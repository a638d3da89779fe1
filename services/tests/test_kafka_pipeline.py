"""The pipeline that ships, on a real broker: what it gives equals DuckDB's answers, row by row, for a reader of committed records."""

import pytest
import transactions
from runs import TRANSACTIONS, Run, bounded, until

EVENTS = 100_000


@pytest.fixture(scope="module")
def sample(riverrun, tmp_path_factory):
    return transactions.generate(riverrun, tmp_path_factory.mktemp("input") / "transactions.jsonl", EVENTS)


def variables(kafka, folder):
    return {"BUS": "kafka", "KAFKA_BROKERS": kafka["KAFKA_BROKERS"], "LAKE": folder / "data" / "lake", "SCREEN": "blackhole"}


def test_what_is_there_is_read_to_its_end(kafka, riverrun, tmp_path, sample):
    client = {"bootstrap.servers": kafka["KAFKA_BROKERS"]}
    transactions.fresh_topics(client)
    transactions.send(client, sample)
    said = bounded(riverrun, TRANSACTIONS, tmp_path, **variables(kafka, tmp_path))
    assert "10 tasks" in said
    expected, data = transactions.Expected(sample), tmp_path / "data"
    expected.check_alerts(transactions.topic_rows(client, "fraud-alerts"))
    expected.check_rapid(transactions.topic_rows(client, "rapid-transactions"))
    expected.check_rapid(transactions.ask(riverrun, client, data, "SELECT * FROM rapid_users"))
    expected.check_spending(transactions.ask(riverrun, client, data, "SELECT * FROM transaction_aggregates"))
    expected.check_lake(data / "lake" / "transactions")
    assert transactions.topic_rows(client, "financial-transactions-dlq") == []


def test_alerts_come_while_it_runs_and_a_stop_loses_nothing(kafka, riverrun, tmp_path, sample):
    client = {"bootstrap.servers": kafka["KAFKA_BROKERS"]}
    transactions.fresh_topics(client)
    expected = transactions.Expected(sample)
    given = variables(kafka, tmp_path) | {"STARTING_OFFSETS": "earliest"}
    with Run(riverrun, TRANSACTIONS, tmp_path, **given) as run:
        run.started()
        transactions.send(client, sample, last=EVENTS // 2)
        until(lambda: len(transactions.topic_rows(client, "fraud-alerts")) > 0, what=run.said)
        assert run.stop() == 0, run.said()
    # A stop in order, then a start from the checkpoint: no row is lost and none is there twice.
    with Run(riverrun, TRANSACTIONS, tmp_path, **given) as run:
        run.started()
        transactions.send(client, sample, first=EVENTS // 2)
        count = len(expected.alerts())
        until(lambda: len(transactions.topic_rows(client, "fraud-alerts")) >= count, what=run.said)
        assert run.stop() == 0, run.said()
    expected.check_alerts(transactions.topic_rows(client, "fraud-alerts"))
    expected.check_lake(tmp_path / "data" / "lake" / "transactions")
    expected.check_spending(transactions.ask(riverrun, client, tmp_path / "data", "SELECT * FROM transaction_aggregates"))
