"""
The promises as runnable scenarios: each opens its own writers, and asserts.

They are plain functions so that every backend runs them, and so that the seeded mutants can
show that each one fails when the promise is broken.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import anyio

from aiocheckpoint import (
    CheckpointData,
    SessionChangedError,
    StorageError,
    WriterClosedError,
)
from tests.concurrency.backends import CountingLoop
from tests.concurrency.cancellations import Ending, Kind, Watched
from tests.concurrency.coroutines import Counted, Started, yield_to_loop
from tests.concurrency.gates import (
    COMMIT,
    GUARD_SECONDS,
    ControlledFiles,
    Gate,
    ThreadRecordingFiles,
)
from tests.concurrency.site import (
    Site,
    Writer,
    document,
    join_threads,
    open_descriptors,
    pool_threads,
)

Scenario: TypeAlias = Callable[[Site], Awaitable[None]]

_TICKS = 100
"""Turns of the loop; whatever is going to happen without the held thread has happened then."""

_EXPIRY_SECONDS = 0.003
"""Longer than the timeouts of `cancellations`, so that these have expired."""


@contextlib.asynccontextmanager
async def held_writer(site: Site) -> AsyncIterator[tuple[Writer, ControlledFiles]]:
    """Open a writer whose file operations can be held; nothing is held any more at the end."""
    files = ControlledFiles()
    async with site.writer(files=files) as writer:
        try:
            yield writer, files
        finally:
            files.open_all()


async def within_guard(work: Awaitable[object]) -> None:
    """Await work that must not hang."""
    await asyncio.wait_for(work, GUARD_SECONDS)


async def everything_else() -> None:
    """Wait until everything has happened that does not wait for the held thread."""
    await yield_to_loop(_TICKS)
    await asyncio.sleep(_EXPIRY_SECONDS)
    await yield_to_loop(_TICKS)


# Order


async def saves_take_effect_in_call_order(site: Site) -> None:
    """Saves of one session take effect in the order of the calls, whoever calls."""
    async with held_writer(site) as (writer, files):
        await writer.save(document("s", 0))
        gate = files.hold(COMMIT)
        tasks = [asyncio.ensure_future(writer.save(document("s", 1)))]
        await gate.arrival()
        tasks += [asyncio.ensure_future(writer.save(document("s", n))) for n in range(2, 40)]
        await yield_to_loop(_TICKS)
        gate.open()
        await within_guard(asyncio.gather(*tasks))
        newest = await writer.load("s")
    assert newest == document("s", 39)
    assert await site.saved_ids("s") == [f"c{n}" for n in range(40)]
    files_in_order = await asyncio.to_thread(lambda: sorted(site.directory("s").glob("cp_*.json")))
    assert [path.stem.rpartition("_")[2] for path in files_in_order] == [f"c{n}" for n in range(40)]


async def changes_of_every_kind_keep_call_order(site: Site) -> None:
    """Saves, conditional ones too, and deletes of a session take effect in call order."""
    async with held_writer(site) as (writer, files):
        await writer.save(document("s", 0))
        gate = files.hold(COMMIT)
        calls: tuple[Awaitable[object], ...] = (
            writer.save(document("s", 1)),
            writer.delete("s", "c0"),
            writer.save(document("s", 2), expected="c1"),
            writer.delete_session("s"),
            writer.save(document("s", 3), expected=None),
            writer.save(document("s", 4), expected="c2"),
            writer.save(document("s", 5)),
            writer.save(document("s", 3)),
            writer.delete_many("s", ["c3", "c4"]),
            writer.save(document("s", 6), expected="c5"),
        )
        tasks = [asyncio.ensure_future(call) for call in calls]
        await gate.arrival()
        await yield_to_loop(_TICKS)
        gate.open()
        results = await asyncio.wait_for(
            asyncio.gather(*tasks, return_exceptions=True), GUARD_SECONDS
        )
    assert isinstance(results[5], SessionChangedError)
    assert results[5].newest_id == "c3"
    assert [*results[:5], *results[6:]] == ["c1", True, "c2", True, "c3", "c5", "c3", 1, "c6"]
    assert await site.saved_ids("s") == ["c5", "c6"]


async def writers_exclude_one_another(site: Site) -> None:
    """Saves by two writers on a directory do not get in each other's way at any moment."""
    async with held_writer(site) as (slow, files), site.writer() as fast:
        await slow.save(document("s", 0))
        await fast.save(document("s", 0))
        for number in itertools.count():
            files.watch_operations()
            gate = files.hold(number)
            slow_save = Watched(partial(slow.save, document("s", 0, f"{number}-slow")))
            first = asyncio.ensure_future(slow_save())
            if not await is_held(gate, slow_save):
                break
            second = asyncio.ensure_future(fast.save(document("s", 0, f"{number}-fast")))
            await asyncio.wait([second], timeout=_EXPIRY_SECONDS)  # or it waits for the first
            gate.open()
            await within_guard(asyncio.gather(first, second))
            ids = [meta.checkpoint_id for meta in await fast.list("s")]
            assert {*ids[:2]} == {f"{number}-slow", f"{number}-fast"}, files.operations
            assert await slow.load("s") == document("s", 0, ids[0])
        assert number > 5
    await site.assert_intact()


