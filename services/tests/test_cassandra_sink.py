"""Tables in Cassandra as a script writes them: created or checked, each option, each error, and repeated without harm."""

import contextlib
import json
import signal
import subprocess
import time
from decimal import Decimal

import cassandra_tables as tables
import pytest
from cassandra_tables import feed, script, utc
from certificate import certificate
from conftest import ROOT
from cql_proxy import Proxy
from runs import Run, bounded, until
from test_cassandra import connect

COLUMNS = "user_id VARCHAR, n BIGINT, total DOUBLE, at TIMESTAMP"
ALL = "SELECT user_id, n, total, at FROM input"
ROW = {"user_id": "ann", "n": 1, "total": 1.5, "at": "2024-05-01T12:00:00.123456Z"}


@pytest.fixture
def session(cassandra):
    cluster, session = connect(cassandra["CASSANDRA"])
    yield session
    cluster.shutdown()


@pytest.fixture
def keyspace(session):
    """The name of a keyspace that is not there."""
    name = tables.keyspace()
    yield name
    session.execute(f"DROP KEYSPACE IF EXISTS {name}", timeout=60)


@pytest.fixture
def made(session, keyspace):
    """The name of a keyspace that is there."""
    session.execute(f"CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}")
    return keyspace


@pytest.fixture
def write(cassandra, riverrun, tmp_path, keyspace):
    """Writes rows with the options, by `user_id` if nothing else is said; gives what the program said."""

    def write(*rows, columns=COLUMNS, key="user_id", query=ALL, fails=False, address=None, **options):
        feed(tmp_path, *rows)
        return bounded(riverrun, script(address or cassandra["CASSANDRA"], keyspace, columns, key, query, **options), tmp_path, fails=fails)

    return write


def schema(session, keyspace, of="columns"):
    return session.execute(f"SELECT * FROM system_schema.{of} WHERE keyspace_name = %s", (keyspace,)).all()


# What is created, and what rows become.


def test_a_table_is_created_from_the_query(session, keyspace, write):
    columns = """id VARCHAR, at TIMESTAMP, small SMALLINT, n INT, big BIGINT, f FLOAT, d DOUBLE, price DECIMAL(18, 2), day DATE, flag BOOLEAN,
      names VARCHAR[], place STRUCT<lat DOUBLE, lon DOUBLE>, visits STRUCT<name VARCHAR, n INT>[]"""
    full = {
        "id": "full", "at": "2024-05-01T12:00:00.123456Z", "small": -7, "n": 8, "big": 2**62, "f": 0.5, "d": 0.1, "price": "12.50", "day": "2024-05-01",
        "flag": True, "names": ["b", None, "a"], "place": {"lat": 48.1, "lon": None}, "visits": [{"name": "x", "n": 1}, {"name": "y", "n": 2}],
    }
    query = "SELECT *, arrow_cast(id, 'Binary') AS raw FROM input"
    write(full, columns=columns, key="id, n", query=query)
    kinds = {c.column_name: (c.type, c.kind) for c in schema(session, keyspace)}
    types = {name: kind[0] for name, kind in kinds.items()}
    assert types == {
        "id": "text", "at": "timestamp", "small": "smallint", "n": "int", "big": "bigint", "f": "float", "d": "double", "price": "decimal", "day": "date",
        "flag": "boolean", "names": "frozen<list<text>>", "place": "frozen<output_place>", "visits": "frozen<list<frozen<output_visits>>>", "raw": "blob",
    }
    assert (kinds["id"][1], kinds["n"][1], kinds["at"][1]) == ("partition_key", "clustering", "regular")
    [row] = tables.rows(session, f"{keyspace}.output")
    place, visits = row.pop("place"), row.pop("visits")
    assert (place.lat, place.lon) == (48.1, None) and [(v.name, v.n) for v in visits] == [("x", 1), ("y", 2)]
    assert row.pop("day").date().isoformat() == "2024-05-01"
    assert row == {
        "id": "full", "at": utc("2024-05-01T12:00:00.123"), "small": -7, "n": 8, "big": 2**62, "f": 0.5, "d": 0.1, "price": Decimal("12.50"), "flag": True,
        "names": ["b", "a"], "raw": b"full",
    }


def test_a_newer_row_replaces_all_of_the_older_one(session, keyspace, write):
    write(ROW, {"user_id": "bob", "n": 1, "total": 2.5})
    write({"user_id": "ann", "n": 2}, {"user_id": "ann", "n": 3})
    rows = {row["user_id"]: row for row in tables.rows(session, f"{keyspace}.output")}
    assert rows == {
        "ann": {"user_id": "ann", "n": 3, "total": None, "at": None},
        "bob": {"user_id": "bob", "n": 1, "total": 2.5, "at": None},
    }


