"""The dashboard in a headless Chromium: driven to known numbers, which /metrics tells too; what it says when it is idle, cut off, or the
pipeline has failed; by keyboard, on a phone, without another host."""

import json
import re
import subprocess

import pytest
import requests
from browser import DARK, LIGHT, PATIENCE, Page, driver  # noqa: F401
from kafka_clients import new_topic
from runs import Run, bounded, until
from selenium.webdriver.common.keys import Keys
from test_alert_rules import SCRIPT as TROUBLED
from test_alert_rules import Trouble

# Puts lines of a file into a topic of the embedded log, amounts as they are.
FILL = """
SET pipeline.name = 'fill';
CREATE TABLE lines (
    transaction_id VARCHAR, user_id VARCHAR, amount VARCHAR, merchant VARCHAR, category VARCHAR, timestamp VARCHAR,
    location STRUCT<lat DOUBLE, lon DOUBLE>
) WITH (connector = 'filesystem', path = '${INPUT}');
CREATE TABLE topic WITH (connector = 'log', topic = 'transactions', partitions = '1', key = 'user_id');
INSERT INTO topic SELECT * FROM lines;
"""
SCRIPT = """
SET pipeline.name = 'trial';
SET checkpoint.location = '${DATA_DIR}/checkpoints';
SET checkpoint.interval = '1 second';
SET trigger.interval = '10 minutes';
CREATE TABLE transactions (
    transaction_id VARCHAR NOT NULL, user_id VARCHAR NOT NULL, amount DOUBLE NOT NULL, merchant VARCHAR, category VARCHAR,
    timestamp TIMESTAMP NOT NULL, location STRUCT<lat DOUBLE, lon DOUBLE>,
    log_partition INT METADATA FROM 'partition', log_offset BIGINT METADATA FROM 'offset',
    WATERMARK FOR timestamp AS timestamp - INTERVAL '20 seconds'
) PARTITIONED BY (user_id) WITH (
    connector = 'log', topic = 'transactions', starting_offsets = 'earliest', max_offsets_per_trigger = '50',
    max_ahead = '10000 days', bad_records = 'dead_letter', dead_letter_path = '${DATA_DIR}/dead.jsonl', late_rows = 'late'
);
CREATE TABLE late WITH (connector = 'filesystem', path = '${DATA_DIR}/late.jsonl');
CREATE TABLE transaction_aggregates (PRIMARY KEY (user_id, category, window_start)) WITH (connector = 'table', emit = 'update');
INSERT INTO transaction_aggregates
SELECT tumble(timestamp, INTERVAL '5 minutes')['start'] AS window_start, user_id, category, count(*) AS transaction_count,
       sum(amount) AS total_amount
FROM transactions GROUP BY tumble(timestamp, INTERVAL '5 minutes'), user_id, category;
CREATE TABLE fraud_alerts WITH (connector = 'filesystem', path = '${DATA_DIR}/alerts.jsonl', emit = 'update');
CREATE VIEW steps AS
SELECT *, LAG(timestamp) OVER by_user AS prev_timestamp, LAG(location) OVER by_user AS prev_location
FROM transactions WINDOW by_user AS (PARTITION BY user_id ORDER BY timestamp);
CREATE VIEW journeys AS
SELECT *, date_part('epoch', timestamp) - date_part('epoch', prev_timestamp) AS time_diff_seconds,
       haversine_km(prev_location['lat'], prev_location['lon'], location['lat'], location['lon']) AS distance_km FROM steps;
INSERT INTO fraud_alerts
SELECT transaction_id, user_id, amount, merchant, category, timestamp, location, prev_timestamp, prev_location, time_diff_seconds, distance_km,
       distance_km / time_diff_seconds * 3600.0 AS velocity_kmh, make_array('IMPOSSIBLE_TRAVEL') AS reasons,
       log_partition AS partition, log_offset AS "offset"
FROM journeys WHERE distance_km / time_diff_seconds * 3600.0 > 800;
"""
EVIL = "<img src=x onerror=alert(1)>"


def transaction(number, user, second, lat, lon, category="Travel", amount=10.0):
    minute, second = divmod(second, 60)
    row = {
        "transaction_id": f"t{number}", "user_id": user, "amount": amount, "merchant": EVIL, "category": category,
        "timestamp": f"2024-05-01T12:{minute:02d}:{second:02d}Z", "location": {"lat": lat, "lon": lon},
    }
    return json.dumps(row)


