"""Floods, threads that cannot be started, and threads that meet in the same index."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aiocheckpoint.index import SessionIndex, Signature
from aiocheckpoint.layout import make_name
from tests.concurrency.site import Site, Writer, document

_FLOODED_SESSIONS = 16


pytestmark = pytest.mark.campaign


@pytest.mark.parametrize(
    ("site", "saves"),
    [
        ("journal", 100),
        pytest.param(
            "file",
            15,
            marks=pytest.mark.xfail(
                strict=False,
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
    strict=False, reason="what was queued for the thread may never run, and hold up the writer"
)
@pytest.mark.parametrize(("site", "refused"), [("journal", 1), ("journal", 2)], indirect=["site"])
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
        try:
            with contextlib.suppress(RuntimeError):
                await asyncio.wait_for(writer.save(document("s", 0)), 1)
            await asyncio.wait_for(writer.save(document("s", 1)), 1)
        finally:
            await _unblock(writer)  # or closing it would hang
        assert await writer.load("s") == document("s", 1)


async def _unblock(writer: Writer) -> None:
    """Do what the refused thread would have done."""
    await writer.load("s")
    pump: Callable[[], None] | None = getattr(writer._queue, "_pump", None)
    if pump is not None:
        await asyncio.to_thread(pump)


@pytest.fixture(name="quick_switches")
def _quick_switches() -> Iterator[None]:
    """Let threads take turns as often as they can, so that races show."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.xfail(
    strict=False,
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
