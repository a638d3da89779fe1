"""Avro and the schema registry: against Apicurio's, with confluent-kafka's serializers at the other end. Each documented option has
a test that fails if the option is ignored."""

import datetime
import decimal
import json
import struct
import time
import uuid

import pytest
import requests
from certificate import certificate
from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from kafka_clients import PATIENCE, new_topic, read_bytes
from registry_proxy import Door
from runs import TRANSACTIONS, Run, bounded, rows, until


def transaction(*more, name="Transaction"):
    fields = [{"name": "id", "type": "string"}, {"name": "amount", "type": "double"}, *more]
    return {"type": "record", "name": name, "namespace": "com.example", "fields": fields}


DEVICE = {"name": "device", "type": ["null", "string"], "default": None}
CHANNEL = {"name": "channel", "type": "string", "default": "web"}
V1, V2, V3 = transaction(), transaction(DEVICE), transaction(DEVICE, CHANNEL)


@pytest.fixture
def url(registry):
    return registry["SCHEMA_REGISTRY_URL"]


@pytest.fixture
def topic(kafka):
    return new_topic(client(kafka))


def client(kafka):
    return {"bootstrap.servers": kafka["KAFKA_BROKERS"]}


def ask(url, method, path, body=None):
    answer = requests.request(method, f"{url}/{path}", json=body, timeout=PATIENCE)
    return answer.status_code, answer.json()


def register(url, subject, schema):
    return ask(url, "POST", f"subjects/{subject}/versions", {"schema": json.dumps(schema)})[1]["id"]


def latest(url, subject):
    status, answer = ask(url, "GET", f"subjects/{subject}/versions/latest")
    assert status == 200, answer
    return answer["id"], json.loads(answer["schema"])


class Writer:
    """Sends objects as confluent-kafka's serializer writes them."""

    def __init__(self, kafka, url, topic):
        self.producer, self.topic = Producer(client(kafka)), topic
        self.registry = SchemaRegistryClient({"url": url})

    def send(self, schema, *values, **more):
        serializer = AvroSerializer(self.registry, json.dumps(schema))
        context = SerializationContext(self.topic, MessageField.VALUE)
        self.send_bytes(*[serializer(value, context) for value in values], **more)

    def send_bytes(self, *values, **more):
        for value in values:
            self.producer.produce(self.topic, value, "some-key", **more)
        assert self.producer.flush(PATIENCE) == 0


def options(**given):
    return ", ".join(f"{name} = '{value}'" for name, value in given.items())


def reads(kafka, url, topic, columns="id VARCHAR NOT NULL, amount DOUBLE, device VARCHAR, channel VARCHAR", select="*", out="out.jsonl", **more):
    """A script that copies a topic of Avro into a file."""
    given = {"connector": "kafka", "brokers": kafka["KAFKA_BROKERS"], "topic": topic, "starting_offsets": "earliest"}
    given |= {"format": "avro", "schema_registry": url, "dead_letter_path": "bad.jsonl", **more}
    columns = f"({columns})" if columns else ""
    return f"""
    SET checkpoint.interval = '500 ms';
    CREATE TABLE t {columns} WITH ({options(**given)});
    CREATE TABLE out WITH (connector = 'filesystem', path = '{out}', roll_interval = '100 ms');
    INSERT INTO out SELECT {select} FROM t;
    """


def writes(kafka, url, topic, folder, select="user_id, n", count=3, primary="", **more):
    """A script that writes rows into a topic as Avro."""
    source = folder / "orders.jsonl"
    source.write_text("".join(json.dumps({"user_id": f"user_{n}", "n": n, "at": "2024-05-01T12:00:00.123456Z"}) + "\n" for n in range(count)))
    given = {"connector": "kafka", "brokers": kafka["KAFKA_BROKERS"], "topic": topic, "format": "avro", "schema_registry": url, **more}
    return f"""
    CREATE TABLE t (user_id VARCHAR NOT NULL, n BIGINT, at TIMESTAMP) WITH (connector = 'filesystem', path = '{source}', format = 'json');
    CREATE TABLE sink {primary} WITH ({options(**given)});
    INSERT INTO sink SELECT {select} FROM t;
    """


