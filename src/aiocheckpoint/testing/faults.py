"""A disk that fails when it is told to."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

from aiocheckpoint._disk.files import LocalFiles
from aiocheckpoint.errors import StorageError

P = ParamSpec("P")
ResultT = TypeVar("ResultT")

_OPENING = frozenset({"create", "open", "open directory"})
_CLOSING = frozenset({"close", "close directory"})


class Call(NamedTuple):
    """
    One system call that was asked for.

    Attributes:
        operation: as in the errors, `"sync file"`.
        path: of the file or directory.
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
        operation: which kind of call, as in `StorageError.operation`; None for any.
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
    A disk that remembers every call and fails where told; for `files` of the writer.

    ```python
    disk = FaultyFiles(Fault(errno.ENOSPC, "write"))
    writer = AsyncCheckpointWriter("state/", files=disk)
    ```

    Args:
        fault: the first fault; None for a sound disk.

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
        """Run the action of a failpoint."""
        self._act(failpoint)

    def call(
        self,
        operation: str,
        path: str,
        function: Callable[P, ResultT],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ResultT:
        """Make one system call, or fail."""
        self._act(operation)
        call = Call(operation, path, threading.get_ident())
        fault = self._fault_of(call)

        def attempt() -> ResultT:
            if fault is None:
                limited: Any = self._limited(operation, args)
                return function(*limited, **kwargs)
            # A close frees its descriptor whatever it answers.
            if fault.after_effect or operation in _CLOSING:
                _undo_open(call, function(*args, **kwargs))
            name = errno.errorcode.get(fault.error_number, "fault")
            raise OSError(fault.error_number, f"{name}, injected")

        return super().call(operation, path, attempt)

    def _act(self, moment: str) -> None:
        action = self._actions.get(moment)
        if action is not None:
            action()

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

    def _limited(self, operation: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        limit = self.largest_transfer_bytes
        match operation, args:
            case "write", (descriptor, data, *offset) if limit is not None:
                return (descriptor, data[:limit], *offset)
            case "read", (descriptor, size, *offset) if limit is not None:
                return (descriptor, min(size, limit), *offset)
            case _:
                return args


def _undo_open(call: Call, result: object) -> None:
    """Close what an open brought: an open that fails leaves no descriptor."""
    if call.operation in _OPENING and isinstance(result, int):
        with contextlib.suppress(StorageError):
            LocalFiles().close(result, call.path)
