"""Ordered work on a thread pool, for any number of event loops and threads.

Jobs of one lane run in the order they were submitted, one at a time; lanes run beside one
another. A lane exists only while it has jobs. What a cancelled caller may leave behind is
decided here: a job that has not begun is withdrawn, one that has is waited for.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

import aiofiles.os
import anyio

from aiocheckpoint.errors import WriterClosedError

ResultT = TypeVar("ResultT")


class _Job(Generic[ResultT]):
    def __init__(self, work: Callable[[], ResultT]) -> None:
        self.work = work
        self.future: Future[ResultT] = Future()

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.work()
        except BaseException as error:  # noqa: BLE001 - handed to whoever awaits the job
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Lanes:
    """
    Lanes over an executor.

    Args:
        executor: runs one hop for each lane that has jobs, and gets nothing else.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._waiting: dict[Hashable, deque[_Job[object]]] = {}
        self._mutex = threading.Lock()
        self._closed = False
        self._drained: Future[None] = Future()

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, lane: Hashable, work: Callable[[], ResultT]) -> Future[ResultT]:
        """
        Put a job at the end of a lane.

        Raises:
            WriterClosedError: after `close`.
        """
        job: _Job[ResultT] = _Job(work)
        with self._mutex:
            if self._closed:
                raise WriterClosedError("the writer is closed")
            jobs = self._waiting.get(lane)
            if jobs is None:
                jobs = self._waiting[lane] = deque()
                self._executor.submit(self._run_lane, lane, jobs)
            jobs.append(job)  # type: ignore[arg-type]  # a deque of jobs of any result
        return job.future

    def _run_lane(self, lane: Hashable, jobs: deque[_Job[object]]) -> None:
        while True:
            with self._mutex:
                if not jobs:
                    del self._waiting[lane]
                    self._note_drained()
                    return
                job = jobs.popleft()
            job.run()
            del job

    def _note_drained(self) -> None:
        if self._closed and not self._waiting and not self._drained.done():
            self._drained.set_result(None)

    def close(self) -> Future[None]:
        """Take no more jobs; the future is done when all submitted ones have run."""
        with self._mutex:
            self._closed = True
            self._note_drained()
        return self._drained


async def finished(job: Future[ResultT]) -> ResultT:
    """
    Return the result of a lane's job, and outlast cancellation until its outcome is known.

    A job that has not begun is withdrawn at once and leaves no trace.
    """
    return await _settled(asyncio.wrap_future(job), job.cancel)


async def hop(executor: Executor, work: Callable[[], ResultT]) -> ResultT:
    """Run work that needs no order in one executor hop, and outlast cancellation."""
    return await _settled(asyncio.ensure_future(aiofiles.os.wrap(work)(executor=executor)))


async def _settled(
    waiter: asyncio.Future[ResultT], withdraw: Callable[[], bool] = lambda: False
) -> ResultT:
    """
    Await `waiter`; when cancelled meanwhile, stay until it is done, then be cancelled.

    An error of the work then travels as the cancellation's cause. Both halves are needed:
    `asyncio.shield` stops native cancellation, and without the anyio scope a cancelled anyio
    scope would wake the loop below again and again.
    """
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not waiter.done():
            try:
                await asyncio.shield(waiter)
            except asyncio.CancelledError as error:
                if waiter.cancelled() or withdraw():
                    raise
                cancelled = error
            except Exception:  # noqa: BLE001 - the waiter's own, raised below
                break
    if cancelled is not None:
        raise cancelled from waiter.exception()
    return waiter.result()
