"""Floods, a journal that is full, threads that cannot be started or meet in the same index."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import CheckpointData, StorageFullError, ThreadStartError
from aiocheckpoint._disk.index import SessionIndex, Signature
from aiocheckpoint._engine.apply import Files
from tests.concurrency.coroutines import yield_to_loop
from tests.concurrency.gates import COMMIT, GUARD_SECONDS, ControlledFiles, Gate
from tests.concurrency.scenarios import held_writer
from tests.concurrency.site import Site, Writer, document
from tests.formats import make_name

_FLOODED_SESSIONS = 16


_FLOOD_SAVES = 100
_JOURNAL_BYTES = 256 * 1024
_LARGE = "x" * 20_000


async def test_flood_keeps_nobody_waiting(default_site: Site) -> None:
    """A save and a load get their turn while many other sessions have long queues."""
    async with held_writer(default_site) as (writer, files):
        await writer.save(document("late", 0))
        gate = files.hold(COMMIT)
        flood = [
            asyncio.ensure_future(writer.save(document(f"s{s}", n)))
            for n in range(_FLOOD_SAVES)
            for s in range(_FLOODED_SESSIONS)
        ]
        await gate.arrival()
        late = asyncio.ensure_future(writer.save(document("late", 1)))
        assert await writer.load("late") == document("late", 0)
        gate.open()
        await asyncio.gather(late, *flood)
        # Not when the callers wake: on a slow loop those of many commits do so side by side.
        (newest, _) = await writer.list("late")
        flooded = [await writer.list(f"s{number}") for number in range(_FLOODED_SESSIONS)]
    saved_before = [meta for metas in flooded for meta in metas if meta.saved_at < newest.saved_at]
    assert len(saved_before) < len(flood) // 2


async def _fill(writer: Writer, files: ControlledFiles) -> tuple[list[asyncio.Task[str]], Gate]:
    """Save until the journal is full, and return the saves of a session, and what files wait at."""
    await writer.save(document("gone", 0))
    await writer.flush()
    gate = files.hold("before_rename")
    saves = [asyncio.ensure_future(writer.save(_large("flood", n))) for n in range(60)]
    await gate.arrival()
    while sum(save.done() for save in saves) < 5 or not writer._store._committer.lacks_room:
        await asyncio.sleep(0.001)
    await yield_to_loop(10)  # what was saved before there was no room has been told by now
    return saves, gate


def _large(session: str, number: int) -> CheckpointData:
    data = document(session, number)
    data.messages.append(_LARGE)
    return data


@pytest.mark.parametrize("durability", ["journal", "none"])
async def test_full_journal_holds_up_saves_until_files_are_written(
    root: Path, durability: str
) -> None:
    """Above `max_journal_bytes` saves wait, removals do not, and all go on when files are there."""
    site = Site(root, durability=durability, max_journal_bytes=_JOURNAL_BYTES)
    async with held_writer(site) as (writer, files):
        saves, gate = await _fill(writer, files)
        done = sum(save.done() for save in saves)
        assert done * len(_LARGE) < _JOURNAL_BYTES + 8 * len(_LARGE)
        small = asyncio.ensure_future(writer.save(document("few", 1)))
        assert await asyncio.wait_for(writer.delete_session("gone"), GUARD_SECONDS)
        assert (await writer.load("flood")) in [_large("flood", n) for n in range(done)]
        gate.open()
        await asyncio.wait_for(asyncio.gather(*saves, small), GUARD_SECONDS)
    assert await site.saved_ids("flood") == [f"c{n}" for n in range(60)]
    assert await site.saved_ids("few") == ["c1"]
    await site.assert_intact()


async def test_full_journal_is_shared_fairly(root: Path) -> None:
    """A session with one save gets its turn before one that floods a full journal."""
    site = Site(root, max_journal_bytes=_JOURNAL_BYTES)
    async with held_writer(site) as (writer, files):
        saves, gate = await _fill(writer, files)
        few = asyncio.ensure_future(writer.save(_large("few", 1)))
        waiting = 1 + sum(not save.done() for save in saves)
        while writer._store._committer.waiting < waiting:
            await asyncio.sleep(0.001)
        ended: list[asyncio.Future[str]] = []
        for save in (*saves, few):
            save.add_done_callback(ended.append)
        gate.open()
        await asyncio.wait_for(asyncio.gather(*saves, few), GUARD_SECONDS)
    assert ended.index(few) < 40


async def test_large_documents_hold_nobody_up(default_site: Site) -> None:
    """One of many megabytes has a commit of its own: nobody waits for more than one of them."""
    async with held_writer(default_site) as (writer, files):
        await writer.save(document("late", 0))
        gate = files.hold(COMMIT)
        first = asyncio.ensure_future(writer.save(document("first", 0)))
        await gate.arrival()
        large = [document("large", number) for number in range(3)]
        for data in large:
            data.messages.append("x" * 10_000_000)
        saves: list[asyncio.Future[str]] = [
            asyncio.ensure_future(writer.save(data)) for data in large
        ]
        saves += [asyncio.ensure_future(writer.save(document(f"s{n}", 0))) for n in range(20)]
        ended: list[asyncio.Future[str]] = []
        for save in saves:
            save.add_done_callback(ended.append)
        while writer.stats().waiting < len(saves):
            await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(first, *saves)
    order = [saves.index(save) for save in ended]
    assert order[-2:] == [1, 2], order


async def test_save_that_waits_for_room_is_withdrawn(root: Path) -> None:
    """A save that waits for room has not begun: cancelled, it ends at once and leaves nothing."""
    site = Site(root, max_journal_bytes=_JOURNAL_BYTES)
    async with held_writer(site) as (writer, files):
        saves, gate = await _fill(writer, files)
        waiting = [save for save in saves if not save.done()]
        stored = len(saves) - len(waiting)
        for save in waiting:
            save.cancel()
        await asyncio.wait_for(asyncio.wait(waiting), GUARD_SECONDS)
        assert all(save.cancelled() for save in waiting)
        gate.open()
        await asyncio.wait_for(writer.save(document("flood", 99)), GUARD_SECONDS)
    assert await site.saved_ids("flood") == [*(f"c{n}" for n in range(stored)), "c99"]


async def test_journal_that_stays_full(root: Path) -> None:
    """A save for which there is no room in time says so, and the next one works when there is."""
    site = Site(root, max_journal_bytes=_JOURNAL_BYTES, lock_timeout_seconds=0.2)
    async with held_writer(site) as (writer, files):
        saves, gate = await _fill(writer, files)
        await asyncio.wait_for(asyncio.wait(saves), GUARD_SECONDS)
        errors = [save.exception() for save in saves]
        gate.open()
        assert {type(error) for error in errors} == {type(None), StorageFullError}
        assert "the journal has no room" in str(errors[-1])
        await asyncio.wait_for(writer.flush(), GUARD_SECONDS)
        await asyncio.wait_for(writer.save(document("flood", 99)), GUARD_SECONDS)
    stored = [f"c{n}" for n, error in enumerate(errors) if error is None]
    assert await site.saved_ids("flood") == [*stored, "c99"]
    await site.assert_intact()


async def test_whoever_writes_files_outlives_a_failure_of_its_own(
    default_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error nobody thought of is told to who waits for files; the next flush works again."""

    def fail(*_: object) -> None:
        raise MemoryError

    async with default_site.writer() as writer:
        await writer.save(document("s", 0))
        with monkeypatch.context() as patch:
            patch.setattr(Files, "apply", fail)
            for _ in range(2):
                with pytest.raises(MemoryError):
                    await asyncio.wait_for(writer.flush(), GUARD_SECONDS)
            await writer.save(document("s", 1))
            assert await writer.load("s") == document("s", 1)
        await asyncio.wait_for(writer.flush(), GUARD_SECONDS)
        await writer.save(document("s", 2))
    assert await default_site.saved_ids("s") == ["c0", "c1", "c2"]
    await default_site.assert_intact()