def outcome(folder):
    return rows(folder / "out.jsonl"), rows(folder / "bad.jsonl")


def schema_id(record):
    magic, number = struct.unpack_from(">bI", record)
    assert magic == 0
    return number


# Reading

def test_what_confluents_serializer_writes_is_read(kafka, url, riverrun, topic, tmp_path):
    schema = transaction(
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "place", "type": ["null", {"type": "record", "name": "Place", "fields": [{"name": "lat", "type": "double"}, {"name": "lon", "type": "double"}]}]},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "counts", "type": {"type": "map", "values": "int"}},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["CREDIT", "DEBIT"]}},
        {"name": "ref", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
    )
    ref = uuid.uuid4()
    value = {
        "id": "a", "amount": 1.5, "at": datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.timezone.utc), "price": decimal.Decimal("-12.34"),
        "place": {"lat": 40.5, "lon": -74.0}, "tags": ["x", "y"], "counts": {"n": 7}, "kind": "DEBIT", "ref": ref, "day": datetime.date(2024, 5, 1),
    }
    Writer(kafka, url, topic).send(schema, value, {**value, "id": "b", "place": None})
    columns = """id VARCHAR NOT NULL, amount DOUBLE, at TIMESTAMP, price DECIMAL(9, 2), place STRUCT<lat DOUBLE, lon DOUBLE>, tags VARCHAR[],
                 counts MAP<VARCHAR, BIGINT>, kind VARCHAR, ref VARCHAR, day DATE, k VARCHAR METADATA FROM 'key'"""
    bounded(riverrun, reads(kafka, url, topic, columns), tmp_path)
    [a, b], bad = outcome(tmp_path)
    assert not bad
    assert a == {
        "id": "a", "amount": 1.5, "at": "2024-05-01T12:00:00.000000Z", "price": -12.34, "place": {"lat": 40.5, "lon": -74.0}, "tags": ["x", "y"],
        "counts": {"n": 7}, "kind": "DEBIT", "ref": str(ref), "day": "2024-05-01", "k": "some-key",
    }
    assert b == {**a, "id": "b", "place": None}


def test_three_versions_pass_through_one_running_pipeline(kafka, url, riverrun, topic, tmp_path):
    writer = Writer(kafka, url, topic)
    writer.send(V1, {"id": "1", "amount": 1.0})
    with Run(riverrun, reads(kafka, url, topic), tmp_path) as run:
        run.started()
        until(lambda: len(found(tmp_path)) == 1, what=run.said)
        writer.send(V2, {"id": "2", "amount": 2.0, "device": "pos"})
        until(lambda: len(found(tmp_path)) == 2, what=run.said)
        writer.send(V3, {"id": "3", "amount": 3.0, "device": None, "channel": "app"})
        writer.send(V1, {"id": "4", "amount": 4.0})
        writer.send(transaction({"name": "amounts", "type": "int"}), {"id": "5", "amount": 5.0, "amounts": 1})
        until(lambda: len(found(tmp_path)) == 5, what=run.said)
        assert run.stop() == 0
    assert [(r["id"], r["device"], r["channel"]) for r in found(tmp_path)] == [
        ("1", None, None), ("2", "pos", None), ("3", None, "app"), ("4", None, None), ("5", None, None),
    ]


