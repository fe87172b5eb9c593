"""A directory under test: writers on it, and proof that what they left is right."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData
from aiocheckpoint._format.ids import encode_id
from tests.concurrency.gates import GUARD_SECONDS

Writer: TypeAlias = AsyncCheckpointWriter[CheckpointData]


def document(session_id: str, iteration: int, checkpoint_id: str | None = None) -> CheckpointData:
    """Return a checkpoint whose whole content follows from its ids, so that a torn one shows."""
    name = checkpoint_id or f"c{iteration}"
    messages = [
        {"role": "user" if turn % 2 else "assistant", "content": f"{session_id}/{name}/{turn} é"}
        for turn in range(iteration % 7 + 1)
    ]
    return CheckpointData(
        session_id=session_id,
        checkpoint_id=name,
        created_at=CREATED_AT,
        iteration=iteration,
        messages=messages,
        tool_results={"of": [name] * 3},
        tokens_used=iteration * 17,
    )


CREATED_AT = datetime(2026, 11, 23, 10, 15, tzinfo=UTC)


class Site:
    """
    A root directory and how to open writers on it.

    Args:
        root: the directory.
        options: of every writer on it.
    """

    def __init__(self, root: Path, **options: Any) -> None:
        self.root = root
        self.options = options

    def writer(self, **options: Any) -> Writer:
        return AsyncCheckpointWriter(self.root, **self.options | options)

    def directory(self, session_id: str) -> Path:
        return self.root / encode_id(session_id, "session id") / "checkpoints"

    async def saved_ids(self, session_id: str) -> list[str]:
        """Return the ids of a session, saved first first, as a fresh writer lists them."""
        async with self.writer() as writer:
            return [meta.checkpoint_id for meta in await writer.list(session_id)][::-1]

    async def assert_intact(self) -> None:
        """Every file is right by `check`, `latest.json` names the newest, nothing is left over."""
        async with self.writer() as writer:
            await writer.flush()
            assert await writer.check() == ()
        await asyncio.to_thread(self._assert_no_leftovers)

    def _assert_no_leftovers(self) -> None:
        for checkpoints in self.root.glob("*/checkpoints"):
            names = set(os.listdir(checkpoints))
            assert not [name for name in names if name.startswith(".tmp")], checkpoints
            files = sorted(name for name in names if name.endswith(".json")) or ["latest.json"]
            newest = [name for name in files if name != "latest.json"][-1:]
            pointed = [os.readlink(checkpoints / "latest.json")] if "latest.json" in names else []
            assert pointed == newest, checkpoints


def pool_threads(before: Iterable[threading.Thread] = ()) -> list[threading.Thread]:
    """Return the threads of writers that run now and did not before."""
    known = set(before)
    return [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("aiocheckpoint") and thread not in known
    ]


def join_threads(threads: Iterable[threading.Thread]) -> None:
    """Wait for threads that must be about to end."""
    for thread in threads:
        thread.join(GUARD_SECONDS)
        assert not thread.is_alive(), f"{thread.name} goes on"


def join_dropped(before: Iterable[threading.Thread]) -> None:
    """Wait for the threads of writers that were made since, and that nobody has any more."""
    gc.collect()
    join_threads(pool_threads(before))


def open_descriptors() -> int:
    """Return how many file descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))