# One partition: 41 rows in time (the last from New York, where Ann was in Los Angeles 100 s before), 4 late ones, 5 records whose amount
# is none; 30 more wait behind them, since a round takes 50 and the next one is far.
IN_TIME = [transaction(i, "bob", 100 + i, 41.0, -87.0, "Grocery", 2.5) for i in range(39)]
ANN = [transaction(39, "ann", 140, 34.0, -118.0), transaction(40, "ann", 240, 41.0, -74.0)]
LATE = [transaction(50 + i, "bob", 150 + i, 41.0, -87.0) for i in range(4)]
BAD = [transaction(60 + i, "bob", 150, 41.0, -87.0, amount=EVIL) for i in range(5)]
WAITING = [transaction(100 + i, "bob", 241 + i, 41.0, -87.0) for i in range(30)]
WATERMARK = 1714565020  # 12:03:40, 20 s before Ann was in New York


class Trial:
    """The script above over those records, running."""

    def __init__(self, run):
        self.run = run
        self.address = re.search(r"http://(127\.0\.0\.1:\d+)", run.started().said())[1]
        until(lambda: self.value("riverrun_source_records_total") == 50, PATIENCE, run.said)
        until(lambda: self.value("riverrun_sink_rows_total", sink="fraud_alerts") == 1, PATIENCE, run.said)

    def value(self, name, **labels):
        return metric(self.address, name, **labels)


def metric(address, name, **labels):
    """The sum of a metric's series with these labels."""
    lines = requests.get(f"http://{address}/metrics", timeout=PATIENCE).text.splitlines()
    found = [l for l in lines if re.match(rf"{name}[{{ ]", l) and all(f'{k}="{v}"' in l for k, v in labels.items())]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


@pytest.fixture
def trial(riverrun, tmp_path):
    (tmp_path / "in.jsonl").write_text("\n".join([*IN_TIME, *ANN, *LATE, *BAD, *WAITING]))
    bounded(riverrun, FILL, tmp_path, INPUT=tmp_path / "in.jsonl")
    with Run(riverrun, SCRIPT, tmp_path) as run:
        yield Trial(run)


def test_every_number_is_the_known_one_and_that_of_metrics(trial, driver):  # noqa: F811
    page = Page(driver, trial.address)
    page.shows("#pipeline", "trial")
    page.shows('[data-number="lag"]', "30 records")
    for shown, text, metric, labels, value in [
        ("lag", "30 records", "riverrun_source_lag_records", {}, 30),
        ("late", "4 rows", "riverrun_late_rows_total", {}, 4),
        ("dead-letters", "5 records", "riverrun_dead_letters_total", {}, 5),
        ("alerts", "1 alert", "riverrun_sink_rows_total", {"sink": "fraud_alerts"}, 1),
        ("checkpoint-failures", "0 checkpoints", "riverrun_checkpoint_failures_total", {}, 0),
        ("tasks", "1 task", "riverrun_tasks", {}, 1),
    ]:
        assert (page.number(shown), trial.value(metric, **labels)) == (text, value), shown
    for shown, unit, metric in [
        ("checkpoints", "checkpoints", "riverrun_checkpoints_total"),
        ("journal-epochs", "epochs", "riverrun_journal_epochs_total"),
        ("state-rows", "rows", "riverrun_state_rows"),
        ("workers", "workers", "riverrun_workers"),
    ]:
        page.shows(f'[data-number="{shown}"]', f"{trial.value(metric):,.0f} {unit if trial.value(metric) != 1 else unit[:-1]}")
    assert "50 records read" in page.text("#keeping-up")
    assert f"{trial.value('riverrun_operator_late_rows_total'):.0f} rows dropped by windows" in page.text("#dropped")
    for table, key, column, text, metric, labels in [
        ("partitions", "transactions/0", "lag", "30 records", "riverrun_source_lag_records", {}),
        ("partitions", "transactions/0", "offset", "50", "riverrun_source_offset", {}),
        ("sinks", "fraud_alerts", "rows", "1 row", "riverrun_sink_rows_total", {"sink": "fraud_alerts"}),
        ("sinks", "late", "rows", "4 rows", "riverrun_sink_rows_total", {"sink": "late"}),
        ("operators", "steps.over", "rows-in", "45 rows", "riverrun_operator_rows_in_total", {"operator": "steps.over"}),
        ("drops", "riverrun_dead_letters_total transactions wrong_type", "count", "5 records", "riverrun_dead_letters_total", {"reason": "wrong_type"}),
        ("drops", "riverrun_late_rows_total transactions ", "count", "4 rows", "riverrun_late_rows_total", {}),
    ]:
        assert (page.cell(table, key, column), trial.value(metric, **labels)) == (text, float(text.split()[0])), (table, key, column)
    assert page.cell("partitions", "transactions/0", "watermark") == "2024-05-01 12:03:40 UTC"
    assert trial.value("riverrun_source_watermark_seconds") == WATERMARK
    assert page.complaints() == []
    assert page.hosts() == {trial.address}


