"""Work handed from event loops to threads, and how its outcome comes back.

What a cancelled caller may leave behind is decided here: a job that has not begun is withdrawn,
one that has is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Generic, Literal, TypeVar

import aiofiles.os
import anyio

from aiocheckpoint.errors import ThreadStartError

ResultT = TypeVar("ResultT")

_WOKEN_AT_ONCE = 4


class Threads(ThreadPoolExecutor):
    """
    A pool that goes on with the threads it has where the system grants no more.

    Attributes:
        is_short: whether a thread was refused, and none granted since: let none wait idly.

    Raises:
        ThreadStartError: by `submit`, when there is not even one.
    """

    is_short = False

    def _adjust_thread_count(self) -> None:
        # Work is queued before its thread is started; any thread there is will take it up.
        count = len(self._threads)
        try:
            super()._adjust_thread_count()
            self.is_short = self.is_short and len(self._threads) == count
        except RuntimeError as error:
            self.is_short = True
            if not self._threads:
                raise ThreadStartError(str(error)) from error


class Outcome(Generic[ResultT]):
    """
    What came of some work.

    Attributes:
        result: what it returned.
        error: what it raised instead, if not None.
    """

    def __init__(self) -> None:
        self.result: ResultT | None = None
        self.error: BaseException | None = None

    def run(self, work: Callable[[], ResultT]) -> None:
        """Do the work and keep its outcome."""
        try:
            self.result = work()
        except BaseException as error:  # noqa: BLE001 - raised by `get`
            self.error = error

    def get(self) -> ResultT:
        """Return the result or raise the error."""
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # set by `run` unless there is an error


class Job(Outcome[ResultT]):
    """The outcome one caller on some event loop waits for; make it there."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] = self._loop.create_future()
        self._state: Literal["waiting", "begun", "withdrawn"] = "waiting"
        self._is_unwanted = False
        self._is_delivered = False
        self._mutex = threading.Lock()

    def begin(self) -> bool:
        """Claim the job for running; False when its caller has withdrawn it."""
        with self._mutex:
            if self._state == "waiting":
                self._state = "begun"
            return self._state == "begun"

    def postpone(self) -> bool:
        """
        Give a claimed job back untouched, so that its caller may withdraw it again.

        Returns:
            False when the caller tried to meanwhile: deliver the job then.
        """
        with self._mutex:
            self.error = None
            if not self._is_unwanted:
                self._state = "waiting"
            return not self._is_unwanted

    def _withdraw(self) -> bool:
        with self._mutex:
            self._is_unwanted = True
            if self._state == "waiting":
                self._state = "withdrawn"
            return self._state == "withdrawn"

    async def finished(self) -> ResultT:
        """
        Return the result or raise the error; outlast cancellation until the outcome is known.

        An error of the work then travels as the cancellation's cause.
        """
        try:
            await self._waiter
        except asyncio.CancelledError as cancelled:
            if not self._withdraw():
                await self._outlast()
            if self.error is not None:
                raise cancelled from self.error
            raise
        return self.get()

    async def _outlast(self) -> None:
        """
        Wait for the end of a job that has begun, whatever cancels it meanwhile.

        Both halves are needed: a future of its own for each native cancellation, and without
        the anyio scope a cancelled anyio scope would wake the loop below again and again.
        """
        with anyio.CancelScope(shield=True):
            while not self._is_delivered:
                self._waiter = self._loop.create_future()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._waiter

    @staticmethod
    def deliver(jobs: Iterable[Job[ResultT]]) -> None:
        """Wake the callers of jobs that were run: one message to each event loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[Job[ResultT]]] = {}
        for job in jobs:
            by_loop.setdefault(job._loop, []).append(job)  # noqa: SLF001 - its own class
        for loop, done in by_loop.items():
            try:
                loop.call_soon_threadsafe(_wake, done)
            except RuntimeError:  # that loop is closed, nobody waits there any more
                continue


def _wake(jobs: list[Job[ResultT]], start: int = 0) -> None:
    """Wake a few callers in each turn of the loop: each may encode a document in its first step."""
    end = start + _WOKEN_AT_ONCE
    if end < len(jobs):
        asyncio.get_running_loop().call_soon(_wake, jobs, end)
    for job in jobs[start:end]:
        job._is_delivered = True  # noqa: SLF001
        if not job._waiter.done():  # noqa: SLF001
            job._waiter.set_result(None)  # noqa: SLF001


async def done(future: Future[ResultT]) -> ResultT:
    """Return the result of a future of another thread; outlast cancellation until it is known."""
    return await _settled(asyncio.wrap_future(future))


async def hop(executor: Executor, work: Callable[[], ResultT]) -> ResultT:
    """Run work that needs no order in one executor hop, and outlast cancellation."""
    return await _settled(asyncio.ensure_future(aiofiles.os.wrap(work)(executor=executor)))


async def _settled(future: asyncio.Future[ResultT]) -> ResultT:
    job: Job[ResultT] = Job()
    job.begin()

    def deliver(future: asyncio.Future[ResultT]) -> None:
        job.run(future.result)
        _wake([job])

    future.add_done_callback(deliver)
    return await job.finished()
