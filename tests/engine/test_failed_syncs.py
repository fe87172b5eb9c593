"""List 2: a failed sync of the log cleans its pages, and each descriptor sees the error once."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import pytest

from aiocheckpoint import CheckpointError, StorageError
from aiocheckpoint._disk.append import Appender
from aiocheckpoint._disk.slots import Slots
from tests.engine.disk import Disk
from tests.engine.files import Call, KilledError
from tests.engine.ledger import Ledger
from tests.engine.nodes import EVERYTHING, FAILED_TOO, NOTHING, Choice
from tests.engine.process import Process

pytestmark = pytest.mark.blocking

Fate = Literal["ok", "killed", "EIO then killed", "EIO", "EIO all along", "lost behind its back"]
FATES: tuple[Fate, ...] = ("ok", "killed", "EIO then killed", "EIO")
ALL_FATES: tuple[Fate, ...] = (*FATES, "EIO all along", "lost behind its back")


class Step(NamedTuple):
    """
    A commit of one process.

    Attributes:
        process: its number.
        fate: what becomes of its first sync of the log; or of all of them; or it is killed
            before it, and then the system fails to write the pages while nobody asks.
    """

    process: int
    fate: Fate


History = tuple[Step, ...]


def histories(
    length: int, fates: tuple[Fate, ...] = FATES, processes: int = 3
) -> Iterator[History]:
    """Yield all histories, but for those that differ in the numbers of the processes only."""
    for order in itertools.product(range(processes), repeat=length):
        firsts = list(dict.fromkeys(order))
        if firsts == sorted(firsts) and firsts == list(range(len(firsts))):
            for fate in itertools.product(fates, repeat=length):
                yield tuple(map(Step, order, fate))


def strike(disk: Disk, fate: Fate) -> Callable[[Call], None]:
    """Return what lets the first sync of the log have a fate."""
    is_over = fate == "ok"

    def before(call: Call) -> None:
        nonlocal is_over
        if is_over or not call.is_log_sync:
            return
        is_over = fate != "EIO all along"
        if fate != "killed":
            disk.fail_sync(call.descriptor, is_seen=fate != "lost behind its back")
        if fate.startswith("EIO") and fate != "EIO then killed":
            raise OSError(errno.EIO, "injected")
        call.owner.kill()
        raise KilledError

    return before


class Machine:
    """
    Processes on one disk, and what they promised.

    Args:
        disk: they are on.
        is_early: whether all of them are there, and have looked, before anything fails.
        is_empty: whether nothing was saved before.
    """

    def __init__(self, disk: Disk, *, is_early: bool, is_empty: bool = False) -> None:
        self.disk = disk
        self.ledger = Ledger()
        self._is_early = is_early
        self._is_empty = is_empty
        self._processes: dict[int, Process] = {}

    def run(self, history: History) -> None:
        """Let it come to pass."""
        self.disk.wipe()
        first = Process(self.disk)
        first.to_write()
        if not self._is_empty:
            self.ledger.save(first, "s", "first")
        first.close()
        if self._is_early:
            for number in range(3):
                process = self._processes[number] = Process(self.disk)
                process.to_write()
                process.reader().look()
        for serial, step in enumerate(history):
            process = self._processes.setdefault(step.process, Process(self.disk))
            process.files.before = strike(self.disk, step.fate)
            # Two of three replace what is there, so that a save that half counts shows.
            self.ledger.save(process, "s", ("first", "a", "first")[serial % 3], serial + 1)
            process.files.before = None
            if process.files.is_dead:
                del self._processes[step.process]

    def check_cuts(self, choices: tuple[Choice, ...]) -> None:
        """See that everybody agrees, and that what was promised is there after a power cut."""
        self.ledger.check(*self._processes.values(), in_short=True)
        images = [self.disk.image(choice) for choice in choices]
        for image in images:
            ledger = self.ledger.copy()
            ledger.power_cut()
            self.disk.install(image)
            ledger.check(Process(self.disk))


def _survives(
    disk: Disk,
    found: Iterator[History],
    choices: tuple[Choice, ...],
    *,
    is_early: bool,
    is_empty: bool = False,
) -> None:
    for history in found:
        machine = Machine(disk, is_early=is_early, is_empty=is_empty)
        try:
            machine.run(history)
            machine.check_cuts(choices)
        except BaseException as error:
            error.add_note(f"after {[tuple(step) for step in history]}")
            raise


@pytest.mark.parametrize(
    "longest", [2, pytest.param(3, marks=pytest.mark.campaign)], ids=["of two", "of three"]
)
@pytest.mark.parametrize(
    ("is_early", "is_empty"),
    [(True, False), (False, False), (False, True)],
    ids=["open before", "opened later", "from nothing"],
)
@pytest.mark.few(1)
def test_short_histories(disk: Disk, longest: int, *, is_early: bool, is_empty: bool) -> None:
    """What three processes promise is kept, whatever of the failed writes came to the disk."""
    for length in range(1, longest + 1):
        choices = (NOTHING, EVERYTHING, FAILED_TOO)
        _survives(disk, histories(length), choices, is_early=is_early, is_empty=is_empty)


@pytest.mark.parametrize("is_early", [True, False], ids=["open before", "opened later"])
@pytest.mark.some(1)
@pytest.mark.long
def test_more_fates(disk: Disk, *, is_early: bool) -> None:
    """It holds where each sync of a commit fails, and where pages are lost while nobody looks."""
    found = histories(2, ALL_FATES)
    _survives(disk, found, (NOTHING, EVERYTHING, FAILED_TOO), is_early=is_early)


@pytest.mark.campaign
@pytest.mark.parametrize("is_early", [True, False], ids=["open before", "opened later"])
@pytest.mark.parametrize("is_empty", [True, False], ids=["from nothing", "with a save"])
def test_more_fates_for_longer(disk: Disk, *, is_early: bool, is_empty: bool) -> None:
    """It holds for longer histories."""
    if is_early and is_empty:
        pytest.skip("who looks at nothing has not looked")
    found = histories(3, ALL_FATES)
    _survives(disk, found, (NOTHING, FAILED_TOO), is_early=is_early, is_empty=is_empty)


@pytest.mark.parametrize(
    "every", [97, pytest.param(1, marks=pytest.mark.campaign)], ids=["some", "all"]
)
@pytest.mark.long
def test_histories_of_four(disk: Disk, every: int) -> None:
    """It holds for all histories of four commits."""
    found = itertools.islice(histories(4), 0, None, every)
    _survives(disk, found, (NOTHING,), is_early=True)


def _no_writing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slots, "unvouched_end", lambda slots, number, end: 0)


def _sync_again(monkeypatch: pytest.MonkeyPatch) -> None:
    once = Appender._sync_slot

    def twice(appender: Appender) -> None:
        try:
            once(appender)
        except StorageError:
            once(appender)

    monkeypatch.setattr(Appender, "_sync_slot", twice)


_MUTANTS = (_no_writing_again, _sync_again)


@pytest.mark.parametrize("mutate", _MUTANTS)
def test_mutant_is_noticed(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, mutate: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """Without a rule some history of two commits breaks a promise."""
    mutate(monkeypatch)
    with pytest.raises((AssertionError, CheckpointError)):
        _survives(disk, histories(2), (NOTHING, FAILED_TOO), is_early=True)
