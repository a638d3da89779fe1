"""Cassandra keeps what has the newest write timestamp, whatever comes last: what our sink's replays rest upon."""

import ssl
import uuid

import pytest
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.policies import RoundRobinPolicy


def connect(address, **more):
    """A session with one node; gives the cluster too, to shut it down."""
    host, port = address.split(":")
    profiles = {EXEC_PROFILE_DEFAULT: ExecutionProfile(load_balancing_policy=RoundRobinPolicy(), request_timeout=30)}
    cluster = Cluster([host], port=int(port), execution_profiles=profiles, protocol_version=5, connect_timeout=10, **more)
    return cluster, cluster.connect()


@pytest.fixture
def session(cassandra):
    """A session with a keyspace of its own."""
    cluster, session = connect(cassandra["CASSANDRA"])
    keyspace = f"test_{uuid.uuid4().hex[:12]}"
    session.execute(f"CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}")
    session.set_keyspace(keyspace)
    yield session
    cluster.shutdown()


@pytest.fixture
def totals(session):
    """Tells the rows of a table of totals by user."""
    session.execute("CREATE TABLE totals (user_id text PRIMARY KEY, amount double)")
    return lambda: {row.user_id: row.amount for row in session.execute("SELECT user_id, amount FROM totals")}


def insert(session, amount, timestamp):
    session.execute(f"INSERT INTO totals (user_id, amount) VALUES ('ann', {amount}) USING TIMESTAMP {timestamp}")


def test_an_older_write_loses(session, totals):
    insert(session, 2.0, timestamp=2000)
    insert(session, 1.0, timestamp=1000)
    assert totals() == {"ann": 2.0}
    insert(session, 3.0, timestamp=3000)
    assert totals() == {"ann": 3.0}


def test_an_older_delete_loses_and_a_delete_wins_a_tie(session, totals):
    insert(session, 2.0, timestamp=2000)
    session.execute("DELETE FROM totals USING TIMESTAMP 1999 WHERE user_id = 'ann'")
    assert totals() == {"ann": 2.0}
    session.execute("DELETE FROM totals USING TIMESTAMP 2000 WHERE user_id = 'ann'")
    assert totals() == {}
    insert(session, 2.0, timestamp=2000)
    assert totals() == {}
    insert(session, 2.0, timestamp=2001)
    assert totals() == {"ann": 2.0}


def test_writes_survive_a_freeze(session, totals, services):
    services.run("freeze", "cassandra")
    written = session.execute_async("INSERT INTO totals (user_id, amount) VALUES ('ann', 1.0)")
    services.run("thaw", "cassandra")
    written.result()
    assert totals() == {"ann": 1.0}


def test_tls(cassandra):
    def over_tls(authority):
        context = ssl.create_default_context(cafile=cassandra[authority])
        return connect(cassandra["CASSANDRA"], ssl_context=context, ssl_options={"server_hostname": "127.0.0.1"})

    cluster, session = over_tls("CASSANDRA_CA")
    assert session.execute("SELECT release_version FROM system.local").one().release_version.startswith("5.")
    cluster.shutdown()
    with pytest.raises(NoHostAvailable, match="CERTIFICATE_VERIFY_FAILED"):
        over_tls("CASSANDRA_STRANGER_CA")


@pytest.mark.long
def test_password_and_required_tls(apart):
    from cassandra.auth import PlainTextAuthProvider

    apart.run("start", "cassandra", "auth=password", "tls=required")
    env = apart.env()

    def log_in(password):
        tls = ssl.create_default_context(cafile=env["CASSANDRA_CA"])
        login = PlainTextAuthProvider(env["CASSANDRA_USERNAME"], password)
        return connect(env["CASSANDRA"], ssl_context=tls, ssl_options={"server_hostname": "127.0.0.1"}, auth_provider=login)

    cluster, _ = log_in(env["CASSANDRA_PASSWORD"])
    cluster.shutdown()
    with pytest.raises(NoHostAvailable, match="Bad credentials|incorrect"):
        log_in("wrong")
    with pytest.raises(NoHostAvailable):
        connect(env["CASSANDRA"])
