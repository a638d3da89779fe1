"""Runs of riverrun for tests: a script, its variables, what it says, and an end in any case."""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from conftest import ROOT

PATIENCE = 60  # seconds until a test gives up
TRANSACTIONS = ROOT / "pipelines" / "transactions.sql"


def _command(riverrun, script, folder, arguments, variables):
    if not isinstance(script, Path):
        text, script, whole = script, folder / "script.sql", folder / f"script-{time.monotonic_ns()}.sql"
        whole.write_text(text)
        whole.replace(script)  # another instance may be reading it
    given = [word for name, value in {"DATA_DIR": folder / "data", **variables}.items() for word in ("--set", f"{name}={value}")]
    return [str(riverrun), "run", str(script), *arguments, *given]


def _env(log):
    return {**os.environ, **({"RIVERRUN_LOG": log} if log else {})}


def bounded(riverrun, script, folder, *, fails=False, log=None, **variables):
    """Runs a script over what is there now; gives what it said. `fails`: whether it must."""
    done = subprocess.run(
        _command(riverrun, script, folder, ["--bounded"], variables),
        capture_output=True, text=True, timeout=300, check=False, cwd=folder, env=_env(log),
    )
    said = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, said
    return said


class Run:
    """A script that runs until it is told to stop. As a context: killed at its end if it still runs."""

    def __init__(self, riverrun, script, folder, *arguments, log=None, **variables):
        self.path = folder / f"run-{time.monotonic_ns()}.log"
        command = _command(riverrun, script, folder, arguments, variables)
        with self.path.open("w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=folder, env=_env(log))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def said(self):
        return self.path.read_text()

    def wait_for(self, text, patience=PATIENCE, times=1):
        """Waits until it has said this."""
        until(lambda: self.said().count(text) >= times or self.process.poll() is not None, patience, lambda: f"'{text}' in {self.said()}")
        assert self.said().count(text) >= times, self.said()
        return self

    def started(self):
        return self.wait_for(" runs: ")

    def ends(self, patience=PATIENCE):
        """Waits until it ends by itself; gives its exit code."""
        until(lambda: self.process.poll() is not None, patience, lambda: f"the end; it said {self.said()}")
        return self.process.returncode

    def stop(self, patience=PATIENCE):
        """Stops it in order."""
        self.process.send_signal(signal.SIGTERM)
        return self.ends(patience)


def until(true, patience=PATIENCE, what=lambda: "it"):
    """Looks until something is true."""
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end, f"waited {patience} s for {what()}"
        time.sleep(0.1)


def rows(path):
    """The rows of a file of JSON lines."""
    path = Path(path)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Sending:
    """Calls `send` ten times a second for its share of so many events, on a thread, until it is told to end."""

    def __init__(self, send, rate):
        self.over, self.error = threading.Event(), None
        self.thread = threading.Thread(target=self.run, args=(send, rate // 10), daemon=True)
        self.thread.start()

    def run(self, send, step):
        try:
            while not self.over.wait(0.1):
                send(step)
        except BaseException as error:  # noqa: BLE001 - told by done
            self.error = error

    def done(self):
        self.over.set()
        self.thread.join(120)
        assert self.error is None, self.error
