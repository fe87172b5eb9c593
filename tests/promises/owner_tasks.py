"""What a worker can be told to do with `own`; each function is given its writer first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointData,
    Ownership,
    OwnershipLostError,
    SessionOwnedError,
)
from tests.promises.records import record
from tests.promises.update_tasks import count_up

Writer: TypeAlias = AsyncCheckpointWriter[CheckpointData]


async def own_for_ever(writer: Writer, session_id: str) -> AsyncIterator[int]:
    """Own a session until the process is killed; tell the token."""
    async with writer.own(session_id) as owner:
        yield owner.token
        await asyncio.Event().wait()


async def own_once(writer: Writer, session_id: str, *, wait: bool = True) -> int | None:
    """Own a session, save in it, and return the token; None where somebody else has it."""
    try:
        async with writer.own(session_id, wait=wait) as owner:
            await owner.save(record(session_id, f"owned-{owner.token}"))
            return owner.token
    except SessionOwnedError:
        return None


async def write_late(writer: Writer, session_id: str) -> AsyncIterator[int | str]:
    """Own a session; once there is a checkpoint in `signals`, tell how each way to write ends."""
    async with writer.own(session_id) as owner:
        yield owner.token
        while await writer.load("signals") is None:
            await asyncio.sleep(0.01)
        for write in ways_to_write(owner):
            yield await outcome(write)


async def outcome(write: Callable[[], Awaitable[object]]) -> str:
    """Return how a write ends."""
    try:
        await write()
    except OwnershipLostError:
        return "lost"
    return "written"


def ways_to_write(owner: Ownership[CheckpointData]) -> list[Callable[[], Awaitable[object]]]:
    """Return every way to write through an ownership."""
    return [
        lambda: owner.save(record(owner.session_id, "late")),
        lambda: owner.delete_many(["there"]),
        lambda: owner.update(count_up),
    ]


async def count_owned(writer: Writer, session_id: str, times: int) -> list[int]:
    """Add one to a counter by reading and saving, so many times, each as an owner."""
    tokens = []
    for _ in range(times):
        async with writer.own(session_id) as owner:
            newest = await writer.load(session_id)
            number = newest.iteration + 1 if newest else 1
            await owner.save(record(session_id, f"n{number:06d}", number))
            tokens.append(owner.token)
    return tokens
