"""List 5: the sync of a flush fails once, then says OK with those pages dropped."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from aiocheckpoint import CheckpointError, StorageError
from aiocheckpoint._disk.files import Directory
from aiocheckpoint._engine import sync
from aiocheckpoint._engine.apply import Files
from aiocheckpoint._engine.sync import Touched
from aiocheckpoint._format.names import PRIVATE_DIRECTORY
from tests.engine.cuts import Moment, Moments
from tests.engine.disk import Disk
from tests.engine.files import Call, KilledError
from tests.engine.kernel import SYNCS
from tests.engine.ledger import Ledger
from tests.engine.nodes import EVERYTHING, NOTHING
from tests.engine.process import Process, outcome

pytestmark = pytest.mark.blocking

_SECOND_MOUNT = 77


class Case(NamedTuple):
    """
    What happens after the failure.

    Attributes:
        is_killed: whether the applier is killed right after it.
        is_taken_over: whether another process applies next.
        is_early: whether that one was there before.
    """

    is_killed: bool
    is_taken_over: bool
    is_early: bool = False


CASES = {
    "tried again": Case(is_killed=False, is_taken_over=False),
    "tried by one who came later": Case(is_killed=False, is_taken_over=True),
    "tried by one who was there": Case(is_killed=False, is_taken_over=True, is_early=True),
    "killed, one who came later": Case(is_killed=True, is_taken_over=True),
    "killed, one who was there": Case(is_killed=True, is_taken_over=True, is_early=True),
}


class History:
    """
    Sessions on two mounts are saved and flushed, but one sync of the flush fails.

    Args:
        disk: they are on.
        case: what happens after that.
        failing: number of the sync that fails.
        is_long: whether cuts at every moment after the failure are gathered, not at the end only.
    """

    def __init__(self, disk: Disk, case: Case, failing: int, *, is_long: bool = False) -> None:
        disk.wipe()
        disk.devices = {"t": _SECOND_MOUNT}
        self.ledger = Ledger()
        self.moments = Moments(disk, self.ledger, lambda: (NOTHING, EVERYTHING))
        self.has_failed = False
        self._is_long = is_long
        self._disk = disk
        self._case = case
        self._failing = failing
        self._syncs = 0
        self._one, self._other = Process(disk), Process(disk)

    def run(self) -> None:
        """Let it come to pass, and gather what a cut may leave after it."""
        if self._case.is_early:
            self._other.to_write()
        for session in ("s", "t"):
            self.ledger.save(self._one, session, "a")
            self.ledger.save(self._one, session, "b")
        self._one.tenure()
        for session in ("s", "t"):
            self.ledger.save(self._one, session, "c", 1)
            self.ledger.save(self._one, session, "a", 1)
        self._one.files.before = self._before
        error = outcome(self._one.tenure)
        self._one.files.before = None
        assert self.has_failed == (error is not None)
        if error is not None and not isinstance(error, KilledError):
            assert isinstance(error, StorageError)
        applier = self._other if self._case.is_taken_over else self._one
        self._disk.on_step = self.moments.gather if self._is_long else None
        for _ in range(3):  # one who was there is told of the failure first
            if outcome(applier.tenure) is None:
                break
        applier.flush()
        self._disk.on_step = None
        self.moments.gather()
        self.ledger.check(applier)

    def _before(self, call: Call) -> None:
        if call.function not in SYNCS or PRIVATE_DIRECTORY in call.path:
            return
        self._syncs += 1
        if self._syncs == self._failing:
            self.has_failed = True
            self._disk.fail_sync(call.descriptor, whole=call.function == "syncfs")
            if self._case.is_killed:
                call.owner.kill()
                raise KilledError
            raise OSError(errno.EIO, "injected")


def _last(moment: Moment) -> list[bytes | None]:
    """Return what nobody applies anything again with."""
    return [*moment.controls[-1:]]


def _intact(process: Process) -> None:
    process.flush()
    # A cut may leave a file that was being written; the next save of the session removes it.
    assert [finding for finding in process.findings() if finding.kind != "leftover"] == []


def histories(disk: Disk, case: Case, *, is_long: bool = False) -> Iterator[History]:
    """Yield a history for each sync of the flush."""
    failing = 0
    while True:
        failing += 1
        history = History(disk, case, failing, is_long=is_long)
        try:
            history.run()
            if not history.has_failed:
                return
            yield history
        except BaseException as error:
            error.add_note(f"after the failure of sync {failing}")
            raise


def _survives(disk: Disk, case: Case, *, is_long: bool = False) -> int:
    count = 0
    for history in histories(disk, case, is_long=is_long):
        count += 1
        history.moments.check(_last, _intact)
    return count


@pytest.fixture(name="few", params=[2, 32], ids=["of the whole disk", "one by one"])
def _few(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """Sync one by one, or the whole disk."""
    monkeypatch.setattr(sync, "_FEW_SYNCS", request.param)
    return int(request.param)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.some
@pytest.mark.few(1)
def test_a_sync_fails(disk: Disk, few: int, case: Case) -> None:
    """All that was acknowledged is in intact files after a cut, though the flush said OK."""
    assert _survives(disk, case) > 1


@pytest.mark.campaign
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_sync_fails_and_then_a_cut(disk: Disk, few: int, case: Case) -> None:
    """It holds for cuts at every moment after the failure."""
    _survives(disk, case, is_long=True)


# Mutants


def _sync_again(monkeypatch: pytest.MonkeyPatch) -> None:
    once = Touched.sync

    def twice(touched: Touched) -> None:
        try:
            once(touched)
        except StorageError:
            once(touched)

    monkeypatch.setattr(Touched, "sync", twice)


def _skip_files_found_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    put = Files._put

    def put_what_differs(
        files: Files, directory: Directory, name: str, data: bytes, *args: Any
    ) -> None:
        if files._files.read(directory, name, 1 << 30) != data:
            put(files, directory, name, data, *args)

    monkeypatch.setattr(Files, "_put", put_what_differs)


@pytest.mark.parametrize("mutate", [_sync_again, _skip_files_found_equal])
def test_mutant_is_noticed(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, mutate: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """Who trusts what a failed sync has left loses it."""
    mutate(monkeypatch)
    with pytest.raises((AssertionError, CheckpointError)):
        _survives(disk, CASES["tried again"])
