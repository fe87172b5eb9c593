"""What callers do, in the tests of transactions."""

from __future__ import annotations

import asyncio
from typing import Any, TypeAlias

from aiocheckpoint.models import CheckpointData, CheckpointId, SessionId
from aiocheckpoint.store import Transaction
from aiocheckpoint.testing.contract.records import Store, checkpoint

Session: TypeAlias = Transaction[CheckpointData]


async def count_one(session: Session) -> int:
    """Count one up, in a new checkpoint: an update as callers have it."""
    newest = await session.load()
    count = 0 if newest is None else newest.iteration
    session.save(checkpoint(session.session_id, count + 1, checkpoint_id=f"{count + 1:04}"))
    return count + 1


async def taken_item(session: Session) -> object:
    """Take the first message of the one checkpoint; None when there is none."""
    newest = await session.load()
    if newest is None or not newest.messages:
        return None
    item = newest.messages.pop(0)
    session.save(newest)
    return item


async def saved_at_once(store: Store, session_id: SessionId, count: int) -> list[CheckpointId]:
    """Save many checkpoints by one update, and return their ids, the first and least first."""
    ids = [f"{number:05}" for number in range(count)]

    async def save(session: Session) -> None:
        for number, checkpoint_id in enumerate(ids):
            session.save(checkpoint(session_id, number, checkpoint_id=checkpoint_id))

    await store.update(session_id, save)
    return ids


async def owned(store: Store, session_id: str, *, wait: bool = True) -> None:
    """Own a session for a moment."""
    async with store.own(session_id, wait=wait):
        pass


async def owned_at_once(store: Store, session_id: str) -> None:
    """Own a session for a moment, or be refused at once."""
    await owned(store, session_id, wait=False)


async def ended(task: asyncio.Task[Any], *, again: bool = False) -> None:
    """Cancel a task, with `again` in each turn of the loop, and wait until it has ended."""
    task.cancel()
    while again and not task.done():
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # it is known to the caller


class StopError(Exception):
    """What `work` raises of its own."""
