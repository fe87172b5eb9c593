"""A process that was stopped or killed while it holds the lock of the log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import CheckpointError, StoreBusyError
from tests.clocks import HOUR_SECONDS, Clock
from tests.conftest import MakeWriter
from tests.promises import tasks
from tests.promises.conftest import Start
from tests.promises.places import GUARD_SECONDS, holding, plain_ids, session_files, wait_until
from tests.promises.records import assert_whole, record
from tests.promises.workers import Worker

_PATIENCE_SECONDS = 0.4


@pytest.fixture(name="saver")
def _saver(start: Start) -> Worker:
    """Return a process that saves all the time."""
    worker = start()
    worker.begin(tasks.save_for_ever, "busy", "n").note()
    return worker


def _refused(worker: Worker, target: Any, *args: Any) -> StoreBusyError:
    """Make a call that must be refused, after the patience of the worker and soon after it."""
    began = time.monotonic()
    with pytest.raises(StoreBusyError) as refused:
        worker.call(target, *args)
    assert _PATIENCE_SECONDS * 0.9 <= time.monotonic() - began < GUARD_SECONDS
    assert refused.value.timeout_seconds == _PATIENCE_SECONDS
    assert refused.value.path.startswith(str(worker.root))
    return refused.value


def _in_the_end(worker: Worker, target: Any, *args: Any) -> Any:
    """Make a call anew as long as it is refused: a machine may be slower than its patience."""
    answers: list[Any] = []

    def is_answered() -> bool:
        with contextlib.suppress(StoreBusyError):
            answers.append(worker.call(target, *args))
        return bool(answers)

    wait_until(is_answered, f"{target} is answered")
    return answers[0]


def test_changes_of_others_are_refused(start: Start, saver: Worker) -> None:
    """While a process is stopped with the lock, changes by others are refused in time, by name."""
    other = start(lock_timeout_seconds=_PATIENCE_SECONDS)
    _in_the_end(other, "save", record("s", "before"))
    saver.stop_amid_commit()

    pending = [other.begin("save", record(f"s{n}", "refused")) for n in range(20)]
    _refused(other, "save", record("s", "refused"))
    for save in pending:
        with pytest.raises(StoreBusyError):
            save.result()
    _refused(other, "delete", "s", "before")
    _refused(other, "delete_session", "s")

    saver.go_on()
    _in_the_end(other, "save", record("s", "after"))
    for some in (other, start()):
        assert some.listed_ids("s") == ("after", "before")
        assert [some.list(f"s{n}") for n in range(20)] == [()] * 20
        assert some.load("s", "refused") is None


def test_what_was_refused_stays_so(start: Start, root: Path) -> None:
    """A save that was refused for the lock is not stored later, when the lock is free again."""
    other = start(lock_timeout_seconds=_PATIENCE_SECONDS)
    _in_the_end(other, "save", record("s", "before"))
    with holding(root, "lock"):
        _refused(other, "save", record("s", "refused"))
    _in_the_end(other, "flush")

    assert other.listed_ids("s") == ("before",)
    other.close()
    assert start().listed_ids("s") == ("before",)


def test_an_open_reader_goes_on(start: Start, saver: Worker) -> None:
    """A process that has looked before reads all that was acknowledged, without waiting."""
    saver.save(record("s", "a"))
    reader = start(lock_timeout_seconds=10 * GUARD_SECONDS)
    assert reader.listed_ids("s") == ("a",)
    saver.save(record("s", "b"))
    saver.stop_amid_commit()

    for _ in range(3):
        assert reader.load("s") == record("s", "b")
        assert reader.load("s", "a") == record("s", "a")
        assert reader.listed_ids("s") == ("b", "a")
        assert reader.ids("s") == ("b", "a")
        assert_whole(reader.load("busy"))


def test_a_first_look(start: Start, saver: Worker) -> None:
    """A first look while a process is stopped with the lock is refused in time, or is exact."""
    saver.save(record("s", "a"))
    saver.stop_amid_commit()

    reader = start(lock_timeout_seconds=_PATIENCE_SECONDS)
    with contextlib.suppress(StoreBusyError):
        assert reader.load("s") == record("s", "a")

    saver.go_on()
    assert _in_the_end(reader, "load", "s") == record("s", "a")


def test_a_first_look_at_a_locked_store(start: Start, root: Path) -> None:
    """A first look at a store whose lock is held for long is refused in time, by name."""
    start().save(record("s", "a"))
    with holding(root, "lock"):
        reader = start(lock_timeout_seconds=_PATIENCE_SECONDS)
        _refused(reader, "load", "s")
        _refused(reader, "list", "s")
    assert _in_the_end(reader, "load", "s") == record("s", "a")


@pytest.mark.blocking
@pytest.mark.damages_store
async def test_check_of_a_locked_journal(make_writer: MakeWriter, root: Path) -> None:
    """It tells that something was not looked at, which is no damage, and all that was."""
    async with make_writer() as writer:
        for name in ("s", "t"):
            await writer.save(record(name, "x"))

    async def findings() -> list[tuple[str, str | None, bool]]:
        found = await make_writer(lock_timeout_seconds=_PATIENCE_SECONDS).check()
        assert all(each.kind != "busy-journal" or "stopped" in each.detail for each in found)
        return [(each.kind, each.session_id, each.is_damage) for each in found]

    with holding(root, "lock"):
        assert await findings() == [("busy-journal", None, False)]
        session_files(root, "s")[0].write_bytes(b"{}")
        assert await findings() == [("busy-journal", None, False), ("damaged", "s", True)]
    assert await findings() == [("damaged", "s", True)]


@contextlib.contextmanager
def _ending(pids: list[int]) -> Iterator[None]:
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "make_children",
    [None, tasks.fork, tasks.start_programs],
    ids=["alone", "with-forked-children", "with-programs"],
)
def test_one_killed_with_the_lock(
    start: Start, saver: Worker, make_children: Callable[..., Any] | None
) -> None:
    """A process that is killed with the lock frees it, also where children of it live on."""
    children = saver.call(make_children, 5) if make_children else []
    with _ending(children):
        saver.save(record("s", "before"))
        saver.stop_amid_commit()
        saver.kill()

        other = start(lock_timeout_seconds=GUARD_SECONDS / 2)
        assert other.load("s") == record("s", "before")
        other.save(record("s", "after"))
        assert other.listed_ids("s") == ("after", "before")
        other.close()


def test_children_do_not_free_the_lock(start: Start, root: Path) -> None:
    """A forked child that ends leaves its parent's store as it was, for everybody."""
    parent, other = start(), start()
    busy = [parent.begin(tasks.save_many, f"s{n}", "n", 40) for n in range(4)]
    theirs = other.begin(tasks.save_many, "s0", "other", 40)
    while not busy[0].is_done(0.002):
        with _ending(parent.call(tasks.fork, 1)):
            pass

    assert [len(save.result()) for save in busy] == [40] * 4
    assert len(theirs.result()) == 40
    assert len(start().list("s0")) == 80


