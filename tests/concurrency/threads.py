"""Event loops on threads of their own, driven from a test that has none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.concurrency.gates import GUARD_SECONDS

ResultT = TypeVar("ResultT")


class LoopThread:
    """A thread that runs an event loop until the end of the `with` block."""

    def __init__(
        self, new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    ) -> None:
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(GUARD_SECONDS)
        assert not self._thread.is_alive()
        self._loop.close()

    def begin(self, call: Callable[[], Coroutine[Any, Any, ResultT]]) -> Future[ResultT]:
        """Return once the coroutine has done its first step on the loop."""
        begun: Future[asyncio.Task[ResultT]] = Future()

        async def begin() -> ResultT:
            task = asyncio.ensure_future(call())
            asyncio.get_running_loop().call_soon(begun.set_result, task)  # after its first step
            return await task

        result = asyncio.run_coroutine_threadsafe(begin(), self._loop)
        begun.result(GUARD_SECONDS)
        return result

    def call(self, call: Callable[[], Coroutine[Any, Any, ResultT]]) -> ResultT:
        """Run a coroutine on the loop and return its result."""
        return self.begin(call).result(GUARD_SECONDS)
