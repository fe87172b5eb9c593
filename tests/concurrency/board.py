"""Numbers that several processes see at once: how far each has got in each session."""

from __future__ import annotations

import mmap
from pathlib import Path
from types import TracebackType
from typing import Self

_SLOT_BYTES = 8


class Board:
    """
    A file of 64-bit counters, one for each process and session, and one for each process.

    Args:
        path: of the file, outside the root under test.
        processes: how many.
        sessions: how many.
    """

    def __init__(self, path: Path, processes: int, sessions: int) -> None:
        self._sessions = sessions
        self._processes = processes
        size_bytes = (processes * sessions + processes) * _SLOT_BYTES
        if not path.exists():
            path.write_bytes(bytes(size_bytes))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), size_bytes)
        self._slots = memoryview(self._map).cast("q")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._slots.release()
        self._map.close()

    def acknowledge(self, process: int, session: int, number: int) -> None:
        """Note that the saves of a process in a session are acknowledged up to a number."""
        self._slots[process * self._sessions + session] = number

    def acknowledged(self, session: int) -> list[int]:
        """Return, for each process, up to which number its saves in a session are acknowledged."""
        return [
            self._slots[process * self._sessions + session] for process in range(self._processes)
        ]

    def note_ready(self, process: int) -> None:
        """Note that a process is about to begin."""
        self._slots[self._processes * self._sessions + process] = 1

    def all_ready(self) -> bool:
        """Tell whether every process is about to begin."""
        return all(self._slots[self._processes * self._sessions :])
