"""A running pipeline, asked and steered: the HTTP API, live feeds, the PostgreSQL protocol with psql, and who may ask."""

import json
import os
import re
import subprocess

import pytest
import requests
from runs import Run, until

PATIENCE = 30
TOKEN = "correct-horse-battery"
SECRETS = ["canary-s3-key-51", "canary-kafka-password-52", TOKEN]
SCRIPT = """
SET pipeline.name = 'trial';
SET checkpoint.interval = '1 hour';
CREATE TABLE events (who VARCHAR NOT NULL, amount DOUBLE, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t - INTERVAL '20 seconds')
WITH (connector = 'filesystem', path = '${INPUT}', watch = true, bad_records = 'dead_letter', dead_letter_path = '${DATA_DIR}/bad.jsonl',
      kafka.sasl.password = 'canary-kafka-password-52');
CREATE TABLE totals (PRIMARY KEY (who)) WITH (connector = 'table', emit = 'update');
CREATE TABLE lake WITH (connector = 'delta', path = '${DATA_DIR}/lake', roll_interval = '1 second');
CREATE TABLE large WITH (connector = 'log', topic = 'large', key = 'who');
CREATE TABLE screen WITH (connector = 'blackhole');
INSERT INTO totals SELECT who, count(*) AS n, sum(amount) AS total, max(t) AS last_seen FROM events GROUP BY who;
INSERT INTO lake SELECT * FROM events;
INSERT INTO large SELECT who, amount FROM events WHERE amount > 90;
INSERT INTO screen SELECT who FROM events;
"""


