"""A clock that a test moves ahead, so that nothing rests on how quick the machine is."""

from __future__ import annotations

import time

import pytest

HOUR_SECONDS = 3600.0
"""No machine pauses for so long."""


class Clock:
    """
    The monotonic clock of this process, of its event loops and of the library, moved ahead.

    With a patience of hours, which no pause of a machine comes near, the test says when it is over.

    Args:
        patch: undoes it.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._ahead_seconds = 0.0
        real = time.monotonic
        patch.setattr(time, "monotonic", lambda: real() + self._ahead_seconds)

    def move_on(self, seconds: float) -> None:
        """Let so much time pass at once; on the loop whose timers are to notice."""
        self._ahead_seconds += seconds
