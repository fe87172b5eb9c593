"""Work handed from event loops to threads, and how its outcome comes back.

What a cancelled caller may leave behind is decided here: a job that has not begun is withdrawn,
one that has is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from functools import partial
from typing import Any, Generic, Literal, NoReturn, TypeVar

import aiofiles.os
import anyio

from aiocheckpoint.errors import CheckpointError

ResultT = TypeVar("ResultT")

_WOKEN_AT_ONCE = 16
_SHORTEST_WAIT_SECONDS = 0.01
_FEW_WATCHED = 64


class Job(Generic[ResultT]):
    """
    The outcome that one caller on some event loop waits for; make it there.

    Attributes:
        result: what came of it.
        error: what was raised instead, if not None.
        is_over: whether the outcome is known.
        subject: what an error of its deadline is about; None when it is not watched any more.
    """

    __slots__ = (
        "_is_delivered", "_is_unwanted", "_loop", "_mutex", "_state", "_waiter",
        "error", "is_over", "result", "subject",
    )  # fmt: skip

    def __init__(self) -> None:
        self.result: ResultT | None = None
        self.error: BaseException | None = None
        self.is_over = False
        self.subject: object = None
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] = self._loop.create_future()
        self._state: Literal["waiting", "begun", "late", "withdrawn"] = "waiting"
        self._is_unwanted = False
        self._is_delivered = False
        self._mutex = threading.Lock()

    def begin(self) -> bool:
        """Claim the job for running; False when its caller has withdrawn it."""
        with self._mutex:
            if self._state == "waiting":
                self._state = "begun"
            return self._state == "begun"

    def put_back(self) -> bool:
        """Let a job that has begun wait again, with nothing done; False when it is withdrawn."""
        with self._mutex:
            if self._state == "begun":
                self._state = "withdrawn" if self._is_unwanted else "waiting"
                self.is_over = self._is_unwanted
            return self._state == "waiting"

    def wait_for_files(self) -> None:
        """Note that the work is done, but for what its caller may leave to others."""
        with self._mutex:
            self._state = "late"

    @property
    def is_late(self) -> bool:
        """Whether the work is done, but for what its caller may leave to others."""
        return self._state == "late"

    def withdraw(self) -> bool:
        """Take the job back unless it is under way; tell whether that is so."""
        with self._mutex:
            self._is_unwanted = True
            return self._take_back()

    def _take_back(self) -> bool:
        if self._state in ("waiting", "late"):
            self._state = "withdrawn"
            self.is_over = True
            self.subject = None
        return self._state == "withdrawn"

    def run(self, work: Callable[[], ResultT]) -> None:
        """Do the work and keep its outcome."""
        try:
            self.result = work()
        except BaseException as error:  # noqa: BLE001 - raised by `finished`
            self.error = error

    def run_alone(self, work: Callable[[], ResultT]) -> None:
        """Do the work, unless its caller has withdrawn it, and tell a caller that outlasts it."""
        if self.begin():
            self.run(work)
            with self._mutex:
                self.is_over = True
                is_unwanted = self._is_unwanted
            if is_unwanted:
                Job.deliver([self])

    async def outlast(self) -> None:
        """Withdraw the job, or wait for its end."""
        if not self.withdraw() and not self.is_over:
            await self._outlast()

    def get(self) -> ResultT:
        """Return the result or raise the error, once: kept, its traceback would keep its caller."""
        error = self._taken_error()
        try:
            if error is not None:
                raise error
            return self.result  # type: ignore[return-value]  # set unless there is an error
        finally:
            del error

    def _taken_error(self) -> BaseException | None:
        error, self.error = self.error, None
        return error

    async def finished(self) -> ResultT:
        """
        Return the result or raise the error; outlast cancellation until the outcome is known.

        An error of the work then travels as the cancellation's cause.
        """
        try:
            await self._waiter
        except asyncio.CancelledError as cancelled:
            if not self.withdraw():
                await self._outlast()
            self.raise_cancelled(cancelled)
        return self.get()

    def raise_cancelled(self, cancelled: asyncio.CancelledError) -> NoReturn:
        """Raise a cancellation, with the error as its cause."""
        error = self._taken_error()
        try:
            if error is not None:
                raise cancelled from error
            raise cancelled
        finally:
            del error, cancelled

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

    def give_up(self, error: CheckpointError) -> bool:
        """Let the caller have an error unless the work is under way; on its own loop."""
        with self._mutex:
            if not self._take_back():
                return False
        self.error = error
        _wake([self])
        return True

    @staticmethod
    def deliver(jobs: Iterable[Job[Any]]) -> None:
        """Wake the callers of jobs that were run: one message to each event loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[Job[Any]]] = {}
        for job in jobs:
            job.is_over = True
            by_loop.setdefault(job._loop, []).append(job)  # noqa: SLF001 - its own class
        for loop, done in by_loop.items():
            try:
                loop.call_soon_threadsafe(_wake, done)
            except RuntimeError:
                continue