def test_what_was_found_and_dropped_is_told_and_never_becomes_markup(trial, driver):  # noqa: F811
    page = Page(driver, trial.address)
    # By the haversine formula, on a sphere of 6,371 km.
    assert page.shows('[data-number="journey"]', "km/h") == "3,916 km in 1 min 40 s = 140,987 km/h"
    assert "impossible travel" in page.text("#alerts") and "ann" in page.text("#alerts")
    assert EVIL in page.text("#alerts"), "the merchant's name is text"
    page.shows('#categories tr[data-key="Grocery"]', "97.50")
    assert page.cell("users", "ann", "spent") == "20.00"
    assert page.cell("users", "bob", "transactions") == "39 times"
    assert EVIL in page.shows("#samples", "wrong type")
    assert page.all("img[src=x]") == []
    node = "#graph-picture [data-node=fraud_alerts]"
    page.shows(f"{node} .flow", "rows/s")
    assert page.complaints() == []


def test_paused_and_then_cut_off(trial, driver):  # noqa: F811
    page = Page(driver, trial.address)
    page.shows('[data-number="lag"]', "30 records")
    api = f"http://{trial.address}/api/v1/pipeline"
    assert requests.post(f"{api}/pause", json={}, timeout=PATIENCE).json()["state"] == "paused"
    page.shows("#condition", "paused")
    assert trial.value("riverrun_paused") == 1
    requests.post(f"{api}/resume", json={}, timeout=PATIENCE)
    until(lambda: "paused" not in page.text("#condition"), PATIENCE)
    trial.run.process.kill()
    page.shows("#condition", "disconnected")
    assert "has not answered since" in page.text("#banner")
    assert page.number("lag") == "30 records", "the last numbers stay"
    assert driver.execute_script("return document.body.classList.contains('stale')")


def test_it_tells_a_stop_in_order_from_a_crash_and_goes_on_by_itself(trial, riverrun, driver, tmp_path):  # noqa: F811
    page = Page(driver, trial.address)
    page.shows('[data-number="lag"]', "30 records")
    assert trial.run.stop() == 0
    page.shows("#condition", "stopped")
    assert "in order" in page.text("#banner")
    with Run(riverrun, SCRIPT, tmp_path, "--http-port", trial.address.split(":")[1]) as again:
        again.started()
        until(lambda: page.number("lag") == "0 records", PATIENCE)
        assert page.text("#condition") in ("running", "idle")
        assert page.number("late") == "0 rows", "counts of the new process"


def test_the_demo_prints_its_address_and_its_alerts_come_by_themselves(riverrun, driver, tmp_path):  # noqa: F811
    words = [str(riverrun), "demo", "--data", str(tmp_path / "data"), "--port", "0", "--rate", "500", "--fraud", "0.02", "--users", "50"]
    with (tmp_path / "log").open("w") as out, subprocess.Popen(words, stdout=out, stderr=subprocess.DEVNULL) as demo:
        try:
            until(lambda: "dashboard on http://" in (tmp_path / "log").read_text(), PATIENCE)
            first = (tmp_path / "log").read_text().splitlines()[:2]
            address = re.search(r"dashboard on http://(127\.0\.0\.1:\d+)", "\n".join(first))[1]
            page = Page(driver, address)
            page.shows("#condition", "running")
            until(lambda: len(page.all("#alerts li")) >= 5, PATIENCE)
            page.shows('[data-number="journey"]', "km/h")
            before = metric(address, "riverrun_sink_rows_total", sink="fraud_alerts")
            page.shows('[data-number="alerts"]', "alerts")
            until(lambda: int(page.number("alerts").split()[0].replace(",", "")) >= before, PATIENCE)
            shown = int(page.number("alerts").split()[0].replace(",", ""))
            assert before <= shown <= metric(address, "riverrun_sink_rows_total", sink="fraud_alerts")
            page.shows("#categories", "times")
            assert page.complaints() == []
        finally:
            demo.kill()


