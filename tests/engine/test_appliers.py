"""List 7: whoever applies, however far, and killed wherever: all see what the log says."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest

from aiocheckpoint import CheckpointError
from aiocheckpoint._engine.applier import Applier
from aiocheckpoint._engine.root import WritableRoot
from tests.engine.cuts import Moment, Moments
from tests.engine.disk import Disk
from tests.engine.files import KilledError
from tests.engine.ledger import Ledger, deleted, dropped
from tests.engine.nodes import EVERYTHING, NAMES, NOTHING, PAGES
from tests.engine.process import Process, outcome

pytestmark = pytest.mark.blocking


def _populate(ledger: Ledger, one: Process, two: Process) -> None:
    """Let there be files, and changes of all kinds that are in the log alone."""
    for session in ("s", "t", "u"):
        for key in ("a", "b", "c"):
            ledger.save(one, session, key)
    one.tenure()
    ledger.save(two, "s", "a", 1)
    ledger.save(one, "s", "new", 1)
    ledger.run("s", deleted("b"), lambda: two.delete("s", "b"))
    ledger.run("t", dropped, lambda: one.drop("t"))
    ledger.save(two, "t", "d", 1)
    ledger.run("u", dropped, lambda: two.drop("u"))
    ledger.save(two, "v", "first", 1)
    ledger.save(one, "s", "a", 2)


class Scene:
    """
    Two processes that have saved much, and one that only reads.

    Args:
        disk: they are on.
    """

    def __init__(self, disk: Disk) -> None:
        disk.wipe()
        self.disk = disk
        self.ledger = Ledger()
        self.one, self.two = Process(disk), Process(disk)
        _populate(self.ledger, self.one, self.two)
        self.reader = Process(disk)
        self.ledger.check(self.reader, self.one, self.two)

    def killed_at(self, process: Process, step: int) -> bool:
        """Let a process apply until it is killed at a step; tell whether it came to that."""
        process.to_write()
        process.files.dies_at = self.disk.steps + step
        error = outcome(process.tenure)
        process.files.dies_at = None
        assert error is None or isinstance(error, KilledError)
        return error is not None

    def check(self, *processes: Process) -> None:
        """See that old and new ones see what the log says."""
        newcomer = Process(self.disk)
        self.ledger.check(self.reader, *processes, newcomer)
        newcomer.close()

    def finish(self, process: Process) -> None:
        """See that all is right when the rest is applied, for those who look at files as well."""
        process.flush()
        self.check(process)
        assert process.findings() == []
        self.disk.install(self.disk.image(NOTHING))
        self.ledger.check(Process(self.disk))


def _deaths(disk: Disk, then: Callable[[Scene, int], object], step: int = 1) -> int:
    """Let the first be killed at each step of its tenure, do the rest, and return how many."""
    for count in itertools.count(step=step):
        scene = Scene(disk)
        try:
            is_killed = scene.killed_at(scene.one, count)
            scene.check(scene.two)
            then(scene, count)
        except BaseException as error:
            error.add_note(f"after a kill at step {count}")
            raise
        if not is_killed:
            return count
    return 0


_some = pytest.mark.parametrize(
    "every", [7, pytest.param(1, marks=pytest.mark.campaign)], ids=["some", "all"]
)


@_some
def test_killed_at_each_operation(disk: Disk, every: int) -> None:
    """An applier killed anywhere is not noticed by readers, and another brings it to its end."""
    assert _deaths(disk, lambda scene, _: scene.finish(scene.two), every) > 60 // every


@pytest.mark.long
def test_killed_and_the_next_one_too(disk: Disk) -> None:
    """It holds when the one that takes over is killed as well."""

    def then(scene: Scene, count: int) -> None:
        if scene.killed_at(scene.two, count * 7 % 31):
            scene.check()
        scene.finish(Process(disk))

    _deaths(disk, then, step=7)


@pytest.mark.campaign
def test_all_pairs_of_kills(disk: Disk) -> None:
    """It holds for all moments of both."""

    def killed_at(second: int, scene: Scene, count: int) -> None:
        if scene.killed_at(scene.two, second):
            scene.check()
        scene.finish(Process(disk))

    for second in range(60):
        _deaths(disk, partial(killed_at, second))


# Mixed


Deed = Callable[[Ledger, Mapping[str, Process], int], object]


def _saves(name: str, key: str) -> Deed:
    return lambda ledger, processes, serial: ledger.save(processes[name], "s", key, serial)


def _deletes(name: str, key: str) -> Deed:
    return lambda ledger, processes, serial: ledger.run(
        "s", deleted(key), lambda: processes[name].delete("s", key)
    )


def _applies(name: str) -> Deed:
    return lambda ledger, processes, serial: processes[name].tenure()


def _drops(name: str) -> Deed:
    return lambda ledger, processes, serial: ledger.run(
        "s", dropped, lambda: processes[name].drop("s")
    )


_DEEDS: dict[str, Deed] = {
    "one saves": _saves("one", "x"),
    "two saves": _saves("two", "x"),
    "two deletes": _deletes("two", "x"),
    "one drops": _drops("one"),
    "one applies": _applies("one"),
    "two applies": _applies("two"),
}


def _mixed(disk: Disk, length: int) -> None:
    for order in itertools.product(_DEEDS, repeat=length):
        disk.wipe()
        ledger = Ledger()
        processes = {"one": Process(disk), "two": Process(disk)}
        reader = Process(disk)
        ledger.save(processes["one"], "s", "x")
        try:
            for serial, deed in enumerate(order):
                _DEEDS[deed](ledger, processes, serial + 1)
                ledger.check(*processes.values(), reader)
            ledger.check(Process(disk))
        except BaseException as error:
            error.add_note(f"after {order}")
            raise


def test_mixed(disk: Disk) -> None:
    """Whoever saves, deletes, drops and applies, in whatever order: all see the same."""
    _mixed(disk, 2)


@pytest.mark.campaign
def test_mixed_for_longer(disk: Disk) -> None:
    """It holds for longer histories."""
    _mixed(disk, 5)


# Power cuts


def _last(moment: Moment) -> list[bytes | None]:
    return [*moment.controls[-1:]]


def _cuts(disk: Disk) -> Moments:
    scene = Scene(disk)
    moments = Moments(disk, scene.ledger, lambda: (NOTHING, EVERYTHING, NAMES, PAGES))
    with moments.gathered():
        scene.two.tenure()
    return moments


@_some
def test_a_cut_while_it_is_applied(disk: Disk, every: int) -> None:
    """What is applied and not durable is in the log after a cut, whatever is shared."""

    def then(process: Process) -> None:
        process.flush()
        assert process.findings() == []

    _cuts(disk).check(_last, then, every=every)


def _share_what_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take what is applied for what is flushed, as a shared position would let others do."""
    apply = Applier._apply

    def apply_and_share(
        applier: Applier, root: WritableRoot, sessions: Any, place: int, *args: Any
    ) -> None:
        apply(applier, root, sessions, place, *args)
        with root.log.locked():
            root.view.catch_up()
            root.appender.publish_flushed(place)

    monkeypatch.setattr(Applier, "_apply", apply_and_share)


@pytest.mark.long
def test_mutant_is_noticed(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who trusts a shared position of what is applied, after a crash, loses it."""
    _share_what_is_applied(monkeypatch)
    with pytest.raises((AssertionError, CheckpointError)):
        _cuts(disk).check(_last)
