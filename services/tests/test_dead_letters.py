"""Dead letters on Kafka and in the embedded log: listed, replayed after the script was mended, each once, byte for byte, whatever is
killed in the middle."""

import json
import os
import re
import subprocess

import pytest
import requests
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from kafka_clients import PATIENCE, new_topic
from runs import Run, rows, until

SCRIPT = """
SET pipeline.name = '%(name)s';
SET checkpoint.interval = '1 second';
CREATE TABLE orders (user_id VARCHAR NOT NULL, amount %(amount)s NOT NULL)
WITH (connector = 'kafka', brokers = '%(brokers)s', topic = '%(topic)s', starting_offsets = 'earliest', dead_letter_topic = '%(topic)s-dlq');
CREATE TABLE copy WITH (connector = 'kafka', brokers = '%(brokers)s', topic = '%(topic)s-copy', partitions = '1');
INSERT INTO copy SELECT * FROM orders;
"""


class Shop:
    """A topic of two partitions, and the script before and after it was mended."""

    def __init__(self, riverrun, kafka, folder):
        self.riverrun, self.folder = riverrun, folder
        self.client = {"bootstrap.servers": kafka["KAFKA_BROKERS"]}
        self.topic = new_topic(self.client, partitions=2)
        values = {"name": self.topic, "topic": self.topic, "brokers": kafka["KAFKA_BROKERS"]}
        self.broken, self.mended = (SCRIPT % {**values, "amount": amount} for amount in ("DOUBLE", "VARCHAR"))
        self.mended_path = folder / "mended.sql"
        self.mended_path.write_text(self.mended)

    def letters(self, *words, failpoint=None, script=None):
        """A subcommand; gives its JSON, or None where it was killed."""
        env = {**os.environ, "DATA_DIR": str(self.folder / "data"), **({"RIVERRUN_FAILPOINT": failpoint} if failpoint else {})}
        command = [str(self.riverrun), "dead-letters", words[0], str(script or self.mended_path), *words[1:], "--format", "json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env, cwd=self.folder)
        if done.returncode == -9:
            return None
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def replay(self, *words, **given):
        answer = self.letters("replay", *words, **given)
        return answer and answer["sources"][0]

    def records(self, topic, partition=0):
        """(key, value, headers, time) of what is committed."""
        consumer = Consumer({**self.client, "group.id": "not-used", "enable.partition.eof": True, "isolation.level": "read_committed"})
        consumer.assign([TopicPartition(topic, partition, 0)])
        found = []
        try:
            while True:
                message = consumer.poll(PATIENCE)
                assert message is not None
                if message.error():
                    assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                    return found
                found.append((message.key(), message.value(), message.headers(), message.timestamp()[1]))
        finally:
            consumer.close()


@pytest.fixture
def shop(riverrun, kafka, tmp_path):
    """Its broken script has read 30 bad records and a good one, with keys and headers that are no text, and was stopped."""
    shop = Shop(riverrun, kafka, tmp_path)
    producer = Producer(shop.client)
    for i in range(30):
        value = json.dumps({"user_id": f"u{i}", "amount": f"{i} euros"})
        producer.produce(shop.topic, value, key=b"\xff%d" % i, partition=i % 2, headers=[("trace", b"\xfe"), ("none", None)], timestamp=1_714_564_800_000 + i)
    producer.produce(shop.topic, json.dumps({"user_id": "u", "amount": 1}), partition=0)
    producer.produce(shop.topic, b"nonsense \xff", partition=1)
    assert producer.flush(PATIENCE) == 0
    with Run(riverrun, shop.broken, tmp_path) as run:
        run.started()
        until(lambda: len(shop.letters("list")["letters"]) == 20, PATIENCE, run.said)
        until(lambda: sum(c["letters"] for c in shop.letters("list")["counts"]) == 31, PATIENCE, run.said)
        assert run.stop() == 0, run.said()
    return shop


def test_what_decodes_after_the_fix_is_given_again_once_whatever_is_killed(shop):
    listed = shop.letters("list", "--limit", "100")
    assert {c["reason"]: c["letters"] for c in listed["counts"]} == {"wrong_type": 30, "malformed": 1}
    bad = next(l for l in listed["letters"] if l["reason"] == "malformed")
    assert (bad["source"], bad["partition"], bad["payload"][:7]) == ("orders", 1, "base64:")

    before = [shop.records(shop.topic, p) for p in (0, 1)]
    looked = shop.replay("--dry-run")
    assert (looked["replayed"], looked["bad"], looked["before"]) == (30, {"malformed": 1}, 0)
    assert [shop.records(shop.topic, p) for p in (0, 1)] == before, "a dry run gives nothing"

    assert shop.replay("--limit", "7", failpoint="replay.before-commit:1") is None
    assert shop.replay("--limit", "7", failpoint="replay.after-commit:1") is None
    some = shop.replay("--limit", "5")
    assert (some["replayed"], some["before"] <= 7) == (5, True), some
    rest = shop.replay()
    assert (rest["replayed"], rest["before"], rest["bad"]) == (30 - 7 - 5, 7 + 5, {"malformed": 1}), rest
    assert (shop.replay()["replayed"], shop.replay()["before"]) == (0, 30)
    for partition in (0, 1):
        given = shop.records(shop.topic, partition)[len(before[partition]):]
        origins = [headers[-1] for _, _, headers, _ in given]
        assert all(name == "riverrun-replayed-from" and re.fullmatch(rf"orders/{partition}/\d+".encode(), place) for name, place in origins)
        as_it_was = [(key, value, headers[:-1], time) for key, value, headers, time in given]
        wanted = [record for record in before[partition] if b"euros" in record[1]]
        assert sorted(as_it_was) == sorted(wanted), "each once, byte for byte, with its time"

    with Run(shop.riverrun, shop.mended, shop.folder, "--drop-state") as run:
        run.started()
        until(lambda: len(shop.records(f"{shop.topic}-copy")) == 31, PATIENCE, run.said)
        assert run.stop() == 0
    amounts = sorted(str(json.loads(value)["amount"]) for _, value, _, _ in shop.records(f"{shop.topic}-copy"))
    assert amounts == sorted([f"{i} euros" for i in range(30)] + ["1.0"])


def test_all_are_given_where_that_is_asked_for_and_become_dead_letters_anew(shop):
    assert shop.replay("--all", "--reason", "malformed")["replayed"] == 1
    with Run(shop.riverrun, shop.mended, shop.folder, "--drop-state") as run:
        run.started()
        letters = lambda: {c["reason"]: c["letters"] for c in shop.letters("list")["counts"]}
        until(lambda: letters() == {"wrong_type": 30, "malformed": 2}, PATIENCE, run.said)
    again = shop.replay("--reason", "malformed", "--dry-run")
    assert (again["letters"], again["before"], again["bad"]) == (2, 1, {"malformed": 1}), "the new one is one of its own"


LOG = """
SET pipeline.name = 'logged';
SET checkpoint.interval = '1 second';
CREATE TABLE orders (user_id VARCHAR NOT NULL, amount %s NOT NULL)
WITH (connector = 'log', topic = 'orders', starting_offsets = 'earliest', dead_letter_topic = 'orders-dlq');
CREATE TABLE copy WITH (connector = 'filesystem', path = '${DATA_DIR}/copy.jsonl');
INSERT INTO copy SELECT * FROM orders;
"""
FILL = """
SET pipeline.name = 'fill';
CREATE TABLE lines (user_id VARCHAR, amount VARCHAR) WITH (connector = 'filesystem', path = '${INPUT}');
CREATE TABLE topic WITH (connector = 'log', topic = 'orders', partitions = '2', key = 'user_id');
INSERT INTO topic SELECT * FROM lines;
"""


def test_the_running_pipeline_replays_what_is_in_its_own_log(riverrun, tmp_path):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"user_id": f"u{i}", "amount": f"{i} euros"}) + "\n" for i in range(10)))
    done = subprocess.run([riverrun, "run", write(tmp_path / "fill.sql", FILL), "--bounded", "--set", f"INPUT={tmp_path}/in.jsonl", "--set", f"DATA_DIR={tmp_path}/data"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    letters = lambda *words: subprocess.run([riverrun, "dead-letters", *words], capture_output=True, text=True, check=False, env={**os.environ, "DATA_DIR": str(tmp_path / "data")})
    counted = lambda: sum(c["letters"] for c in json.loads(letters("list", "--format", "json").stdout)["counts"])
    with Run(riverrun, LOG % "DOUBLE", tmp_path) as run:
        run.started()
        until(lambda: counted() == 10, PATIENCE, run.said)
        address = re.search(r"http://(127\.0\.0\.1:\d+)", run.said())[1]
        assert "orders: 10 dead letters" in letters("list", address).stdout
        run.stop()
    mended = write(tmp_path / "mended.sql", LOG % "VARCHAR")
    with Run(riverrun, LOG % "VARCHAR", tmp_path, "--drop-state") as run:
        run.started()
        done = letters("replay", mended, "--limit", "4")
        assert done.returncode == 0 and done.stdout.startswith("orders: 4 dead letters: 4 replayed"), done
        assert "it judges by the script that it runs" in done.stderr
        address = re.search(r"http://(127\.0\.0\.1:\d+)", run.said())[1]
        answer = requests.post(f"http://{address}/api/v1/dead-letters/replay", json={"source": "orders"}, timeout=PATIENCE).json()
        assert (answer["sources"][0]["replayed"], answer["sources"][0]["before"]) == (6, 4)
        until(lambda: len(rows(tmp_path / "data" / "copy.jsonl")) == 10, PATIENCE, run.said)
        assert "10 replayed before" in letters("replay", mended).stdout
        refused = requests.post(f"http://{address}/api/v1/dead-letters/replay", json={"sauce": "orders"}, timeout=PATIENCE)
        assert refused.status_code == 422 and "sauce" in refused.json()["error"]


def write(path, text):
    path.write_text(text)
    return path
