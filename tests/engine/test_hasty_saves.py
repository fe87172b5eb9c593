"""List 4: what is not durable yet takes nothing away that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from aiocheckpoint import CheckpointError
from aiocheckpoint._engine.applier import Applier
from aiocheckpoint._engine.root import WritableRoot
from tests.engine.cuts import Moments
from tests.engine.disk import Disk
from tests.engine.ledger import Effect, Ledger, deleted, dropped, saved
from tests.engine.nodes import CHOICES, Choice, first_names
from tests.engine.process import Process

pytestmark = pytest.mark.blocking


class Way(NamedTuple):
    """
    A way of taking a checkpoint away.

    Attributes:
        effect: on the session.
        take: does it, without waiting until it is durable.
        max_checkpoints: that the hasty process keeps.
    """

    effect: Effect
    take: Callable[[Process], object]
    max_checkpoints: int | None = None


WAYS = {
    "replaced": Way(saved("x", 1), lambda process: process.save("s", "x", 1)),
    "deleted": Way(deleted("x"), lambda process: process.delete("s", "x")),
    "pruned": Way(saved("y", 1, 1), lambda process: process.save("s", "y", 1), 1),
    "dropped": Way(dropped, lambda process: process.drop("s")),
}


def _choices(disk: Disk) -> Iterator[Choice]:
    yield from CHOICES
    for count in range(1, disk.pending_names):
        yield first_names(count, with_pages=False)
        yield first_names(count, with_pages=True)


class History:
    """
    One saves durably, another takes it away in haste, one of them writes the files.

    Args:
        disk: they are on.
        way: of taking it away.
        is_flushed: whether the file of the first save is there before.
        applier: who writes the files: `"one"` who saved, `"hasty"` or a `"third"`.
    """

    def __init__(self, disk: Disk, way: Way, applier: str, *, is_flushed: bool) -> None:
        self.ledger = Ledger()
        self.moments = Moments(disk, self.ledger, lambda: _choices(disk))
        self._way = way
        self._one = Process(disk)
        self._hasty = Process(disk, wake="written", max_checkpoints=way.max_checkpoints)
        self._third = Process(disk)
        appliers = {"one": self._one, "hasty": self._hasty, "third": self._third}
        self._applier = appliers[applier]
        self._is_flushed = is_flushed

    def run(self) -> None:
        """Let it come to pass, and gather what a cut may leave at each moment."""
        self.ledger.save(self._one, "s", "x")
        self.ledger.save(self._one, "t", "other")
        if self._is_flushed:
            self._one.tenure()
        with self.moments.gathered():
            error = self.ledger.run(
                "s", self._way.effect, lambda: self._way.take(self._hasty), is_durable=False
            )
            assert error is None
            self._applier.to_write()
            self._applier.tenure()
            self.ledger.synced()
        self.ledger.check(self._one, self._hasty, self._third)


def _intact(process: Process) -> None:
    process.flush()
    process.seen("s")
    assert process.findings() == []


@pytest.mark.parametrize(
    "every", [7, pytest.param(1, marks=pytest.mark.campaign)], ids=["some", "all"]
)
@pytest.mark.parametrize("is_flushed", [True, False], ids=["its file is there", "in the log alone"])
@pytest.mark.parametrize("applier", ["one", "hasty", "third"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.some
@pytest.mark.few(2)
def test_a_cut_at_each_operation(
    disk: Disk, way: Way, applier: str, every: int, *, is_flushed: bool
) -> None:
    """A durable checkpoint, or what took its place, is there after a cut at any moment."""
    history = History(disk, way, applier, is_flushed=is_flushed)
    history.run()
    assert len(history.moments.found) > 10
    history.moments.check(then=_intact, every=every)


def _apply_up_to_visible(applier: Applier, root: WritableRoot) -> int:
    return root.log.control.visible if root.log.control else 0


def test_mutant_is_noticed(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who applies up to `visible`, in place of `synced`, takes away what is durable."""
    monkeypatch.setattr(Applier, "_synced", _apply_up_to_visible)
    history = History(disk, WAYS["replaced"], "hasty", is_flushed=True)
    history.ledger.synced = lambda: None  # type: ignore[method-assign] # nothing is, with it
    history.run()
    with pytest.raises((AssertionError, CheckpointError)):
        history.moments.check()