def test_a_stuck_watermark_and_a_growing_lag_are_marked(kafka, riverrun, driver, tmp_path):  # noqa: F811
    client = {"bootstrap.servers": kafka["KAFKA_BROKERS"]}
    topic = new_topic(client, partitions=2)
    with Trouble(client, topic, second=1), Run(riverrun, TROUBLED, tmp_path, BROKERS=kafka["KAFKA_BROKERS"], TOPIC=topic) as run:
        page = Page(driver, re.search(r"http://(127\.0\.0\.1:\d+)", run.started().said())[1])
        page.shows('#partitions tr[data-key="events/1"] [data-column="state"]', "stuck", 60)
        assert page.cell("partitions", "events/0", "state") == "ok"
        page.shows("#condition", "falling behind", 60)
        assert re.search(r"[\d,]+ records wait, [\d,]+ records/s more come than are read", page.text("#condition-note"))


FAILS = """
SET pipeline.name = 'doomed';
CREATE TABLE events (who VARCHAR NOT NULL, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t - INTERVAL '20 seconds')
WITH (connector = 'filesystem', path = '${INPUT}', watch = true, bad_records = 'fail');
CREATE TABLE copy WITH (connector = 'blackhole');
INSERT INTO copy SELECT * FROM events;
"""


def test_idle_and_then_failed_with_the_error(riverrun, driver, tmp_path):  # noqa: F811
    source = tmp_path / "in.jsonl"
    source.write_text('{"who": "a", "t": "2024-05-01T12:00:00Z"}\n')
    with Run(riverrun, FAILS, tmp_path, INPUT=source) as run:
        page = Page(driver, re.search(r"http://(127\.0\.0\.1:\d+)", run.started().said())[1])
        page.shows("#condition", "idle")
        assert "nothing has come for" in page.text("#condition-note")
        with source.open("a") as more:
            more.write("not json\n")
        page.shows("#condition", "failed")
        assert run.ends() == 1
        told = page.text("#banner")
        assert told.startswith("The pipeline has failed: ") and "malformed" in told, told
        reason = told.removeprefix("The pipeline has failed: ").split(". ")[0]
        assert reason[:40] in " ".join(run.said().split()), "the same words as in the log"


def test_it_is_walked_by_keyboard_and_fits_a_phone(trial, driver):  # noqa: F811
    page = Page(driver, trial.address)
    page.shows('[data-number="lag"]', "30 records")
    for width in (1280, 390, 320):
        for scheme in (LIGHT, DARK):
            page.look(width, scheme)
            assert not page.overflows(), f"wider than {width} px"
    page.look()
    look = """const e = document.activeElement;
      return [e.tagName, e.id || e.getAttribute('aria-label') || e.className.baseVal || e.name || e.className, getComputedStyle(e).outlineStyle];"""
    focused = set()
    for _ in range(60):
        driver.switch_to.active_element.send_keys(Keys.TAB)
        tag, name, outline = driver.execute_script(look)
        if tag == "BODY":
            break  # once round
        focused.add(name)
        assert outline != "none" or name == "span", f"no visible focus on {tag} {name}"  # a radio's label shows it
    assert {"skip", "span", "theme", "sink", "alerts", "Partitions", "Operators", "Sinks"} <= focused, focused
    theme = driver.find_element("id", "theme")
    theme.send_keys(Keys.ENTER)
    assert driver.execute_script("return document.documentElement.dataset.theme") == "dark"
    plot = page.all("svg.plot")[0]
    plot.send_keys(Keys.ARROW_LEFT)
    page.shows(".chart .chart-time", "at ")
    plot.send_keys(Keys.ESCAPE)
    unnamed = driver.execute_script("return [...document.querySelectorAll('button, select, input, [role=region], [role=img]')].filter(e => e.checkVisibility() && !(e.ariaLabel || e.innerText || e.labels?.length)).map(e => e.outerHTML)")
    assert unnamed == [], "without a name for screen readers"


def test_the_page_may_run_its_own_scripts_only(trial):
    answer = requests.get(f"http://{trial.address}/", timeout=PATIENCE)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_where_a_token_is_needed_the_browser_gives_it_and_the_page_works(riverrun, driver, tmp_path):  # noqa: F811
    source = tmp_path / "in.jsonl"
    source.write_text('{"who": "a", "t": "2024-05-01T12:00:00Z"}\n')
    (tmp_path / "token").write_text("a-secret-of-this-test")
    with Run(riverrun, FAILS, tmp_path, "--token-file", str(tmp_path / "token"), INPUT=source) as run:
        address = re.search(r"http://(127\.0\.0\.1:\d+)", run.started().said())[1]
        assert requests.get(f"http://{address}/", timeout=PATIENCE).status_code == 401
        page = Page(driver, f"anybody:a-secret-of-this-test@{address}")  # as typed into the browser's own question
        page.shows("#pipeline", "doomed")
        page.shows("#keeping-up", "1 record read")
        assert "a-secret-of-this-test" not in driver.page_source
        assert page.complaints() == []