def found(folder):
    """Rows of a file that may still be written."""
    path = folder / "out.jsonl"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def test_bad_records_cost_themselves_and_say_why(kafka, url, riverrun, topic, tmp_path):
    writer = Writer(kafka, url, topic)
    writer.send(V1, {"id": "1", "amount": 1.0})
    writer.send_bytes(b'{"id": "json"}', b"\0\0\0", struct.pack(">bI", 0, 2_000_000_000) + b"x")
    writer.send({**V1, "fields": [{"name": "id", "type": "long"}, V1["fields"][1]]}, {"id": 7, "amount": 1.0})
    writer.send(V1, {"id": "2", "amount": 2.0})
    bounded(riverrun, reads(kafka, url, topic), tmp_path)
    good, bad = outcome(tmp_path)
    assert [r["id"] for r in good] == ["1", "2"]
    assert [(b["offset"], b["reason"]) for b in bad] == [(1, "malformed"), (2, "malformed"), (3, "schema"), (4, "schema")]
    assert "looks like JSON" in bad[0]["detail"]
    assert "the registry has no schema 2000000000" in bad[2]["detail"]
    assert "field id: it is long, and the column is VARCHAR" in bad[3]["detail"]


def test_what_is_cached_goes_on_while_the_registry_is_down_and_what_is_not_waits(kafka, url, riverrun, tmp_path):
    topic = new_topic(client(kafka), 1)
    with Door(url) as door:
        writer = Writer(kafka, url, topic)
        writer.send(V1, {"id": "1", "amount": 1.0})
        with Run(riverrun, reads(kafka, door.url, topic), tmp_path) as run:
            run.started()
            until(lambda: len(found(tmp_path)) == 1, what=run.said)
            door.shut()
            writer.send(V1, {"id": "2", "amount": 2.0})
            until(lambda: len(found(tmp_path)) == 2, what=run.said)
            writer.send(V2, {"id": "3", "amount": 3.0, "device": "pos"})
            writer.send(V1, {"id": "4", "amount": 4.0})
            run.wait_for("cannot be reached")
            time.sleep(3)
            assert len(found(tmp_path)) == 2, "order is kept"
            assert run.said().count("cannot be reached") == 1, "told once"
            door.open()
            until(lambda: len(found(tmp_path)) == 4, what=run.said)
            run.wait_for("works again")
            assert run.stop() == 0
    assert [r["id"] for r in found(tmp_path)] == ["1", "2", "3", "4"]
    assert not rows(tmp_path / "bad.jsonl")


def test_a_partition_that_waits_for_the_registry_is_not_silent(kafka, url, riverrun, tmp_path):
    """However long it waits, others' event time makes none of its rows late."""
    topic, at = new_topic(client(kafka), 2), {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}
    first, second = transaction(at), transaction(at, DEVICE)
    value = lambda id, minute: {"id": id, "amount": 1.0, "at": 1_714_564_800_000_000 + minute * 60_000_000, "device": None}  # noqa: E731
    with Door(url) as door:
        writer = Writer(kafka, url, topic)
        for partition in (0, 1):
            writer.send(first, value(f"first-{partition}", 0), partition=partition)
        columns = "id VARCHAR NOT NULL, amount DOUBLE, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1 minute'"
        script = reads(kafka, door.url, topic, columns, select="id", idle_timeout="1 second", late_rows="late")
        script += "CREATE TABLE late WITH (connector = 'filesystem', path = 'late.jsonl', roll_interval = '100 ms');"
        with Run(riverrun, script, tmp_path) as run:
            run.started()
            until(lambda: len(found(tmp_path)) == 2, what=run.said)
            door.shut()
            writer.send(second, value("waits", 1), partition=1)
            run.wait_for("cannot be reached")
            for minute in range(60, 90):
                writer.send(first, value(f"later-{minute}", minute), partition=0)
                time.sleep(0.1)
            door.open()
            until(lambda: len(found(tmp_path)) == 33, what=run.said)
            assert run.stop() == 0
    assert rows(tmp_path / "late.jsonl") == []


