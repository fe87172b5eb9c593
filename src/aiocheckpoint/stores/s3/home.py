"""The thread of a store: its event loop, which makes every request and keeps every session.

The client signs, hashes and parses for about a millisecond a request, and reads files when it is
made: none of that is done on a caller's loop. Callers of any loop and thread are served in the
order in which they call.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from aiocheckpoint.errors import ThreadStartError, WriterClosedError
from aiocheckpoint.kit import ended

ResultT = TypeVar("ResultT")

_ITERATED_AT_ONCE = 100
_LAST_SECONDS = 2.0

CLOSED = "the store is closed"
_FORKED = "the store belongs to the parent of this forked process"


class Home:
    """
    One event loop in a thread of its own, begun by the first call.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._mutex = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._is_closed = False
        self._thread = _Thread(name)

    @property
    def is_own(self) -> bool:
        """Whether it was not begun by the parent of this process."""
        return self._loop is None or self._process == os.getpid()

    def require_open(self) -> None:
        """
        Refuse calls after the end.

        Raises:
            WriterClosedError: it was closed, or belongs to the parent of this process.
        """
        if self._is_closed:
            raise WriterClosedError(CLOSED)
        if not self.is_own:
            raise WriterClosedError(_FORKED)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._mutex:
            self.require_open()
            if self._loop is None:
                self._process = os.getpid()
                self._loop = self._start()
            return self._loop

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = self._thread.start()
        weakref.finalize(self, self._thread.stop).atexit = False
        return loop

    def at_end(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have something closed in the thread when it ends, also of a home that was dropped."""
        self._thread.closing.append(close)

    async def read(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run what changes nothing; a cancelled call ends at once."""
        return await asyncio.wrap_future(self._submitted(work))

    async def change(
        self,
        work: Coroutine[Any, Any, ResultT],
        withdraw: Callable[[], object] = lambda: None,
    ) -> ResultT:
        """
        Run what may change something; a cancelled call ends when its outcome is known.

        Args:
            work: what to run.
            withdraw: run on the loop of the home when the caller is cancelled.

        An error of the work then travels as the cancellation's cause.
        """
        future = asyncio.wrap_future(self._submitted(work))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError as cancelled:
            if future.done() and not future.cancelled():
                raise
            assert self._loop is not None  # noqa: S101 - it runs the work
            self._loop.call_soon_threadsafe(withdraw)
            await ended(future)
            error = None if future.cancelled() else future.exception()
            if error is not None:
                raise cancelled from error
            raise

    def _submitted(self, work: Coroutine[Any, Any, ResultT]) -> Future[ResultT]:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._running())
        except BaseException:
            work.close()
            raise

    def post(self, function: Callable[[], object]) -> None:
        """Call a function on the loop, and wait for nothing."""
        if self._loop is not None and self._process == os.getpid():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(function)

    async def iterate(self, make: Callable[[], AsyncIterator[ResultT]]) -> AsyncIterator[ResultT]:
        """Yield what an iterator yields, which is made and run on the loop of the home."""
        items: list[AsyncIterator[ResultT]] = []

        async def some() -> list[ResultT]:
            if not items:
                items.append(make())
            found: list[ResultT] = []
            async for item in items[0]:
                found.append(item)
                if len(found) >= _ITERATED_AT_ONCE:
                    break
            return found

        while found := await self.read(some()):
            for item in found:
                yield item

    async def aclose(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Refuse further calls, run what is to be done at last, and end the thread."""
        with self._mutex:
            was_closed, self._is_closed = self._is_closed, True
            loop = self._loop
        if was_closed or loop is None or not self.is_own:
            return
        future = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(last(), loop))
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            await ended(future)
            raise
        finally:
            self._thread.stop()


class _Thread:
    """
    The thread, which its home may leave behind.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self.closing: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._name = name
        self._process = os.getpid()
        self._is_stopping = threading.Lock()  # taken by the first to stop it, and kept
        self._ended = threading.Event()

    def start(self) -> asyncio.AbstractEventLoop:
        """Begin, and return its loop."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._run, args=(loop,), name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            loop.close()
            raise ThreadStartError(str(error)) from error
        self._loop, self._process = loop, os.getpid()
        # At the end of the interpreter, of a store that nobody has closed: its connections are
        # closed while that is still possible.
        weakref.finalize(thread, self._stop_and_wait)
        return loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(self._end())
            loop.close()
            self._ended.set()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        closing = (close() for close in self.closing)
        await asyncio.gather(*tasks, *closing, return_exceptions=True)

    def stop(self) -> None:
        """End it, once; in a forked process it is not there."""
        if self._loop is None or self._process != os.getpid():
            return
        if self._is_stopping.acquire(blocking=False):
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._loop.stop)

    def _stop_and_wait(self) -> None:
        self.stop()
        if self._process == os.getpid():
            self._ended.wait(_LAST_SECONDS)