class Ending(Job[None]):
    """Waits for the end of something: not to be withdrawn, but given up where others hold it up."""

    __slots__ = ()

    def withdraw(self) -> bool:
        """Leave it; what is ending ends."""
        return False

    def give_up(self, error: CheckpointError) -> bool:
        """Let the caller have an error; on its own loop."""
        self.error = error
        self.is_over = True
        _wake([self])
        return True


def _wake(jobs: list[Job[Any]], start: int = 0) -> None:
    """Wake a few callers in each turn of the loop: each may encode a document in its first step."""
    end = start + _WOKEN_AT_ONCE
    if end < len(jobs):
        asyncio.get_running_loop().call_soon(_wake, jobs, end)
    for job in jobs[start:end]:
        job._is_delivered = True  # noqa: SLF001
        job.subject = None  # it holds what was saved
        if not job._waiter.done():  # noqa: SLF001
            job._waiter.set_result(None)  # noqa: SLF001


class _Watched:
    """What waits on one loop, in the order of its deadlines; and some that is over by now."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[float, Job[Any]]] = deque()
        self._most = _FEW_WATCHED

    def add(self, deadline: float, job: Job[Any]) -> None:
        """Watch one more, and let go of what is over."""
        waiting = self.waiting
        while waiting and waiting[0][1].is_over:
            waiting.popleft()
        if len(waiting) >= self._most:  # behind one that takes its time
            left = [watched for watched in waiting if not watched[1].is_over]
            waiting.clear()
            waiting.extend(left)
            self._most = 2 * len(left) + _FEW_WATCHED
        waiting.append((deadline, job))


class Deadlines:
    """
    Gives up jobs that wait for too long, by one timer a loop.

    Args:
        timeout_seconds: how long each may wait.
        error: makes what they raise; None while nobody else holds them up.
    """

    def __init__(
        self, timeout_seconds: float, error: Callable[[object], CheckpointError | None]
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._error = error
        self._watched: dict[asyncio.AbstractEventLoop, _Watched] = {}

    def watch(self, job: Job[Any], subject: object) -> None:
        """Watch a job, on its loop; `subject` is what the error is about."""
        loop = job._loop  # noqa: SLF001 - of the same module
        watched = self._watched.get(loop)
        if watched is None:
            for ended in [known for known in list(self._watched) if known.is_closed()]:
                self._watched.pop(ended, None)  # other loops' threads do the same
            watched = self._watched[loop] = _Watched()
            loop.call_later(self._timeout_seconds, self._check, loop)
        job.subject = subject
        watched.add(loop.time() + self._timeout_seconds, job)

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting = self._watched[loop].waiting
        now = loop.time()
        soon = now + max(self._timeout_seconds / 4, _SHORTEST_WAIT_SECONDS)
        again: list[tuple[float, Job[Any]]] = []
        while waiting and (waiting[0][1].is_over or waiting[0][0] <= now):
            _, job = waiting.popleft()
            error = None if job.is_over else self._error(job.subject)
            if not job.is_over and (error is None or not job.give_up(error)):
                again.append((soon, job))
        waiting.extendleft(reversed(again))
        if waiting:
            loop.call_at(waiting[0][0], self._check, loop)
        else:
            self._watched.pop(loop, None)


_run_alone = aiofiles.os.wrap(Job.run_alone)  # once: wrapping takes as long as handing over


async def hop(executor: Executor, work: Callable[[], ResultT]) -> ResultT:
    """
    Run work that needs no order in one executor hop, in the caller's context.

    A caller that is cancelled withdraws it, or waits for its end if it has begun.
    """
    job: Job[ResultT] = Job()
    work = partial(contextvars.copy_context().run, work)
    try:
        await _run_alone(job, work, executor=executor)
    except asyncio.CancelledError as cancelled:
        await job.outlast()
        job.raise_cancelled(cancelled)
    return job.get()
