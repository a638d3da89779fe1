"""Scripts that write to Cassandra, and what the tables hold then, by the Python driver."""

import json
import uuid
from datetime import datetime

from test_cassandra import connect


def keyspace():
    """A name that no other test has."""
    return f"test_{uuid.uuid4().hex[:12]}"


def script(address, keyspace, columns, key, query, settings="", watch=False, **options):
    """Reads JSON lines with these columns from `in/`, and inserts a query over them into `output`."""
    given = {"contact_points": address, "keyspace": keyspace, **options}
    given = ", ".join(f"{name} = '{value}'" for name, value in given.items())
    return f"""
    SET pipeline.name = 'test';
    {settings}
    CREATE TABLE input ({columns}) WITH (connector = 'filesystem', path = 'in/*.jsonl', format = 'json', watch = '{str(watch).lower()}', poll_interval = '100 ms');
    CREATE TABLE output (PRIMARY KEY ({key})) WITH (connector = 'cassandra', {given});
    INSERT INTO output {query};
    """


def feed(folder, *rows, name="a"):
    """Rows for the script, complete when they appear."""
    (folder / "in").mkdir(exist_ok=True)
    part = folder / f"{name}.part"
    part.write_text("".join(json.dumps(row) + "\n" for row in rows))
    part.rename(folder / "in" / f"{name}.jsonl")


def rows(session, table):
    """All rows of a table as dictionaries."""
    session.default_fetch_size = 2000
    return [row._asdict() for row in session.execute(f"SELECT * FROM {table}", timeout=120)]


def drop(address, *keyspaces):
    cluster, session = connect(address)
    for name in keyspaces:
        session.execute(f"DROP KEYSPACE IF EXISTS {name}", timeout=60)
    cluster.shutdown()


def utc(text):
    return datetime.fromisoformat(text)