def test_appended_rows_are_inserted_by_key_and_the_last_one_counts(session, keyspace, write):
    write(*({"user_id": f"u{i % 500}", "n": i} for i in range(5000)), emit="append")
    rows = tables.rows(session, f"{keyspace}.output")
    assert {row["user_id"]: row["n"] for row in rows} == {f"u{i % 500}": i for i in range(4500, 5000)} and len(rows) == 500


def test_rows_that_are_no_longer_true_are_deleted(cassandra, riverrun, tmp_path, session, keyspace):
    query = "SELECT user_id, tumble(at, INTERVAL '1 hour')['start'] AS hour, count(*) AS n FROM input GROUP BY user_id, tumble(at, INTERVAL '1 hour') HAVING count(*) < 3"
    text = script(cassandra["CASSANDRA"], keyspace, COLUMNS + ", WATERMARK FOR at AS at - INTERVAL '1 hour'", "user_id, hour", query, watch=True)
    found = lambda: {row["user_id"]: row["n"] for row in tables.rows(session, f"{keyspace}.output")}  # noqa: E731
    row = lambda user: {"user_id": user, "at": "2024-05-01T12:00:00Z"}  # noqa: E731
    feed(tmp_path, row("ann"), row("ann"), row("bob"))
    with Run(riverrun, text, tmp_path) as run:
        run.started()
        until(lambda: found() == {"ann": 2, "bob": 1}, what=run.said)
        feed(tmp_path, row("ann"), row("bob"), name="b")
        until(lambda: found() == {"bob": 2}, what=run.said)
        assert run.stop() == 0, run.said()


# A table that is there.

THERE = {
    "other columns": ("CREATE TABLE {}.output (user_id text PRIMARY KEY, n bigint)", ["column total (double) is not in the table", "column at (timestamp) is not in the table"]),
    "another type": ("CREATE TABLE {}.output (user_id text PRIMARY KEY, n int, total double, at timestamp)", ["column n is int in the table, bigint here"]),
    "times as numbers": ("CREATE TABLE {}.output (user_id text PRIMARY KEY, n bigint, total double, at bigint)", ["column at is bigint in the table, timestamp here", "option 'timestamps'"]),
    "another key": ("CREATE TABLE {}.output (user_id text, n bigint, total double, at timestamp, PRIMARY KEY (user_id, n))", ["the primary key is (user_id, n) in the table, (user_id) here"]),
    "a static column": ("CREATE TABLE {}.output (user_id text, n bigint, total double static, at timestamp, PRIMARY KEY (user_id, n))", ["column total is static"]),
}


@pytest.mark.parametrize("there", THERE)
def test_a_table_that_does_not_fit_is_told_by_what_differs(session, made, write, there):
    statement, parts = THERE[there]
    session.execute(statement.format(made))
    said = write(ROW, fails=True)
    assert f"sink output: table {made}.output does not fit the rows" in said
    assert all(part in said for part in parts), said


def test_a_table_with_more_columns_and_a_partition_key_of_its_own_will_do(session, made, write):
    session.execute(f"CREATE TABLE {made}.output (user_id text, n bigint, total double, at timestamp, note text, PRIMARY KEY ((user_id, n)))")
    write(ROW, key="n, user_id")
    assert tables.rows(session, f"{made}.output")[0]["total"] == 1.5
    assert "the partition key is (user_id, n) in the table, (n) here" in write(ROW, key="n, user_id", partition_key="n", fails=True)


def test_a_list_that_is_not_frozen_is_refused(session, made, write):
    session.execute(f"CREATE TABLE {made}.output (user_id text PRIMARY KEY, names list<text>)")
    said = write({"user_id": "ann", "names": ["a"]}, columns="user_id VARCHAR, names VARCHAR[]", query="SELECT * FROM input", fails=True)
    assert "column names is list<text> in the table, which is not frozen" in said and "frozen<list<text>>" in said


# Each option.


def test_table_and_contact_points(session, keyspace, write, cassandra):
    write(ROW, table="other", address=f"127.0.0.1:1, {cassandra['CASSANDRA']}")
    assert len(tables.rows(session, f"{keyspace}.other")) == 1


