"""The shipped pipeline with all that it can have around it at once: transactions in Avro, by three versions of their schema, and a
registry; alerts and windows on Kafka; Cassandra; the lake and the checkpoints in an object store. And each row of each sink
compared with DuckDB's answers, by clients that are not ours: confluent-kafka, cassandra-driver, deltalake, DuckDB."""

import itertools
import json
import re
from datetime import datetime

import requests
import test_cassandra_pipeline as aggregates
import transactions
from cassandra import InvalidRequest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from lake import Bucket
from runs import TRANSACTIONS, until
from test_cassandra import connect

PLACE = {"type": "record", "name": "Place", "fields": [{"name": "lat", "type": "double"}, {"name": "lon", "type": "double"}]}


def schema(*more):
    """The schema of a transaction, with more fields."""
    may_lack = lambda name, kind: {"name": name, "type": ["null", kind], "default": None}  # noqa: E731
    fields = [{"name": "transaction_id", "type": "string"}, {"name": "user_id", "type": "string"}, {"name": "amount", "type": "double"}]
    fields += [may_lack("merchant", "string"), may_lack("category", "string")]
    fields += [{"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}}, may_lack("location", PLACE), may_lack("device_type", "string")]
    return json.dumps({"type": "record", "name": "Transaction", "namespace": "com.example", "fields": [*fields, *more]})


NOTE = {"name": "note", "type": ["null", "string"], "default": None}
CHANNEL = {"name": "channel", "type": "string", "default": "web"}
VERSIONS = [schema(), schema(NOTE), schema(CHANNEL, NOTE)]
"""An optional field comes, then a field in front of it that has a default."""


class Everything:
    """The pipeline, on servers whose variables are `env`; nothing is there of an earlier run."""

    def __init__(self, env, cassandra=None):
        self.env, self.client, self.url = env, {"bootstrap.servers": env["KAFKA_BROKERS"]}, env["SCHEMA_REGISTRY_URL"]
        self.s3 = {name: value for name, value in env.items() if name.startswith("AWS_")}
        self.bucket, self.cassandra = Bucket(self.s3), cassandra or env["CASSANDRA"]
        transactions.fresh_topics(self.client)
        cluster, session = connect(env["CASSANDRA"])
        session.execute(f"DROP KEYSPACE IF EXISTS {aggregates.KEYSPACE}", timeout=60)
        cluster.shutdown()

    def script(self):
        """The shipped one, with its checkpoints in the store."""
        return TRANSACTIONS.read_text().replace("'${DATA_DIR:-./riverrun-data}/checkpoints'", f"'{self.bucket.url('checkpoints')}'")

    def variables(self, **more):
        return {
            "BUS": "kafka", "KAFKA_BROKERS": self.client["bootstrap.servers"], "AGGREGATES": "cassandra", "CASSANDRA": self.cassandra,
            "LAKE": self.bucket.url("lake"), "SCREEN": "blackhole", "STARTING_OFFSETS": "earliest", "FORMAT": "avro",
            "SCHEMA_REGISTRY": self.url, **more,
        }

    def send(self, path, first=0, last=None, version=0):
        """Sends transactions of a file, by one of the versions of their schema; waits until all are acknowledged."""
        sender = Sender(self, version)
        with open(path, "rb") as lines:
            for line in itertools.islice(lines, first, last):
                sender.give(json.loads(line))
        sender.end()

    def avro_rows(self, topic):
        """All rows of a topic of Avro that a reader of committed records sees."""
        deserializer, context = AvroDeserializer(SchemaRegistryClient({"url": self.url})), SerializationContext(topic, MessageField.VALUE)
        return [deserializer(value, context) for value in transactions.topic_values(self.client, topic)]

    def check(self, expected, avro=True):
        """Compares all rows of all sinks; gives how many there are of each."""
        alerts = self.avro_rows("fraud-alerts") if avro else transactions.topic_rows(self.client, "fraud-alerts")
        expected.check_alert_rows(alerts)
        rapid = transactions.topic_rows(self.client, "rapid-transactions")
        expected.check_rapid(rapid)
        for topic in ("financial-transactions-dlq", "financial-transactions-late"):
            assert transactions.topic_rows(self.client, topic) == [], topic
        cluster, session = connect(self.env["CASSANDRA"])
        windows, users = aggregates.check(session, expected)
        cluster.shutdown()
        lake = expected.check_lake_rows(self.bucket.table("lake/transactions").to_pyarrow_dataset())
        return {
            "fraud-alerts (Kafka, Avro)": len(alerts), "rapid-transactions (Kafka)": len(rapid), "transaction_aggregates (Cassandra)": windows,
            "rapid_users (Cassandra)": users, "lake (Delta on S3)": lake,
        }

    def same(self, expected, avro=True):
        """Whether all rows are as they must be."""
        try:
            self.check(expected, avro)
        except (AssertionError, KeyError, TypeError, InvalidRequest):  # the last: a table that is not there yet
            return False
        return True


class Sender:
    """Sends transactions as confluent-kafka's serializer writes them by one of the versions of their schema."""

    def __init__(self, everything, version=0):
        self.serializer = AvroSerializer(SchemaRegistryClient({"url": everything.url}), VERSIONS[version])
        self.context = SerializationContext(transactions.INPUT, MessageField.VALUE)
        self.more = {"note": "some words" if version else None, "channel": "app"}
        self.producer, self.failed = Producer({**everything.client, **transactions.SENDING}), []

    def give(self, row):
        """Sends a transaction, by user."""
        value = self.serializer({**row, **self.more, "timestamp": datetime.fromisoformat(row["timestamp"])}, self.context)
        transactions.produce(self.producer, value, row["user_id"], self.failed)
        self.producer.poll(0)

    def end(self):
        """Waits until all are acknowledged."""
        assert self.producer.flush(120) == 0 and not self.failed, self.failed[:1]


def address(run):
    """Where a run answers questions about itself."""
    return run.started() and re.search(r"dashboard on http://(127\.0\.0\.1:\d+)", run.said())[1]


def metric(run, name, **labels):
    """A metric of a run, its series that have these labels added up."""
    text = requests.get(f"http://{address(run)}/metrics", timeout=30).text
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    lines = [line for line in text.splitlines() if re.match(rf"{name}[ {{]", line) and all(label in line for label in wanted)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def wait_until_read(run, count, patience=600):
    """Waits until so many records of the input were read."""
    until(lambda: metric(run, "riverrun_source_records_total", source="transactions") >= count, patience, run.said)


def wait_until_written(run, patience=600):
    """Waits until the tables and the lake have all that was handed to them: a stop gives them half a minute only."""
    sinks = ("transaction_aggregates", "rapid_users", "lake")

    def has_all(sink):
        queued, written, safe = (metric(run, f"riverrun_sink_{name}", sink=sink) for name in ("queue_bytes", "written_rows_total", "rows_total"))
        return queued == 0 and written == safe

    until(lambda: all(has_all(sink) for sink in sinks), patience, run.said)
