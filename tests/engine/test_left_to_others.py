"""Who waits for files that another process writes need not be the next to write any."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint._disk.locks import APPLIER_NAME
from aiocheckpoint._engine.changes import Change, Flush
from aiocheckpoint._engine.root import WritableRoot
from aiocheckpoint._format.log import HEADER_BYTES
from aiocheckpoint.errors import DurabilityUnknownError, StorageError
from tests.conftest import MakeWriter
from tests.engine.disk import Disk
from tests.engine.files import Call
from tests.engine.kernel import WouldWaitError
from tests.engine.process import Answer, Process, in_journal, make_record, outcome

pytestmark = pytest.mark.blocking


@contextlib.contextmanager
def _held(process: Process) -> Iterator[None]:
    """Let a process keep the lock under which files are written between its turns."""
    log = process.to_write().log
    give_back = log._give_back
    with log.applying(lambda: None):
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


def test_one_that_comes_when_it_is_flushed(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save is woken also where its files were flushed before anybody knew that it waits."""
    one, two = Process(disk), Process(disk, wake="flushed")
    first, second = two.new_save("s", "a"), two.new_save("s", "b")
    with _held(one):
        two.commit(first)
        late: list[Any] = []
        monkeypatch.setattr(two.applier.demand, "committed", lambda *of: late.append(of))
        two.commit(second)
        monkeypatch.undo()
        one.tenure()
        assert _tried(two, first)
        two.applier.demand.committed(*late[0])
        assert _tried(two, second)


def test_one_of_a_root_that_is_opened_just_then(disk: Disk) -> None:
    """A save in a root that was opened anew is not told that the old one was moved."""
    two = Process(disk, wake="flushed")
    two.save("x", "0")
    save = two.new_save("s", "a")
    opened = two.applier._opened

    def opened_before() -> WritableRoot:
        found = opened()
        two.applier._opened = opened
        two.reopen()
        two.commit(save)
        return found

    two.applier._opened = opened_before
    two.applier.demand.tries += 1
    outcome(two.tenure)
    two.tenure()
    assert save.job.is_over
    assert save.job.error is None


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


def test_stuck_meanwhile(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds also where another thread takes in what they have done, in the middle of a look."""
    one, two = Process(disk), Process(disk, wake="flushed")
    save = two.new_save("s", "a")
    with _held(one):
        two.commit(save)
        (two.path / "s").write_text("in the way")
        lost = two.to_write().view.lost

        def unreadable() -> list[Any]:
            monkeypatch.undo()
            assert isinstance(outcome(one.tenure), StorageError)
            two.to_write().view.follow()
            return lost.unreadable()

        monkeypatch.setattr(lost, "unreadable", unreadable)
        assert not _tried(two, save)


def test_what_cannot_be_read(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who cannot read the journal does not take what it sees of it for all there is."""
    one, two = Process(disk), Process(disk)
    two.save("s", "a")
    with _held(one):
        one.save("t", "b")

        def refuse(*_: object, **__: object) -> None:
            raise StorageError("read", "log", errno.EIO, "refused")

        monkeypatch.setattr(two.to_write().log, "_read", refuse)
        for _ in range(2):
            assert isinstance(outcome(two.tenure), WouldWaitError)


def test_who_waits_for_room(disk: Disk) -> None:
    """It is told of a flush of others, too."""
    one, two = Process(disk), Process(disk)
    two.save("s", "a")
    with _held(one):
        flushes = two.applier.demand._flushes
        one.tenure()
        assert outcome(two.tenure) is None
    assert two.applier.demand._flushes > flushes
    assert not two.applier.demand.is_wanted


def test_a_line_that_moves(disk: Disk) -> None:
    """Nobody is blamed for the lock while what others flush goes on."""
    one, two = Process(disk), Process(disk)
    log = two.to_write().log
    since: list[float | None] = []

    def before(call: Call) -> None:
        if call.function == "await_lock":
            since.append(log.applier_waits_since)

    def looked() -> float | None:
        log.applier_waits_since = 1.0
        two.save("s", f"cp-{len(since)}")
        assert isinstance(outcome(two.tenure), WouldWaitError)
        return since[-1]

    two.files.before = before
    with _held(one):
        assert looked() == looked() == 1.0
        one.tenure()
        assert (looked() or 0) > 1.0


def test_what_was_deleted(disk: Disk) -> None:
    """A flush ends with that of another when what was deleted is overwritten in the journal."""
    one, two = Process(disk), Process(disk)
    one.save("s", "a", 777, size=20)
    one.flush()
    assert b"a/777 " in in_journal(one)
    with _held(one):
        two.delete("s", "a")
        one.tenure()
        flush = Flush(Answer())
        two.commit(flush)
        assert not _tried(two, flush)
        one.tenure()
        assert _tried(two, flush)
    assert b"a/777 " not in in_journal(one)


def test_who_closes_last(disk: Disk) -> None:
    """It leaves the journal at rest in its own turn; who is not the last leaves that to others."""
    one, two = Process(disk), Process(disk)
    two.save("s", "a")
    with _held(one):
        flush = Flush(Answer(), closes=True)
        two.commit(flush)
        one.tenure()
        assert not _tried(two, flush)
    two.tenure()
    assert flush.job.is_over
    log = two.to_write().log
    assert log.slots.size(log.segments[-1].slot) == HEADER_BYTES
    two.save("s", "b")
    with _held(one):
        flush = Flush(Answer(), closes=True)
        two.commit(flush)
        one.tenure()
        one.save("s", "c")
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


@pytest.mark.parametrize("moved", ["", ".aiocheckpoint"], ids=["root", "journal"])
async def test_a_root_that_is_moved(root: Path, make_writer: MakeWriter, moved: str) -> None:
    """A save has its file where the root is now, whoever writes files where it was."""
    writer = make_writer(durability="file")
    for number in range(3):
        await writer.save(make_record("a", f"cp-{number}", number))
    with open(root / ".aiocheckpoint" / "applier", "r+b") as applier:
        fcntl.flock(applier, fcntl.LOCK_EX)
        first = asyncio.create_task(writer.save(make_record("a", "first", 3)))
        while not writer.stats().unflushed_changes:
            await asyncio.sleep(0)
        (root / moved).rename(root.parent / "moved")
        await writer.save(make_record("b", "second", 4))
        assert len([*(root / "b" / "checkpoints").glob("cp_*.json")]) == 1
    with contextlib.suppress(DurabilityUnknownError):
        await first
