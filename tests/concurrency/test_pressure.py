"""Floods, threads that cannot be started, and threads that meet in the same index."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from aiocheckpoint import ThreadStartError
from aiocheckpoint._disk.index import SessionIndex, Signature
from aiocheckpoint._format.names import make_name
from tests.concurrency.site import Site, document

_FLOODED_SESSIONS = 16


@pytest.mark.parametrize(("site", "saves"), [("journal", 100), ("file", 15)], indirect=["site"])
async def test_flood_keeps_nobody_waiting(site: Site, saves: int) -> None:
    """A save and a load get their turn while many other sessions have long queues."""
    done = 0

    async def count(saved: asyncio.Future[str]) -> None:
        nonlocal done
        await saved
        done += 1

    async with site.writer() as writer:
        await writer.save(document("late", 0))
        flood = [
            asyncio.ensure_future(count(asyncio.ensure_future(writer.save(document(f"s{s}", n)))))
            for n in range(saves)
            for s in range(_FLOODED_SESSIONS)
        ]
        await asyncio.sleep(0)
        await writer.save(document("late", 1))
        assert await writer.load("late") == document("late", 1)
        done_before = done
        await asyncio.gather(*flood)
    assert done_before < len(flood) * 3 // 4


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
            await asyncio.wait_for(writer.save(document("s", 0)), 1)
            assert refused > 1
        await asyncio.wait_for(writer.save(document("s", 1)), 1)
        assert await writer.load("s") == document("s", 1)


async def test_close_without_a_thread(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A close that is granted no thread says so, and can be repeated."""
    writer = site.writer()
    await writer.save(document("s", 0))

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ThreadStartError):
            await writer.aclose()
    await asyncio.wait_for(writer.aclose(), 10)
    assert await site.saved_ids("s") == ["c0"]


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
    signature = Signature(1, 1, None)
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
