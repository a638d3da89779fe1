"""A run directory: one set of servers, side by side with other sets. DIR/state.json says what was started; DIR/env has the
variables for clients; DIR/NAME/ is a server's own (configuration, data, logs).

Invariant: the state is written before a command ends, whether or not it succeeded, so that no process is forgotten; commands
on one directory take turns (DIR/lock)."""

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import signal
import time
from pathlib import Path

from . import Failure, process
from .fetch import cache, say
from .kafka import Kafka

SERVERS = {server.name: server for server in (Kafka,)}


def default():
    """$RIVERRUN_SERVICES_DIR, or `run` in the cache."""
    return Path(os.environ.get("RIVERRUN_SERVICES_DIR") or cache() / "run")


class RunDir:
    """The servers of one directory. Use inside `opened`."""

    def __init__(self, path):
        self.path = Path(path).absolute()
        self.file = self.path / "state.json"
        self.state = json.loads(self.file.read_text()) if self.file.exists() else {}

    def save(self):
        """Writes state and variables, each whole or not at all."""
        for name, text in (("state.json", json.dumps(self.state, indent=2)), ("env", self.env_text())):
            part = self.path / f".{name}"
            part.write_text(text + "\n")
            part.rename(self.path / name)

    def env(self):
        """The variables of all servers that have a running process."""
        servers = (s for s in self.state.values() if any(process.state(p) != "dead" for p in s["processes"].values()))
        return {key: value for server in servers for key, value in server["env"].items()}

    def env_text(self):
        return "\n".join(f"export {key}={shlex.quote(value)}" for key, value in self.env().items())

    def processes(self, target):
        """The processes that a name stands for: one ('kafka.2'), or all of a server ('kafka')."""
        found = {name: p for server in self.state.values() for name, p in server["processes"].items() if target in (name, name.partition(".")[0])}
        if not found:
            names = [name for server in self.state.values() for name in server["processes"]]
            raise Failure(f"'{target}' was not started in {self.path}; started: {', '.join(names) or 'nothing'}")
        return found

    def start(self, name, options):
        """Starts what is not alive of a server and waits until it answers. A server that was here before keeps its options,
        ports and data."""
        kind, known = SERVERS[name], self.state.get(name)
        if known:
            if changed := {k: v for k, v in options.items() if known["options"].get(k) != v}:
                raise Failure(f"{name} is there with other options; 'clean {name}' first to have it with {changed}")
            options = known["options"]
        else:
            options = kind.checked(options)
        kind.fetch()
        server = kind(self.path / name, options, known["ports"] if known else ())
        server.home.mkdir(parents=True, exist_ok=True)
        if not known:
            server.ports = process.free_ports(server.port_count(), int(options["port"]) if options["port"] else None)
            known = {"options": options, "ports": server.ports, "processes": {}, "env": {}}
        dead = [x for x in server.launches() if process.state(known["processes"].get(x.name, {"pid": 0})) == "dead"]
        if not dead:
            say(f"{name} is running already")
            return
        server.prepare()
        known["env"] = {key: str(value) for key, value in server.env().items()}
        began = time.monotonic()
        self.state[name] = known
        try:
            for launch in dead:
                known["processes"][launch.name] = process.spawn(launch.argv, server.home / f"{launch.name}.log", server.home, launch.env)
            self.await_ready(server, known, dead)
        finally:
            self.save()
        say(f"{name} {kind.version} answers after {time.monotonic() - began:.1f} s")

    def await_ready(self, server, known, launched):
        """Waits until the server answers; if a process dies or time is up, ends what was launched and shows its log."""

        def done():
            states = {name: process.state(p) for name, p in known["processes"].items()}
            if died := [x.name for x in launched if states[x.name] == "dead"]:
                return died
            return server.ready([name for name, state in states.items() if state == "running"])

        result = process.wait(server.name, done, server.start_seconds)
        if result is True:
            return
        started = [known["processes"][x.name] for x in launched]
        process.stop(started, 5)
        what = f"{result[0]} ended at once" if result else f"{server.name} did not answer within {server.start_seconds} s"
        log = known["processes"][result[0] if result else launched[0].name]["log"]
        raise Failure(f"{what}; the end of {log}:\n{process.tail(log)}")

    def stop(self, target):
        """Ends processes in order; says which ones had to be killed."""
        found = self.processes(target)
        name = target.partition(".")[0]
        stubborn = process.stop(found.values(), SERVERS[name].stop_seconds)
        for p in stubborn:
            say(f"process {p['pid']} of {name} did not end within {SERVERS[name].stop_seconds} s of SIGTERM and was killed")
        self.save()

    def signal(self, target, number, wanted):
        """Sends a signal to all processes of `target` and waits until they are `wanted`."""
        found = self.processes(target)
        if dead := [name for name, p in found.items() if not process.send(p, number)]:
            raise Failure(f"{', '.join(dead)}: not running")
        if not process.wait(target, lambda: all(process.state(p) == wanted for p in found.values()), 10):
            raise Failure(f"{target} is not {wanted} 10 s after {signal.Signals(number).name}")
        self.save()

    def clean(self, target):
        """Ends a server and removes its directory."""
        self.stop(target)
        shutil.rmtree(self.path / target, ignore_errors=True)
        del self.state[target]
        self.save()


@contextlib.contextmanager
def opened(path):
    """The run directory at `path`, for one command at a time."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    with open(path / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield RunDir(path)
