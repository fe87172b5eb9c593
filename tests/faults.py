"""File operations that can be watched, held up, cut short and made to fail."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

from aiocheckpoint.files import LocalFiles

P = ParamSpec("P")
ResultT = TypeVar("ResultT")

_WAIT_SECONDS = 30


class Call(NamedTuple):
    """
    One system call that was asked for.

    Attributes:
        operation: as in the errors, `"sync file"`.
        path: of the file or folder.
        thread: the identity of the thread that made it.
    """

    operation: str
    path: str
    thread: int


class Fault(NamedTuple):
    """
    Which system calls fail, and how.

    Attributes:
        error_number: the `errno`.
        operation: which kind of call; None for any.
        nth: which of them, 0 being the first after arming.
        after_effect: whether the call has its effect and then fails.
        for_ever: whether all later ones fail too.
    """

    error_number: int
    operation: str | None = None
    nth: int = 0
    after_effect: bool = False
    for_ever: bool = False


class FaultyFiles(LocalFiles):
    """
    `LocalFiles` that remembers every call and does harm where told.

    Attributes:
        calls: all calls so far.
        failed: those that were made to fail.
        largest_transfer_bytes: what one read or write moves at most; None for no limit.
    """

    def __init__(self, fault: Fault | None = None) -> None:
        self.calls: list[Call] = []
        self.failed: list[Call] = []
        self.largest_transfer_bytes: int | None = None
        self._fault = fault
        self._matches = 0
        self._actions: dict[str, Callable[[], None]] = {}
        self._mutex = threading.Lock()

    def arm(self, fault: Fault | None) -> None:
        """Put a fault in the place of the present one; None heals the disk."""
        with self._mutex:
            self._fault, self._matches = fault, 0
            self.failed.clear()

    def forget_calls(self) -> None:
        """Begin to remember anew."""
        self.calls.clear()

    def count(self, operation: str) -> int:
        """Return how many calls of a kind there were."""
        return sum(call.operation == operation for call in self.calls)

    def at(self, moment: str, action: Callable[[], None]) -> None:
        """Run `action` before every call of an operation, or at a failpoint, of that name."""
        self._actions[moment] = action

    def reached(self, failpoint: str) -> None:
        self._actions.get(failpoint, _nothing)()

    def call(
        self,
        operation: str,
        path: str,
        function: Callable[P, ResultT],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ResultT:
        self._actions.get(operation, _nothing)()
        call = Call(operation, path, threading.get_ident())
        fault = self._fault_of(call)

        def attempt() -> ResultT:
            if fault is None:
                limited: Any = self._limited(function, args)
                return function(*limited, **kwargs)
            # A close frees its descriptor whatever it answers.
            if fault.after_effect or function is os.close:
                _undone_if_open(function, function(*args, **kwargs))
            raise OSError(fault.error_number, os.strerror(fault.error_number))

        return super().call(operation, path, attempt)

    def _fault_of(self, call: Call) -> Fault | None:
        with self._mutex:
            self.calls.append(call)
            fault = self._fault
            if fault is None or fault.operation not in (None, call.operation):
                return None
            at, self._matches = self._matches, self._matches + 1
            if at == fault.nth or (fault.for_ever and at > fault.nth):
                self.failed.append(call)
                return fault
            return None

    def _limited(self, function: object, args: tuple[Any, ...]) -> tuple[Any, ...]:
        limit = self.largest_transfer_bytes
        if limit is not None and function in (os.write, os.pwrite):
            return (args[0], args[1][:limit], *args[2:])
        if limit is not None and function is os.read:
            return (args[0], min(args[1], limit))
        return args


def _nothing() -> None:
    """Do nothing."""


def _undone_if_open(function: object, result: object) -> None:
    """Close what an open brought: an open that fails leaves no descriptor."""
    if function is os.open and isinstance(result, int):
        os.close(result)


class Hold:
    """
    A moment at which a thread waits until the test lets it go.

    Attributes:
        arrived: set when a thread has come.
    """

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self._released = threading.Event()

    def __call__(self) -> None:
        self.arrived.set()
        assert self._released.wait(_WAIT_SECONDS), "nobody released the thread"

    def wait_arrived(self) -> None:
        """Wait, on another thread than the loop's, until a thread has come."""
        assert self.arrived.wait(_WAIT_SECONDS), "nobody came"

    def release(self) -> None:
        """Let it, and all that come later, pass."""
        self._released.set()
