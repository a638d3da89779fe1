"""The shipped pipeline on Kafka, and the same answers by DuckDB: an engine, a Delta reader and a Kafka client that share no code
with ours."""

import itertools
import json
import subprocess
from datetime import datetime, timedelta, timezone

import duckdb
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from deltalake import DeltaTable
from runs import TRANSACTIONS, until

INPUT = "financial-transactions"
JOURNAL = "riverrun-transactions-journal"
TOPICS = (INPUT, "financial-transactions-dlq", "financial-transactions-late", "rapid-transactions", "fraud-alerts", JOURNAL)
PARTITIONS = 10
# Without idempotence a retry, as in the first moments of a topic, puts a user's transactions out of order.
SENDING = {"enable.idempotence": True, "partitioner": "murmur2_random", "linger.ms": 20, "queue.buffering.max.messages": 200_000, "compression.type": "lz4"}
CLOSING = 300  # transactions that close all windows before them
COLUMNS = """transaction_id: 'VARCHAR', user_id: 'VARCHAR', amount: 'DOUBLE', merchant: 'VARCHAR', category: 'VARCHAR',
  timestamp: 'TIMESTAMP', location: 'STRUCT(lat DOUBLE, lon DOUBLE)', device_type: 'VARCHAR'"""

# Windows of a minute that begin every 30 seconds.
RAPID = """SELECT user_id, w, count(*), sum(amount) FROM (SELECT *, unnest([time_bucket(INTERVAL '30 seconds', timestamp),
  time_bucket(INTERVAL '30 seconds', timestamp) - INTERVAL '30 seconds']) AS w FROM t) GROUP BY w, user_id HAVING count(*) > 5"""
SPENDING = """SELECT user_id, category, time_bucket(INTERVAL '5 minutes', timestamp) AS w, count(*), sum(amount), avg(amount),
  max(amount), min(amount), count(merchant) FROM t GROUP BY w, user_id, category"""
# Each transaction against the user's youngest that is not younger and came before it.
FLAGGED = """WITH p AS (SELECT a.*, b.timestamp AS pt, b.location AS pl FROM t a LEFT JOIN t b
    ON a.user_id = b.user_id AND b.timestamp <= a.timestamp AND b.seq < a.seq
    QUALIFY row_number() OVER (PARTITION BY a.seq ORDER BY b.timestamp DESC NULLS LAST, b.seq DESC) = 1),
  m AS (SELECT *, epoch(timestamp) - epoch(pt) AS dt, CASE WHEN location.lat - pl.lat IS NOT NULL THEN
    2 * 6371 * asin(least(1, sqrt(pow(sin(radians(location.lat - pl.lat) / 2), 2)
    + cos(radians(location.lat)) * cos(radians(pl.lat)) * pow(sin(radians(location.lon - pl.lon) / 2), 2)))) END AS km FROM p),
  r AS (SELECT *, CASE WHEN dt > 0 THEN coalesce(km / dt * 3600, 0) ELSE 0 END AS kmh, CASE WHEN dt > 0 AND km / dt * 3600 > 800
    THEN ['IMPOSSIBLE_TRAVEL'] ELSE [] END || CASE WHEN amount > 10000 THEN ['LARGE_AMOUNT'] ELSE [] END
    || CASE WHEN dt < 60 AND km > 50 THEN ['RAPID_CHANGE_OF_PLACE'] ELSE [] END AS reasons FROM m)"""
ALERTS = f"{FLAGGED} SELECT transaction_id, reasons FROM r WHERE len(reasons) > 0"
# All that an alert says: what is equal to the last digit, and what is a number.
ALERT_ROWS = f"""{FLAGGED} SELECT transaction_id, reasons, user_id, merchant, category, device_type, timestamp, pt, location.lat, location.lon,
  pl.lat, pl.lon, amount, dt, km, kmh FROM r WHERE len(reasons) > 0"""


