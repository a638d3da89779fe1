"""Alert rules: each fires when it must and not before (promtool, in simulated time); five of them fire in a real Prometheus that scrapes
a real pipeline in trouble."""

import json
import random
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
import requests
from confluent_kafka import Producer
from conftest import ROOT
from kafka_clients import PATIENCE, new_topic
from runs import Run, until

RULES = ROOT / "deploy" / "prometheus" / "riverrun.rules.yml"
NAMES = re.findall(r"- alert: (\w+)", RULES.read_text())

P = 'pipeline="p",instance="i"'
SOURCE = f'{P},source="s"'
PARTITION = SOURCE + ',partition="%d"'
SINK = f'{P},sink="k"'


def lag(values):
    return {f"riverrun_source_lag_records{{{PARTITION % 0}}}": values}


def watermarks(first, second, records="0+1000x60", assigned=1):
    """Two partitions."""
    return {
        f"riverrun_source_watermark_seconds{{{PARTITION % 0}}}": first,
        f"riverrun_source_watermark_seconds{{{PARTITION % 1}}}": second,
        f"riverrun_source_assigned{{{PARTITION % 0}}}": "1x60",
        f"riverrun_source_assigned{{{PARTITION % 1}}}": f"{assigned}x60",
        f"riverrun_source_records_total{{{SOURCE}}}": records,
    }


def late(rows):
    return {f"riverrun_late_rows_total{{{SOURCE}}}": rows, f"riverrun_source_rows_total{{{SOURCE}}}": "0+1000x60"}


def checkpoint(values, epochs="0+100x60", interval="10x60"):
    """No interval: a run that keeps no checkpoints. No values: none was written."""
    series = {"start_timestamp_seconds": "0x60", "checkpoint_interval_seconds": interval, "checkpoint_last_success_timestamp_seconds": values, "epochs_total": epochs}
    return {f"riverrun_{name}{{{P}}}": value for name, value in series.items() if value}


# Alert, series of a value every 30 seconds, minute at which it is quiet yet, minute at which it fires (None: never).
CASES = [
    ("RiverrunInstanceDown", {'up{job="riverrun",instance="i"}': "1x10 0x50"}, 5, 8),
    ("RiverrunInstanceDown", {'up{job="riverrun",instance="i"}': "1x10 0 1x50"}, 5, None),
    ("RiverrunNotLive", {f"riverrun_live{{{P}}}": "1x10 0x50"}, 5, 8),
    ("RiverrunNotReady", {f"riverrun_ready{{{P}}}": "1x10 0x50"}, 9, 12),
    ("RiverrunLagGrowing", lag("0+100x60"), 14, 20),
    ("RiverrunLagGrowing", lag("50000-100x60"), 14, None),  # being worked off
    ("RiverrunLagGrowing", lag("10 500 10 900 10 500 10 300 10 200 500 10 900 10 500 10 300 10 200 500 10 900 10 500"), 5, None),
    ("RiverrunWatermarkStuck", watermarks("1000+30x60", "1000x60"), 3, 8),
    ("RiverrunWatermarkStuck", watermarks("1000+30x60", "900+30x60"), 3, None),
    ("RiverrunWatermarkStuck", watermarks("1000+30x60", "1000x60", assigned=0), 3, None),  # another instance reads it
    ("RiverrunWatermarkStuck", watermarks("1000x60", "1000x60", records="500x60"), 3, None),  # nothing comes
    ("RiverrunLateRows", late("0+50x60"), 5, 15),
    ("RiverrunLateRows", late("0+5x60"), 5, None),
    ("RiverrunDeadLetters", {f'riverrun_dead_letters_total{{{SOURCE},reason="malformed"}}': "0x20 1x40"}, 9, 12),
    ("RiverrunDeadLetters", {f'riverrun_dead_letters_total{{{SOURCE},reason="malformed"}}': "7x60"}, 9, None),
    ("RiverrunCheckpointOld", checkpoint("0x60"), 9, 13),
    ("RiverrunCheckpointOld", checkpoint("0+30x60"), 9, None),
    ("RiverrunCheckpointOld", checkpoint("0x60", epochs="100x60"), 9, None),  # nothing to write
    ("RiverrunCheckpointOld", checkpoint(None), 10, 13),  # never written
    ("RiverrunCheckpointOld", checkpoint(None, interval="120x60"), 14, 16),  # taken seldom
    ("RiverrunCheckpointOld", checkpoint("_x30 900+30x30"), 9, 14),  # came late
    ("RiverrunCheckpointOld", checkpoint(None, interval=None), 9, None),  # a bounded run
    ("RiverrunCheckpointFailing", {f"riverrun_checkpoint_failures_total{{{P}}}": "0x20 1x40"}, 9, 12),
    ("RiverrunSourceFailing", {f"riverrun_source_failing{{{PARTITION % 3}}}": "0x10 1x50"}, 6, 8),
    ("RiverrunSinkFailing", {f"riverrun_sink_failing{{{SINK}}}": "0x10 1x50"}, 6, 8),
    ("RiverrunSinkRetrying", {f"riverrun_sink_retries_total{{{SINK}}}": "0x20 0+1x40"}, 10, 20),
    ("RiverrunJournalRetrying", {f"riverrun_journal_retries_total{{{P}}}": "0x20 0+1x40"}, 10, 20),
    ("RiverrunBackpressure", {f"riverrun_backpressure_seconds_total{{{SINK}}}": "0+25x60"}, 10, 20),
    ("RiverrunBackpressure", {f"riverrun_backpressure_seconds_total{{{SINK}}}": "0+5x60"}, 5, None),
]


