"""A pipeline with its journal on Kafka, reset to an earlier checkpoint: it goes on from there, with the state of that time."""

import subprocess
from datetime import UTC, datetime

import pytest
from runs import until
from test_added_query import USERS, bus, ends, found, give, instances, offsets, said, script  # noqa: F401 - bus: a fixture

FIRST, LAST = 100, 200


@pytest.mark.parametrize("count", [1, 2])
def test_it_goes_on_from_there(bus, riverrun, tmp_path, count):  # noqa: F811
    text = f"SET checkpoint.keep = '100'; SET checkpoint.location = '{tmp_path}/shared'; {script(bus)}"

    def run(seconds):
        """Runs until the events of so many seconds are done with."""
        with instances(riverrun, tmp_path, text, count) as runs:
            until(lambda: offsets(bus, f"added-{bus[1]}") == ends(seconds), what=lambda: said(runs))
            assert [run.stop() for run in runs] == [0] * count, said(runs)
            return said(runs)

    give(bus, 0, FIRST)
    run(FIRST)
    then = datetime.now(UTC)
    give(bus, FIRST, LAST)
    run(LAST)
    own = tmp_path / "i0"
    command = [riverrun, "checkpoint", "reset", own / "script.sql", "--set", f"DATA_DIR={own / 'data'}", "--to", then.isoformat(), "--yes"]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert asked.returncode == 0, asked.stderr
    give(bus, LAST, LAST + 1)
    assert "the checkpoints were reset" in run(LAST + 1)
    once = [(f"u{user}", n) for user in range(USERS) for n in range(1, LAST + 2)]
    again = [(f"u{user}", n) for user in range(USERS) for n in range(FIRST + 1, LAST + 1)]
    assert found(bus, bus[2]) == sorted(once + again)
