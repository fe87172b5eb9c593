"""The recorder misses nothing: what it writes down is all that the system is asked to do."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aiocheckpoint import Durability
from tests.crash.checker import materialise
from tests.crash.enumeration import record
from tests.crash.operations import Tree
from tests.crash.strace import SET_TIME, Effect, effects_of_process, effects_of_record
from tests.crash.traced import Task, Traced

pytestmark = pytest.mark.blocking

_PROJECT = Path(__file__).parents[2]
_CALLS = (
    "save-new", "save-existing", "save-existing", "replace", "delete", "copy-session", "flush",
    "delete-latest", "recover", "delete-session", "save-existing",
)  # fmt: skip


@pytest.fixture(name="_strace", scope="module")
def _strace_fixture() -> None:
    if shutil.which("strace") is None:
        pytest.skip("there is no strace")
    probe = subprocess.run(["strace", "-o", "/dev/null", "true"], check=False, capture_output=True)
    if probe.returncode != 0:
        pytest.skip(f"strace may not trace here: {probe.stderr.decode().strip()}")


def _both(directory: Path, task: Task) -> tuple[list[Effect], list[Effect]]:
    """Return what was recorded and what was seen from outside."""
    outer, exchange = directory / "outer", directory / "exchange.pickle"
    outer.mkdir()
    materialise(task.tree, outer)
    exchange.write_bytes(pickle.dumps(task))
    command = [sys.executable, "-m", "tests.crash.traced", str(outer), str(exchange)]
    seen = effects_of_process(command, directory / "strace.log", outer, _PROJECT)
    traced: Traced = pickle.loads(exchange.read_bytes())
    operations, times_set = traced
    assert seen.count(SET_TIME) == times_set
    return effects_of_record(operations), [one for one in seen if one != SET_TIME]


@pytest.mark.usefixtures("_strace")
@pytest.mark.parametrize("durability", ["journal", "file"])
@pytest.mark.few(1)
def test_nothing_but_what_is_recorded_touches_the_root(
    tmp_path: Path, durability: Durability, record_property: Callable[[str, object], None]
) -> None:
    """Every call that changes the store is recorded, in the order of their effects."""
    recorded, seen = _both(tmp_path, Task(Tree(), durability, _CALLS))

    assert seen == recorded
    record_property("examined", len(seen))


@pytest.mark.usefixtures("_strace")
@pytest.mark.long
def test_a_sync_of_the_whole_disk_is_recorded_too(tmp_path: Path) -> None:
    """So is the one call that flushes many files."""
    many = ("save-existing",) * 40

    recorded, seen = _both(tmp_path, Task(Tree(), "journal", (*many, "flush")))

    assert seen == recorded
    assert ("syncfs",) in seen


@pytest.mark.usefixtures("_strace")
@pytest.mark.long
async def test_recovery_is_recorded_too(tmp_path: Path) -> None:
    """So is every call with which a root is put in order after a crash."""
    recording = await record(("save-existing", "flush", "save-existing", "delete"), {})
    tree = recording.tree_after(3)

    recorded, seen = _both(tmp_path, Task(tree, "journal", ("flush",)))

    assert seen == recorded
    assert {"create", "write", "fsync", "rename", "remove"} <= {effect[0] for effect in seen}


@pytest.mark.usefixtures("_strace")
@pytest.mark.long
def test_a_call_past_the_recorder_is_seen(tmp_path: Path) -> None:
    """A directory made behind the recorder's back shows as the one difference."""
    recorded, seen = _both(tmp_path, Task(Tree(), "journal", ("save-new",), leak=True))

    assert seen == [*recorded, ("mkdir", "leak")]