async def changes_rest_on_what_others_have_flushed(site: Site) -> None:
    """A change is decided on what other writers saved, also when that is in files by then."""
    async with site.writer(max_checkpoints=3) as one, site.writer() as other:
        for number in range(0, 8, 2):
            await one.save(document("s", number), expected=f"c{number - 1}" if number else None)
            await other.save(document("s", number + 1), expected=f"c{number}")
            await other.flush()  # of which the first has not heard when it goes on
        assert await _ids(other, "s") == ("c4", "c5", "c6", "c7")
        await one.save(document("s", 8))
        await other.save(document("s", 9))
        await other.flush()
        await one.save(document("s", 8))
        assert await _ids(other, "s") == ("c7", "c9", "c8")
        await other.save(document("s", 10))
        await other.flush()
        assert await one.delete_session("s")
        assert await _ids(other, "s") == ()
        await one.flush()
        assert await _ids(other, "s") == ()


async def readers_see_what_was_acknowledged(site: Site) -> None:
    """A read never gives anything older than what was acknowledged before it was called."""
    async with site.writer() as writer, site.writer() as reader:
        acknowledged = -1
        reads = 0

        async def save_all() -> None:
            nonlocal acknowledged
            for number in range(30):
                await writer.save(document("s", number))
                acknowledged = number
                if number % 5 == 4:  # a change that leaves `latest.json` as it was
                    await writer.delete("s", f"c{number - 2}")

        async def read_until_done(source: Writer) -> None:
            nonlocal reads
            while acknowledged < 29:
                floor = acknowledged
                newest, metas = await asyncio.gather(source.load("s"), source.list("s"))
                assert floor == -1 or newest == document("s", newest.iteration if newest else -1)
                assert floor <= (newest.iteration if newest else -1)
                numbers = [meta.iteration for meta in metas]
                assert numbers == sorted(numbers, reverse=True)
                assert floor <= max(numbers, default=-1)
                kept = {n for n in range(floor + 1) if n % 5 != 2 or n + 2 > floor}
                assert {n for n in kept if n % 5 != 2} <= set(numbers)
                reads += 1

        await within_guard(
            asyncio.gather(save_all(), *map(read_until_done, (writer, reader, writer, reader)))
        )
    assert reads >= 4


# Cancellation


class Change(NamedTuple):
    """
    A call that changes a session, and the ids of the session before and after, oldest first.

    Attributes:
        name: for messages.
        call: on a writer, with the prefix of the session names.
        session: suffix of the session that changes.
        before: its ids before.
        after: its ids when the call has taken effect.
    """

    name: str
    call: Callable[[Writer, str], Awaitable[object]]
    session: str
    before: tuple[str, ...]
    after: tuple[str, ...]


_THREE = ("c0", "c1", "c2")
CHANGES = (
    Change("first save", lambda w, p: w.save(document(f"{p}new", 0)), "new", (), ("c0",)),
    Change("save", lambda w, p: w.save(document(f"{p}s", 3)), "s", _THREE, (*_THREE, "c3")),
    Change("replace", lambda w, p: w.save(document(f"{p}s", 1)), "s", _THREE, ("c0", "c2", "c1")),
    Change("delete", lambda w, p: w.delete(f"{p}s", "c1"), "s", _THREE, ("c0", "c2")),
    Change("delete newest", lambda w, p: w.delete(f"{p}s", "c2"), "s", _THREE, ("c0", "c1")),
    Change("delete session", lambda w, p: w.delete_session(f"{p}s"), "s", _THREE, ()),
    Change("copy session", lambda w, p: w.copy_session(f"{p}s", f"{p}copy"), "copy", (), _THREE),
    Change("recover", lambda w, p: w.recover(f"{p}s"), "s", _THREE, _THREE),
)
SAVES = CHANGES[:3]