def test_a_writer_ends_though_the_lock_is_held(start: Start, root: Path) -> None:
    """Closing a writer, and the end of its process, do not wait for ever for a stopped process."""
    other = start(lock_timeout_seconds=_PATIENCE_SECONDS)
    _in_the_end(other, "save", record("s", "a"))
    with holding(root, "lock"):
        _refused(other, "save", record("s", "b"))
        with contextlib.suppress(CheckpointError):
            other.call("aclose")
        other.end()
    assert start().listed_ids("s") == ("a",)


def test_a_stopped_applier_holds_up_files_alone(start: Start, root: Path) -> None:
    """While a process is stopped that was writing files, saves and reads go on; flush says so."""
    first = start(lock_timeout_seconds=_PATIENCE_SECONDS)
    first.save(record("s", "a"))
    with holding(root, "applier"):
        second = start(lock_timeout_seconds=_PATIENCE_SECONDS)
        for some in (first, second):
            some.call(tasks.save_many, "s", "n", 20)
            assert_whole(some.load("s"))
            assert len(some.list("s")) == 21
        for some, call in ((first, "flush"), (second, "flush"), (second, "aclose")):
            with pytest.raises(CheckpointError) as refused:
                some.call(call)
            assert type(refused.value) is not CheckpointError
        second.end()
    first.call("flush")
    assert plain_ids(root, "s") == ["a", *(f"n{number}" for number in range(20))]


@pytest.mark.blocking
@pytest.mark.damages_store
async def test_stuck_calls_starve_no_other(
    make_writer: MakeWriter, root: Path, clock: Clock
) -> None:
    """Beside more stuck saves and recoveries than threads others read at once; all end in time."""
    sessions = [f"s{number}" for number in range(8)]
    writer = make_writer(durability="file", lock_timeout_seconds=HOUR_SECONDS)
    await asyncio.gather(*(writer.save(record(name, "x")) for name in ("healthy", *sessions)))
    for name in sessions:
        session_files(root, name)[0].write_bytes(b"{}")
    with holding(root, "lock"):
        stuck: list[asyncio.Future[Any]]
        stuck = [asyncio.ensure_future(writer.recover(name)) for name in sessions]
        stuck += [asyncio.ensure_future(writer.save(record(name, "y"))) for name in sessions]
        for _ in range(20):
            assert await writer.load("healthy") == record("healthy", "x")
            assert len(await writer.list("s0")) == 1
        assert not any(call.done() for call in stuck)
        while not all(call.done() for call in stuck):
            clock.move_on(HOUR_SECONDS)
            await asyncio.sleep(0.001)
        refused = await asyncio.gather(*stuck, return_exceptions=True)
        assert {type(error) for error in refused} == {StoreBusyError}
    for name in sessions:
        assert (await writer.recover(name)).newest_valid_id is None
    await writer.save(record("s0", "y"))
    assert await writer.load("s0") == record("s0", "y")