@pytest.mark.parametrize("more", [{}, {"schema_registry_cache": "elsewhere"}])
def test_a_restart_needs_no_registry_for_what_is_cached(kafka, url, riverrun, topic, tmp_path, more):
    writer = Writer(kafka, url, topic)
    writer.send(V2, {"id": "1", "amount": 1.0, "device": "pos"})
    with Door(url) as door:
        script = reads(kafka, door.url, topic, "*, o BIGINT METADATA FROM 'offset'", **more)
        bounded(riverrun, script, tmp_path)
        assert outcome(tmp_path)[0] == [{"id": "1", "amount": 1.0, "device": "pos", "o": 0}]
        asked = len(door.asked)
        door.shut()
        (tmp_path / "out.jsonl").unlink()
        said = bounded(riverrun, script, tmp_path)
        assert "kept from before" in said and len(door.asked) == asked
        assert outcome(tmp_path)[0] == [{"id": "1", "amount": 1.0, "device": "pos", "o": 0}]
    folder = tmp_path / (more["schema_registry_cache"] if more else "data/schemas")
    assert list(folder.glob("*/id-*.json"))


def test_a_registry_that_is_killed_comes_back(kafka, url, riverrun, topic, services, tmp_path):
    writer = Writer(kafka, url, topic)
    writer.send(V1, {"id": "1", "amount": 1.0})
    second = register(url, f"{topic}-value", V2)
    with Run(riverrun, reads(kafka, url, topic), tmp_path) as run:
        run.started()
        until(lambda: len(found(tmp_path)) == 1, what=run.said)
        services.run("kill", "registry")
        writer.send_bytes(struct.pack(">bI", 0, second) + b"\x02b" + struct.pack("<d", 2.0) + b"\x02\x06pos")
        run.wait_for("cannot be reached")
        services.run("start", "registry")
        until(lambda: len(found(tmp_path)) == 2, what=run.said)
        assert run.stop() == 0
    assert found(tmp_path)[1] == {"id": "b", "amount": 2.0, "device": "pos", "channel": None}


def test_reader_schema_gives_defaults(kafka, url, riverrun, topic, tmp_path):
    Writer(kafka, url, topic).send(V1, {"id": "1", "amount": 1.0})
    bounded(riverrun, reads(kafka, url, topic, reader_schema=json.dumps(V3)), tmp_path)
    assert outcome(tmp_path)[0] == [{"id": "1", "amount": 1.0, "device": None, "channel": "web"}]


# Columns from the registry

def test_columns_come_from_the_registry(kafka, url, riverrun, topic, tmp_path):
    writer = Writer(kafka, url, topic)
    writer.send(V1, {"id": "1", "amount": 1.0})
    writer.send(V3, {"id": "2", "amount": 2.0, "device": "pos", "channel": "app"})
    bounded(riverrun, reads(kafka, url, topic, ""), tmp_path)
    assert outcome(tmp_path)[0] == [
        {"id": "1", "amount": 1.0, "device": None, "channel": "web"}, {"id": "2", "amount": 2.0, "device": "pos", "channel": "app"},
    ]
    (tmp_path / "out.jsonl").unlink()
    columns = "p INT METADATA FROM 'partition', *, amount REAL"
    said = bounded(riverrun, reads(kafka, url, topic, columns, schema_version="1"), tmp_path)
    assert "columns of version 1" in said
    good, bad = outcome(tmp_path)
    assert (good, [b["reason"] for b in bad]) == ([], ["schema", "schema"]), "a double is no REAL"
    bounded(riverrun, reads(kafka, url, topic, "p INT METADATA FROM 'partition', *", schema_version="1"), tmp_path)
    assert [list(r) for r in outcome(tmp_path)[0]] == [["p", "id", "amount"]] * 2