def test_partition_key(session, keyspace, write):
    write(ROW, key="user_id, n, total", partition_key="n, user_id")
    kinds = {c.column_name: (c.kind, c.position) for c in schema(session, keyspace)}
    assert kinds == {"n": ("partition_key", 0), "user_id": ("partition_key", 1), "total": ("clustering", 0), "at": ("regular", -1)}


def test_create(session, keyspace, write):
    assert f"there is no keyspace {keyspace}" in write(ROW, create="false", fails=True)
    session.execute(f"CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}")
    assert f"there is no table {keyspace}.output" in write(ROW, create="false", fails=True)
    write(ROW)
    write(ROW, create="false")


@pytest.mark.parametrize(("given", "copies"), [("", {"datacenter1": "1"}), ("2", {"datacenter1": "2"}), ("datacenter1:3", {"datacenter1": "3"})])
def test_replication(session, keyspace, write, given, copies):
    write(ROW, replication=given, consistency="one")
    [row] = schema(session, keyspace, "keyspaces")
    assert dict(row.replication) == {"class": "org.apache.cassandra.locator.NetworkTopologyStrategy", **copies}


def test_compaction(session, keyspace, write):
    write(ROW, compaction="TimeWindowCompactionStrategy, compaction_window_unit:HOURS, compaction_window_size:2")
    [row] = schema(session, keyspace, "tables")
    assert row.compaction["class"].endswith("TimeWindowCompactionStrategy")
    assert (row.compaction["compaction_window_unit"], row.compaction["compaction_window_size"]) == ("HOURS", "2")


def test_ttl(session, keyspace, write):
    write(ROW, ttl="1 hour")
    [(left,)] = session.execute(f"SELECT ttl(total) FROM {keyspace}.output")
    assert 3000 < left <= 3600
    write({**ROW, "total": 2.5})
    [(left,)] = session.execute(f"SELECT ttl(total) FROM {keyspace}.output")
    assert left is None


def test_timestamps(session, keyspace, write):
    write(ROW, timestamps="bigint", key="user_id, at")
    [row] = tables.rows(session, f"{keyspace}.output")
    assert row["at"] == 1714564800123456


def test_null_keys(session, keyspace, write):
    said = write({"n": 1, "total": 2.5}, key="n, user_id", fails=True)
    assert "column user_id of the PRIMARY KEY is NULL" in said and "row (n = 1, user_id = )" in said
    write({"n": 1, "total": 2.5}, key="n, user_id", null_keys="empty")
    assert [(row["n"], row["user_id"]) for row in tables.rows(session, f"{keyspace}.output")] == [(1, "")]


def test_a_time_in_the_key_must_not_become_another(write):
    assert "column at of the PRIMARY KEY is a time with microseconds" in write(ROW, key="user_id, at", fails=True)


def test_consistency(cassandra, riverrun, tmp_path, session, made, write):
    """Three copies on one node: one is enough, or it is not."""
    session.execute(f"ALTER KEYSPACE {made} WITH replication = {{'class': 'NetworkTopologyStrategy', 'datacenter1': 3}}")
    write(ROW, consistency="local_one")
    feed(tmp_path, {**ROW, "n": 2})
    with Run(riverrun, script(cassandra["CASSANDRA"], made, COLUMNS, "user_id", ALL), tmp_path) as run:
        run.wait_for("Cannot achieve consistency level LOCAL_QUORUM")
        assert "trying again until it passes" in run.said()
        session.execute(f"ALTER KEYSPACE {made} WITH replication = {{'class': 'NetworkTopologyStrategy', 'datacenter1': 1}}")
        assert run.ends() == 0, run.said()
    assert tables.rows(session, f"{made}.output")[0]["n"] == 2


def test_datacenter(session, keyspace, write):
    said = write(ROW, datacenter="nowhere", fails=True)
    assert "no datacenter 'nowhere'" in said and "it has datacenter1" in said
    write(ROW, datacenter="datacenter1")
    assert len(tables.rows(session, f"{keyspace}.output")) == 1


def test_concurrency(cassandra, session, keyspace, write):
    most = {}
    for concurrency in (1, 8):
        proxy = Proxy(cassandra["CASSANDRA"], slow=0.001)
        write(*({"user_id": f"u{i}", "n": i} for i in range(300)), address=proxy.address, concurrency=concurrency)
        most[concurrency] = proxy.most
        proxy.close()
    assert most[1] == 1 and 1 < most[8] <= 8, most
    assert len(tables.rows(session, f"{keyspace}.output")) == 300


