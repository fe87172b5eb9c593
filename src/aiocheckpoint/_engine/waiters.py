"""Who waits for files, and what they wait for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aiocheckpoint._copied_errors import own_copy
from aiocheckpoint._engine.changes import Change, Flush
from aiocheckpoint._engine.root import WritableRoot
from aiocheckpoint.errors import DurabilityUnknownError, StorageError


class Waiter(NamedTuple):
    """
    Changes of one commit whose callers wait for files.

    Attributes:
        root: where they were committed.
        place: the position behind them.
        changes: those that wait.
        tries: how many tries to write files had begun when they came.
    """

    root: WritableRoot
    place: int
    changes: Sequence[Change]
    tries: int


class Flushed(NamedTuple):
    """
    How far a journal is flushed, as it was seen at one moment.

    Attributes:
        root: whose journal.
        place: the position up to which files are durable, of all sessions.
        end: the position behind what was seen.
        is_erased: whether nothing that was removed is left in the journal, by whomever and
            whenever: nobody can tell of what alone.
    """

    root: WritableRoot
    place: int
    end: int
    is_erased: bool

    def has_files(self, waiter: Waiter, change: Change) -> bool:
        """Tell whether a change has what it waits for."""
        if waiter.root is not self.root or waiter.place > self.place:
            return False
        if not isinstance(change, Flush):
            return True
        # Who closes last leaves the journal at rest.
        return self.is_erased and not (change.closes and self.end <= waiter.place)


def late_error(change: Change, error: BaseException) -> BaseException:
    """Return what a caller gets whose change is in the log and not in its file."""
    if not isinstance(change, Flush) and isinstance(error, StorageError):
        reason = f"{error.reason}; the journal has the change"
        unknown = DurabilityUnknownError(error.operation, error.path, error.errno, reason)
        unknown.__cause__ = error
        return unknown
    return own_copy(error)
