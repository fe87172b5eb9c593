"""Floods, threads that cannot be started, and threads that meet in the same index."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from aiocheckpoint.index import SessionIndex, Signature
from aiocheckpoint.layout import make_name
from tests.concurrency.site import Site, document

_FLOODED_SESSIONS = 16


@pytest.mark.parametrize(
    ("site", "saves"),
    [
        ("journal", 100),
        pytest.param(
            "file",
            15,
            marks=pytest.mark.xfail(
                strict=True,
                reason="a lane keeps its thread for as long as it has jobs, and all are taken",
            ),
        ),
    ],
    indirect=["site"],
)
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


@pytest.mark.xfail(
    strict=True, reason="what was queued for the thread is never run, and holds up the session"
)
async def test_thread_that_cannot_be_started(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system grants no thread, a save fails at once, and a later one works."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, "start", start)
        raise RuntimeError("can't start new thread")

    async with site.writer() as writer:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            await asyncio.wait_for(writer.save(document("s", 0)), 1)
        try:
            await asyncio.wait_for(writer.save(document("s", 1)), 1)
        finally:
            await writer.load("s")  # a thread is started, so that closing does not hang
        assert await writer.load("s") == document("s", 1)


@pytest.fixture(name="quick_switches")
def _quick_switches() -> Iterator[None]:
    """Let threads take turns as often as they can, so that races show."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.xfail(
    strict=True,
    raises=RuntimeError,
    reason="`inherit` iterates over a dict to which readers of the earlier index add",
)
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