def test_a_table_from_the_registry_has_event_time_and_windows(kafka, url, riverrun, topic, tmp_path):
    schema = transaction({"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}})
    start = 1_714_564_800_000_000
    Writer(kafka, url, topic).send(schema, *[{"id": f"u{n % 2}", "amount": 1.0, "at": start + n * 1_000_000} for n in range(100)])
    script = reads(kafka, url, topic, "*, WATERMARK FOR at AS at - INTERVAL '1 minute'").replace(
        "SELECT * FROM t", "SELECT id, sum(amount) AS total FROM t GROUP BY tumble(at, INTERVAL '1 minute'), id"
    )
    bounded(riverrun, script, tmp_path)
    assert sorted((r["id"], r["total"]) for r in outcome(tmp_path)[0]) == [("u0", 20.0), ("u0", 30.0), ("u1", 20.0), ("u1", 30.0)]


def test_a_subject_that_is_not_there_is_told(kafka, url, riverrun, topic, tmp_path):
    said = bounded(riverrun, reads(kafka, url, topic, ""), tmp_path, fails=True)
    assert f"no subject '{topic}-value'" in said and "subject_strategy" in said


def test_columns_by_a_subject_of_another_name(kafka, url, riverrun, topic, tmp_path):
    subject = f"mine-{uuid.uuid4().hex[:8]}"
    id = register(url, subject, V1)
    Writer(kafka, url, topic).send_bytes(struct.pack(">bI", 0, id) + b"\x02a" + struct.pack("<d", 1.0))
    bounded(riverrun, reads(kafka, url, topic, "", subject=subject), tmp_path)
    assert outcome(tmp_path)[0] == [{"id": "a", "amount": 1.0}]


# Writing

def decoded(kafka, url, topic):
    deserializer = AvroDeserializer(SchemaRegistryClient({"url": url}))
    context = SerializationContext(topic, MessageField.VALUE)
    return [deserializer(value, context) for value in read_bytes(client(kafka), topic)]


def test_what_is_written_is_read_by_confluents_deserializer(kafka, url, riverrun, topic, tmp_path):
    select = "user_id, n, at, CASE WHEN n > 0 THEN named_struct('lat', 1.5, 'name', user_id) END AS place, make_array(user_id, NULL) AS tags, CAST(n AS DECIMAL(9, 2)) AS price"
    bounded(riverrun, writes(kafka, url, topic, tmp_path, select, key="user_id"), tmp_path)
    first, second, _ = decoded(kafka, url, topic)
    assert (first["user_id"], first["n"], first["place"], first["tags"]) == ("user_0", 0, None, ["user_0", None])
    assert first["at"].isoformat() == "2024-05-01T12:00:00.123456+00:00" and str(first["price"]) == "0.00"
    assert second["place"] == {"lat": 1.5, "name": "user_1"}
    id, schema = latest(url, f"{topic}-value")
    assert schema["name"] == "sink" and schema["fields"][0] == {"name": "user_id", "type": "string"}
    assert {schema_id(value) for value in read_bytes(client(kafka), topic)} == {id}


def test_names_of_the_subject_and_the_record(kafka, url, riverrun, topic, tmp_path):
    name = f"com.example.Order{uuid.uuid4().hex[:8]}"
    own = f"own-{uuid.uuid4().hex[:8]}"
    cases = [
        ({"subject_strategy": "record", "record_name": name, "record_doc": "An order."}, name),
        ({"subject_strategy": "topic_record", "record_name": name}, f"{topic}-{name}"),
        ({"subject": own}, own),
    ]
    for more, subject in cases:
        bounded(riverrun, writes(kafka, url, topic, tmp_path, **more), tmp_path)
        _, schema = latest(url, subject)
        if "record_name" in more:
            assert f"{schema['namespace']}.{schema['name']}" == name
        assert schema.get("doc") == more.get("record_doc")
    assert ask(url, "GET", f"subjects/{topic}-value/versions")[0] == 404


def test_without_auto_register_the_registered_schema_is_written(kafka, url, riverrun, topic, tmp_path):
    said = bounded(riverrun, writes(kafka, url, topic, tmp_path, auto_register="false"), tmp_path, fails=True)
    assert f"no subject '{topic}-value'" in said
    fields = [{"name": "n", "type": ["long", "null"]}, {"name": "user_id", "type": "string"}, {"name": "note", "type": ["null", "string"], "default": None}]
    first = register(url, f"{topic}-value", {"type": "record", "name": "Theirs", "fields": fields})
    second = register(url, f"{topic}-value", {"type": "record", "name": "Theirs", "fields": [*fields, DEVICE]})
    bounded(riverrun, writes(kafka, url, topic, tmp_path, auto_register="false"), tmp_path)
    bounded(riverrun, writes(kafka, url, topic, tmp_path, auto_register="false", schema_version="1"), tmp_path)
    assert [schema_id(value) for value in read_bytes(client(kafka), topic)] == [second] * 3 + [first] * 3
    assert decoded(kafka, url, topic)[1] == {"n": 1, "user_id": "user_1", "note": None, "device": None}
    said = bounded(riverrun, writes(kafka, url, topic, tmp_path, "user_id, n, at", auto_register="false"), tmp_path, fails=True)
    assert "the schema has no field at" in said and "version 2 of subject" in said


def test_compatibility_is_set_and_an_incompatible_schema_is_refused_at_the_start(kafka, url, riverrun, topic, tmp_path):
    subject = f"{topic}-value"
    bounded(riverrun, writes(kafka, url, topic, tmp_path, compatibility="BACKWARD"), tmp_path)
    status, config = ask(url, "GET", f"config/{subject}")
    assert (status, config["compatibilityLevel"]) == (200, "BACKWARD")
    bounded(riverrun, writes(kafka, url, topic, tmp_path, "user_id, n, at"), tmp_path)
    said = bounded(riverrun, writes(kafka, url, topic, tmp_path, "user_id, n, user_id AS name"), tmp_path, fails=True)
    assert "incompatible" in said and subject in said and "the columns' schema is" in said and '"name"' in said
    assert len(read_bytes(client(kafka), topic)) == 6
    bounded(riverrun, writes(kafka, url, topic, tmp_path, "user_id, n, user_id AS name", compatibility="NONE"), tmp_path)
    assert len(read_bytes(client(kafka), topic)) == 9


def test_a_sink_starts_without_the_registry_once_its_schema_is_registered(kafka, url, riverrun, topic, tmp_path):
    with Door(url) as door:
        bounded(riverrun, writes(kafka, door.url, topic, tmp_path), tmp_path)
        door.shut()
        said = bounded(riverrun, writes(kafka, door.url, topic, tmp_path), tmp_path)
        assert "kept from before" in said
        said = bounded(riverrun, writes(kafka, door.url, topic, tmp_path, "user_id, n, at"), tmp_path, fails=True)
        assert "cannot be reached" in said
    assert len(decoded(kafka, url, topic)) == 6


def test_deletes_are_tombstones_and_updates_are_avro_in_the_journals_transactions(kafka, url, riverrun, topic, tmp_path):
    Writer(kafka, url, topic).send(V1, *[{"id": f"u{n % 3}", "amount": float(n)} for n in range(9)])
    target = new_topic(client(kafka))
    more = options(connector="kafka", brokers=kafka["KAFKA_BROKERS"], topic=target, format="avro", schema_registry=url, partitions="1")
    script = reads(kafka, url, topic, "*").replace("INSERT INTO out SELECT * FROM t;", "") + f"""
    CREATE TABLE totals (PRIMARY KEY (id)) WITH ({more});
    INSERT INTO totals SELECT id, sum(amount) AS total FROM t GROUP BY id HAVING sum(amount) < 15;
    """
    with Run(riverrun, script, tmp_path) as run:
        run.started()
        until(lambda: len(read_bytes(client(kafka), target)) >= 2, what=run.said)
        Writer(kafka, url, topic).send(V1, {"id": "u0", "amount": 100.0})
        until(lambda: None in read_bytes(client(kafka), target), what=run.said)
        assert run.stop() == 0
    deserializer = AvroDeserializer(SchemaRegistryClient({"url": url}))
    context = SerializationContext(target, MessageField.VALUE)
    values = [value and deserializer(value, context) for value in read_bytes(client(kafka), target)]
    assert {"id": "u1", "total": 12.0} in values and values[-1] is None


def test_the_embedded_log_holds_avro_too(kafka, url, riverrun, topic, tmp_path):
    bounded(riverrun, writes(kafka, url, "orders", tmp_path, connector="log", subject=f"{topic}-log"), tmp_path)
    bounded(riverrun, reads(kafka, url, "orders", "", connector="log", subject=f"{topic}-log"), tmp_path)
    assert outcome(tmp_path)[0] == [{"user_id": f"user_{n}", "n": n} for n in range(3)]


def test_a_log_is_read_on_once_the_registry_is_there(kafka, url, riverrun, topic, tmp_path):
    with Door(url) as door:
        more = {"connector": "log", "subject": f"{topic}-log", "partitions": 1}
        for select in ("user_id, n", "user_id, n, at"):
            bounded(riverrun, writes(kafka, url, "orders", tmp_path, select, **more), tmp_path)
        door.shut()
        script = reads(kafka, door.url, "orders", "user_id VARCHAR, n BIGINT, at TIMESTAMP", **more, schema_registry_cache="empty")
        with Run(riverrun, script, tmp_path) as run:
            run.wait_for("cannot be reached")
            assert found(tmp_path) == []
            door.open()
            until(lambda: len(found(tmp_path)) == 6, what=run.said)
            assert run.stop() == 0
    assert [(r["n"], r["at"] is None) for r in found(tmp_path)] == [(n, first) for first in (True, False) for n in range(3)]


# Reaching the registry

def test_the_first_registry_that_answers_is_asked(kafka, url, riverrun, topic, tmp_path):
    Writer(kafka, url, topic).send(V1, {"id": "1", "amount": 1.0})
    bounded(riverrun, reads(kafka, f"http://127.0.0.1:9,{url}", topic), tmp_path)
    assert len(outcome(tmp_path)[0]) == 1


@pytest.mark.parametrize("right, door", [
    ({"schema_registry_username": "ann", "schema_registry_password": "secret-1"}, {"user": ("ann", "secret-1")}),
    ({"schema_registry_token": "token-1"}, {"token": "token-1"}),
])
def test_who_asks(kafka, url, riverrun, topic, tmp_path, right, door):
    Writer(kafka, url, topic).send(V1, {"id": "1", "amount": 1.0})
    with Door(url, **door) as door:
        (tmp_path / "right").mkdir()
        bounded(riverrun, reads(kafka, door.url, topic, **right), tmp_path / "right")
        assert len(outcome(tmp_path / "right")[0]) == 1
        wrong = {name: "wrong-1" if name.endswith(("password", "token")) else value for name, value in right.items()}
        for given in (wrong, {}):
            for script in (reads(kafka, door.url, topic, **given), reads(kafka, door.url, topic, "", **given), writes(kafka, door.url, topic, tmp_path, **given)):
                said = bounded(riverrun, script, tmp_path, fails=True)
                assert "401" in said and "schema_registry_username" in said and "wrong-1" not in said.replace(script, ""), said


def test_certificates_are_checked(kafka, url, riverrun, topic, tmp_path):
    Writer(kafka, url, topic).send(V1, {"id": "1", "amount": 1.0})
    pem, key = certificate(tmp_path)
    with Door(url, tls=(pem, key)) as door:
        bounded(riverrun, reads(kafka, door.url, topic, "", schema_registry_ca_location=pem), tmp_path)
        assert len(outcome(tmp_path)[0]) == 1
        (tmp_path / "other").mkdir()
        said = bounded(riverrun, reads(kafka, door.url, topic, ""), tmp_path / "other", fails=True)
        assert "certificate" in said and "schema_registry_ca_location" in said
        said = bounded(riverrun, reads(kafka, door.url, topic, schema_registry_ca_location=key), tmp_path / "other", fails=True)
        assert "holds no certificate" in said


def test_an_expired_certificate(kafka, url, riverrun, topic, tmp_path):
    pem, key = certificate(tmp_path, expired=True)
    with Door(url, tls=(pem, key)) as door:
        for script in (reads(kafka, door.url, topic, "", schema_registry_ca_location=pem), writes(kafka, door.url, topic, tmp_path, schema_registry_ca_location=pem)):
            said = bounded(riverrun, script, tmp_path, fails=True)
            assert door.url in said and "expired" in said, said


def test_a_slow_registry_is_waited_for_as_long_as_the_option_says(kafka, url, riverrun, topic, tmp_path):
    with Door(url, delay=1.5) as door:
        begun = time.monotonic()
        said = bounded(riverrun, writes(kafka, door.url, topic, tmp_path, schema_registry_timeout="300 ms"), tmp_path, fails=True)
        assert "no answer in time" in said and time.monotonic() - begun < 5
        bounded(riverrun, writes(kafka, door.url, topic, tmp_path), tmp_path)
    assert len(decoded(kafka, url, topic)) == 3


def test_what_is_no_registry_is_told_and_costs_no_record(kafka, url, riverrun, topic, tmp_path):
    Writer(kafka, url, topic).send(V1, {"id": "1", "amount": 1.0})
    wrong = url.removesuffix("/apis/ccompat/v7") + "/nothing/here"
    said = bounded(riverrun, reads(kafka, wrong, topic), tmp_path, fails=True)
    assert "no schema registry" in said and "/apis/ccompat/v7" in said
    assert outcome(tmp_path) == ([], [])


def test_the_shipped_script_takes_avro(kafka, url, riverrun, tmp_path):
    fields = [("transaction_id", "string"), ("user_id", "string"), ("amount", "double"), ("merchant", ["null", "string"]), ("category", ["null", "string"])]
    schema = {"type": "record", "name": "Transaction", "fields": [{"name": name, "type": kind} for name, kind in fields]}
    schema["fields"].append({"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}})
    place = {"type": "record", "name": "Place", "fields": [{"name": "lat", "type": "double"}, {"name": "lon", "type": "double"}]}
    schema["fields"].append({"name": "location", "type": ["null", place]})
    schema["fields"].append({"name": "device_type", "type": ["null", "string"]})
    topic, alerts = new_topic(client(kafka)), new_topic(client(kafka))
    script = TRANSACTIONS.read_text().replace("financial-transactions'", f"{topic}'").replace("'fraud-alerts'", f"'{alerts}'")
    start = 1_714_564_800_000_000
    value = {"user_id": "u", "merchant": "Amazon", "category": None, "location": {"lat": 40.0, "lon": -74.0}, "device_type": None}
    Writer(kafka, url, topic).send(schema, *[
        {**value, "transaction_id": f"t{n}", "amount": 20_000.0 if n == 5 else 10.0, "timestamp": start + n * 60_000_000} for n in range(10)
    ])
    bounded(riverrun, script, tmp_path, BUS="kafka", KAFKA_BROKERS=kafka["KAFKA_BROKERS"], FORMAT="avro", SCHEMA_REGISTRY=url,
            STARTING_OFFSETS="earliest", SCREEN="blackhole", LAKE=tmp_path / "lake")
    [alert] = decoded(kafka, url, alerts)
    assert (alert["transaction_id"], alert["reasons"], alert["location"]) == ("t5", ["LARGE_AMOUNT"], {"lat": 40.0, "lon": -74.0})
    assert alert["timestamp"].isoformat() == "2024-05-01T12:05:00+00:00"