def test_request_timeout(cassandra, riverrun, tmp_path, session, keyspace):
    proxy = Proxy(cassandra["CASSANDRA"])
    proxy.silent.set()
    feed(tmp_path, ROW)
    with Run(riverrun, script(proxy.address, keyspace, COLUMNS, "user_id", ALL, request_timeout="500 ms"), tmp_path) as run:
        run.wait_for("no answer for 0.5 s")
        proxy.silent.clear()
        assert run.ends() == 0, run.said()
    proxy.close()
    assert len(tables.rows(session, f"{keyspace}.output")) == 1


# Ways in, and what is told of wrong ones.


def test_a_node_that_is_not_there(write):
    said = write(ROW, address="127.0.0.1:1", fails=True)
    assert "sink output: Cassandra at 127.0.0.1:1 cannot be reached" in said and "contact_points" in said


def test_a_name_that_is_not_known(write):
    assert "no address is known for no.such.host.invalid:9042" in write(ROW, address="no.such.host.invalid:9042", fails=True)


def test_tls(cassandra, session, keyspace, write, monkeypatch):
    write(ROW, tls="true", ssl_ca_location=cassandra["CASSANDRA_CA"])
    assert len(tables.rows(session, f"{keyspace}.output")) == 1
    for wrong in ({"ssl_ca_location": cassandra["CASSANDRA_STRANGER_CA"]}, {}):
        said = write(ROW, tls="true", fails=True, **wrong)
        assert "TLS failed" in said and "option 'ssl_ca_location'" in said
    monkeypatch.setenv("SSL_CERT_FILE", cassandra["CASSANDRA_CA"])
    write(ROW, tls="true")


def test_a_certificate_for_another_address(cassandra, session, keyspace, write):
    proxy = Proxy(cassandra["CASSANDRA"], host="127.0.0.2", frames=False)
    given = {"address": proxy.address, "tls": "true", "ssl_ca_location": cassandra["CASSANDRA_CA"]}
    said = write(ROW, fails=True, **given)
    assert "its certificate is not for this address" in said
    write(ROW, ssl_endpoint_identification="none", **given)
    proxy.close()
    assert len(tables.rows(session, f"{keyspace}.output")) == 1


def test_an_expired_certificate(cassandra, write, tmp_path):
    pem, key = certificate(tmp_path, expired=True)
    with contextlib.closing(Proxy(cassandra["CASSANDRA"], frames=False, tls=(pem, key))) as proxy:
        said = write(ROW, address=proxy.address, tls="true", ssl_ca_location=pem, fails=True)
    assert proxy.address in said and "its certificate has expired: renew it" in said


def test_a_node_that_is_away_at_the_start_is_waited_for(cassandra, riverrun, tmp_path, session, made):
    """And what is wrong with the table is told when it is found."""
    free = Proxy(cassandra["CASSANDRA"])
    free.close()
    port = int(free.address.split(":")[1])
    feed(tmp_path, ROW)
    for there in ("CREATE TABLE {}.output (user_id text PRIMARY KEY, n int)", None):
        session.execute(f"DROP TABLE IF EXISTS {made}.output", timeout=60)
        if there:
            session.execute(there.format(made), timeout=60)
        with Run(riverrun, script(free.address, made, COLUMNS, "user_id", ALL, watch=True), tmp_path) as run:
            run.started().wait_for(f"Cassandra at {free.address} cannot be reached")
            time.sleep(3)
            assert run.said().count("cannot be reached") == 1, "told once"
            with contextlib.closing(Proxy(cassandra["CASSANDRA"], port=port)):
                if there:
                    assert run.ends() > 0, run.said()
                    assert "sink output: table" in run.said() and "does not fit the rows" in run.said()
                else:
                    run.wait_for("sink output: works again")
                    until(lambda: len(tables.rows(session, f"{made}.output")) == 1, what=run.said)
                    assert run.stop() == 0, run.said()


@pytest.mark.long
def test_logins_and_certificates(apart, riverrun, tmp_path):
    apart.run("start", "cassandra", "auth=password", "tls=mutual")
    env = apart.env()
    feed(tmp_path, ROW)
    certificate = {"ssl_certificate_location": env["CASSANDRA_CLIENT_CERTIFICATE"], "ssl_key_location": env["CASSANDRA_CLIENT_KEY"]}
    tls = {"tls": "true", "ssl_ca_location": env["CASSANDRA_CA"], **certificate}
    login = {"username": env["CASSANDRA_USERNAME"], "password": env["CASSANDRA_PASSWORD"]}

    def write(fails=True, **options):
        return bounded(riverrun, script(env["CASSANDRA"], "ks", COLUMNS, "user_id", ALL, **options), tmp_path, fails=fails, log="debug")

    write(fails=False, **tls, **login)
    said = write(**tls, username=login["username"], password="hunter2")
    assert "does not let in user 'cassandra'" in said and "hunter2" not in said
    assert "asks for a login" in write(**tls)
    assert "add tls = 'true'" in write(**login)
    bare = {name: value for name, value in tls.items() if name not in certificate}
    assert "ssl_certificate_location" in write(**bare, **login)


