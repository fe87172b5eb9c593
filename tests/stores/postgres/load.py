"""Sessions that save without a pause, while something happens to their server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiocheckpoint import CheckpointData

_TEXT = "".join(f"word {number} of a long message, " for number in range(100))


async def require_nothing_lost(
    store: Any, disturbances: Sequence[Callable[[], Awaitable[None]]]
) -> None:
    """
    Let sessions save, each as if it were alone, and see that what was acknowledged is there, once.

    Args:
        store: a new one.
        disturbances: what happens meanwhile; after each every session saves again.
    """
    acknowledged: dict[str, int] = {f"session-{number}": -1 for number in range(8)}
    is_over = False

    async def live(session_id: str) -> None:
        while not is_over:
            number = acknowledged[session_id] + 1
            data = CheckpointData(
                session_id=session_id,
                checkpoint_id=f"{number:04}",
                iteration=number,
                messages=[_TEXT, f"message {number}"],
            )
            await store.save(data, expected=f"{number - 1:04}" if number else None)
            acknowledged[session_id] = number

    await store.load("s")
    lives = asyncio.gather(*map(live, acknowledged))
    for disturb in disturbances:
        await asyncio.sleep(0.4)
        await disturb()
        counts = dict(acknowledged)
        while any(acknowledged[name] == count for name, count in counts.items()):
            assert not lives.done() or lives.result()
            await asyncio.sleep(0.01)
    is_over = True
    await lives
    for name, newest in acknowledged.items():
        assert [meta.iteration for meta in await store.list(name)] == [*range(newest, -1, -1)]
    assert await store.check() == ()
