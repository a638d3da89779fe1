"""Processes that outlive this program: started in a session of their own, found again by their id.

Invariant: no signal goes to a process that we did not start. An id alone may have been given to another program since, so a
process is known by its id and the time at which the kernel started it (/proc/ID/stat; Linux only)."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from . import Failure


def _stat(pid):
    """State letter and start time (in clock ticks since boot) of a process; None when there is none, or a dead one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else (fields[0], int(fields[19]))


def spawn(argv, log, cwd, env):
    """Starts a process whose output is appended to the file `log`. Gives what `state` and `send` know it by."""
    with open(log, "ab") as out:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=cwd, env={**os.environ, **env}, start_new_session=True)
    stat = _stat(child.pid)
    return {"pid": child.pid, "started": stat[1] if stat else 0, "log": str(log)}


def state(process):
    """'running', 'frozen' or 'dead'."""
    stat = _stat(process["pid"])
    if not stat or stat[1] != process["started"]:
        return "dead"
    return "frozen" if stat[0] in "Tt" else "running"


def send(process, number):
    """Sends a signal; False if the process is dead."""
    if state(process) == "dead":
        return False
    os.kill(process["pid"], number)
    return True


def wait(what, done, seconds):
    """Polls `done` until it gives true; False if that takes longer than `seconds`."""
    end = time.monotonic() + seconds
    while not (met := done()):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return met


def stop(processes, grace):
    """Ends all: SIGTERM (and SIGCONT, for frozen ones), after `grace` seconds SIGKILL. Gives those that had to be killed."""
    for process in processes:
        if send(process, signal.SIGTERM):
            send(process, signal.SIGCONT)
    if wait("stop", lambda: all(state(p) == "dead" for p in processes), grace):
        return []
    stubborn = [p for p in processes if send(p, signal.SIGKILL)]
    wait("kill", lambda: all(state(p) == "dead" for p in stubborn), 10)
    return stubborn


def tail(log, lines=25):
    """The last lines of a log."""
    try:
        return "\n".join(Path(log).read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"


def listens(port):
    """Whether something accepts connections on a port of 127.0.0.1."""
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count, first=None):
    """Ports of 127.0.0.1: `count` from `first` on, or picked free ones. Picked below the range that the kernel takes for
    outgoing connections, so that nothing takes one before its server is up, or while its server is down."""
    if first:
        ports = range(first, first + count)
        if taken := [p for p in ports if listens(p)]:
            raise Failure(f"port {taken[0]} of 127.0.0.1 is taken: choose another with port=NUMBER, or leave that out to get a free one")
        return list(ports)
    import random

    candidates = random.sample(range(12000, 32000), 2000)
    ports = []
    for port in candidates:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise Failure("no free ports between 12000 and 32000")
