"""Power cuts of a real ext4 while two processes work, with and without a new boot id."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_PROJECT = Path(__file__).parents[2]
_RESULT = re.compile(r"(\d+) rounds, .* ([\d,]+) acknowledged calls, .*, (\d+) violations")
_WAYS = [
    ("journal", "--durability=journal"),
    ("journal-new-boot", "--new-boot-id"),
    ("file", "--durability=file"),
]
_ways = pytest.mark.parametrize("option", [o for _, o in _WAYS], ids=[name for name, _ in _WAYS])


def _run(rounds: int, option: str, record_property: Callable[[str, object], None]) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare, to have mounts of one's own")
    done = subprocess.run(
        [sys.executable, "-m", "tests.promises.power_cut", f"--rounds={rounds}", option],
        cwd=_PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    found = _RESULT.search(done.stdout)
    assert found is not None, done.stdout
    assert int(found[1]) == rounds
    assert int(found[2].replace(",", "")) > rounds
    assert int(found[3]) == 0
    record_property("examined", rounds)


@pytest.mark.usefixtures("disk_directory")
@_ways
@pytest.mark.some(1)
@pytest.mark.long
def test_nothing_is_lost(option: str, record_property: Callable[[str, object], None]) -> None:
    """After a power cut, also without a restart, all acknowledged is there, all deleted gone."""
    _run(2, option, record_property)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("disk_directory")
@_ways
def test_nothing_is_lost_in_many(
    option: str, record_property: Callable[[str, object], None]
) -> None:
    """The same a hundred times, the disk being the same throughout."""
    _run(100, option, record_property)
