"""Who waits for files that another process writes need not be the next to write any."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from aiocheckpoint._disk.locks import APPLIER_NAME
from aiocheckpoint._engine.changes import Change, Flush
from aiocheckpoint.errors import StorageError
from tests.engine.disk import Disk
from tests.engine.kernel import WouldWaitError
from tests.engine.process import Answer, Process, outcome

pytestmark = pytest.mark.blocking


@contextlib.contextmanager
def _held(process: Process) -> Iterator[None]:
    """Let a process keep the lock under which files are written between its turns."""
    log = process.to_write().log
    give_back = log._give_back
    with log.applying():
        setattr(log, "_give_back", lambda name: name == APPLIER_NAME or give_back(name))  # noqa: B010 - a method
        try:
            yield
        finally:
            setattr(log, "_give_back", give_back)  # noqa: B010 - a method


def _tried(process: Process, change: Change) -> bool:
    """Let a process try to write files that a change waits for; tell whether it has its outcome."""
    error = outcome(process.tenure)
    assert error is None or isinstance(error, WouldWaitError)
    return change.job.is_over


@pytest.mark.parametrize("is_flush", [False, True], ids=["save", "flush"])
def test_flushed_by_another(disk: Disk, *, is_flush: bool) -> None:
    """A save that waits for its file, and a flush, end with the flush of who keeps the lock."""
    one, two = Process(disk), Process(disk, wake="flushed")
    one.save("s", "a")
    change: Change = Flush(Answer()) if is_flush else two.new_save("t", "b")
    with _held(one):
        two.commit(change)
        assert not _tried(two, change)
        one.tenure()
        assert _tried(two, change)
    assert change.job.error is None
    assert two.to_write().view.flushed == two.to_write().log.end


def test_each_by_itself(disk: Disk) -> None:
    """One that came too late for that flush does not hold up those that did not."""
    one, two = Process(disk), Process(disk, wake="flushed")
    changes = [two.new_save("s", key) for key in ("a", "b")]
    with _held(one):
        two.commit(changes[0])
        one.tenure()
        two.commit(changes[1])
        outcome(two.tenure)
        assert [change.job.is_over for change in changes] == [True, False]
        one.tenure()
        assert _tried(two, changes[1])


def test_what_others_could_not_write(disk: Disk) -> None:
    """It is told by an own try, and never taken for written."""
    one, two = Process(disk), Process(disk)
    two.save("s", "a")
    with _held(one):
        flush = Flush(Answer())
        two.commit(flush)
        (two.path / "s").write_text("in the way")
        assert isinstance(outcome(one.tenure), StorageError)
        assert not _tried(two, flush)
    assert isinstance(outcome(two.tenure), StorageError)
    assert isinstance(flush.job.error, StorageError)


def test_what_was_deleted(disk: Disk) -> None:
    """A flush waits for its own turn until what was deleted is overwritten in the journal."""
    one, two = Process(disk), Process(disk)
    one.save("s", "a")
    one.flush()
    with _held(one):
        two.delete("s", "a")
        flush = Flush(Answer())
        two.commit(flush)
        one.tenure()  # for nobody who waits there
        assert not _tried(two, flush)
    two.tenure()
    assert flush.job.is_over
    assert flush.job.error is None


def test_who_closes_last(disk: Disk) -> None:
    """It leaves the journal at rest; who is not the last leaves that to others."""
    one, two = Process(disk), Process(disk)
    two.save("s", "a")
    with _held(one):
        flush = Flush(Answer(), closes=True)
        two.commit(flush)
        one.tenure()
        assert not _tried(two, flush)
        one.save("s", "b")
        assert _tried(two, flush)


def test_what_is_left(disk: Disk) -> None:
    """Who has more to write is not done when all who waited are."""
    one, two = Process(disk), Process(disk, wake="flushed")
    change = two.new_save("s", "a")
    with _held(one):
        two.commit(change)
        one.tenure()
        one.save("s", "b")
        assert isinstance(outcome(two.tenure), WouldWaitError)
        assert change.job.is_over
    two.tenure()
    assert two.to_write().view.flushed == two.to_write().log.end