def promtool(prometheus, *words):
    done = subprocess.run([prometheus["PROMTOOL"], *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_no_fault(prometheus):
    promtool(prometheus, "check", "rules", RULES)


def test_every_rule_fires_when_it_must_and_not_before(prometheus, tmp_path):
    assert {case[0] for case in CASES if case[3]} == set(NAMES)
    tests = []
    for alert, series, quiet, fires in CASES:
        expr = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
        looks = [(quiet, []), (fires, [{"labels": "{}", "value": 1}]) if fires else (28, [])]
        tests.append({
            "interval": "30s",
            "name": f"{alert} {'fires' if fires else 'is quiet'}: {next(iter(series.values()))}",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [{"expr": expr, "eval_time": f"{minute}m", "exp_samples": samples} for minute, samples in looks],
        })
    file = tmp_path / "rules.test.json"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "30s", "tests": tests}))
    promtool(prometheus, "test", "rules", file)


SCRIPT = """
SET pipeline.name = 'troubled';
SET checkpoint.location = '${DATA_DIR}/checkpoints';
SET checkpoint.interval = '1 second';
SET trigger.interval = '1 second';
CREATE TABLE events (who VARCHAR NOT NULL, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t - INTERVAL '1 second')
WITH (connector = 'kafka', brokers = '${BROKERS}', topic = '${TOPIC}', format = 'json', starting_offsets = 'earliest',
      max_offsets_per_trigger = '40', idle_timeout = '1 hour', bad_records = 'drop');
CREATE TABLE copy WITH (connector = 'blackhole');
INSERT INTO copy SELECT * FROM events;
"""


class Trouble:
    """Sends more than is read, a broken record now and then, and to partition 1 nothing after the first. Event time moves on by so many
    seconds with each record."""

    def __init__(self, client, topic, second=0.002):
        self.producer, self.topic, self.over = Producer(client), topic, threading.Event()
        self.time, self.second = time.time() - 86400, second
        self.thread = threading.Thread(target=self.send)

    def __enter__(self):
        self.put(1)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def put(self, partition):
        self.time += self.second
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.time))
        self.producer.produce(self.topic, json.dumps({"who": random.choice("abc"), "t": at}), partition=partition)

    def send(self):
        while not self.over.is_set():
            for _ in range(50):
                self.put(0)
            self.producer.produce(self.topic, "broken", partition=0)
            self.producer.flush(PATIENCE)
            self.over.wait(0.1)


def break_checkpoints(place):
    """Lets no more be written, once both tasks have written one."""
    tasks = [place / "task-0", place / "task-1"]
    until(lambda: all(any(task.glob("*.manifest")) for task in tasks), PATIENCE)
    for task in tasks:
        shutil.rmtree(task)
        task.write_text("in the way")


def quick(rules):
    """The rules with a second for a minute."""
    quick = re.sub(r"\b(\d+)m\b", r"\1s", rules)
    assert "(600 + " in quick
    return quick.replace("(600 + ", "(10 + ")


@pytest.fixture
def alerts(prometheus):
    """Gives the alerts of one instance or pipeline that fire in a real Prometheus, by name; the quick rules are loaded there."""
    url = prometheus["PROMETHEUS_URL"]
    file = Path(prometheus["PROMETHEUS_RULES"]) / "riverrun.yml"
    file.write_text(quick(RULES.read_text()))
    requests.post(f"{url}/-/reload", timeout=PATIENCE).raise_for_status()

    def firing(**labels):
        found = requests.get(f"{url}/api/v1/alerts", timeout=PATIENCE).json()["data"]["alerts"]
        return {a["labels"]["alertname"]: a for a in found if a["state"] == "firing" and labels.items() <= a["labels"].items()}

    yield firing
    file.unlink()
    requests.post(f"{url}/-/reload", timeout=PATIENCE).raise_for_status()


@pytest.fixture
def scraped(prometheus):
    """Lets Prometheus scrape an address, until the test ends."""
    target = Path(prometheus["PROMETHEUS_TARGETS"]) / "troubled.json"
    yield lambda address: target.write_text(json.dumps([{"targets": [address]}]))
    target.unlink()


def test_a_pipeline_in_trouble_fires_them_in_a_real_prometheus(alerts, scraped, kafka, riverrun, tmp_path):
    client = {"bootstrap.servers": kafka["KAFKA_BROKERS"]}
    topic = new_topic(client, partitions=2)
    with Trouble(client, topic), Run(riverrun, SCRIPT, tmp_path, BROKERS=kafka["KAFKA_BROKERS"], TOPIC=topic) as run:
        address = re.search(r"http://(127\.0\.0\.1:\d+)", run.started().said())[1]
        scraped(address)
        break_checkpoints(tmp_path / "data" / "checkpoints" / "troubled")
        wanted = {f"Riverrun{name}" for name in ("LagGrowing", "WatermarkStuck", "DeadLetters", "CheckpointOld", "CheckpointFailing")}
        seen = {}

        def all_fired():
            seen.update(alerts(pipeline="troubled"))
            return wanted <= set(seen)

        until(all_fired, 60, lambda: f"{wanted - set(seen)}; firing: {sorted(seen)}")
        stuck = seen["RiverrunWatermarkStuck"]
        assert stuck["labels"] == {"alertname": "RiverrunWatermarkStuck", "pipeline": "troubled", "source": "events", "severity": "warning"}
        assert stuck["annotations"]["summary"] == "troubled: records come, but event time stands still"
        assert stuck["annotations"]["runbook"].startswith("docs/alerts.md#riverrunwatermarkstuck: look at ")
        assert "RiverrunInstanceDown" not in alerts(instance=address)
        run.process.kill()
        until(lambda: "RiverrunInstanceDown" in alerts(instance=address), 30, lambda: "RiverrunInstanceDown")
