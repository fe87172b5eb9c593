"""The indexes of the sessions that were used last; pure."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping

from aiocheckpoint._disk.index import SessionIndex


class IndexCache:
    """
    The indexes used last, bounded in sessions and in files.

    Args:
        max_sessions: how many sessions to remember.
        max_files: how many files in all; one session may exceed it alone.
    """

    def __init__(self, max_sessions: int = 1024, max_files: int = 200_000) -> None:
        self._max_sessions = max_sessions
        self._max_files = max_files
        self._indexes: OrderedDict[str, SessionIndex] = OrderedDict()
        self._counted: dict[str, int] = {}
        self._files = 0
        self._mutex = threading.Lock()

    def __len__(self) -> int:
        return len(self._indexes)

    @property
    def all(self) -> Mapping[str, SessionIndex]:
        """The indexes by session, to look at without counting them as used."""
        return self._indexes

    def get(self, session_name: str) -> SessionIndex | None:
        """Return the index of a session and count it as used."""
        with self._mutex:
            index = self._indexes.get(session_name)
            if index is not None:
                self._indexes.move_to_end(session_name)
                self._count(session_name, index)
            return index

    def peek(self, session_name: str) -> SessionIndex | None:
        """Return the index of a session without counting it as used."""
        return self._indexes.get(session_name)

    def put(self, session_name: str, index: SessionIndex) -> None:
        """Remember an index, forgetting those used longest ago."""
        with self._mutex:
            self._use(session_name, index)

    def clear(self) -> None:
        """Forget all sessions."""
        with self._mutex:
            self._indexes.clear()
            self._counted.clear()
            self._files = 0

    def drop(self, session_name: str) -> None:
        """Forget a session, so that the next call scans its directory."""
        with self._mutex:
            self._forget(session_name)

    def _use(self, session_name: str, index: SessionIndex) -> None:
        self._forget(session_name)
        self._indexes[session_name] = index
        self._count(session_name, index)

    def _count(self, session_name: str, index: SessionIndex) -> None:
        """Count the files of an index anew, since it may have grown; there may be too many now."""
        count = index.count
        self._files += count - self._counted.get(session_name, 0)
        self._counted[session_name] = count
        while len(self._indexes) > 1 and (
            len(self._indexes) > self._max_sessions or self._files > self._max_files
        ):
            self._forget(next(iter(self._indexes)))

    def _forget(self, session_name: str) -> None:
        self._indexes.pop(session_name, None)
        self._files -= self._counted.pop(session_name, 0)
