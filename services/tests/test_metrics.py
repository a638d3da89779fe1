"""A running pipeline, driven to known counts: /metrics, progress and top tell the same, and a real Prometheus reads them."""

import json
import re
import subprocess
import time
from pathlib import Path

import pytest
import requests
from conftest import ROOT
from runs import Run

PATIENCE = 30
SCRIPT = """
SET pipeline.name = 'trial';
CREATE TABLE events (who VARCHAR NOT NULL, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t - INTERVAL '20 seconds')
WITH (connector = 'filesystem', path = '${INPUT}', watch = true, bad_records = 'drop');
CREATE TABLE copy WITH (connector = 'blackhole');
INSERT INTO copy SELECT * FROM events;
"""


@pytest.fixture
def pipeline(riverrun, tmp_path):
    """50 rows in time, 7 late ones, 3 malformed records; the address of the program that has read them."""
    record = '{"who": "a", "t": "2024-05-01T12:%02d:%02dZ"}\n'
    rows = [record % divmod(second, 60) for second in [*range(100, 150), *range(80, 87)]]
    (tmp_path / "in.jsonl").write_text("".join(rows) + "not json\n[]\n{\n")
    with Run(riverrun, SCRIPT, tmp_path, INPUT=tmp_path / "in.jsonl") as run:
        address = wait_for(lambda: re.search(r"http://(127\.0\.0\.1:\d+)", run.said()), run.said)[1]
        wait_for(lambda: 'riverrun_sink_rows_total{pipeline="trial",sink="copy"} 57' in metrics(address), run.said)
        yield address


def wait_for(condition, explain=lambda: ""):
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, explain()
        time.sleep(0.1)
    return value


def metrics(address):
    return requests.get(f"http://{address}/metrics", timeout=PATIENCE).text


def test_promtool_finds_no_fault(pipeline, prometheus):
    check = [prometheus["PROMTOOL"], "check", "metrics"]
    told = subprocess.run(check, input=metrics(pipeline), capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout + told.stderr) == (0, "")


def test_prometheus_reads_the_counts(pipeline, prometheus):
    (Path(prometheus["PROMETHEUS_TARGETS"]) / "trial.json").write_text(json.dumps([{"targets": [pipeline]}]))

    def value(query):
        answer = requests.get(f"{prometheus['PROMETHEUS_URL']}/api/v1/query", params={"query": query}, timeout=PATIENCE)
        return [sample["value"][1] for sample in answer.json()["data"]["result"]]

    wait_for(lambda: value('riverrun_late_rows_total{pipeline="trial",source="events"}') == ["7"])
    assert value('riverrun_dead_letters_total{pipeline="trial",reason="malformed"}') == ["3"]
    assert value('riverrun_ready{pipeline="trial"}') == ["1"]
    # The last row in time was of 12:02:29; the watermark is 20 seconds behind it.
    assert value('riverrun_source_watermark_seconds{pipeline="trial"}') == ["1714564929"]


def test_prometheus_answers_every_query_of_the_grafana_dashboard(pipeline, prometheus):
    target = Path(prometheus["PROMETHEUS_TARGETS"]) / "trial.json"
    target.write_text(json.dumps([{"targets": [pipeline]}]))

    def ask(query):
        for name, value in {"$__rate_interval": "10s", "$__range": "1m", "$pipeline": "trial", "$instance": pipeline}.items():
            query = query.replace(name, value)
        answer = requests.get(f"{prometheus['PROMETHEUS_URL']}/api/v1/query", params={"query": query}, timeout=PATIENCE).json()
        assert answer["status"] == "success", (query, answer)
        return answer["data"]["result"]

    wait_for(lambda: len(ask('rate(process_cpu_seconds_total{instance="$instance"}[$__rate_interval])')) == 1)
    panels = json.loads((ROOT / "deploy" / "grafana" / "riverrun.json").read_text())["panels"]
    empty = {panel["title"] for panel in panels for target in panel.get("targets", []) if not ask(target["expr"])}
    # Files have no time of their own, this pipeline keeps no checkpoint and has no operator; and nothing was slow meanwhile.
    histograms = {"Latency p99", "Latency by sink", "Epochs", "Journal commits", "Flushes", "Writing a checkpoint"}
    operators = {"Operators' rows", "Late rows that operators dropped", "Operators' time", "State in memory", "State on disk", "Rows of state"}
    assert empty <= histograms | operators | {"Lag", "Lag by partition", "Oldest checkpoint", "Age of the last checkpoint"}, empty


def test_metrics_progress_and_top_tell_the_same(pipeline, riverrun, tmp_path):
    text = metrics(pipeline)
    sources = lambda: requests.get(f"http://{pipeline}/progress/live", timeout=PATIENCE).json()["sources"]
    # What is live is looked at every two seconds.
    wait_for(lambda: sources()[0]["num_input_rows_total"] == 60)
    source = sources()[0]
    assert source["num_late_rows_total"] == 7
    assert source["bad_records_total"] == {"malformed": 3}
    assert 'riverrun_source_records_total{pipeline="trial",source="events"} 60' in text
    assert 'riverrun_late_rows_total{pipeline="trial",source="events"} 7' in text
    assert 'riverrun_dead_letters_total{pipeline="trial",source="events",reason="malformed"} 3' in text
    top = subprocess.run([riverrun, "top", "--once", "--data", tmp_path / "data"], capture_output=True, text=True, check=False)
    assert top.returncode == 0, top.stderr
    events = next(line for line in top.stdout.splitlines() if line.split()[:1] == ["events"])
    assert {"60", "7", "3"} <= set(events.split()), top.stdout
