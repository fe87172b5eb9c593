"""File operations that can be watched, held up, cut short and made to fail."""

from __future__ import annotations

import threading

from aiocheckpoint.testing import Call, Fault, FaultyFiles

__all__ = ("Call", "Fault", "FaultyFiles", "Hold")

_WAIT_SECONDS = 30


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
