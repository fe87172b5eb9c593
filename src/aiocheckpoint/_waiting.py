"""
How a thread waits for another, and whether that is in vain.

The garbage collector runs in whatever thread allocates, and ends there what others have left. A
generator that was left, as a stream of a graph, waits then for what its own threads are storing. In
a thread of this library, or in one that holds a lock of it, that would be for ever.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, thread, wait
from types import FrameType
from typing import Any, Generic, TypeVar

from aiocheckpoint.errors import PortalBlockedError

_LOOK_SECONDS = 0.2
_BLOCKED = (
    "a thread within this library waits for this call, mostly for the end of a generator that was "
    "left, as the stream of a graph; it may be done or not: look, and call again; end such "
    "generators by `contextlib.closing`, or take their asynchronous form"
)
_PACKAGE = __name__.partition(".")[0]


ResultT = TypeVar("ResultT")


class Outcome(Generic[ResultT]):
    """
    What one thread waits for, and another one tells, once.

    No `Future`: who waits may be interrupted anywhere, as by ctrl-c or the time limit of a task,
    and its condition, taken by code in Python, would then never be given back to who tells. To
    take a plain lock is one step.

    Attributes:
        is_told: whether it is known.
    """

    def __init__(self) -> None:
        self.is_told = False
        self._result: ResultT | None = None
        self._error: BaseException | None = None
        self._untold = threading.Lock()
        self._untold.acquire()

    def tell(self, result: ResultT) -> None:
        """Let who waits have a result."""
        self._result = result
        self._wake()

    def fail(self, error: BaseException) -> None:
        """Let who waits have an error."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        self.is_told = True
        self._untold.release()

    def run(self, work: Callable[[], ResultT]) -> None:
        """Do work, and tell what comes of it."""
        try:
            self.tell(work())
        except BaseException as error:  # noqa: BLE001 - raised by `wait`
            self.fail(error)

    def wait(self) -> ResultT:
        """
        Return the result, or raise the error; once.

        Raises:
            PortalBlockedError: who would tell waits for the caller.
        """
        while not self._untold.acquire(timeout=_LOOK_SECONDS):
            if is_waited_for():
                raise PortalBlockedError(_BLOCKED)
        error, self._error = self._error, None  # kept, its traceback would keep its caller
        try:
            if error is not None:
                raise error
            return self._result  # type: ignore[return-value]  # set unless there is an error
        finally:
            del error


def is_waited_for() -> bool:
    """Tell whether one waits for what this thread does for an executor."""
    frames = sys._current_frames()  # noqa: SLF001 - what debuggers use
    own = frames.pop(threading.get_ident(), None)
    done_here = {frame.f_locals["self"].future for frame in _of(own, thread._WorkItem.run)}  # noqa: SLF001
    return bool(done_here) and any(_waits_within(top, done_here) for top in frames.values())


def _waits_within(top: FrameType, done_here: set[Future[Any]]) -> bool:
    """Tell whether a thread waits for something, and was within this library before."""
    for waiting in _of(top, wait):
        if not done_here.isdisjoint(waiting.f_locals["fs"]):
            return any(_is_of_package(frame) for frame in _from(waiting))
    return False


def _is_of_package(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == _PACKAGE


def _of(top: FrameType | None, function: Any) -> Iterator[FrameType]:
    return (frame for frame in _from(top) if frame.f_code is function.__code__)


def _from(top: FrameType | None) -> Iterator[FrameType]:
    while top is not None:
        yield top
        top = top.f_back
