"""List 3: what was refused does not come back, or its error said that nobody knows."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import pytest

from aiocheckpoint import CheckpointError
from aiocheckpoint._disk.append import Appender
from aiocheckpoint._disk.log import Log
from aiocheckpoint._disk.segments import Segment
from tests.engine.cuts import require_kept
from tests.engine.disk import Disk
from tests.engine.files import Call
from tests.engine.kernel import STEPS, SYNCS
from tests.engine.ledger import Ledger, saved
from tests.engine.nodes import EVERYTHING, FAILED_TOO, NOTHING
from tests.engine.process import Process

pytestmark = pytest.mark.blocking

_LARGE = 12_000
_CHOICES = (FAILED_TOO, EVERYTHING, NOTHING)
_some = pytest.mark.parametrize(
    "every", [12, pytest.param(1, marks=pytest.mark.campaign)], ids=["some", "all"]
)


class Fault(NamedTuple):
    """
    What goes wrong.

    Attributes:
        sync: number of the sync of the log that fails.
        lives: how many steps its process makes after that; None for all.
    """

    sync: int
    lives: int | None


class Scene:
    """
    Two processes that save, one of them without syncing, while a sync of the log fails.

    Args:
        disk: they are on.
        fault: what goes wrong.
    """

    def __init__(self, disk: Disk, fault: Fault) -> None:
        disk.wipe()
        self.disk = disk
        self.ledger = Ledger()
        self.is_over = False
        self.has_died = False
        self._fault = fault
        self._syncs = 0
        self._is_armed = True
        self._one = self._process()
        self._hasty = self._process(is_hasty=True)
        self._other = self._process()

    def _process(self, *, is_hasty: bool = False) -> Process:
        process = Process(self.disk, wake="written" if is_hasty else "synced")
        process.files.before = self._before
        return process

    def _before(self, call: Call) -> None:
        if not call.is_log_sync or not self._is_armed:
            return
        self._syncs += 1
        if self._syncs == self._fault.sync:
            self._is_armed = False
            self.is_over = True
            self.disk.fail_sync(call.descriptor)
            if self._fault.lives is not None:
                call.owner.dies_at = self.disk.steps + self._fault.lives
            raise OSError(errno.EIO, "injected")

    def run(self) -> None:
        """Let it come to pass: five saves, the last in a new segment, then one by the other."""
        self._save(self._other, "before")
        self._save(self._one, "a")
        self._save(self._hasty, "b", is_durable=False)
        self._save(self._hasty, "a", 2, is_durable=False)
        self._save(self._one, "c")
        self._save(self._one, "d", size=_LARGE)
        self._is_armed = False
        self.has_died = self._one.files.is_dead or self._hasty.files.is_dead
        self._save(self._other, "after")

    def _save(
        self, process: Process, key: str, serial: int = 0, *, size: int = 0, is_durable: bool = True
    ) -> None:
        if process.files.is_dead:
            return
        self.ledger.run(
            "s",
            saved(key, serial),
            lambda: process.save("s", key, serial, size=size),
            is_durable=is_durable,
        )
        process.files.dies_at = None

    def check(self, controls: Callable[[list[bytes]], list[bytes | None]]) -> None:
        """See that the living agree, and that a cut breaks no promise, whatever is shared."""
        alive = [p for p in (self._one, self._hasty, self._other) if not p.files.is_dead]
        self.ledger.check(*alive)
        images = [self.disk.image(choice) for choice in _CHOICES]
        shared = controls(self.disk.controls)
        for image in images:
            for control in shared:
                require_kept(self.disk, image, self.ledger, control)


def _few(controls: list[bytes]) -> list[bytes | None]:
    return [b"", None, controls[len(controls) // 2]]


def _all(controls: list[bytes]) -> list[bytes | None]:
    return [b"", bytes(512), None, *controls]


def _scenes(disk: Disk, faults: Iterator[Fault]) -> Iterator[Scene]:
    for fault in faults:
        scene = Scene(disk, fault)
        try:
            scene.run()
            yield scene
        except BaseException as error:
            error.add_note(f"after {fault}")
            raise


def _count(disk: Disk) -> int:
    scene = Scene(disk, Fault(-1, None))
    scene.run()
    return scene._syncs


@_some
def test_a_sync_fails(disk: Disk, every: int) -> None:
    """Whichever sync of the log fails, what was refused is absent with every shared position."""
    faults = (Fault(number, None) for number in range(1, _count(disk) + 1))
    for scene in _scenes(disk, faults):
        assert scene.is_over
        scene.check(lambda controls: _all(controls[::every]))


@_some
@pytest.mark.long
def test_a_sync_fails_and_then_a_kill(disk: Disk, every: int) -> None:
    """It holds when the process is killed at any step of what follows the failure."""
    deaths = 0
    for number in range(1, _count(disk) + 1):
        for lives in range(number % every, 30, every):
            (scene,) = _scenes(disk, iter([Fault(number, lives)]))
            scene.check(_few)
            deaths += scene.has_died
            if not scene.has_died:
                break
    assert deaths > 10 // every


# Every operation of a commit


def _commits(process: Process) -> Iterator[tuple[str, int]]:
    """Yield what a process is about to save, in every way a commit goes."""
    yield "a", 0  # with the first segment
    yield "b", 0
    yield "a", 0  # replaced
    yield "c", _LARGE  # in a new segment


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("has_effect", [False, True], ids=["refused", "done all the same"])
@_some
@pytest.mark.few(2)
def test_each_operation_fails(disk: Disk, number: int, every: int, *, has_effect: bool) -> None:
    """Whichever call of a commit fails, a save that was refused does not come back."""
    first = 1 + (number + has_effect) % every
    for failing in itertools.count(first, every):
        ledger, is_over = _with_failure(disk, failing, number, has_effect=has_effect)
        if not is_over:
            break
        images = [disk.image(choice) for choice in _CHOICES]
        for image in images:
            for control in (b"", None):
                try:
                    require_kept(disk, image, ledger, control)
                except BaseException as error:
                    error.add_note(f"after the failure of call {failing}")
                    raise
    assert failing > 25


def _with_failure(
    disk: Disk, failing: int, number: int, *, has_effect: bool
) -> tuple[Ledger, bool]:
    disk.wipe()
    ledger = Ledger()
    calls = 0
    is_over = False

    def before(call: Call) -> None:
        nonlocal calls, is_over
        if is_over or call.function not in STEPS:
            return
        calls += 1
        if calls != failing:
            return
        is_over = True
        if not has_effect:
            if call.function in SYNCS:
                disk.fail_sync(call.descriptor)
            raise OSError(number, "injected")
        call.owner.fails_after = number

    process, other = Process(disk), Process(disk)
    process.files.before = before
    name = ""
    for serial, (key, size) in enumerate(_commits(process)):
        error = ledger.run(
            "s",
            saved(key, serial),
            partial(process.save, "s", key, serial, size=size),
        )
        name += f"{key}: {error!r}; "
    process.files.before = None
    try:
        ledger.save(other, "s", "after")
        ledger.check(process, other)
    except BaseException as error:
        error.add_note(f"after the failure of call {failing}: {name}")
        raise
    return ledger, is_over


# Mutants


def _without_previous_end(monkeypatch: pytest.MonkeyPatch) -> None:
    adopt = Log._adopt

    def adopt_all(log: Log, chain: list[Segment]) -> bool:
        return adopt(log, [segment._replace(end=None) for segment in chain])

    monkeypatch.setattr(Log, "_adopt", adopt_all)


def _without_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Appender, "_copies", lambda appender: [])


def _trust_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = property(lambda log: False, lambda log, value: None)
    monkeypatch.setattr(Log, "is_void", nothing, raising=False)


@pytest.mark.parametrize("mutate", [_without_previous_end, _without_copies, _trust_what_was_read])
@pytest.mark.some(1)
def test_mutant_is_noticed(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, mutate: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """What is closed or lost comes back without `prev_end`, without copies, or from memory."""
    mutate(monkeypatch)
    with pytest.raises((AssertionError, CheckpointError)):
        _breaks(disk)


def _breaks(disk: Disk) -> None:
    test_a_sync_fails(disk, 3)
    test_each_operation_fails(disk, errno.EIO, 1, has_effect=True)
