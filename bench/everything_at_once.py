"""The measuring of bench/everything: see there. Run by it, with the servers up and the modules of services/tests to be found."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import transactions
from everything import VERSIONS, Everything, metric, wait_until_written
from runs import Run

ROOT = Path(__file__).parent.parent
RIVERRUN = os.environ["RIVERRUN"]
TICKS = os.sysconf("SC_CLK_TCK")
WITHOUT = {
    "all": {},
    "kafka": {"AGGREGATES": "blackhole", "LAKE_CONNECTOR": "blackhole"},
    "lake": {"AGGREGATES": "blackhole"},
    "cassandra": {"LAKE_CONNECTOR": "blackhole"},
}


def services(*words):
    return json.loads(subprocess.run([ROOT / "services" / "run", *words, "--json"], check=True, capture_output=True, text=True).stdout)


def cpu(pid):
    """Seconds of processor that a process and its threads used so far (proc(5): utime and stime, fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def until_safe(run, records, servers):
    """Waits until all is read, and stops the run; gives seconds and processor by who, from the first record on."""
    run.started()
    while metric(run, "riverrun_source_records_total", source="transactions") == 0:
        time.sleep(0.05)
    began, before = time.monotonic(), {who: cpu(pid) for who, pid in servers.items()}
    while metric(run, "riverrun_source_records_total", source="transactions") < records:
        assert run.process.poll() is None, run.said()
        time.sleep(0.2)
    read, used = time.monotonic() - began, {}
    wait_until_written(run)
    run.process.terminate()
    while run.process.poll() is None:
        try:
            used = {who: cpu(pid) for who, pid in servers.items()}
        except (FileNotFoundError, ProcessLookupError):
            break
        time.sleep(0.02)
    assert run.ends() == 0, run.said()
    return read, time.monotonic() - began, {who: used[who] - before[who] for who in servers}


def measure(what, arguments, folder, sample, records):
    everything = Everything(services("env"))
    os.environ.update(everything.s3)
    began, versions = time.monotonic(), len(VERSIONS)
    for version in range(versions):
        everything.send(sample, records * version // versions, records * (version + 1) // versions, version)
    print(f"\n== {what}: {records:,} events sent in {time.monotonic() - began:.0f} s", flush=True)
    given = everything.variables(**WITHOUT[what])
    with Run(RIVERRUN, everything.script(), folder, "--profile", **given) as run:
        pids = {row["name"]: row["pid"] for row in services("status")}
        read, seconds, used = until_safe(run, records, {"riverrun": run.process.pid, **pids, "this script": os.getpid()})
        print(f"    {records / seconds:,.0f} events/s: read in {read:.1f} s, safe everywhere in {seconds:.1f} s")
        for who, spent in used.items():
            print(f"    {who:<12} {spent:8.1f} s of processor   {100 * spent / seconds / os.cpu_count():5.1f} % of {os.cpu_count()} cores")
        if arguments.profile:
            print(run.said())
    if what == "all":
        rows = everything.check(transactions.Expected(sample))
        print("    each row is DuckDB's: " + ", ".join(f"{n:,} in {sink}" for sink, n in rows.items()), flush=True)


def main():
    parser = argparse.ArgumentParser(prog="bench/everything")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--only", default="all", help="what is measured, with commas: " + ", ".join(WITHOUT))
    parser.add_argument("--profile", action="store_true", help="also print what the program says, with the work of each stage")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="riverrun-bench-"))
    try:
        sample = transactions.close_windows(transactions.generate(RIVERRUN, folder / "transactions.jsonl", arguments.events, arguments.users))
        for what in arguments.only.split(","):
            (own := folder / what).mkdir()
            measure(what, arguments, own, sample, arguments.events + transactions.CLOSING)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