@pytest.mark.parametrize(
    ("site", "refused"), [("journal", 1), ("journal", 2), ("file", 1)], indirect=["site"]
)
async def test_thread_that_cannot_be_started(
    site: Site, refused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the system grants no thread, a save may fail, at once, and the next one works."""
    start = threading.Thread.start
    starts = itertools.count(1)

    def refuse_one(thread: threading.Thread) -> None:
        if thread.name.startswith("aiocheckpoint") and next(starts) == refused:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_one)
    async with site.writer() as writer:
        with contextlib.suppress(ThreadStartError):
            await asyncio.wait_for(writer.save(document("s", 0)), GUARD_SECONDS)
            assert refused > 1
        await asyncio.wait_for(writer.save(document("s", 1)), GUARD_SECONDS)
        assert await writer.load("s") == document("s", 1)


async def test_no_more_threads(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that has its threads needs no more: where there are none it works, and closes."""
    writer = site.writer()
    await writer.save(document("s", 0))
    await writer.load("s")

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        await writer.save(document("s", 1))
        loads = [writer.load("s") for _ in range(20)]
        assert await asyncio.gather(*loads) == [document("s", 1)] * 20
        await writer.flush()
        await asyncio.wait_for(writer.aclose(), GUARD_SECONDS)
        await asyncio.wait_for(site.writer().aclose(), GUARD_SECONDS)  # of one without threads
    assert await site.saved_ids("s") == ["c0", "c1"]


async def test_reads_without_a_thread(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that is granted no thread says so, and the next one works."""
    async with site.writer() as writer:
        with monkeypatch.context() as patch:

            def refuse(thread: threading.Thread) -> None:
                raise RuntimeError("can't start new thread")

            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(ThreadStartError):
                await writer.load("s")
        assert await writer.load("s") is None


@pytest.fixture(name="quick_switches")
def _quick_switches() -> Iterator[None]:
    """Let threads take turns as often as they can, so that races show."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("quick_switches")
def test_index_is_inherited_while_it_is_read() -> None:
    """A save may take over what is known of a session while a list adds to it."""
    signature = Signature(1, 1, 0)
    names = [make_name(f"c{n}", 1_700_000_000_000_000 + n) for n in range(2_000)]
    known: Any = ((1, 1, 1, False, True), None)
    finished = threading.Event()

    def read(earlier: SessionIndex) -> None:
        for name in names:
            earlier.metas[name.text] = known
        finished.set()

    for _ in range(20):
        earlier = SessionIndex(names, [], signature)
        finished.clear()
        reader = threading.Thread(target=read, args=(earlier,))
        reader.start()
        try:
            while not finished.is_set():
                SessionIndex((), [], signature).inherit(earlier)
        finally:
            reader.join()
