"""Prometheus scrapes what its directory of targets names; promtool checks metrics."""

import http.server
import json
import subprocess
import threading
import time
from pathlib import Path

import pytest
import requests

PATIENCE = 30
METRICS = "# HELP answers_total Answers given.\n# TYPE answers_total counter\nanswers_total 42\n"


@pytest.fixture
def target():
    """The address of a small target."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(METRICS.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_target_is_scraped(prometheus, target):
    named = Path(prometheus["PROMETHEUS_TARGETS"]) / "test.json"
    named.write_text(json.dumps([{"targets": [target], "labels": {"test": "yes"}}]))
    end = time.monotonic() + PATIENCE
    result = []
    while not result and time.monotonic() < end:
        time.sleep(0.1)
        answer = requests.get(f"{prometheus['PROMETHEUS_URL']}/api/v1/query", params={"query": "answers_total"}, timeout=PATIENCE)
        result = answer.json()["data"]["result"]
    named.unlink()
    assert result, f"{target} was not scraped within {PATIENCE} s"
    assert result[0]["value"][1] == "42"
    assert result[0]["metric"] == {"__name__": "answers_total", "instance": target, "job": "riverrun", "test": "yes"}


def promtool(prometheus, metrics):
    return subprocess.run([prometheus["PROMTOOL"], "check", "metrics"], input=metrics, capture_output=True, text=True, check=False)


def test_promtool_tells_good_metrics_from_bad(prometheus):
    assert promtool(prometheus, METRICS).returncode == 0
    bad = promtool(prometheus, METRICS.replace("answers_total", "answers"))
    assert bad.returncode != 0
    assert "counter metrics should have" in bad.stderr
