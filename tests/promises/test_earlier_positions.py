"""
The log's control file is never synced: after a power cut it may be as it was at any moment before.

Whatever it says then, everything acknowledged is there, before and after the first change.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.promises import tasks
from tests.promises.conftest import Start
from tests.promises.places import holding, plain_ids
from tests.promises.records import record
from tests.promises.workers import Worker

_SAVES = 40
_SIZE = 100_000  # so much that the log goes on in other files several times


@pytest.fixture(name="controls")
def _controls(start: Start, root: Path) -> list[bytes]:
    """Return what the control file said before each save of a dead process; none was flushed."""
    worker = start()
    worker.save(record("s", "flushed"))
    worker.call("flush")
    controls = []
    with holding(root, "applier"):
        for number in range(_SAVES):
            controls.append((root / ".aiocheckpoint" / "control").read_bytes())
            worker.save(record("s", f"n{number}", number, size=_SIZE))
        worker.delete("s", "n0")
        worker.kill()
    return controls


_FIRST_CALLS: dict[str, Callable[[Worker], object]] = {
    "list": lambda worker: worker.list("s"),
    "save": lambda worker: worker.save(record("other", "x")),
    "flush": lambda worker: worker.call("flush"),
}


@pytest.mark.parametrize("call", _FIRST_CALLS.values(), ids=_FIRST_CALLS)
@pytest.mark.parametrize("at", [4, 20, _SAVES - 1])
@pytest.mark.some
@pytest.mark.few(1)
def test_nothing_is_forgotten(
    start: Start, root: Path, controls: list[bytes], at: int, call: Callable[[Worker], object]
) -> None:
    """After a crash that left the control file of an earlier moment nothing is lost or back."""
    (root / ".aiocheckpoint" / "control").write_bytes(controls[at])
    expected = ["flushed", *(f"n{number}" for number in range(1, _SAVES))]

    first = start()
    call(first)
    for some in (first, start()):
        assert list(some.listed_ids("s")) == expected[::-1]
        assert some.load("s") == record("s", f"n{_SAVES - 1}", _SAVES - 1, size=_SIZE)
    first.save(record("s", "after"))
    first.call("flush")
    first.kill()
    assert plain_ids(root, "s") == [*expected, "after"]
    second = start()
    assert list(second.listed_ids("s")) == ["after", *expected[::-1]]


def test_of_two_processes_at_once(start: Start, root: Path, controls: list[bytes]) -> None:
    """The same for several processes that come at the same moment and save at once."""
    (root / ".aiocheckpoint" / "control").write_bytes(controls[_SAVES // 2])
    workers = [start() for _ in range(3)]
    savings = [
        worker.begin(tasks.save_many, f"own{number}", "n", 20)
        for number, worker in enumerate(workers)
    ]
    looks = [worker.begin("ids", "s") for worker in workers]
    for look in looks:
        assert len(look.result()) == _SAVES
    for saving in savings:
        assert len(saving.result()) == 20
    for worker in workers:
        assert len(worker.list("s")) == _SAVES
        for number in range(len(workers)):
            assert len(worker.list(f"own{number}")) == 20
