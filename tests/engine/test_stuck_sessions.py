"""A session whose files cannot be written: an error stays with it, and it loses nothing."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from aiocheckpoint import CheckpointError, StorageError
from aiocheckpoint._engine import applier
from aiocheckpoint._engine.changes import Flush
from tests.engine.disk import Disk
from tests.engine.files import Call, KilledError
from tests.engine.ledger import Ledger, deleted, saved
from tests.engine.nodes import NOTHING
from tests.engine.process import Answer, Process, in_journal, outcome

pytestmark = pytest.mark.blocking

_JOURNAL_BYTES = 256 << 10
_SIZE = 8_000
_SAVES = 10 * _JOURNAL_BYTES // _SIZE


class Obstacle(NamedTuple):
    """
    What is in the way.

    Attributes:
        place: puts it there.
        remove: takes it away.
        refuses: tells which calls fail beside.
    """

    place: Callable[[Disk], None]
    remove: Callable[[Disk], None]
    refuses: Callable[[Call], bool]


def _path(disk: Disk) -> Path:
    return Path(disk.outer, "state", "stuck")


def _is_inside(call: Call) -> bool:
    changes = ("open", "_open_file", "unlink", "symlink")
    return "/stuck/checkpoints/" in call.path and call.function in changes


OBSTACLES = {
    "a file in its place": Obstacle(
        lambda disk: disk.put(_path(disk), b"somebody's"),
        lambda disk: disk.remove(_path(disk)),
        lambda call: False,
    ),
    "no right to write there": Obstacle(lambda disk: None, lambda disk: None, _is_inside),
}


@pytest.fixture(name="obstacle", params=OBSTACLES.values(), ids=[*OBSTACLES])
def _obstacle(request: pytest.FixtureRequest) -> Obstacle:
    obstacle: Obstacle = request.param
    return obstacle


class Scene:
    """
    Two processes, and a session that neither can write the files of.

    Args:
        disk: they are on.
        obstacle: why not.
    """

    def __init__(self, disk: Disk, obstacle: Obstacle) -> None:
        self.disk = disk
        self.ledger = Ledger()
        self._obstacle = obstacle
        self._is_blocked = True
        self.one, self.two = self.process(), self.process()
        for key in ("a", "b"):
            assert self.ledger.save(self.one, "stuck", key, 1) is None
        obstacle.place(disk)

    def process(self) -> Process:
        """Return another process that finds the obstacle."""
        process = Process(self.disk, max_journal_bytes=_JOURNAL_BYTES)
        process.files.before = self._before
        return process

    def _before(self, call: Call) -> None:
        if self._is_blocked and self._obstacle.refuses(call):
            raise OSError(errno.EACCES, "injected")

    def apply(self, process: Process) -> None:
        """Let a process apply, which tells of the obstacle as long as it is there."""
        error = outcome(process.tenure)
        assert isinstance(error, StorageError) == self._is_blocked, error

    def mend(self) -> None:
        """Take the obstacle away."""
        self._obstacle.remove(self.disk)
        self._is_blocked = False

    def finish(self, process: Process) -> None:
        """See that all is as it should be, in files as well."""
        process.flush()
        self.ledger.check(self.one, self.two, self.process())
        assert process.findings() == []
        self.disk.install(self.disk.image(NOTHING))
        self.ledger.check(self.process())


@pytest.mark.some(1)
def test_others_go_on(disk: Disk, obstacle: Obstacle) -> None:
    """While others save ten times the journal, nothing of the stuck session is lost."""
    scene = Scene(disk, obstacle)
    for number in range(_SAVES):
        process = scene.one if number % 3 else scene.two
        process.save("others", f"n{number % 10}", number, size=_SIZE)
    assert len(scene.one.seen("others")) == 10
    scene.ledger.check(scene.one, scene.two, scene.process())
    scene.mend()
    scene.finish(scene.two)


def test_its_saves_fail_by_name(disk: Disk, obstacle: Obstacle) -> None:
    """Once its files could not be written, every process refuses its saves and says why."""
    scene = Scene(disk, obstacle)
    scene.apply(scene.one)
    for process in (scene.one, scene.two, scene.process()):
        error = scene.ledger.save(process, "stuck", "c")
        assert isinstance(error, StorageError)
        assert "stuck" in error.path
        process.save("other", "b", 1)
    scene.ledger.check(scene.one, scene.two, scene.process())
    scene.mend()
    scene.apply(scene.two)
    assert scene.ledger.save(scene.two, "stuck", "c") is None
    scene.finish(scene.one)


def test_a_refused_save_is_a_reason_to_try(disk: Disk, obstacle: Obstacle) -> None:
    """Who is refused a save tries the files again, for who could not write them may be dead."""
    scene = Scene(disk, obstacle)
    scene.apply(scene.one)
    new, reading = scene.process(), scene.process()
    for process in (scene.two, new):
        process.applier.demand._is_due = False
        assert isinstance(scene.ledger.save(process, "stuck", "c"), StorageError)
        assert process.applier.demand._is_due
    scene.ledger.check(reading)
    assert not reading.applier.demand._is_due
    scene.mend()
    scene.apply(new)
    assert scene.ledger.save(scene.two, "stuck", "c") is None
    scene.finish(new)


def test_its_deletes_work(disk: Disk, obstacle: Obstacle) -> None:
    """What is deleted of it is gone, and stays so when its entries are carried on."""
    scene = Scene(disk, obstacle)
    scene.apply(scene.one)
    assert scene.ledger.run("stuck", deleted("a"), lambda: scene.two.delete("stuck", "a")) is None
    scene.ledger.check(scene.one, scene.two, scene.process())
    for process in (scene.two, scene.one):
        scene.apply(process)
        scene.ledger.check(scene.one, scene.two, scene.process())
    scene.mend()
    scene.finish(scene.two)


def _amid_a_flush(scene: Scene, work: Callable[[], object]) -> Callable[[Call], None]:
    is_over = False

    def before(call: Call) -> None:
        nonlocal is_over
        scene._before(call)
        if call.function == "after_flush" and not is_over:
            is_over = True
            work()

    return before


def _carries_amid_a_change(disk: Disk, obstacle: Obstacle) -> None:
    scene = Scene(disk, obstacle)

    def change() -> None:
        delete = scene.ledger.run("stuck", deleted("a"), lambda: scene.two.delete("stuck", "a"))
        assert delete is None
        replace = scene.ledger.run("stuck", saved("b", 3), lambda: scene.two.save("stuck", "b", 3))
        assert replace is None

    scene.one.files.before = _amid_a_flush(scene, change)
    scene.apply(scene.one)
    scene.ledger.check(scene.one, scene.two, scene.process())
    scene.mend()
    scene.finish(scene.one)


def test_carried_amid_a_change(disk: Disk, obstacle: Obstacle) -> None:
    """What another deletes and replaces while its entries are carried on stays so."""
    _carries_amid_a_change(disk, obstacle)


def _deaths(disk: Disk, obstacle: Obstacle) -> Iterator[Scene]:
    step = 0
    while True:
        disk.wipe()
        scene = Scene(disk, obstacle)
        scene.one.save("others", "x", step)
        scene.one.files.dies_at = disk.steps + step
        step += 1
        error = outcome(scene.one.tenure)
        yield scene
        if not isinstance(error, KilledError):
            return


@pytest.mark.some(1)
def test_killed_while_it_is_carried(disk: Disk, obstacle: Obstacle) -> None:
    """It holds when the applier is killed at any operation."""
    for scene in _deaths(disk, obstacle):
        scene.one = scene.process()
        scene.ledger.check(scene.two, scene.one)
        with contextlib.suppress(CheckpointError):
            scene.two.tenure()
        scene.ledger.check(scene.two, scene.one)
        scene.mend()
        scene.finish(scene.two)


def test_mutant_is_noticed(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without carrying its entries on they go with their segment."""
    monkeypatch.setattr(applier, "carry_failed", lambda _root, _failed, place: place)
    with pytest.raises((AssertionError, CheckpointError)):
        test_others_go_on(disk, OBSTACLES["a file in its place"])