def generate(riverrun, path, count, users=10_000, fraud=0.01):
    """A file of transactions, in the order in which they are sent."""
    command = [riverrun, "generate", "transactions", "--count", str(count), "--users", str(users), "--fraud", str(fraud), "--out", path]
    subprocess.run(command, check=True, capture_output=True)
    return path


def close_windows(path):
    """Behind the transactions in a file, some of new users an hour later, in every partition: they make all windows before final."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    last = max(datetime.fromisoformat(line["timestamp"]) for line in lines) + timedelta(hours=1)
    with path.open("a") as out:
        for n in range(CLOSING):
            own = {"transaction_id": f"closing-{n}", "user_id": f"closing-{n}", "amount": 1.0, "timestamp": last.isoformat().replace("+00:00", "Z")}
            out.write(json.dumps({**lines[0], **own}, separators=(",", ":")) + "\n")
    return path


def fresh_topics(client, replicas=1):
    """No topic of the pipeline but an empty input."""
    delete_topics(client, TOPICS)
    admin = AdminClient(client)
    admin.create_topics([NewTopic(INPUT, PARTITIONS, replicas, config={"retention.ms": "-1"})])[INPUT].result(30)


def delete_topics(client, topics):
    """Deletes those that are there, and waits until they are gone."""
    admin = AdminClient(client)
    there = set(topics) & set(admin.list_topics(timeout=30).topics)
    for future in admin.delete_topics(sorted(there)).values() if there else ():
        future.result(30)
    until(lambda: not set(topics) & set(admin.list_topics(timeout=30).topics))


def send(client, path, first=0, last=None):
    """Sends a file's lines, from number `first` to before `last`, by user, as Java clients would; waits until all are acknowledged."""
    failed = []
    producer = Producer({**client, **SENDING})
    with open(path, "rb") as records:
        for n, line in enumerate(itertools.islice(records, first, last)):
            start = line.index(b'"user_id":"') + 11
            produce(producer, line.rstrip(), line[start : line.index(b'"', start)], failed)
            if n % 1000 == 0:
                producer.poll(0)
    assert producer.flush(120) == 0 and not failed, failed[:1]


def produce(producer, value, key, failed):
    """Gives a transaction to a producer once it has room; errors of its delivery come to `failed`."""
    while True:
        try:
            return producer.produce(INPUT, value, key, on_delivery=lambda e, _: failed.append(e) if e else None)
        except BufferError:
            producer.poll(0.1)


def topic_rows(client, topic):
    """All rows of a topic of JSON that a reader of committed records sees."""
    return [json.loads(value) for value in topic_values(client, topic)]


def topic_values(client, topic):
    """All values of a topic that a reader of committed records sees."""
    consumer = Consumer({**client, "group.id": "not-used", "enable.partition.eof": True, "isolation.level": "read_committed"})
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
    found, ended = [], set()
    while len(ended) < len(partitions):
        for message in consumer.consume(1000, 1):
            if not message.error():
                found.append(message.value())
            elif message.error().code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                raise KafkaException(message.error())
    consumer.close()
    return found


def ask(riverrun, client, data, query):
    """The rows of a query over the pipeline's tables at rest."""
    given = {"BUS": "kafka", "KAFKA_BROKERS": client["bootstrap.servers"], "LAKE": f"{data}/lake"}
    variables = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    command = [riverrun, "sql", "--script", TRANSACTIONS, "--data", data, *variables, "--format", "json", query]
    return [json.loads(line) for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()]