class Pipeline:
    def __init__(self, run, folder, token=None):
        self.run, self.folder = run, folder
        # The lines of the log are JSON.
        found = lambda pattern: re.search(pattern, run.said())
        until(lambda: found(r"dashboard on http://([\d.:]+)") and found(r"psql -h ([\d.]+) -p (\d+)"), PATIENCE, run.said)
        self.base = "http://" + found(r"dashboard on http://([\d.:]+\d)")[1].replace("0.0.0.0", "127.0.0.1")
        self.port = found(r"psql -h [\d.]+ -p (\d+)")[1]
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path, status=200, **more):
        answer = requests.get(self.base + path, headers=self.headers, timeout=PATIENCE, **more)
        assert answer.status_code == status, answer.text
        return answer.json()

    def post(self, path, body=None, status=200):
        answer = requests.post(self.base + path, json=body or {}, headers=self.headers, timeout=PATIENCE)
        assert answer.status_code == status, answer.text
        return answer.json()

    def append(self, text):
        with (self.folder / "in.jsonl").open("a") as file:
            file.write(text)

    def psql(self, *queries, fails=False, password=TOKEN):
        words = [word for query in queries for word in ("-c", query)]
        done = subprocess.run(
            ["psql", "-X", "-h", "127.0.0.1", "-p", self.port, "-U", "anyone", "-d", "riverrun", "-A", "-t", "-v", "ON_ERROR_STOP=1", *words],
            capture_output=True, text=True, timeout=PATIENCE, check=False, env={**os.environ, "PGPASSWORD": password},
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout.strip()


def record(who, amount, second):
    return json.dumps({"who": who, "amount": amount, "t": f"2024-05-01T12:{second // 60:02}:{second % 60:02}Z"}) + "\n"


def started(riverrun, folder, *arguments, token=None, **variables):
    (folder / "in.jsonl").write_text("".join(record("abc"[n % 3], n, 100 + n) for n in range(99)) + record("late", 1, 10) + "not json\n")
    run = Run(riverrun, SCRIPT, folder, "--pg-port", "0", *arguments, INPUT=folder / "in.jsonl", **variables)
    return run


@pytest.fixture
def pipeline(riverrun, tmp_path):
    with started(riverrun, tmp_path) as run:
        pipeline = Pipeline(run, tmp_path)
        until(lambda: pipeline.get("/api/v1/pipeline")["rows_read"] == 101)
        yield pipeline


def test_the_graph_and_its_counts(pipeline):
    def nodes():
        return {node["name"]: node for node in pipeline.get("/api/v1/pipeline/graph")["nodes"]}

    until(lambda: nodes()["lake"]["rows_out"] == 100)
    assert (nodes()["events"]["rows_in"], nodes()["events"]["late"], nodes()["events"]["bad"]) == (101, 1, {"malformed": 1})
    graph = pipeline.get("/api/v1/pipeline/graph")
    names = {node["id"]: node["name"] for node in graph["nodes"]}
    edges = {(names[e["from"]], names[e["to"]], e["port"]) for e in graph["edges"]}
    assert ("events", "events_dead_letters", "dead_letters") in edges
    assert nodes()["totals"]["kind"] == "table" and nodes()["totals"]["queue_limit_bytes"] > 0
    assert [p["offset"] for p in nodes()["events"]["partitions"]] == [(pipeline.folder / "in.jsonl").stat().st_size]
    health = pipeline.get("/api/v1/pipeline/health")
    assert (health["live"], health["ready"], health["state"]) == (True, True, "running")


def test_rows_by_key_and_range_and_the_latest(pipeline):
    rows = lambda query: pipeline.get("/api/v1/tables/totals/rows?" + query)["rows"]
    until(lambda: sum(row["n"] for row in rows("")) == 99)
    assert [(row["who"], row["n"]) for row in rows("key=a")] == [("a", 33)]
    assert rows("key=nobody") == []
    assert [row["who"] for row in rows("order=latest&limit=2")] == ["c", "b"]
    latest = pipeline.get("/api/v1/tables/totals/rows?order=latest&limit=2")
    assert latest["truncated"] and latest["rows"][0]["last_seen"] == "2024-05-01T12:03:18Z"
    until(lambda: len(pipeline.get("/api/v1/tables/lake/rows?by=amount&from=97")["rows"]) == 2)
    amounts = pipeline.get("/api/v1/tables/lake/rows?by=amount&from=97&order=earliest&columns=amount")["rows"]
    assert amounts == [{"amount": 97.0}, {"amount": 98.0}]
    assert "no column" in pipeline.get("/api/v1/tables/totals/rows?by=nothing&order=latest", 400)["error"]
    assert "does not fit" in pipeline.get("/api/v1/tables/lake/rows?from=yesterday", 400)["error"]
    assert "there are" in pipeline.get("/api/v1/tables/nothing/rows", 404)["error"]
    assert not {t["name"]: t for t in pipeline.get("/api/v1/tables")}["screen"]["readable"]


def test_queries_read_and_do_nothing_else(pipeline):
    sql = lambda query, status=200: pipeline.post("/api/v1/sql", {"query": query}, status)
    assert sql("SELECT count(*) AS n FROM large")["rows"] == [{"n": 8}]
    for query in ["DROP TABLE totals", "INSERT INTO totals VALUES ('x', 1, 1, now())", "SELECT * FROM '/etc/passwd'",
                  "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", "COPY totals TO '/tmp/x.csv'", "SET a.b = 1"]:
        assert "root:" not in str(sql(query, 400))
    assert sql("SELECT * FROM generate_series(1, 100000) LIMIT 100000", 200)["truncated"]


def test_pause_resume_checkpoint_stop(pipeline):
    def state():
        return pipeline.get("/api/v1/pipeline")

    done = pipeline.post("/api/v1/pipeline/checkpoint")
    assert done["tasks"] == 1 and state()["checkpoints"]["written"] == 1, "none is due for an hour"
    assert pipeline.post("/api/v1/pipeline/pause")["state"] == "paused"
    pipeline.append(record("a", 5, 200))
    assert "riverrun_paused{pipeline=\"trial\"} 1" in requests.get(pipeline.base + "/metrics", timeout=PATIENCE).text
    assert pipeline.post("/api/v1/pipeline/checkpoint")["state"] == "paused"
    assert state()["rows_read"] == 101, "the file has grown, and is not read"
    assert pipeline.get("/api/v1/pipeline/health")["state"] == "paused"
    assert pipeline.post("/api/v1/pipeline/resume")["state"] == "running"
    until(lambda: state()["rows_read"] == 102)
    assert pipeline.post("/api/v1/pipeline/checkpoint")["tasks"] == 1 and state()["checkpoints"]["written"] == 2
    assert requests.post(pipeline.base + "/api/v1/pipeline/stop", timeout=PATIENCE).status_code == 415
    assert pipeline.post("/api/v1/pipeline/stop")["state"] == "stopping"
    assert pipeline.run.ends() == 0


def test_a_live_feed_tells_rows_as_they_come(pipeline):
    until(lambda: pipeline.get("/api/v1/sinks/large/recent?limit=3")["sequence"] == 8)
    assert [row["row"]["amount"] for row in pipeline.get("/api/v1/sinks/large/recent?limit=3")["rows"]] == [96, 97, 98]
    with requests.get(pipeline.base + "/api/v1/sinks/large/live?last=1", stream=True, timeout=PATIENCE) as feed:
        assert feed.headers["content-type"] == "text/event-stream"
        lines = feed.iter_lines(chunk_size=1, decode_unicode=True)
        data = lambda: json.loads(next(line for line in lines if line.startswith("data: "))[6:])
        assert data() == {"state": "running"}
        assert data()["row"] == {"who": "c", "amount": 98.0}
        pipeline.append(record("d", 95, 201))
        told = data()
        assert (told["sequence"], told["change"], told["row"]) == (8, "insert", {"who": "d", "amount": 95.0})
    with requests.get(pipeline.base + "/api/v1/topics/large/tail?last=1", stream=True, timeout=PATIENCE) as feed:
        lines = feed.iter_lines(chunk_size=1, decode_unicode=True)
        record_line = next(line for line in lines if line.startswith("data: ") and "partition" in line)
        assert "amount" in json.loads(record_line[6:])["value"]


def test_what_was_dropped_is_shown_with_its_reason_and_place(pipeline):
    letters = pipeline.get("/api/v1/dead-letters")
    assert letters["sources"] == [
        {"source": "events", "fate": "dead_letter", "table": "events_dead_letters", "counts": {"malformed": 1}}]
    sample = letters["samples"][0]
    assert (sample["source"], sample["partition"], sample["reason"], sample["payload"]) == ("events", 0, "malformed", "not json")
    assert sample["offset"] > 0 and sample["detail"]
    late = pipeline.get("/api/v1/late-rows")["sources"][0]
    assert (late["source"], late["late"], late["rows"][0]["row"]["who"]) == ("events", 1, "late")


def test_psql_joins_a_live_table_with_history(pipeline):
    join = "SELECT h.who, t.n, count(*) FROM lake h JOIN totals t ON t.who = h.who GROUP BY h.who, t.n ORDER BY h.who"
    until(lambda: pipeline.psql(join) == "a|33|33\nb|33|33\nc|33|33")
    assert {line.split("|")[1] for line in pipeline.psql(r"\dt").splitlines()} >= {"events", "totals", "lake", "large"}
    assert "amount" in pipeline.psql(r"\d lake")
    assert pipeline.psql("SELECT who FROM totals WHERE who = 'a' AND last_seen > '2024-01-01'") == "a"
    assert pipeline.psql("BEGIN", "SELECT 1", "COMMIT", "SHOW server_version") != ""
    assert pipeline.psql("SET application_name = 'x'", "SET extra_float_digits = 3", "SELECT 2") == "SET\nSET\n2"


@pytest.mark.parametrize("query", [
    "INSERT INTO totals VALUES ('x', 1, 1.0, now())", "CREATE TABLE x (a INT)", "DROP TABLE totals", "DELETE FROM totals",
    "UPDATE totals SET n = 1", "TRUNCATE totals", "COPY totals TO '/tmp/x.csv'", "COPY totals FROM '/etc/passwd'",
    "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", "SELECT * FROM '/etc/passwd'", "SELECT pg_read_file('/etc/passwd')",
    "SET datafusion.runtime.memory_limit = '1T'", "PREPARE p AS SELECT 1", "DECLARE c CURSOR FOR SELECT 1",
    "SELECT repeat('x', 2000000000)", "SELECT 1" + "+1" * 20_000,
])
def test_psql_changes_nothing_and_reads_no_file(pipeline, query):
    said = pipeline.psql(query, fails=True)
    assert "ERROR" in said and "root:" not in said
    assert pipeline.psql("SELECT 1") == "1"


def test_a_query_ends_in_time_and_within_its_memory(pipeline):
    said = pipeline.psql("SET statement_timeout = 300", "SELECT count(*) FROM generate_series(1, 1000000000000)", fails=True)
    assert "timeout" in said
    said = pipeline.psql("SELECT count(*) FROM (SELECT v FROM (SELECT value * 7919 % 100000007 AS v FROM generate_series(1, 50000000)) GROUP BY v)", fails=True)
    assert "the query takes more memory than queries may" in said, said


def test_beyond_loopback_only_who_knows_the_token_is_answered(riverrun, tmp_path, monkeypatch):
    with started(riverrun, tmp_path, "--listen", "0.0.0.0:0") as run:
        assert run.ends() == 2 and "RIVERRUN_TOKEN" in run.said()
    monkeypatch.setenv("RIVERRUN_TOKEN", TOKEN)
    with started(riverrun, tmp_path, "--listen", "0.0.0.0:0") as run:
        pipeline = Pipeline(run, tmp_path, TOKEN)
        until(lambda: pipeline.get("/api/v1/pipeline")["rows_read"] == 101)
        assert requests.get(pipeline.base + "/api/v1/pipeline", timeout=PATIENCE).status_code == 401
        assert requests.get(pipeline.base + "/livez", timeout=PATIENCE).status_code == 200
        assert requests.get(pipeline.base + "/api/v1/pipeline", auth=("anyone", TOKEN), timeout=PATIENCE).status_code == 200
        assert pipeline.psql("SELECT 1") == "1"
        assert "password" in pipeline.psql("SELECT 1", fails=True, password="wrong-wrong-wrong").lower()
        ask = [riverrun, "sql", "--data", tmp_path / "data", "SELECT 1 AS one"]
        assert "one" in subprocess.run(ask, capture_output=True, text=True, check=True).stdout
        monkeypatch.setenv("RIVERRUN_TOKEN", "another-token-here")
        refused = subprocess.run(ask, capture_output=True, text=True, check=False)
        assert refused.returncode == 2 and "RIVERRUN_TOKEN" in refused.stderr


def test_no_secret_is_told_anywhere(riverrun, tmp_path, monkeypatch):
    monkeypatch.setenv("RIVERRUN_TOKEN", TOKEN)
    monkeypatch.setenv("RIVERRUN_LOG", "debug")
    script = "SET checkpoint.s3.secret_access_key = 'canary-s3-key-51';\nSET serve.token = '${RIVERRUN_TOKEN}';\n" + SCRIPT
    (tmp_path / "in.jsonl").write_text(record("a", 1, 1) + "not json\n")
    with Run(riverrun, script, tmp_path, "--pg-port", "0", INPUT=tmp_path / "in.jsonl") as run:
        pipeline = Pipeline(run, tmp_path, TOKEN)
        until(lambda: pipeline.get("/api/v1/pipeline")["rows_read"] == 2)
        said = ""
        paths = [path for path, methods in pipeline.get("/api/v1/openapi.json")["paths"].items() if "get" in methods]
        assert len(paths) > 12
        for path in [*paths, "/metrics", "/stats", "/progress", "/log", "/livez", "/readyz", "/"]:
            path = path.replace("{table}", "totals").replace("{sink}", "totals").replace("{topic}", "large")
            if not path.endswith(("/live", "/tail")) or "progress" in path:
                said += requests.get(pipeline.base + path, headers=pipeline.headers, timeout=PATIENCE).text
        for query in ["SELECT * FROM information_schema.df_settings", "SHOW ALL", "SHOW TABLES", "EXPLAIN VERBOSE SELECT * FROM events"]:
            said += str(pipeline.post("/api/v1/sql", {"query": query}))
        said += pipeline.psql("SELECT * FROM pg_catalog.pg_settings", r"\d totals", r"\l")
        explained = [riverrun, "explain", tmp_path / "script.sql", "--set", f"INPUT={tmp_path}/in.jsonl", "--set", f"DATA_DIR={tmp_path}/data"]
        said += subprocess.run(explained, capture_output=True, text=True, check=True).stdout
        said += run.said()
        assert len(said) > 10_000
        for secret in SECRETS:
            assert secret not in said