def test_what_was_deleted_while_it_was_stuck(disk: Disk, obstacle: Obstacle) -> None:
    """It is not in the journal any more when its session can be written again and was flushed."""
    scene = Scene(disk, obstacle)
    process = scene.one
    with contextlib.suppress(StorageError):
        process.save("other", "first", 1)
        process.flush()
    with contextlib.suppress(StorageError):
        process.save("other", "second", 2)
        process.flush()
    assert b"a/1 " in in_journal(process)
    process.delete("stuck", "a")
    for number in range(2):
        process.save("other", f"after-{number}", 3)
        with contextlib.suppress(StorageError):
            process.flush()
    scene.mend()
    process.flush()
    assert [key for key, _ in process.seen("stuck")] == ["b"]
    assert b"a/1 " not in in_journal(process)


@pytest.mark.parametrize("closes", [False, True])
def test_what_was_deleted_and_carried_by_others(
    disk: Disk, obstacle: Obstacle, *, closes: bool
) -> None:
    """It is not in the journal either where another process has carried it behind the flush."""
    scene = Scene(disk, obstacle)
    process = scene.one
    for number in range(2):
        process.save("other", f"before-{number}", 2)
        assert isinstance(outcome(process.flush), StorageError)
    process.delete("stuck", "a")
    flush = Flush(Answer(), closes=closes)
    process.commit(flush)
    scene.two.save("other", "after", 3)
    scene.apply(scene.two)
    over = [flush.job.is_over]
    scene.mend()
    process.tenure()
    assert [*over, flush.job.is_over] == [False, True]
    assert flush.job.error is None
    assert b"a/1 " not in in_journal(process)


def test_tries_carry_nothing(disk: Disk, obstacle: Obstacle) -> None:
    """A session that stays stuck is not carried by each try, also when others were deleted."""
    scene = Scene(disk, obstacle)
    process = scene.one
    process.save("other", "a", 1)
    assert isinstance(outcome(process.flush), StorageError)
    process.delete("other", "a")
    for _ in range(2):
        assert isinstance(outcome(process.flush), StorageError)
    end = process.to_write().log.end
    for _ in range(5):
        scene.apply(process)
    assert process.to_write().log.end == end
