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
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from functools import partial
from os import getpid as process_id
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from aiocheckpoint._arguments import result_at_once, result_of
from aiocheckpoint._waiting import is_waited_for
from aiocheckpoint.errors import PortalBlockedError, ThreadStartError
from aiocheckpoint.models import CheckpointRecord, SessionId
from aiocheckpoint.store import ReadBlocking, Reads, SessionReader

__all__ = ("Portal",)

_LOOK_SECONDS = 0.2
_BLOCKED = (
    "a thread within this library waits for this call, mostly for the end of a generator that was "
    "left, as the stream of a graph; it may be done or not: look, and call again; end such "
    "generators by `contextlib.closing`, or take their asynchronous form"
)

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
        self._reset()

    def _reset(self, inherited: object = None) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._end: weakref.finalize[..., Portal] | None = None
        self._mutex = threading.Lock()  # that of a parent may be held for ever
        self._asked: set[asyncio.Task[Any]] = set()
        self._inherited = inherited  # to close it would reach into the parent's
        self._process_id = process_id()

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

        It sees the context variables of the caller. If the caller is interrupted, as by ctrl-c, it
        goes on to its end all the same.

        Args:
            work: called with its arguments: `portal.run(store.load("support-42"))`.

        Raises:
            ThreadStartError: there is no thread for it.
            RuntimeError: in the portal's own thread, which would wait for itself.
            PortalBlockedError: a thread within this library waits for the caller.
            BaseException: what the coroutine raises.

        Cost: two hops from thread to thread.
        """
        if self._process_id != process_id():
            self._reset(self._loop)
        outcome: Future[ResultT] = Future()
        try:
            with _held(self._mutex):  # so that no work comes to a loop after its end
                loop = self._started()
                loop.call_soon_threadsafe(_begin, loop, work, self._asked, outcome)
        except RuntimeError:
            work.close()
            raise
        return _result(outcome)

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
        is_running = self._loop is not None and self._process_id == process_id()
        if is_running or _has_running_loop():
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
            RuntimeError: what `run` raises it for.
            BaseException: what the work raises.

        Cost: one hop a `read` where the store has `read_blocking`, else those of `run`.
        """
        blocking: ReadBlocking[RecordT] | None = getattr(store, "read_blocking", None)
        if blocking is None:
            return self.run(result_of(work, store))
        return result_at_once(work, _Blocking(blocking))

    def _started(self) -> asyncio.AbstractEventLoop:
        if threading.current_thread() is self._thread:
            raise RuntimeError("synchronous calls do not work here: they would wait for themselves")
        if self._loop is None:
            loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=_run, args=(loop, self._asked), name="aiocheckpoint-portal", daemon=True
            )
            try:
                self._thread.start()
            except RuntimeError as error:
                loop.close()
                raise ThreadStartError(str(error)) from error
            self._loop = loop
            # No `__del__`: while that runs, another thread may still find the portal, and go on.
            self._end = weakref.finalize(self, _end, loop, self._process_id)
            self._end.atexit = False
        return self._loop

    def close(self) -> None:
        """
        Let the thread end when its work is done; the next `run` starts another.

        Tasks that the work has left behind are cancelled, as at the end of `asyncio.run`.
        """
        if self._process_id == process_id():
            with self._mutex:
                end, self._end, self._loop, self._thread = self._end, None, None, None
                self._asked = set()
                if end is not None:
                    end()


class _Blocking(Generic[RecordT]):
    """`read` of a store that waits where it is called."""

    def __init__(self, blocking: ReadBlocking[RecordT]) -> None:
        self._blocking = blocking

    async def read(
        self, session_id: SessionId, work: Callable[[SessionReader[RecordT]], Awaitable[ResultT]], /
    ) -> ResultT:
        """Do several reads of a session."""
        return self._blocking(session_id, work)


@contextlib.contextmanager
def _held(mutex: threading.Lock) -> Iterator[None]:
    """
    Hold what others wait for, without the garbage collector: it might wait for them.

    Raises:
        PortalBlockedError: whoever holds it waits for the caller.
    """
    while not mutex.acquire(timeout=_LOOK_SECONDS):
        _require_progress()
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_collecting:
            gc.enable()
        mutex.release()


def _result(outcome: Future[ResultT]) -> ResultT:
    while True:
        with contextlib.suppress(TimeoutError):  # which may also be the outcome
            return outcome.result(_LOOK_SECONDS)
        if outcome.done():
            return outcome.result()
        _require_progress()


def _require_progress() -> None:
    """
    Refuse to wait on where that is in vain.

    Raises:
        PortalBlockedError: it is.
    """
    if is_waited_for():
        raise PortalBlockedError(_BLOCKED)


def _has_running_loop() -> bool:
    """Tell whether this thread has one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _begin(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, ResultT],
    asked: set[asyncio.Task[Any]],
    outcome: Future[ResultT],
) -> None:
    """Begin work, on its loop."""
    task = loop.create_task(_noted(work, asked, outcome))
    task.add_done_callback(partial(_end_unbegun, work, outcome))


def _end_unbegun(
    work: Coroutine[Any, Any, Any], outcome: Future[Any], _: asyncio.Task[None]
) -> None:
    """Tell of work whose task was cancelled before it began: nothing of it has run."""
    if not outcome.done():
        work.close()
        outcome.cancel()


async def _noted(
    work: Coroutine[Any, Any, ResultT], asked: set[asyncio.Task[Any]], outcome: Future[ResultT]
) -> None:
    """
    Do work for which somebody waits, and wake them at once.

    `run_coroutine_threadsafe` would wake them one round of the loop later.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - it runs as one
    asked.add(task)
    try:
        result = await work
    except asyncio.CancelledError:
        outcome.cancel()
    except BaseException as error:  # noqa: BLE001 - raised by `run`
        outcome.set_exception(error)
    else:
        outcome.set_result(result)
    finally:
        asked.discard(task)
        del outcome  # what was raised keeps this frame


def _end(loop: asyncio.AbstractEventLoop, of_process: int) -> None:
    if of_process == process_id():
        with contextlib.suppress(RuntimeError):  # it has ended
            loop.call_soon_threadsafe(loop.stop)


def _run(loop: asyncio.AbstractEventLoop, asked: set[asyncio.Task[Any]]) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(asyncio.sleep(0))  # what was asked for last has begun
        while asked:
            loop.run_until_complete(asyncio.wait({*asked}))
        left = asyncio.all_tasks(loop)  # as what a store has for as long as there is its loop
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(asyncio.sleep(0))  # they are told an iteration later
    finally:
        loop.close()