async def _prepare(writer: Writer, prefix: str) -> None:
    await asyncio.gather(*(writer.save(document(f"{prefix}s", number)) for number in range(3)))


async def moments_of(site: Site, change: Change, *, every: bool) -> list[str | int]:
    """
    Return moments within a call.

    Args:
        site: where to try it.
        change: the call.
        every: each failpoint, by name, and each file operation, by number; else only a few.
    """
    async with held_writer(site) as (writer, files):
        await _prepare(writer, "probe")
        files.watch_operations()
        await change.call(writer, "probe")
        moments = [*dict.fromkeys(files.failpoints), *range(len(files.operations))]
        return moments if every else [0, *moments[1::6]]


async def is_held(gate: Gate, call: Watched[Any]) -> bool:
    """Wait until a thread is held at the gate, or the call has ended without coming there."""
    waits = [asyncio.ensure_future(wait) for wait in (gate.arrival(), call.ended.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    return gate.is_reached


def _rival(site: Site) -> Writer:
    """Return a writer that does not wait for long for the lock of another."""
    return site.writer(lock_timeout_seconds=GUARD_SECONDS / 12, durability="journal")


async def change_cancelled_while_held(
    site: Site, kind: Kind, change: Change, *, every: bool
) -> None:
    """A call that is cancelled amid its work ends with it, or at once if nothing is to come."""
    held = outlasted = 0
    async with held_writer(site) as (writer, files), _rival(site) as rival:
        await rival.list("s")  # a first look may have to wait for a commit
        for number, moment in enumerate(await moments_of(site, change, every=every)):
            prefix = f"{number}-"
            await _prepare(writer, prefix)
            files.watch_operations()
            gate = files.hold(moment)
            watched = Watched(partial(change.call, writer, prefix))
            cancelled = asyncio.ensure_future(kind(watched, partial(is_held, gate, watched)))
            early: tuple[str, ...] | None = None
            if await is_held(gate, watched):
                held += 1
                await everything_else()
                outlasted += watched.ending is None
                if watched.ending is not None:
                    early = await _ids(rival, prefix + change.session)
            gate.open()
            await within_guard(cancelled)
            await _assert_whole_or_nothing(writer, rival, change, prefix, watched.ending, early)
    assert held >= 3
    assert outlasted
    await site.assert_intact()


def _is_going_on(ending: Ending | None) -> bool:
    """Tell whether a call waits for its work; what is held may also be work after the reply."""
    return ending is None or ending.error is None


async def _ids(writer: Writer, session: str) -> tuple[str, ...]:
    """Return the ids of a session, the one saved first first."""
    return tuple(meta.checkpoint_id for meta in await writer.list(session))[::-1]


async def _assert_whole_or_nothing(
    writer: Writer,
    rival: Writer,
    change: Change,
    prefix: str,
    ending: Ending | None,
    early: tuple[str, ...] | None = None,
) -> None:
    """
    See that a call has taken effect as a whole or not at all, and holds up nobody.

    Args:
        writer: it was called on.
        rival: another.
        change: what was called.
        prefix: of the session names.
        ending: how it ended.
        early: what the session held when it ended while work was held; nothing may come later.
    """
    session = prefix + change.session
    ids = await _ids(writer, session)
    expected: tuple[tuple[str, ...], ...] = (change.before, change.after)
    if ending is not None and ending.error is None:
        expected = (change.after,)
    if change.name == "copy session":  # a series of saves
        expected += tuple(change.after[:count] for count in range(1, len(change.after)))
    assert ids in expected, (change.name, ending)
    assert early in (None, ids), (change.name, "it went on after its end", early, ids)
    for checkpoint_id in ids:
        loaded = await writer.load(session, checkpoint_id)
        assert loaded is not None
        assert loaded.messages == document(loaded.session_id, loaded.iteration).messages or (
            change.name == "copy session"
        )
    await within_guard(rival.save(document(session, 98)))  # the lock is free
    await within_guard(writer.save(document(session, 99)))
    assert (await writer.list(session))[0].checkpoint_id == "c99"


async def call_cancelled_after_turns(site: Site, kind: Kind, change: Change) -> None:
    """A call that is cancelled after any number of turns of the loop is whole or not there."""
    turns, was_reply = 0, False
    async with site.writer() as writer, _rival(site) as rival:
        for number in range(40):
            prefix = f"{number}-"
            await _prepare(writer, prefix)
            watched = Watched(partial(change.call, writer, prefix))
            await within_guard(kind(watched, partial(yield_to_loop, turns)))
            await _assert_whole_or_nothing(writer, rival, change, prefix, watched.ending)
            was_reply = watched.ending is not None and watched.ending.error is None
            if was_reply:
                break
            turns += 1 + turns // 2
    assert was_reply, "no number of turns was enough"
    await site.assert_intact()


async def cancelled_call_raises_at_its_end(site: Site, kind: Kind) -> None:
    """A call cancelled amid its work is known to have been cancelled, not to have returned."""
    ending = await _ending_when_held(site, kind)
    assert isinstance(ending.error, asyncio.CancelledError), ending


async def error_travels_with_the_cancellation(site: Site, kind: Kind) -> None:
    """When the work of a cancelled call fails, its error is the cancellation's cause."""
    ending = await _ending_when_held(site, kind, OSError(errno.EIO, "broken"))
    error = ending.error
    if isinstance(error, asyncio.CancelledError):
        error = error.__cause__
    assert isinstance(error, StorageError), ending
    assert error.errno == errno.EIO
    assert await site.saved_ids("s") == ["c0"]
    await site.assert_intact()


async def _ending_when_held(site: Site, kind: Kind, fault: OSError | None = None) -> Ending:
    async with held_writer(site) as (writer, files):
        await writer.save(document("s", 0))
        gate = files.hold(COMMIT)
        if fault is not None:
            files.fail(COMMIT, fault)
        watched = Watched(partial(writer.save, document("s", 1)))
        cancelled = asyncio.ensure_future(kind(watched, gate.arrival))
        await gate.arrival()
        await everything_else()
        gate.open()
        with contextlib.suppress(StorageError, ExceptionGroup):
            await within_guard(cancelled)
    assert watched.ending is not None
    return watched.ending


async def cancelled_call_does_not_spin(site: Site, kind: Kind) -> None:
    """A cancelled call sleeps until its work has ended, however long that takes."""
    async with held_writer(site) as (writer, files):
        await writer.save(document("s", 0))
        gate = files.hold(COMMIT)
        counted = Counted(writer.save(document("s", 1)))
        cancelled = asyncio.ensure_future(kind(Watched(lambda: counted), gate.arrival))
        await gate.arrival()
        await everything_else()
        wake_ups = counted.wake_ups
        gate.open()
        await within_guard(cancelled)
    assert wake_ups <= 8, f"resumed {wake_ups} times while its work was held"


async def loop_sleeps_while_held(site: Site, kind: Kind) -> None:
    """While a cancelled call waits for its held work, nothing keeps the loop turning."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, CountingLoop)
    async with held_writer(site) as (writer, files):
        await writer.save(document("s", 0))
        gate = files.hold(COMMIT)
        call = Watched(partial(writer.save, document("s", 1)))
        cancelled = asyncio.ensure_future(kind(call, gate.arrival))
        await gate.arrival()
        await everything_else()
        before = loop.callbacks
        await yield_to_loop(_TICKS)
        callbacks = loop.callbacks - before - _TICKS  # each turn takes one of ours
        gate.open()
        await within_guard(cancelled)
    assert callbacks <= 3


async def queued_call_is_withdrawn(site: Site, kind: Kind) -> None:
    """A call cancelled before its work has begun ends at once and leaves nothing."""
    async with held_writer(site) as (writer, files):
        await writer.save(document("s", 0))
        gate = files.hold(COMMIT)
        first = asyncio.ensure_future(writer.save(document("s", 1)))
        await gate.arrival()
        watched = Watched(partial(writer.save, document("s", 2)))
        cancelled = asyncio.ensure_future(kind(watched, partial(yield_to_loop, 5)))
        try:
            await within_guard(watched.ended.wait())  # it does not wait for the save before it
            assert watched.ending is not None
            assert isinstance(watched.ending.error, asyncio.CancelledError)
            assert not first.done()
        finally:
            gate.open()
            await within_guard(cancelled)
            await within_guard(first)
        await within_guard(writer.save(document("s", 3)))
    assert await site.saved_ids("s") == ["c0", "c1", "c3"]


async def call_is_withdrawn_before_its_commit(site: Site, kind: Kind) -> None:
    """A call that waits for the lock of the journal has not begun: cancelled, it ends at once."""
    async with held_writer(site) as (writer, files):
        await writer.save(document("s", 0))
        gate = files.hold("lock")
        watched = Watched(partial(writer.save, document("s", 1)))
        cancelled = asyncio.ensure_future(kind(watched, gate.arrival))
        await gate.arrival()
        try:
            await within_guard(watched.ended.wait())  # it does not wait for the lock
            assert watched.ending is not None
            assert isinstance(watched.ending.error, asyncio.CancelledError)
        finally:
            gate.open()
            await within_guard(cancelled)
        await within_guard(writer.save(document("s", 2)))
    assert await site.saved_ids("s") == ["c0", "c2"]


async def files_are_left_to_others(site: Site, kind: Kind) -> None:
    """A call whose change is durable waits for its file only as long as its caller does."""
    async with held_writer(site) as (writer, files), site.writer() as rival:
        await writer.save(document("s", 0))
        gate = files.hold("before_rename")
        watched = Watched(partial(writer.save, document("s", 1)))
        cancelled = asyncio.ensure_future(kind(watched, gate.arrival))
        await gate.arrival()
        try:
            await within_guard(watched.ended.wait())  # it does not wait for the file
            assert watched.ending is not None
            assert isinstance(watched.ending.error, asyncio.CancelledError)
            assert await _ids(rival, "s") == ("c0", "c1")
        finally:
            gate.open()
            await within_guard(cancelled)
    assert await site.saved_ids("s") == ["c0", "c1"]
    await site.assert_intact()


async def reads_cancelled_while_held(site: Site, kind: Kind) -> None:
    """A cancelled read ends with its file work, and the next one works."""
    async with held_writer(site) as (writer, files):
        await writer.save(document("s", 0))
        path = (await writer.list("s"))[0].path
        reads: tuple[Callable[[], Awaitable[object]], ...] = (
            partial(writer.load, "s"),
            partial(writer.load, "s", "c0"),
            partial(writer.list, "s"),
            partial(writer.verify, path),
            writer.check,
        )
        for read in reads:
            files.watch_operations()
            gate = files.hold(0)
            watched = Watched(read)
            cancelled = asyncio.ensure_future(kind(watched, gate.arrival))
            await gate.arrival()
            await everything_else()
            assert _is_going_on(watched.ending), read
            gate.open()
            await within_guard(cancelled)
            assert await writer.load("s") == document("s", 0)


# The snapshot


async def later_mutation_does_not_leak_in(site: Site) -> None:
    """What is saved is the record as it was when the call was started."""
    expected = document("s", 5)
    async with held_writer(site) as (writer, files):
        await writer.save(document("s", 0))
        gate = files.hold(COMMIT)
        blocker = asyncio.ensure_future(writer.save(document("s", 1)))
        await gate.arrival()
        data = document("s", 5)
        task = asyncio.ensure_future(writer.save(data))
        await asyncio.sleep(0)  # the task's first step: the call has been started
        _mutate(data)
        await yield_to_loop(_TICKS)
        gate.open()
        await within_guard(asyncio.gather(blocker, task))
        assert task.result() == "c5"
        assert await writer.load("s") == expected
        assert await writer.load("other") is None


async def mutation_before_the_first_await_does_not_leak_in(site: Site) -> None:
    """The record is read in the call's first step, before it first gives way to the loop."""
    expected = document("s", 5)
    async with site.writer() as writer:
        data = document("s", 5)
        started = Started(writer.save(data))
        _mutate(data)
        assert await started == "c5"
        assert await writer.load("s") == expected


def _mutate(data: CheckpointData) -> None:
    data.messages[0]["content"] = "changed"
    data.messages.append({"role": "late"})
    data.tool_results["of"].clear()
    data.iteration = -1
    data.checkpoint_id = "changed"
    data.session_id = "other"


# Closing


async def close_waits_for_saves_in_flight(site: Site) -> None:
    """Saves called before `aclose` return as usual and are there."""
    files = ControlledFiles()
    writer = site.writer(files=files)
    try:
        await writer.save(document("s", 0))
        gate = files.hold(COMMIT)
        saves = [asyncio.ensure_future(writer.save(document("s", 1)))]
        await gate.arrival()
        saves += [asyncio.ensure_future(writer.save(document(f"s{n % 3}", n))) for n in range(9)]
        await asyncio.sleep(0)  # their first steps: they have been called
        closing = asyncio.ensure_future(writer.aclose())
        await yield_to_loop(_TICKS)
        assert not closing.done()
        gate.open()
        await within_guard(closing)
        ids = await asyncio.wait_for(asyncio.gather(*saves), GUARD_SECONDS)
    finally:
        files.open_all()
        await writer.aclose()
    assert ids == ["c1", *(f"c{n}" for n in range(9))]
    assert await site.saved_ids("s") == ["c0", "c1"]
    for session in range(3):
        assert await site.saved_ids(f"s{session}") == [f"c{n}" for n in range(session, 9, 3)]
    await site.assert_intact()


async def close_with_reads_in_flight(site: Site) -> None:
    """Reads called before `aclose` return what they would have returned."""
    for read in (Writer.load, Writer.list):
        for number in itertools.count():
            if not await _close_with_held_read(site, read, number):
                break
        assert number > 2


async def _close_with_held_read(
    site: Site, read: Callable[[Writer, str], Awaitable[object]], number: int
) -> bool:
    """Close during the n-th file operation of a read; tell whether it has as many."""
    files = ControlledFiles()
    writer = site.writer(files=files)
    try:
        await writer.save(document("s", 0))
        expected = await read(writer, "s")
        files.watch_operations()
        gate = files.hold(number)
        watched = Watched(partial(read, writer, "s"))
        reading = asyncio.ensure_future(watched())
        was_held = await is_held(gate, watched)
        closing = asyncio.ensure_future(writer.aclose())
        await asyncio.wait([closing], timeout=0.02)  # unless it waits for the read, as it should
        gate.open()
        await within_guard(closing)
        assert await asyncio.wait_for(reading, GUARD_SECONDS) == expected
    finally:
        files.open_all()
        await writer.aclose()
    return was_held


async def close_is_idempotent_and_refuses_later_calls(site: Site) -> None:
    """Closing twice, or in two tasks at once, is fine; later calls fail with a clear error."""
    before = pool_threads()
    writer = site.writer()
    save = asyncio.ensure_future(writer.save(document("s", 0)))
    await asyncio.sleep(0)
    await within_guard(asyncio.gather(writer.aclose(), writer.aclose(), save))
    await within_guard(writer.aclose())
    calls: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: writer.save(document("s", 1)),
        lambda: writer.load("s"),
        lambda: writer.list("s"),
        lambda: writer.delete("s", "c0"),
        lambda: writer.verify(site.root / "x"),
        lambda: writer.delete_session("s"),
        lambda: writer.copy_session("s", "t"),
        lambda: writer.recover("s"),
        lambda: writer.delete_many("s", ["c0"]),
        lambda: writer.ids("s"),
        lambda: writer.read("s", lambda reader: reader.saved_ids(limit=1)),
        writer.flush,
        writer.check,
        lambda: anext(writer.sessions()),
    )
    for call in calls:
        watched = Watched(call)
        with contextlib.suppress(WriterClosedError):
            await asyncio.wait_for(watched(), GUARD_SECONDS)
        assert watched.ending is not None
        assert isinstance(watched.ending.error, WriterClosedError), watched.ending
    await asyncio.to_thread(join_threads, pool_threads(before))
    assert await site.saved_ids("s") == ["c0"]


async def close_gives_everything_back(site: Site) -> None:
    """After `aclose` no thread and no file of a writer is left."""

    async def use() -> None:
        async with site.writer() as writer:
            await asyncio.gather(*(writer.save(document(f"s{n % 30}", n)) for n in range(60)))
            await asyncio.gather(*(writer.load(f"s{n}") for n in range(30)))

    await use()  # whatever the process opens once
    threads = pool_threads()
    descriptors = await asyncio.to_thread(open_descriptors)
    await use()
    await asyncio.to_thread(join_threads, pool_threads(threads))
    assert await asyncio.to_thread(open_descriptors) <= descriptors


async def cancelled_close_can_be_repeated(site: Site, kind: Kind) -> None:
    """A cancelled `aclose` loses nothing, and the next one closes all the same."""
    before = pool_threads()
    files = ControlledFiles()
    writer = site.writer(files=files)
    try:
        await writer.save(document("s", 0))
        gate = files.hold(COMMIT)
        save = asyncio.ensure_future(writer.save(document("s", 1)))
        await gate.arrival()
        closing = Watched(writer.aclose)
        cancelled = asyncio.ensure_future(kind(closing, partial(yield_to_loop, 5)))
        other = asyncio.ensure_future(writer.aclose())
        await everything_else()
        gate.open()
        assert await asyncio.wait_for(save, GUARD_SECONDS) == "c1"
        await within_guard(cancelled)
        await asyncio.wait([other], timeout=GUARD_SECONDS)
        assert not other.cancelled(), "the cancellation hit somebody else's aclose"
        again = asyncio.ensure_future(writer.aclose())
        await asyncio.wait([again], timeout=GUARD_SECONDS)
        assert not again.cancelled(), "aclose was cancelled, but nobody cancelled it"
        other.result(), again.result()
    finally:
        files.open_all()
    await asyncio.to_thread(join_threads, pool_threads(before))
    assert await site.saved_ids("s") == ["c0", "c1"]


# Not blocking


async def no_file_call_on_the_loop(site: Site) -> None:
    """No method makes a file call on the thread of the loop."""
    files = ThreadRecordingFiles()
    async with site.writer(files=files, max_checkpoints=4) as writer:
        for method in every_method(site, writer):
            await method()
    assert threading.get_ident() not in files.users, files.users[threading.get_ident()]
    assert len(set().union(*files.users.values())) > 10  # it did record


async def the_loop_goes_on_while_a_call_is_held(site: Site) -> None:
    """Whatever method waits for the disk, other tasks go on."""
    async with held_writer(site) as (writer, files):
        for method in every_method(site, writer):
            files.watch_operations()
            gate = files.hold(0)
            call = asyncio.ensure_future(method())
            await gate.arrival()
            await yield_to_loop(_TICKS)  # would not come back if the loop were held
            assert not call.done(), call.result()  # which raises why, if it was an error
            gate.open()
            await within_guard(call)


def every_method(site: Site, writer: Writer) -> tuple[Callable[[], Awaitable[object]], ...]:
    """Return a call of each method, in an order in which each finds something to do."""

    async def all_sessions() -> list[str]:
        return [session async for session in writer.sessions()]

    async def verify() -> bool:
        return await writer.verify(site.directory("s") / "latest.json")

    return (
        partial(writer.save, document("s", 0)),
        partial(writer.save, document("s", 1)),
        partial(writer.save, document("s", 1)),
        partial(writer.load, "s"),
        partial(writer.load, "s", "c0"),
        partial(writer.list, "s"),
        writer.flush,
        verify,
        all_sessions,
        partial(writer.copy_session, "s", "t"),
        partial(writer.delete, "t", "c0"),
        partial(writer.delete, "t", "c1"),
        partial(writer.recover, "s"),
        writer.check,
        partial(writer.delete_session, "s"),
    )


# Everyday use, on every backend


async def round_trip(site: Site) -> None:
    """Every method does its work."""
    async with site.writer() as writer:
        results = [await method() for method in every_method(site, writer)]
    metas = results[5]
    assert isinstance(metas, tuple)
    assert [meta.checkpoint_id for meta in metas] == ["c1", "c0"]
    assert results[3:5] == [document("s", 1), document("s", 0)]
    assert [*results[7:12], *results[13:]] == [True, ["s"], 2, True, True, (), True]
    await site.assert_intact()


async def many_sessions_at_once(site: Site) -> None:
    """Sessions saved at the same time by many tasks each keep their own."""

    async def agent(writer: Writer, session: str) -> None:
        for step in range(5):
            await writer.save(document(session, step))
            assert await writer.load(session) == document(session, step)

    async with site.writer() as writer, anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(agent, writer, f"agent-{number}")
    for number in range(20):
        assert await site.saved_ids(f"agent-{number}") == [f"c{n}" for n in range(5)]
    await site.assert_intact()


CORE: tuple[Scenario, ...] = (
    round_trip,
    many_sessions_at_once,
    saves_take_effect_in_call_order,
    changes_of_every_kind_keep_call_order,
    writers_exclude_one_another,
    changes_rest_on_what_others_have_flushed,
    readers_see_what_was_acknowledged,
    later_mutation_does_not_leak_in,
    mutation_before_the_first_await_does_not_leak_in,
    close_waits_for_saves_in_flight,
    close_is_idempotent_and_refuses_later_calls,
    close_gives_everything_back,
    no_file_call_on_the_loop,
    the_loop_goes_on_while_a_call_is_held,
)
