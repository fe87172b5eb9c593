"""How a call waits: as long as it has patience, or, when it is cancelled, for its outcome."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable
from typing import Any, TypeVar

import anyio


class Patience:
    """
    A deadline, and pauses that grow; by the clock of the event loop on which it is made.

    Args:
        timeout_seconds: how long to try.
        shortest_pause_seconds: the first pause; each is twice as long as the one before.
        longest_pause_seconds: none is longer.
    """

    def __init__(
        self,
        timeout_seconds: float,
        shortest_pause_seconds: float = 0.01,
        longest_pause_seconds: float = 0.5,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + timeout_seconds
        self._pause_seconds = shortest_pause_seconds
        self._longest_pause_seconds = longest_pause_seconds

    @property
    def left_seconds(self) -> float:
        """How long there is still; 0 when it is over."""
        return max(0.0, self._deadline - self._loop.time())

    @property
    def is_over(self) -> bool:
        """Whether it was tried for long enough."""
        return not self.left_seconds

    async def pause(self, woken: asyncio.Event | None = None, *, is_random: bool = False) -> None:
        """
        Wait before the next try, not beyond the deadline.

        Args:
            woken: ends the pause when it is set.
            is_random: a random part of the pause, for those that would else try in step.
        """
        seconds = min(self._pause_seconds, self.left_seconds)
        self._pause_seconds = min(2 * self._pause_seconds, self._longest_pause_seconds)
        if is_random:
            seconds *= random.random()  # noqa: S311 - no secret
        if woken is None:
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(woken.wait(), seconds)


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
