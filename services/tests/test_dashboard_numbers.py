"""Every number on the dashboard: the browser is given metrics whose values are known (canned.py), and all that the page shows is compared,
so that no number is left out. Numbers of queries (spend, users, the journey) are in test_dashboard.py."""

import re
import time
from datetime import datetime, timezone

import requests
from browser import PATIENCE, Page, driver  # noqa: F401
from canned import START, Between, seconds
from runs import until
from test_dashboard import trial  # noqa: F401

READ = """
const text = (e) => e.textContent.replaceAll('\\u00a0', ' ').trim();
const all = (selector) => [...document.querySelectorAll(selector)];
const found = {clock: text(document.getElementById('clock'))};
for (const e of all('[data-number]')) if (!e.closest('#journey')) found[e.dataset.number] = text(e);
for (const table of ['partitions', 'operators', 'sinks', 'drops']) {
  for (const cell of all(`#${table} tr[data-key] td.number`)) {
    found[`${table} ${cell.parentElement.dataset.key} ${cell.dataset.column}`] = text(cell.firstElementChild);
  }
}
for (const node of all('#graph-picture [data-node]')) {
  for (const part of ['flow', 'time']) found[`graph ${node.dataset.node} ${part}`] = text(node.querySelector('.' + part));
}
for (const tile of all('#tiles section')) found[`${tile.id} note`] = text(tile.querySelector('.note'));
return found;
"""


def count(value, unit=""):
    return f"{value:,.0f} {unit.removesuffix('s') if value == 1 else unit}".strip()


def rate(value, unit="rows/s"):
    return f"{value:,.1f} {unit}" if 0 < value < 10 else count(value, unit)


def percent(share):
    return f"{share * 100:.1f} %" if 0 < share * 100 < 10 else f"{share * 100:,.0f} %"


def size(value):
    units = iter(("B", "KiB", "MiB", "GiB"))
    unit = next(units)
    while value >= 1024:
        value, unit = value / 1024, next(units)
    return f"{value:.1f} {unit}" if unit != "B" and value < 10 else f"{value:,.0f} {unit}"


def duration(value):
    if value == 0:
        return "0 s"
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    if value < 0.9995:
        return f"{value * 1e3:.{1 if value < 0.01 else 0}f} ms"
    if value < 59.95:
        return f"{value:.{1 if value < 10 else 0}f} s"
    rest, said = round(value), []
    parts = [(86400, "d"), (3600, "h"), (60, "min"), (1, "s")]
    first = next(i for i, (length, _) in enumerate(parts) if rest >= length)
    for length, unit in parts[first:first + 2]:
        if rest >= length:
            said.append(f"{rest // length} {unit}")
        rest %= length
    return " ".join(said)


def elapsed(value):
    whole = int(value + 0.5)
    return duration(whole) if whole >= 60 else f"{whole} s"


