"""How long tasks of an event loop wait."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

_TICK_SECONDS = 0.001


class Ticker:
    """
    Wakes every millisecond and notes how late it is: what any other task would have suffered.

    A stall over several ticks counts for each of them, as it would delay each.
    """

    def __init__(self) -> None:
        self.lateness_seconds: list[float] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._tick())
        await asyncio.sleep(2 * _TICK_SECONDS)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.sleep(2 * _TICK_SECONDS)
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _tick(self) -> None:
        due = time.perf_counter() + _TICK_SECONDS
        while True:
            await asyncio.sleep(due - time.perf_counter())
            now = time.perf_counter()
            while due <= now:
                self.lateness_seconds.append(now - due)
                due += _TICK_SECONDS
