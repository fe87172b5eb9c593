"""
Whether a thread that is within this library waits for the one that asks.

The garbage collector runs in whatever thread allocates, and ends there what others have left. A
generator that was left, as a stream of a graph, waits then for what its own threads are storing. In
a thread of this library, or in one that holds a lock of it, that would be for ever.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, thread, wait
from types import FrameType
from typing import Any

_PACKAGE = __name__.partition(".")[0]


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
