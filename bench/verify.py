"""Compares what a bounded run left behind with DuckDB's answer to the same queries over the same file.

verify.py INPUT.jsonl DATA_DIR RIVERRUN SCRIPT: exits 1 at the first difference.
Needs the packages duckdb and deltalake: an engine and a Delta reader that share no code with ours.
"""

import json
import subprocess
import sys

import duckdb
from deltalake import DeltaTable

source, data, riverrun, script = sys.argv[1:]
db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")
db.execute(f"""
CREATE TABLE t AS SELECT row_number() OVER () AS seq, * FROM read_json('{source}', format = 'newline_delimited', columns = {{
  transaction_id: 'VARCHAR', user_id: 'VARCHAR', amount: 'DOUBLE', merchant: 'VARCHAR', category: 'VARCHAR',
  timestamp: 'TIMESTAMP', location: 'STRUCT(lat DOUBLE, lon DOUBLE)', device_type: 'VARCHAR'}})
""")
total = db.execute("SELECT count(*) FROM t").fetchall()[0][0]


def check(what, ours, theirs):
    same = ours == theirs or (isinstance(ours, float) and abs(ours - theirs) <= 1e-9 * max(1.0, abs(theirs)))
    print(f"  {what:<44} {ours!s:>24} {'equals DuckDB' if same else f'DIFFERS: {theirs}'}")
    if not same:
        sys.exit(1)


def ask(query):
    command = [riverrun, "sql", "--script", script, "--data", data, "--set", f"LAKE={data}/lake", "--format", "json", query]
    return [json.loads(line) for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()]


lake = DeltaTable(f"{data}/lake/transactions").to_pyarrow_dataset().to_table(columns=["transaction_id", "amount"])
db.register("lake", lake)
check("rows in the lake", db.execute("SELECT count(*) FROM lake").fetchall()[0][0], total)
check("rows not in the lake", db.execute("SELECT count(*) FROM (SELECT transaction_id, amount FROM t EXCEPT ALL SELECT * FROM lake)").fetchall()[0][0], 0)

q1 = """SELECT count(*) AS groups, sum(n) AS rows, sum(total) AS total, sum(average) AS average, sum(least) AS least, sum(most) AS most, sum(merchants) AS merchants FROM (
  SELECT count(*) AS n, sum(amount) AS total, avg(amount) AS average, min(amount) AS least, max(amount) AS most, count(merchant) AS merchants
  FROM t GROUP BY time_bucket(INTERVAL '5 minutes', timestamp), user_id, category)"""
ours = ask("""SELECT count(*) AS groups, sum(transaction_count) AS rows, sum(total_amount) AS total, sum(avg_amount) AS average, sum(min_amount) AS least,
  sum(max_amount) AS most, sum(array_length(merchants)) AS merchants FROM transaction_aggregates""")[0]
theirs = db.execute(q1).fetchall()[0]
for name, value in zip(["groups", "rows", "total", "average", "least", "most", "merchants"], theirs):
    check(f"query 1, {name}", ours[name], type(ours[name])(value))

q2 = """SELECT count(*) AS n, coalesce(sum(c), 0) AS c, coalesce(sum(s), 0) AS s FROM (
  SELECT count(*) AS c, sum(amount) AS s FROM (SELECT *, unnest([time_bucket(INTERVAL '30 seconds', timestamp), time_bucket(INTERVAL '30 seconds', timestamp) - INTERVAL '30 seconds']) AS w FROM t)
  GROUP BY w, user_id HAVING count(*) > 5)"""
ours = ask("SELECT count(*) AS n, coalesce(sum(txn_count), 0) AS c, coalesce(sum(total_spent), 0.0) AS s FROM rapid_users")[0]
theirs = db.execute(q2).fetchall()[0]
for name, value in zip("ncs", theirs):
    check(f"query 2, {name}", ours[name], type(ours[name])(value))

# What was flagged as it came: each transaction against the greatest earlier one of its user among those before it in the file.
q3 = """WITH p AS (SELECT a.*, b.timestamp AS pt, b.location AS pl FROM t a ASOF LEFT JOIN t b ON a.user_id = b.user_id AND a.timestamp > b.timestamp),
m AS (SELECT *, epoch(timestamp) - epoch(pt) AS dt, 2 * 6371 * asin(least(1, sqrt(pow(sin(radians(location.lat - pl.lat) / 2), 2)
  + cos(radians(location.lat)) * cos(radians(pl.lat)) * pow(sin(radians(location.lon - pl.lon) / 2), 2)))) AS km FROM p)
SELECT count(*) FROM m WHERE amount > 10000 OR (dt > 0 AND km / dt * 3600 > 800) OR (dt < 60 AND km > 50)"""
ours = ask("SELECT count(*) AS n, count(DISTINCT transaction_id) AS d FROM fraud_alerts")[0]
check("query 3, alerts are distinct", ours["n"], ours["d"])
check("query 3, alerts", ours["n"], db.execute(q3).fetchall()[0][0])