# Repeated without harm.


@pytest.mark.parametrize("emit", ["append", "update"])
def test_an_epoch_that_is_repeated_is_written_with_the_same_timestamps(cassandra, riverrun, tmp_path, session, keyspace, monkeypatch, emit):
    settings = "SET checkpoint.interval = '1 hour';"
    text = script(cassandra["CASSANDRA"], keyspace, COLUMNS, "user_id", ALL, settings, emit=emit)
    feed(tmp_path, *({"user_id": f"u{i}", "n": i, "total": i / 2} for i in range(20_000)))
    written = lambda: {row.user_id: (row.n, row.w) for row in session.execute(f"SELECT user_id, n, writetime(n) AS w FROM {keyspace}.output")}  # noqa: E731
    monkeypatch.setenv("RIVERRUN_FAILPOINT", "cassandra.written:1")
    with Run(riverrun, text, tmp_path) as run:
        assert run.ends() == -signal.SIGKILL, run.said()
    monkeypatch.delenv("RIVERRUN_FAILPOINT")
    first = written()
    assert first
    # A zombie's late write, and one of somebody who is behind.
    user, (n, at) = next(iter(first.items()))
    session.execute(f"INSERT INTO {keyspace}.output (user_id, n) VALUES ('{user}', -1) USING TIMESTAMP {at - 2}")
    session.execute(f"DELETE FROM {keyspace}.output USING TIMESTAMP {at - 1} WHERE user_id = '{user}'")
    with Run(riverrun, text, tmp_path) as run:
        assert run.ends() == 0, run.said()
        assert any(what in run.said() for what in ("are run again from the journal", "outputs of the checkpoint that it did not have"))
    last = written()
    assert {user: n for user, (n, _) in last.items()} == {f"u{i}": i for i in range(20_000)}
    # By key, epochs that wait are merged and have the last one's time; another life may merge others, and nothing becomes older.
    wrong = {user: (row, last[user]) for user, row in first.items() if (last[user] < row if emit == "update" else last[user] != row)}
    assert not wrong, list(wrong.items())[:5]
    assert all(abs(at - time.time() * 1e6) < 600e6 for _, at in last.values()), "times of now, in microseconds"


def test_a_table_at_rest_is_read_by_sql(cassandra, riverrun, tmp_path, keyspace, write):
    write(*({"user_id": f"u{i}", "n": i, "total": i / 2, "at": ROW["at"]} for i in range(10_000)))
    (tmp_path / "script.sql").write_text(script(cassandra["CASSANDRA"], keyspace, COLUMNS, "user_id", ALL))
    query = "SELECT count(*) AS c, sum(n) AS n, sum(total) AS t, max(at) AS at FROM output"
    command = [riverrun, "sql", "--script", "script.sql", "--data", tmp_path / "none", "--format", "json", query]
    said = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert '"c":10000,"n":49995000,"t":24997500.0,"at":"2024-05-01T12:00:00.123' in said.stdout.replace(" ", ""), said


@pytest.mark.long
def test_rows_are_looked_up_by_key(cassandra, example, keyspace, write):
    """The read that a join asks for, by the example program."""
    write(*({"user_id": f"u{i}", "n": i, "total": i / 2, "at": "2024-05-01T12:00:00Z"} for i in range(5000)), key="user_id, n", timestamps="bigint")
    columns = ["user_id:Utf8", "n:Int64", "total:Float64", "at:Int64"]
    asked = [{"user_id": f"u{i}", "n": i if i % 3 else -1} for i in range(4000, 0, -1)]
    done = subprocess.run(
        [example("cassandra_lookup"), cassandra["CASSANDRA"], keyspace, "output", "user_id,n", *columns],
        input="".join(json.dumps(key) + "\n" for key in asked), capture_output=True, text=True, check=False, cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    at = 1714564800000000
    assert rows == [
        {**key, "total": i / 2, "at": at, "found": True} if i % 3 else {"found": False} for i, key in zip(range(4000, 0, -1), asked, strict=True)
    ]
