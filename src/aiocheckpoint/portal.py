"""
Asynchronous work for callers that are not: synchronous code on any store.

```py
from aiocheckpoint import CheckpointData, open_store
from aiocheckpoint.portal import Portal

with Portal() as portal:
    store = open_store("checkpoints")
    portal.run(store.save(CheckpointData(session_id="support-42")))
    portal.run(store.aclose())
```
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError
from contextvars import copy_context
from os import getpid as process_id
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from aiocheckpoint._arguments import result_at_once, result_of
from aiocheckpoint._waiting import Outcome
from aiocheckpoint.errors import ThreadStartError
from aiocheckpoint.models import CheckpointRecord, SessionId
from aiocheckpoint.store import ReadBlocking, Reads, SessionReader

__all__ = ("Portal",)

RecordT = TypeVar("RecordT", bound=CheckpointRecord)
ResultT = TypeVar("ResultT")


class Portal:
    """
    An event loop in a thread of its own, started by the first call; a forked process has its own.

    Any thread may call, several at once. Callers wait for that loop and for nothing else, so they
    never wait for themselves, whether they have a running loop or not; a loop that they have
    stands still meanwhile. The thread does not keep the process alive, and ends with the last
    reference to the portal.
    """

    def __init__(self) -> None:
        self._hosts: dict[int, _Host] = {}  # by process: a parent's is its own, also to close
        self._starting: dict[int, threading.RLock] = {}  # by process: a parent's may be held

    def __enter__(self) -> Self:
        """Return the portal; it is closed at the end of the block."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """
        Run a coroutine and return its result.

        It sees the context variables of the caller. If the caller is interrupted, as by ctrl-c or
        the time limit of a task, it goes on to its end all the same, and holds nobody up.

        Args:
            work: called with its arguments: `portal.run(store.load("support-42"))`.

        Raises:
            ThreadStartError: there is no thread for it.
            RuntimeError: in the portal's own thread, which would wait for itself.
            PortalBlockedError: a thread within this library waits for the caller.
            BaseException: what the coroutine raises.

        Cost: two hops from thread to thread.
        """
        while True:
            call: _Call[ResultT] | None = None
            try:
                call = _Call(work)
                host = self._host()
                host.ask(call)
            except BaseException:
                if call is None or call.host is None:
                    work.close()
                else:
                    call.host.wake()  # it may not have been
                raise
            try:
                return call.outcome.wait()
            except _NotBegunError:  # it was closed just then, or the work of others has ended it
                self._forget(host)

    def run_close(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """
        Run what closes a store, and return its result: where nothing runs here, without a thread.

        So what was never used can be closed also where no thread can be started any more, as by
        Python 3.12.1 after the end of the main thread.

        Args:
            work: called with its arguments: `portal.run_close(store.aclose())`.

        Raises:
            ThreadStartError: there is no thread for it, and the caller's own has a running loop.
            RuntimeError: what `run` raises it for.
            BaseException: what the coroutine raises.

        Cost: an event loop of its own in the thread of the caller, or that of `run`.
        """
        if process_id() in self._hosts or _has_running_loop():
            return self.run(work)
        # With a factory it leaves the thread's current loop alone.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            return runner.run(work)

    def read(
        self, store: Reads[RecordT], work: Callable[[Reads[RecordT]], Awaitable[ResultT]]
    ) -> ResultT:
        """
        Do work that awaits `read` of a store and nothing else, and return its result.

        Where the store's own threads answer, as those of a directory do, that takes no event loop,
        and half the way of `run`.

        Args:
            store: any.
            work: is given what has the store's `read`, and awaits that alone, as often as it likes.

        Raises:
            ThreadStartError: there is no thread for it.
            InvalidArgumentError: `work` is no async function, or awaits something else, where the
                store has `read_blocking`.
            PortalBlockedError: as of `run`.
            RuntimeError: what `run` raises it for.
            BaseException: what the work raises.

        Cost: one hop a `read` where the store has `read_blocking`, else those of `run`.
        """
        blocking: ReadBlocking[RecordT] | None = getattr(store, "read_blocking", None)
        if blocking is None:
            return self.run(result_of(work, store))
        return result_at_once(work, _Blocking(blocking))

    def _host(self) -> _Host:
        host = self._hosts.get(process_id())
        if host is None:
            with self._starting.setdefault(process_id(), threading.RLock()):
                host = self._hosts.get(process_id()) or self._started()
        if threading.current_thread() is host.thread:
            raise RuntimeError("synchronous calls do not work here: they would wait for themselves")
        return host

    def _forget(self, host: _Host) -> None:
        with self._starting.setdefault(process_id(), threading.RLock()):
            if self._hosts.get(process_id()) is host:
                del self._hosts[process_id()]

    def _started(self) -> _Host:
        host = _Host()
        host.start()
        # No `__del__`: while that runs, another thread may still find the portal, and go on.
        host.finalizer = weakref.finalize(self, host.end)
        host.finalizer.atexit = False
        found = self._hosts.setdefault(process_id(), host)
        if found is not host:
            host.finalizer()
        return found

    def close(self) -> None:
        """
        Let the thread end when its work is done; the next `run` starts another.

        Tasks that the work has left behind are cancelled, as at the end of `asyncio.run`.
        """
        host = self._hosts.pop(process_id(), None)
        if host is not None and host.finalizer is not None:
            host.finalizer()


class _NotBegunError(Exception):
    """A loop has ended, with nothing done of what it was asked for."""


class _Call(Generic[ResultT]):
    """
    Work that is asked of a portal, in the context of who asks.

    Attributes:
        host: which has it, or may have it.
        outcome: what comes of it.
    """

    def __init__(self, work: Coroutine[Any, Any, ResultT]) -> None:
        self.host: _Host | None = None
        self.outcome = Outcome[ResultT]()
        self._work = work
        self._context = copy_context()

    def begin(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        """Begin it, as a task of a loop."""
        task = loop.create_task(self._done(), context=self._context)
        task.add_done_callback(self._end_unbegun)
        return task

    async def _done(self) -> None:
        """Do it, and wake who waits at once, not a round of the loop later."""
        try:
            result = await self._work
        except asyncio.CancelledError:
            self.give_up()
        except BaseException as error:  # noqa: BLE001 - raised by `run`
            self.outcome.fail(error)
        else:
            self.outcome.tell(result)

    def _end_unbegun(self, _: asyncio.Task[None]) -> None:
        """Tell of work whose task was cancelled before it began: nothing of it has run."""
        if not self.outcome.is_told:
            self._work.close()
            self.give_up()

    def give_up(self) -> None:
        """Tell of work that goes no further."""
        if not self.outcome.is_told:
            self.outcome.fail(CancelledError())


class _Host:
    """
    An event loop in a thread, and what it is asked to do.

    Nobody holds a lock: who asks may be interrupted anywhere, or stopped by a fork.

    Attributes:
        thread: its thread.
        finalizer: lets it end, if nobody has; None before it is started.
    """

    def __init__(self) -> None:
        self._process_id = process_id()
        self._loop = asyncio.new_event_loop()
        self._calls: deque[_Call[Any]] = deque()
        self._begun: dict[asyncio.Task[None], _Call[Any]] = {}
        self._is_over = False
        self.finalizer: weakref.finalize[..., Portal] | None = None
        self.thread = threading.Thread(target=self._run, name="aiocheckpoint-portal", daemon=True)

    def start(self) -> None:
        """
        Start the thread.

        Raises:
            ThreadStartError: the system grants none.
        """
        try:
            self.thread.start()
        except RuntimeError as error:
            self._loop.close()
            raise ThreadStartError(str(error)) from error
        except BaseException:  # of a handler of a signal
            self.end()
            raise

    def ask(self, call: _Call[Any]) -> None:
        """Hand work over; where the loop has ended, its outcome is `_NotBegunError`."""
        call.host = self
        self._calls.append(call)
        self.wake()
        if self._is_over:  # or the thread refuses it, behind the moment when it is over
            self._refuse_all()

    def wake(self) -> None:
        """Have it begin what it was asked for."""
        with contextlib.suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(self._begin_all)

    def _begin_all(self) -> None:
        while self._calls and not self._is_over:
            call = self._calls.popleft()
            task = call.begin(self._loop)
            self._begun[task] = call
            task.add_done_callback(self._begun.pop)

    def _refuse_all(self) -> None:
        """Refuse what is not begun; by any thread, once it is over."""
        while self._calls:
            with contextlib.suppress(IndexError):  # another thread has
                self._calls.popleft().outcome.fail(_NotBegunError())

    def end(self) -> None:
        """Let the thread end when all is done that was asked for."""
        if self._process_id == process_id():
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        try:
            self._loop.run_forever()
            self._finish()
        finally:  # also where a task that was left has raised SystemExit
            self._is_over = True
            self._loop.close()
            self._refuse_all()
            for call in self._begun.values():
                call.give_up()

    def _finish(self) -> None:
        """Do all that was asked for, and cancel what that has left."""
        loop = self._loop
        self._begin_all()
        while self._begun:
            loop.run_until_complete(asyncio.wait({*self._begun}))
            self._begin_all()
        self._is_over = True
        left = asyncio.all_tasks(loop)  # as what a store has for as long as there is its loop
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(asyncio.sleep(0))  # they are told an iteration later


class _Blocking(Generic[RecordT]):
    """`read` of a store that waits where it is called."""

    def __init__(self, blocking: ReadBlocking[RecordT]) -> None:
        self._blocking = blocking

    async def read(
        self, session_id: SessionId, work: Callable[[SessionReader[RecordT]], Awaitable[ResultT]], /
    ) -> ResultT:
        """Do several reads of a session."""
        return self._blocking(session_id, work)


def _has_running_loop() -> bool:
    """Tell whether this thread has one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