class Expected:
    """DuckDB's answers over the file that was sent."""

    def __init__(self, path):
        self.db = duckdb.connect()
        self.db.execute("SET TimeZone = 'UTC'")
        self.db.execute(f"CREATE TABLE t AS SELECT row_number() OVER () AS seq, * FROM read_json('{path}', format = 'newline_delimited', columns = {{{COLUMNS}}})")

    def query(self, text):
        return self.db.execute(text).fetchall()

    def alerts(self):
        return {transaction: tuple(reasons) for transaction, reasons in self.query(ALERTS)}

    def check_alerts(self, found):
        """Every alert once, with its reasons."""
        assert len(found) == len({row["transaction_id"] for row in found}), "an alert came twice"
        assert {row["transaction_id"]: tuple(row["reasons"]) for row in found} == self.alerts()

    def check_alert_rows(self, found):
        """Every alert once, with all that it says."""
        wanted = {row[0]: row[1:] for row in self.query(ALERT_ROWS)}
        assert len(found) == len({row["transaction_id"] for row in found}) == len(wanted), f"{len(found)} alerts, DuckDB has {len(wanted)}"
        for alert in found:
            (reasons, *equal), numbers = (there := wanted[alert["transaction_id"]])[:11], there[11:]
            place, before = alert["location"] or {}, alert["prev_location"] or {}
            says = [alert[name] for name in ("user_id", "merchant", "category", "device_type")] + [instant(alert[name]) for name in ("timestamp", "prev_timestamp")]
            says += [place.get("lat"), place.get("lon"), before.get("lat"), before.get("lon")]
            assert (alert["reasons"], says, alert["fraud_flag"]) == (reasons, equal, True), (alert, there)
            for name, number in zip(("amount", "time_diff_seconds", "distance_km", "velocity_kmh"), numbers, strict=True):
                assert alert[name] == number or abs(alert[name] - number) <= 1e-6 * max(1.0, abs(number)), (name, alert, there)

    def check_rapid(self, found):
        """Every window once, with its numbers."""
        ours = {(r["user_id"], instant(r["window_start"])): (r["txn_count"], r["total_spent"]) for r in found}
        same(ours, {(user, w): numbers for user, w, *numbers in self.query(RAPID)}, len(found))

    def check_spending(self, found):
        ours = {
            (r["user_id"], r["category"], instant(r["window_start"])):
            [r[c] for c in ("transaction_count", "total_amount", "avg_amount", "max_amount", "min_amount")] + [len(r["merchants"])]
            for r in found
        }
        same(ours, {(user, category, w): numbers for user, category, w, *numbers in self.query(SPENDING)}, len(found))

    def check_lake(self, path):
        self.db.register("lake", DeltaTable(str(path)).to_pyarrow_dataset().to_table(columns=["transaction_id", "amount"]))
        assert self.query("SELECT count(*) FROM lake") == self.query("SELECT count(*) FROM t")
        assert not self.query("SELECT transaction_id, amount FROM t EXCEPT ALL SELECT * FROM lake")

    def check_lake_rows(self, lake):
        """Every transaction once, all its columns, in a record of its own and under its day; gives how many there are."""
        columns = "transaction_id, user_id, amount, merchant, category, timestamp, location.lat, location.lon, device_type, kafka_key, date"
        theirs = columns.replace("kafka_key", "user_id AS kafka_key").replace("date", "timestamp::DATE AS date")
        self.db.register("lake_rows", lake)
        self.db.execute("CREATE OR REPLACE TEMP TABLE l AS SELECT * REPLACE (timestamp::TIMESTAMP AS timestamp) FROM lake_rows")
        for one, other in ((f"SELECT {columns} FROM l", f"SELECT {theirs} FROM t"), (f"SELECT {theirs} FROM t", f"SELECT {columns} FROM l")):
            assert self.query(f"{one} EXCEPT ALL {other} LIMIT 3") == []
        [(rows, records)] = self.query("SELECT count(*), count(DISTINCT (partition, \"offset\")) FROM l")
        assert rows == records
        return rows


def same(ours, theirs, rows):
    """Equal but for the last digits of sums."""
    assert rows == len(ours) == len(theirs), f"{rows} rows, {len(ours)} keys, DuckDB has {len(theirs)}"
    for key, numbers in theirs.items():
        assert all(abs(a - b) <= 1e-9 * max(1.0, abs(b)) for a, b in zip(ours[key], numbers, strict=True)), (key, ours[key], numbers)


def instant(time):
    """A time of ours, as text or with a zone, as DuckDB gives it."""
    time = datetime.fromisoformat(time) if isinstance(time, str) else time
    return time and time.astimezone(timezone.utc).replace(tzinfo=None)
