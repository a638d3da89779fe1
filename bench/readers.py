"""Runs bench/readers: the pipeline once for each number of readers; prints rows/s and what the readers got."""

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time

riverrun, work, seconds, *counts = sys.argv[1:]
WARM = 5  # seconds before anything is counted


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    return json.loads(connection.getresponse().read())


def read(port, number, until, got):
    """One reader: asks again as soon as it has its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    asked, slowest = 0, 0.0
    while time.monotonic() < until:
        began = time.monotonic()
        if (asked + number) % 2:
            connection.request("GET", f"/api/v1/tables/totals/rows?key=user_{(asked * 7 + number) % 10000}")
        else:
            query = {"query": f"SELECT n, total FROM totals WHERE user_id = 'user_{(asked * 7 + number) % 10000}'"}
            connection.request("POST", "/api/v1/sql", json.dumps(query), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        asked, slowest = asked + 1, max(slowest, time.monotonic() - began)
    got.append((asked, slowest))


def run(readers):
    data = os.path.join(work, "data")
    shutil.rmtree(data, ignore_errors=True)
    log = open(os.path.join(work, "log"), "w+", encoding="utf-8")
    process = subprocess.Popen([riverrun, "run", f"{work}/readers.sql", "--set", f"DATA_DIR={data}"], stderr=log)
    try:
        while not (found := re.search(r"dashboard on http://127\.0\.0\.1:(\d+)", open(log.name, encoding="utf-8").read())):
            time.sleep(0.1)
        port = int(found[1])
        time.sleep(WARM)
        before, began, got = get(port, "/api/v1/pipeline")["rows_read"], time.monotonic(), []
        threads = [threading.Thread(target=read, args=(port, n, began + float(seconds), got)) for n in range(readers)]
        [thread.start() for thread in threads]
        time.sleep(max(0.0, began + float(seconds) - time.monotonic()))
        rate = (get(port, "/api/v1/pipeline")["rows_read"] - before) / (time.monotonic() - began)
        [thread.join() for thread in threads]
        answers, slowest = sum(asked for asked, _ in got), max((slow for _, slow in got), default=0)
        print(f"{readers:>4} readers {rate:>10,.0f} rows/s {answers / float(seconds):>8,.0f} answers/s, slowest {slowest * 1e3:,.0f} ms", flush=True)
    finally:
        process.terminate()
        process.wait()


for count in counts:
    run(int(count))
