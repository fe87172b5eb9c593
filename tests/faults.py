"""File operations that can be watched, held up, cut short and made to fail."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from aiocheckpoint.testing import Call, Fault, FaultyFiles

__all__ = ("Call", "Fault", "FaultyFiles", "Hold", "RefusingFiles")

P = ParamSpec("P")
ResultT = TypeVar("ResultT")

_WAIT_SECONDS = 100


class RefusingFiles(FaultyFiles):
    """
    A disk that refuses what `is_refused` says.

    Args:
        error_number: what it says then.

    Attributes:
        refused: how often that was tried.
    """

    def __init__(self, error_number: int) -> None:
        super().__init__()
        self.error_number = error_number
        self.refused = 0

    @abstractmethod
    def is_refused(self, operation: str, path: str) -> bool:
        """Tell whether to refuse an operation, named as in `StorageError.operation`."""

    def call(
        self,
        operation: str,
        path: str,
        function: Callable[P, ResultT],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ResultT:
        """Make the system call, or refuse."""

        def refuse(*args: Any, **kwargs: Any) -> ResultT:
            self.refused += 1
            raise OSError(self.error_number, os.strerror(self.error_number))

        if self.is_refused(operation, path):
            return super().call(operation, path, refuse)
        return super().call(operation, path, function, *args, **kwargs)


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