def moment(at):
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def expected(canned, answer):
    """All that the page shows after so many answers."""
    value = lambda name, **labels: canned.sum(f"riverrun_{name}", answer, **labels)
    grows = lambda name, **labels: canned.rate(f"riverrun_{name}", answer, **labels)
    process = lambda name: canned.sum(f"process_{name}", answer)
    latency = lambda q, sink: duration(canned.quantile(q, answer, "riverrun_sink_latency_seconds", sink=sink))
    busy = lambda sink: percent(grows("sink_write_seconds_total", sink=sink) + grows("sink_flush_duration_seconds_sum", sink=sink))
    names = lambda name, label: canned.names(f"riverrun_{name}", label)
    sinks, operators = names("sink_rows_total", "sink"), names("operator_rows_in_total", "operator")
    shown = {
        "clock": moment(seconds(answer)),
        "read": rate(grows("source_records_total"), "records/s"),
        "lag": count(value("source_lag_records"), "records"),
        "p99": latency(0.99, "fraud_alerts"),
        "behind": elapsed(max(canned.values("riverrun_source_watermark_lag_seconds", answer))),
        "late": count(value("late_rows_total"), "rows"),
        "dead-letters": count(value("dead_letters_total"), "records"),
        "cpu": percent(canned.rate("process_cpu_seconds_total", answer)),
        "memory": size(process("resident_memory_bytes")),
        "alerts": count(value("sink_rows_total", sink="fraud_alerts"), "alerts"),
        "written": rate(grows("sink_rows_total")),
        "keeping-up note": f"{count(value('source_records_total'), 'records')} read since the run began",
        "how-late note": f"p50 to fraud_alerts {latency(0.5, 'fraud_alerts')}; the last 10 s",
        "dropped note": f"{count(value('operator_late_rows_total'), 'rows')} dropped by windows and OVER, too late for them",
        "cost note": f"{size(value('state_bytes'))} of it state: {count(value('state_rows'), 'rows')}",
        "found note": f"{count(value('sink_rows_total'), 'rows')} safe in {len(sinks)} sinks since the run began",
        "checkpoint-age": "7 s",
        "checkpoints": count(value("checkpoints_total"), "checkpoints"),
        "checkpoint-failures": count(value("checkpoint_failures_total"), "checkpoints"),
        "checkpoint-size": size(value("checkpoint_size_bytes")),
        "checkpoint-time": "50 ms",
        "state-bytes": size(value("state_bytes")),
        "state-disk": size(value("state_disk_bytes")),
        "state-rows": count(value("state_rows"), "rows"),
        "journal-rate": rate(grows("journal_commits_total"), "commits/s"),
        "journal-p99": duration(canned.quantile(0.99, answer, "riverrun_journal_commit_duration_seconds")),
        "journal-epochs": count(value("journal_epochs_total"), "epochs"),
        "journal-queue": size(value("journal_queue_bytes")),
        "journal-retries": count(value("journal_retries_total"), "commits"),
        "journal-repeated": count(value("journal_repeated_epochs_total"), "epochs"),
        "rebalances": count(value("rebalances_total"), "times"),
        "process-cpu": percent(canned.rate("process_cpu_seconds_total", answer)),
        "process-memory": size(process("resident_memory_bytes")),
        "process-threads": count(process("threads"), "threads"),
        "process-files": count(process("open_fds"), "files"),
        "tasks": count(value("tasks"), "tasks"),
        "workers": count(value("workers"), "workers"),
        "uptime": elapsed(seconds(answer) - (START - 5000)),
        "partitions transactions/0 lag": count(value("source_lag_records"), "records"),
        "partitions transactions/0 read": "0 records/s",  # the offset is a gauge here, and stands still
        "partitions transactions/0 behind": elapsed(value("source_watermark_lag_seconds")),
        "partitions transactions/0 watermark": moment(seconds(answer) - 90000),
        "partitions transactions/0 last": "3 s ago",
        "partitions transactions/0 offset": count(value("source_offset")),
        "drops riverrun_late_rows_total transactions  count": count(value("late_rows_total"), "rows"),
        "graph transactions flow": rate(grows("source_records_total")),
        "graph transactions time": percent(grows("source_busy_seconds_total")),
    }
    for sink in sinks:
        of = lambda name: value(f"sink_{name}", sink=sink)
        shown |= {f"sinks {sink} {column}": text for column, text in {
            "rate": rate(grows("sink_rows_total", sink=sink)), "rows": count(of("rows_total"), "rows"),
            "p50": latency(0.5, sink), "p95": latency(0.95, sink), "p99": latency(0.99, sink), "busy": busy(sink),
            "queue": size(of("queue_bytes")), "retries": count(of("retries_total"), "times"),
        }.items()}
        shown |= {f"graph {sink} flow": rate(grows("sink_rows_total", sink=sink)), f"graph {sink} time": busy(sink)}
    for operator in operators:
        of = lambda name: value(name, operator=operator)
        growth = lambda name: grows(f"operator_{name}", operator=operator)
        shown |= {f"operators {operator} {column}": text for column, text in {
            "in": rate(growth("rows_in_total")), "out": rate(growth("rows_out_total")), "busy": percent(growth("busy_seconds_total")),
            "rows-in": count(of("operator_rows_in_total"), "rows"), "state-rows": count(of("state_rows"), "rows"),
            "state-bytes": size(of("state_bytes")), "state-disk": size(of("state_disk_bytes")),
            "late": count(of("operator_late_rows_total"), "rows"),
        }.items()}
        shown |= {
            f"graph {operator} flow": rate(growth("rows_in_total")), f"graph {operator} time": percent(growth("busy_seconds_total")),
            f"drops riverrun_operator_late_rows_total {operator}  count": count(of("operator_late_rows_total"), "rows"),
        }
    for reason in names("dead_letters_total", "reason"):
        shown[f"drops riverrun_dead_letters_total transactions {reason} count"] = count(value("dead_letters_total", reason=reason), "records")
    return shown


def test_every_number_on_the_page_is_that_of_the_metrics(trial, driver):  # noqa: F811
    # All metrics are there from then on.
    requests.post(f"http://{trial.address}/api/v1/pipeline/checkpoint", json={}, timeout=PATIENCE).raise_for_status()
    with Between(trial.address) as between:
        page = Page(driver, between.address)
        until(lambda: between.answers > 13, PATIENCE)
        page.shows('[data-number="tasks"]', "tasks")
        # A graph that came after the last answer has no numbers until the next one.
        until(lambda: page.text("#graph-picture .flow"), PATIENCE)
        time.sleep(2)
        shown = driver.execute_script(READ)
        at = datetime.strptime(shown["clock"].removesuffix(" UTC"), "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
        known = expected(between.canned, int(at.timestamp()) - START)
        wrong = {what: (shown.get(what), known.get(what)) for what in shown.keys() | known.keys() if shown.get(what) != known.get(what)}
        assert wrong == {}, "shown, and known"
        assert len(shown) > 100, len(shown)
        assert not re.search(r"NaN|undefined|null|Infinity", page.text("body"))
