"""What a server is, to the commands: the interface, and the table of options that all share."""

import dataclasses
from pathlib import Path

from . import Failure


@dataclasses.dataclass
class Launch:
    """One process of a server."""

    name: str  # 'kafka.1', or the server's own name where it has one process
    argv: list
    env: dict = dataclasses.field(default_factory=dict)


class Server:
    """One kind of server. Objects are made anew by each command: what must last is in the files of `home`, and in the options and
    ports that the run directory keeps."""

    name = ""
    version = ""
    about = ""
    options = {}  # option -> (default, what it is for)
    start_seconds = 60  # how long until it must answer
    stop_seconds = 10  # how long it may take to end after SIGTERM

    def __init__(self, home, options, ports=()):
        self.home = Path(home)
        self.given = options
        self.ports = list(ports)

    @classmethod
    def checked(cls, options):
        """`options` with defaults filled in. `server.KEY=VALUE` goes to the server's own configuration as it is."""
        known = {"port": ("", "")} | cls.options
        for key in options:
            if key not in known and not (key.startswith("server.") and cls.own_settings):
                names = ", ".join(known) + (", server.KEY" if cls.own_settings else "")
                raise Failure(f"{cls.name} has no option '{key}'; it has: {names}")
        return {key: default for key, (default, _) in known.items()} | options

    own_settings = False

    def own(self):
        """The user's `server.KEY=VALUE` settings."""
        return {key.removeprefix("server."): value for key, value in self.given.items() if key.startswith("server.")}

    def number(self, option, least, most):
        """An option that is a whole number."""
        text = self.given[option]
        if not text.isdigit() or not least <= int(text) <= most:
            raise Failure(f"{self.name}: option {option}={text}: a whole number from {least} to {most} is expected")
        return int(text)

    @classmethod
    def fetch(cls):
        """Gets the program, if it is not in the cache."""
        raise NotImplementedError

    def port_count(self):
        """How many ports it listens on."""
        return 1

    def prepare(self):
        """Writes configuration, and makes the data directory if there is none. Called before each start."""

    def launches(self):
        """Its processes."""
        raise NotImplementedError

    def ready(self, running):
        """Whether it answers its clients; `running`: names of its processes that are alive and not frozen."""
        raise NotImplementedError

    def env(self):
        """Variables that tell clients where it is and how to get in."""
        raise NotImplementedError
