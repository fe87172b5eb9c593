"""Answers from memory alone, so that an event loop may ask for them itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NoReturn

from aiocheckpoint._disk.index import SessionIndex
from aiocheckpoint._disk.view import View
from aiocheckpoint._engine.bodies import Bodies, Session
from aiocheckpoint._engine.read import Reader
from aiocheckpoint._format.codec import Codec, RecordT
from aiocheckpoint._format.ids import encode_id
from aiocheckpoint.models import SessionId

_MAX_BYTES = 64 * 1024  # more would hold up the loop while it is decoded
_MAX_IDS = 1000


class NotInMemoryError(Exception):
    """The answer takes a file, a lock, or a while."""


class _Remembered(Bodies):
    """The contents of checkpoints that this process has saved and not flushed."""

    def __init__(self, view: View, max_bytes: int) -> None:
        super().__init__(view, max_bytes)
        self._left_bytes = _MAX_BYTES

    def _content(self, session: str, name: str) -> tuple[bytes, bool]:
        committed = self.view.saved(session, name)
        if committed is None or committed.body is None:
            raise NotInMemoryError
        self._left_bytes -= len(committed.body)
        if self._left_bytes < 0:
            raise NotInMemoryError
        return super()._content(session, name)

    def blobs(self, session: str, digests: Iterable[str]) -> NoReturn:
        """Leave them to others: they are large."""
        raise NotInMemoryError(session, digests)


class Glance(Reader[RecordT]):
    """
    A reader that knows what is in memory, which others may have changed: who relies on it has to
    find out whether the session is still in the state that was seen.

    Every method raises `NotInMemoryError` where it would have to wait for anything.

    Args:
        bodies: those of the root.
        record_codec: of the record type.
    """

    def __init__(self, bodies: Bodies, record_codec: Codec[RecordT]) -> None:
        super().__init__(_Remembered(bodies.view, bodies.max_bytes), record_codec, 0.0)

    def look(self) -> None:
        """Leave it at what is known."""

    def session(self, session_id: SessionId) -> Session:
        """Return what is known of a session."""
        name = encode_id(session_id, "session id")
        index = self.view.indexes.peek(name)
        if index is None or index.mutex.locked() or not index.finds_at_once():
            raise NotInMemoryError
        return Session(session_id, name, index)

    def _may_miss_files(self, session: Session) -> Literal[False]:
        del session  # to list it would take files
        return False

    def require_quick(self, known: SessionIndex, limit: int | None) -> None:
        """Leave ids to others that are many, or not told by names alone."""
        is_long = (known.count if limit is None else limit) > _MAX_IDS
        if is_long or not known.has_ids():
            raise NotInMemoryError
