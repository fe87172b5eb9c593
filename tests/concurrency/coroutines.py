"""Coroutines that are started under control and whose wake-ups are counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, Generic, TypeVar

ResultT = TypeVar("ResultT")


async def yield_to_loop(times: int) -> None:
    """Let the loop run everything that is ready, several times over."""
    for _ in range(times):
        await asyncio.sleep(0)


class Counted(Awaitable[ResultT], Generic[ResultT]):
    """
    A coroutine that counts how often it is resumed.

    Attributes:
        wake_ups: how often, the start included.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, ResultT]) -> None:
        self._coroutine = coroutine
        self.wake_ups = 0

    def __await__(self) -> Generator[Any, Any, ResultT]:
        value: Any = None
        error: BaseException | None = None
        while True:
            self.wake_ups += 1
            try:
                if error is None:
                    item = self._coroutine.send(value)
                else:
                    item = self._coroutine.throw(error)
            except StopIteration as stop:
                result: ResultT = stop.value
                return result
            error = None
            try:
                value = yield item
            except BaseException as thrown:  # noqa: BLE001 - handed into the coroutine
                error = thrown


class Started(Awaitable[ResultT], Generic[ResultT]):
    """A coroutine whose first step, up to where it first waits, is done at once."""

    def __init__(self, coroutine: Coroutine[Any, Any, ResultT]) -> None:
        self._steps = Counted(coroutine).__await__()
        self._waited_for = next(self._steps)

    def __await__(self) -> Generator[Any, Any, ResultT]:
        yield self._waited_for
        return (yield from self._steps)
