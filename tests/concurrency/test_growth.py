"""Nothing grows with the number of sessions, saves or cancellations a writer has seen."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import threading
import tracemalloc
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aiocheckpoint import AsyncCheckpointWriter, BlobRecord, blob_digest
from aiocheckpoint._disk.view import View
from tests.concurrency.coroutines import yield_to_loop
from tests.concurrency.gates import COMMIT, ControlledFiles
from tests.concurrency.site import Site, Writer, document, open_descriptors, pool_threads

pytestmark = pytest.mark.usefixtures("flushing")

_TASKS = 64
_LONG = pytest.mark.timeout(900)
_MAX_GROWTH_BYTES = 128 * 1024
_BLOB_BYTES = 1 << 20
_SLOTS = 2
"""Of the journal: one in use and a spare one more than before."""


class Use(NamedTuple):
    """What a process uses, and a writer remembers."""

    descriptors: int
    threads: int
    queued: int
    indexes: int
    allocated_bytes: int


async def _use_of(writer: Writer) -> Use:
    """Measure a writer that has nothing to do."""
    await yield_to_loop(10)
    await writer.flush()  # what waits for it is bounded by the journal's size alone
    gc.collect()
    return Use(
        descriptors=await asyncio.to_thread(open_descriptors),
        threads=len(pool_threads()),
        queued=len(writer._store._committer._waiting) + len(_view(writer).pending.sessions),
        indexes=len(_view(writer).indexes),
        allocated_bytes=tracemalloc.get_traced_memory()[0],
    )


def _view(writer: Writer) -> View:
    return writer._store.place.to_write().view


async def _visit(writer: Writer, first: int, last: int) -> None:
    """Save and load once in each of many sessions, many at a time."""
    numbers = iter(range(first, last))

    async def visit_some() -> None:
        for number in numbers:
            session = f"session-{number}"
            await writer.save(document(session, number % 5))
            assert await writer.load(session) is not None

    async with asyncio.TaskGroup() as group:
        for _ in range(_TASKS):
            group.create_task(visit_some())


async def assert_sessions_leave_no_trace(
    site: Site, sessions: int, remembered: int, *, measures_memory: bool = True
) -> None:
    """
    A writer that has seen many sessions holds no more than one that has seen some.

    Args:
        site: where.
        sessions: how many it sees.
        remembered: how many it may remember.
        measures_memory: whether to measure allocations, which takes three times as long.
    """
    threads = len(pool_threads())
    if measures_memory:
        tracemalloc.start()
    try:
        async with site.writer() as writer:
            await writer.save(document("first", 0))
            view = _view(writer)
            view.indexes._max_sessions = remembered
            view.sessions._max_open = min(view.sessions._max_open, remembered)
            await _visit(writer, 0, remembered)
            before = await _use_of(writer)
            await _visit(writer, remembered, sessions)
            after = await _use_of(writer)
    finally:
        tracemalloc.stop()
    assert after.queued == before.queued == 0
    assert after.indexes <= remembered
    assert after.descriptors <= before.descriptors + _SLOTS
    assert after.threads - threads <= 16
    assert after.allocated_bytes - before.allocated_bytes < _MAX_GROWTH_BYTES


@pytest.mark.parametrize(
    ("sessions", "remembered", "measures_memory"),
    [
        (150, 50, True),
        (1_500, 1_024, False),
        pytest.param(10_000, 1_024, True, marks=[pytest.mark.campaign, _LONG]),
    ],
)
@pytest.mark.few(1)
async def test_sessions_leave_no_trace(
    sessions: int, remembered: int, measures_memory: bool, default_site: Site
) -> None:
    """A writer that has seen many sessions holds no more than one that has seen some."""
    await assert_sessions_leave_no_trace(
        default_site, sessions, remembered, measures_memory=measures_memory
    )
    assert len(await default_site.saved_ids(f"session-{sessions - 1}")) == 1


@pytest.mark.parametrize("saves", [300, pytest.param(20_000, marks=[pytest.mark.campaign, _LONG])])
@pytest.mark.long
async def test_saves_of_a_bounded_session_leave_no_trace(saves: int, default_site: Site) -> None:
    """A session that keeps its newest checkpoints only costs the same for ever."""
    tracemalloc.start()
    try:
        async with default_site.writer(max_checkpoints=5) as writer:
            for number in range(100):
                await writer.save(document("s", number % 5, f"a{number}"))
            before = await _use_of(writer)
            for number in range(saves):
                await writer.save(document("s", number % 5, f"b{number}"))
            after = await _use_of(writer)
            assert len(await writer.list("s")) == 5
    finally:
        tracemalloc.stop()
    assert after.queued == before.queued == 0
    assert after.descriptors <= before.descriptors + _SLOTS
    assert after.allocated_bytes - before.allocated_bytes < _MAX_GROWTH_BYTES


async def test_updates_that_are_over_leave_no_trace(root: Path) -> None:
    """Whoever keeps a transaction, as a history that goes on from it does, keeps no content."""

    async def work(session: Any) -> Any:
        blob = random.randbytes(_BLOB_BYTES)
        digest = blob_digest(blob)
        session.save(BlobRecord(session_id="s", blob_digests=(digest,)), blobs={digest: blob})
        return session

    async with AsyncCheckpointWriter(root, record_type=BlobRecord) as writer:
        await writer.update("s", work)
        await writer.flush()
        tracemalloc.start()
        try:
            kept = [await writer.update("s", work) for _ in range(8)]
            await writer.flush()
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] < len(kept) * _BLOB_BYTES / 4
        finally:
            tracemalloc.stop()


async def test_cancelled_calls_leave_no_trace(default_site: Site) -> None:
    """Calls that were cancelled, queued or begun, are forgotten."""
    files = ControlledFiles()
    threads = threading.active_count()
    async with default_site.writer(files=files) as writer:
        before = None
        for round_ in range(20):
            gate = files.hold(COMMIT)
            saves = [
                asyncio.ensure_future(writer.save(document(f"s{n % 7}", n))) for n in range(50)
            ]
            await gate.arrival()
            for save in saves:
                save.cancel()
            gate.open()
            await asyncio.wait(saves)
            assert all(save.cancelled() for save in saves), round_
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(writer.load("s0"), 0)
            await asyncio.gather(*(writer.save(document(f"s{n}", round_)) for n in range(7)))
            before = before or await _use_of(writer)
        after = await _use_of(writer)
        assert before is not None
        assert after.queued == before.queued == 0
        assert after.descriptors <= before.descriptors + _SLOTS
        assert threading.active_count() <= threads + 17
