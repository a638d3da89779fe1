"""A pipeline with its journal on Kafka, reset to an earlier checkpoint: it goes on from there, with the state of that time."""

import subprocess
from datetime import UTC, datetime

import pytest
from runs import Run, until
from test_added_query import PARTITIONS, USERS, bus, ends, found, give, offsets, script  # noqa: F401 - bus: a fixture

FIRST, LAST = 100, 200


@pytest.mark.parametrize("instances", [1, 2])
def test_it_goes_on_from_there(bus, riverrun, tmp_path, instances):  # noqa: F811
    text = f"SET checkpoint.keep = '100'; SET checkpoint.location = '{tmp_path}/shared'; {script(bus)}"
    names = [f"i{i}" for i in range(instances)]
    folders = [tmp_path / name for name in names]
    for folder in folders:
        folder.mkdir()

    def run(seconds):
        """All instances run until the events of so many seconds are done with."""
        more = [["--instance", name] if instances > 1 else [] for name in names]
        runs = [Run(riverrun, text, folder, *words) for folder, words in zip(folders, more, strict=True)]
        try:
            until(lambda: offsets(bus, f"added-{bus[1]}") == ends(seconds), 60, lambda: "\n".join(run.said() for run in runs))
            for run in runs:
                assert run.stop() == 0, run.said()
        finally:
            for run in runs:
                run.__exit__()
        return "\n".join(run.said() for run in runs)

    give(bus, 0, FIRST)
    run(FIRST)
    then = datetime.now(UTC)
    give(bus, FIRST, LAST)
    run(LAST)
    command = [riverrun, "checkpoint", "reset", folders[0] / "script.sql", "--set", f"DATA_DIR={folders[0] / 'data'}", "--to", then.isoformat()]
    asked = subprocess.run([*command, "--yes"], capture_output=True, text=True, timeout=60, check=False)
    assert asked.returncode == 0, asked.stderr
    # Offsets of the group are those of the checkpoint once it has begun anew: so it is waited for rows.
    give(bus, LAST, LAST + 1)
    said = run(LAST + 1)
    assert "the checkpoints were reset" in said, said
    counts = found(bus, bus[2])
    once = [(f"u{user}", n) for user in range(USERS) for n in range(1, LAST + 2)]
    again = [(f"u{user}", n) for user in range(USERS) for n in range(FIRST + 1, LAST + 1)]
    assert counts == sorted(once + again)
    assert PARTITIONS == 3
