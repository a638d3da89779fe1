"""The measuring of bench/cassandra: see there. Run by it, with the node up and the modules of services/tests to be found."""

import argparse
import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

import cassandra_tables as tables
from runs import Run
from test_cassandra import connect

ROOT = Path(__file__).parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
KEYSPACE = "riverrun_bench"
COLUMNS = """transaction_id VARCHAR NOT NULL, user_id VARCHAR NOT NULL, amount DOUBLE NOT NULL, merchant VARCHAR, category VARCHAR,
  timestamp TIMESTAMP NOT NULL, location STRUCT<lat DOUBLE, lon DOUBLE>, device_type VARCHAR, WATERMARK FOR timestamp AS timestamp - INTERVAL '10 minutes'"""
WINDOWS = """SELECT tumble(timestamp, INTERVAL '5 minutes')['start'] AS window_start, tumble(timestamp, INTERVAL '5 minutes')['end'] AS window_end, user_id,
  category, count(*) AS n, sum(amount) AS total, avg(amount) AS average, max(amount) AS most, min(amount) AS least, array_agg(merchant) AS merchants
  FROM transactions GROUP BY tumble(timestamp, INTERVAL '5 minutes'), user_id, category"""


def services(*words):
    return json.loads(subprocess.run([ROOT / "services" / "run", *words, "--json"], check=True, capture_output=True, text=True).stdout)


def cpu(pid):
    """Seconds of processor that a process and its threads used so far (proc(5): utime and stime, fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(name, arguments, session, node, key, query):
    table, address = name.split()[0], services("env")["CASSANDRA"]
    script = f"""
    CREATE TABLE transactions ({COLUMNS}) WITH (connector = 'generator', count = {arguments.rows}, users = 100000, partitions = 2, events_per_second = 5000);
    CREATE TABLE {table}_table (PRIMARY KEY ({key})) WITH (connector = 'cassandra', contact_points = '{address}', keyspace = '{KEYSPACE}',
      concurrency = {arguments.concurrency}, null_keys = 'empty');
    INSERT INTO {table}_table {query};
    """
    with tempfile.TemporaryDirectory(prefix="riverrun-bench-") as folder:
        java, began = cpu(node), time.monotonic()
        with Run(os.environ["RIVERRUN"], script, Path(folder), "--bounded", "--profile") as run:
            own = 0.0
            while run.process.poll() is None:
                try:
                    own = cpu(run.process.pid)
                except (FileNotFoundError, ProcessLookupError):
                    break
                time.sleep(0.02)
            seconds = time.monotonic() - began
            assert run.ends() == 0, run.said()
            said = run.said()
        if arguments.profile:
            print(said)
    rows = len(tables.rows(session, f"{KEYSPACE}.{table}_table"))
    written = int(re.search(rf"wrote +{table}_table +([\d,]+) rows", said).group(1).replace(",", ""))
    print(f"\n== {name}\n    {arguments.rows:,} events, {written:,} rows written, {rows:,} rows there: {written / seconds:,.0f} rows/s in {seconds:.1f} s (start and schema included)")
    for who, spent in (("riverrun", own), ("cassandra", cpu(node) - java)):
        print(f"    {who:<12} {spent:8.1f} s of processor   {100 * spent / seconds / os.cpu_count():5.1f} % of {os.cpu_count()} cores")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    cluster, session = connect(services("env")["CASSANDRA"])
    session.execute(f"DROP KEYSPACE IF EXISTS {KEYSPACE}", timeout=60)
    node = next(row["pid"] for row in services("status") if row["name"] == "cassandra")
    measure("transactions (a row per key, each key once)", arguments, session, node, "transaction_id", "SELECT * FROM transactions")
    measure("transactions again (the node is warm)", arguments, session, node, "transaction_id", "SELECT * FROM transactions")
    measure("windows (changed windows, with lists)", arguments, session, node, "user_id, category, window_start", WINDOWS)
    cluster.shutdown()


if __name__ == "__main__":
    main()
