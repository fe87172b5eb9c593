"""
List 1: every crash state, with the shared positions at each earlier content, zeroed, absent.

Earlier ones are those that a crash may leave: since they were made durable last, as a flush does.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aiocheckpoint import CheckpointError
from aiocheckpoint._disk.log import Advance, Log
from tests.engine.cuts import Moment, Moments
from tests.engine.disk import Disk
from tests.engine.ledger import Effect, Ledger, deleted, dropped, saved
from tests.engine.nodes import EVERYTHING, NOTHING, ODD
from tests.engine.process import Process

pytestmark = pytest.mark.blocking

_LARGE = 9_000
_CHOICES = (NOTHING, EVERYTHING, ODD)


class History:
    """
    Two processes that save, replace and delete, and a hasty one that does not sync.

    Args:
        disk: they are on.
    """

    def __init__(self, disk: Disk) -> None:
        self.ledger = Ledger()
        self.moments = Moments(disk, self.ledger, lambda: _CHOICES)
        self._one, self._two = Process(disk), Process(disk)
        self._hasty = Process(disk, wake="written")

    def _save(
        self, process: Process, session: str, key: str, serial: int = 0, size: int = 0
    ) -> None:
        error = self.ledger.run(
            session,
            saved(key, serial),
            lambda: process.save(session, key, serial, size=size),
            is_durable=process is not self._hasty,
        )
        assert error is None

    def _change(self, session: str, effect: Effect, work: Callable[[], object]) -> None:
        assert self.ledger.run(session, effect, work) is None

    def commits(self) -> None:
        """Save and replace, in two segments; nothing is applied."""
        with self.moments.gathered():
            self._save(self._one, "s", "a")
            self._save(self._two, "s", "b")
            self._save(self._hasty, "s", "c")
            self._save(self._hasty, "s", "a", 1)
            self._save(self._one, "t", "x", 0, _LARGE)
            self._save(self._two, "s", "b", 1, _LARGE)
            self._save(self._hasty, "s", "d")

    def with_flushes(self) -> None:
        """Save, delete and flush, so that slots are given free and used again."""
        with self.moments.gathered():
            self._save(self._one, "s", "a")
            self._save(self._two, "s", "b", 0, _LARGE)
            self._two.tenure()
            self._change("s", deleted("a"), lambda: self._one.delete("s", "a"))
            self._one.flush()
            self.ledger.synced()
            self._save(self._hasty, "s", "c", 0, _LARGE)
            self._save(self._two, "s", "b", 1, _LARGE)
            self._one.tenure()
            self._save(self._one, "t", "x")
            self._change("s", dropped, lambda: self._two.drop("s"))
            self._save(self._one, "s", "e")
            self._one.flush(closes=True)
            self.ledger.synced()
            self._save(self._two, "s", "f")


def _all(moment: Moment) -> list[bytes | None]:
    return [None, bytes(512), *moment.controls]


def _some(moment: Moment) -> list[bytes | None]:
    """Return the last, the first, and what is neither; not all, for they are many."""
    return [*dict.fromkeys([None, *moment.controls[:1], *moment.controls[-2:-1]])]


@pytest.mark.parametrize(
    "every", [9, pytest.param(1, marks=pytest.mark.campaign)], ids=["some", "all"]
)
def test_commits(disk: Disk, every: int) -> None:
    """All that was acknowledged is there, whatever the shared positions say after the cut."""
    history = History(disk)
    history.commits()
    history.moments.check(_all, every=every)


@pytest.mark.long
def test_with_flushes(disk: Disk) -> None:
    """It holds while slots of the log are given free, erased and used again."""
    history = History(disk)
    history.with_flushes()
    history.moments.check(_some, every=5)


@pytest.mark.campaign
def test_with_flushes_and_all_positions(disk: Disk) -> None:
    """It holds with every content that the shared positions ever had."""
    history = History(disk)
    history.with_flushes()
    history.moments.check(_all)


def test_mutant_is_noticed(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who appends at `visible`, in place of the end of the chain, loses what is beyond it."""

    def catch_up(log: Log) -> Advance:
        control = log.read_control()
        advance = log._advance(control, to_end=control is None)
        log.is_scanned = True
        return advance

    monkeypatch.setattr(Log, "catch_up", catch_up)
    with pytest.raises((AssertionError, CheckpointError)):
        test_commits(disk, 1)
