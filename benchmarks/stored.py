"""Sessions with many checkpoints, made once in a run and used by several benchmarks."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiocheckpoint import AsyncCheckpointWriter
from benchmarks.contenders import Sqlite
from benchmarks.documents import KB, documents
from benchmarks.harness import Settings, Workload

SESSION_ID = "session-0"
_SAVES_AT_ONCE = 256


def counts(settings: Settings, *wanted: int) -> tuple[int, ...]:
    """Return how many checkpoints the sessions shall have."""
    return (3, 30) if settings.is_quick else wanted


async def stored(settings: Settings, count: int) -> Path:
    """Return a root whose only session has that many checkpoints of 8 KB."""
    root = settings.directory / f"stored-{count}"
    if root.exists():
        return root
    different = documents(8 * KB, 16)
    async with AsyncCheckpointWriter(root, durability="none") as writer:
        for start in range(0, count, _SAVES_AT_ONCE):
            steps = range(start, min(start + _SAVES_AT_ONCE, count))
            records = (different[n % len(different)].checkpoint(SESSION_ID, n) for n in steps)
            await asyncio.gather(*map(writer.save, records))
    return root


async def open_sqlite(settings: Settings, count: int) -> Sqlite:
    """Return LangGraph's saver, open, on a database with as many of the same checkpoints."""
    directory = settings.directory / f"stored-sqlite-{count}"
    is_new = not directory.exists()
    directory.mkdir(exist_ok=True)
    different = documents(8 * KB, 16)
    saver = Sqlite()
    await saver.open(Workload(directory=directory, sessions=1, seconds=0, documents=different))
    if is_new:
        await saver.hurry()
        for step in range(count):
            await saver.save(0, step, different[step % len(different)])
    return saver
