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
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar

from aiocheckpoint.errors import ThreadStartError, WriterClosedError
from aiocheckpoint.kit import ended

ResultT = TypeVar("ResultT")

Withdrawal = list[Callable[[], object]]
"""What takes a change back that has not begun, for whoever makes it to add to."""

_ITERATED_AT_ONCE = 100
_LAST_SECONDS = 2.0

_CLOSED = "the store is closed"
_FORKED = "the store belongs to the parent of this forked process"


class Worker(Protocol):
    """What works in a home; all of it is called on its loop."""

    async def finish(self) -> None:
        """Finish what was begun, and let go of everything."""
        ...

    async def let_go(self) -> None:
        """Let go of everything, also where nothing was finished."""
        ...


WorkerT = TypeVar("WorkerT", bound=Worker)


class Home(Generic[WorkerT]):
    """
    One event loop in a thread of its own, begun by the first call, and what works there.

    Args:
        name: of the thread.
        make: makes what works there; called once, on the loop, and must not lead to the home, or
            one that is dropped would never end.
    """

    def __init__(self, name: str, make: Callable[[], WorkerT]) -> None:
        self._mutex = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._refuses = False  # new calls; those that go on still come here
        self._is_over = False
        self._thread = _Thread(name)
        self._make = make
        self._worker: WorkerT | None = None

    @property
    def is_own(self) -> bool:
        """Whether it was not begun by the parent of this process."""
        return self._loop is None or self._process == os.getpid()

    @property
    def worker(self) -> WorkerT:
        """What works here; on the loop alone."""
        if self._worker is None:
            self._worker = self._make()
            self._thread.closing.append(self._worker.let_go)
        return self._worker

    def refuse(self) -> None:
        """Refuse new calls; what those need that go on is done until `aclose`."""
        self._refuses = True

    def require_open(self) -> None:
        """
        Refuse a new call after `refuse`.

        Raises:
            WriterClosedError: it came, or the home belongs to the parent of this process.
        """
        if self._refuses:
            raise WriterClosedError(_CLOSED)
        if not self.is_own:
            raise WriterClosedError(_FORKED)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._mutex:
            if self._is_over:
                raise WriterClosedError(_CLOSED)
            if not self.is_own:
                raise WriterClosedError(_FORKED)
            if self._loop is None:
                self._process = os.getpid()
                self._loop = self._start()
            return self._loop

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = self._thread.start()
        weakref.finalize(self, self._thread.stop).atexit = False
        return loop

    async def ask(self, question: Callable[[WorkerT], Awaitable[ResultT]]) -> ResultT:
        """Ask what works here, on its loop, for what changes nothing."""

        async def answered() -> ResultT:
            return await question(self.worker)

        return await self.read(answered())

    async def make(self, change: Callable[[WorkerT, Withdrawal], Awaitable[ResultT]]) -> ResultT:
        """Have what works here make a change; a cancelled call ends when its outcome is known."""
        withdrawal: Withdrawal = []

        async def made() -> ResultT:
            return await change(self.worker, withdrawal)

        def withdraw() -> None:
            for function in withdrawal:
                function()

        return await self.change(made(), withdraw)

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
        """
        Yield what an iterator yields, which is made and run on the loop of the home.

        What it raises in the end is raised behind all that it has yielded.
        """
        items: list[AsyncIterator[ResultT]] = []
        raised: list[Exception] = []

        async def some() -> list[ResultT]:
            if not items:
                items.append(make())
            for error in raised:
                raise error
            found: list[ResultT] = []
            try:
                async for item in items[0]:
                    found.append(item)
                    if len(found) >= _ITERATED_AT_ONCE:
                        break
            except Exception as error:
                if not found:
                    raise
                raised.append(error)
            return found

        while found := await self.read(some()):
            for item in found:
                yield item

    async def aclose(self) -> None:
        """Refuse all calls, let what was begun be finished, and end the thread."""
        with self._mutex:
            self._refuses = True
            was_over, self._is_over = self._is_over, True
            loop = self._loop
        if was_over or loop is None or not self.is_own:
            return
        future = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._finish(), loop))
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            await ended(future)
            raise
        finally:
            self._thread.stop()

    async def _finish(self) -> None:
        if self._worker is not None:
            await self._worker.finish()


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
