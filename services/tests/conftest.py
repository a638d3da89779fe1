"""Fixtures that give tests the addresses of real servers.

A fixture named after a server starts it, unless it runs already in the default run directory, and leaves things as they were.
`apart` makes sets of their own, for tests that need other options or break things."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


class Services:
    """A run directory, by the command `services/run`."""

    def __init__(self, directory=None):
        self.directory = ["--dir", str(directory)] if directory else []

    def run(self, *words):
        """Runs a command; fails the test with what it said if it fails."""
        done = subprocess.run([ROOT / "services" / "run", *self.directory, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(f"services/run {' '.join(words)}:\n{done.stderr}", pytrace=False)
        return done.stdout

    def env(self):
        """The variables of the servers that run: KAFKA_BROKERS and so on."""
        return json.loads(self.run("env", "--json"))

    def states(self):
        """Process -> 'running', 'frozen' or 'dead'."""
        return {row["name"]: row["state"] for row in json.loads(self.run("status", "--json"))}

    def while_up(self, server):
        """Starts a server if need be, gives the variables, and leaves the server as it was."""
        before = {name: state for name, state in self.states().items() if name.partition(".")[0] == server}
        self.run("start", server)
        yield self.env()
        if not before:
            self.run("clean", server)
        elif all(state == "dead" for state in before.values()):
            self.run("stop", server)


@pytest.fixture(scope="session")
def services():
    """The default run directory."""
    return Services()


@pytest.fixture
def apart(tmp_path):
    """A run directory of this test's own; what it starts there ends with the test."""
    own = Services(tmp_path / "services")
    yield own
    own.run("clean")


@pytest.fixture(scope="session")
def kafka(services):
    """The variables of one Kafka broker: KAFKA_BROKERS, KAFKA_SSL, KAFKA_USERNAME, ..."""
    yield from services.while_up("kafka")


@pytest.fixture(scope="session")
def s3(services):
    """The variables of the object store: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ..."""
    yield from services.while_up("s3")


@pytest.fixture(scope="session")
def cassandra(services):
    """The variables of one Cassandra node: CASSANDRA (host:port), CASSANDRA_CA, ..."""
    yield from services.while_up("cassandra")


@pytest.fixture(scope="session")
def registry(services):
    """SCHEMA_REGISTRY_URL."""
    yield from services.while_up("registry")


@pytest.fixture(scope="session")
def prometheus(services):
    """PROMETHEUS_URL, PROMETHEUS_TARGETS, PROMETHEUS_RULES, PROMTOOL."""
    yield from services.while_up("prometheus")


@pytest.fixture(scope="session")
def riverrun():
    """The path of the program under test: $RIVERRUN, or what cargo builds (at once, if it is built already)."""
    if given := os.environ.get("RIVERRUN"):
        assert os.access(given, os.X_OK), f"RIVERRUN={given} is not a program"
        return Path(given)
    return _built()


@pytest.fixture(scope="session")
def riverrun_tls(riverrun):
    """The program with TLS: $RIVERRUN_TLS, or what cargo builds with the feature kafka-tls (needs OpenSSL's headers)."""
    if given := os.environ.get("RIVERRUN_TLS"):
        assert os.access(given, os.X_OK), f"RIVERRUN_TLS={given} is not a program"
        return Path(given)
    built = _built("--features", "riverrun/kafka-tls")
    kept = built.with_name("riverrun-kafka-tls")
    shutil.copy2(built, kept)
    if not os.environ.get("RIVERRUN"):
        _built()  # the other fixture's program stands in its place again
    return kept


@pytest.fixture(scope="session")
def example():
    """Builds an example of the connectors, by its name; gives its path."""

    def build(name):
        return _built("--example", name).with_name("examples") / name

    return build


def _built(*arguments):
    target = Path(os.environ.get("CARGO_TARGET_DIR") or Path.home() / ".cache" / "riverrun" / "target")
    # The whole workspace: with the features that its tests were built with, so that nothing is compiled again.
    build = ["cargo", "build", "--release", "--locked", "--quiet", "--workspace", "--bin", "riverrun", *arguments]
    subprocess.run(build, cwd=ROOT, env={**os.environ, "CARGO_TARGET_DIR": str(target)}, check=True)
    return target / "release" / "riverrun"
