"""How a call that is cancelled waits until its outcome is known."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any, TypeVar

import anyio

ResultT = TypeVar("ResultT")


async def outlast(work: Awaitable[ResultT]) -> ResultT:
    """
    Return what some work returns; a caller that is cancelled ends when it has ended.

    However often it is cancelled, by asyncio or by a scope of anyio. An error of the work then
    travels as the cancellation's cause.

    Args:
        work: a coroutine, which begins at once as a task of its own; a task or a future.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError as cancelled:
        await ended(task)
        if not task.cancelled() and task.exception() is not None:
            raise cancelled from task.exception()
        raise


async def ended(future: asyncio.Future[Any]) -> None:
    """Wait until a future is done, however often the caller is cancelled meanwhile."""
    # Both are needed: in a cancelled scope of anyio each wait below would end at once.
    with anyio.CancelScope(shield=True):
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([future])
