"""The reads of one session of a directory, all of them within one hop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic

from aiocheckpoint._arguments import checkpoint_ids_of, digests_of, require_query
from aiocheckpoint._engine import listing
from aiocheckpoint._engine.read import Reader
from aiocheckpoint._format.codec import RecordT
from aiocheckpoint._format.ids import encode_id
from aiocheckpoint.errors import MissingBlobError
from aiocheckpoint.models import CheckpointId, CheckpointMeta, SessionId


class LocalReader(Generic[RecordT]):
    """
    A `SessionReader` in a thread: its reads block, and so await nothing.

    Args:
        reader: of the root; None where there is no root.
        session_id: the session.
    """

    def __init__(self, reader: Reader[RecordT] | None, session_id: SessionId) -> None:
        self._reader = reader
        self._session_id = session_id

    @property
    def session_id(self) -> SessionId:
        """The session."""
        return self._session_id

    async def load(self, checkpoint_id: CheckpointId | None = None) -> RecordT | None:
        """Return a checkpoint, the one saved last by default; None when there is none."""
        if checkpoint_id is not None:
            encode_id(checkpoint_id, "checkpoint id")
        return None if self._reader is None else self._reader.load(self._session_id, checkpoint_id)

    async def load_many(self, checkpoint_ids: Iterable[CheckpointId], /) -> tuple[RecordT, ...]:
        """Return those of the checkpoints that are there, the one saved first first."""
        wanted = checkpoint_ids_of(checkpoint_ids)
        return () if self._reader is None else self._reader.load_many(self._session_id, wanted)

    async def ids(
        self, *, prefix: str = "", before: CheckpointId | None = None, limit: int | None = None
    ) -> tuple[CheckpointId, ...]:
        """Return ids, the greatest first."""
        require_query(prefix, before, limit)
        if self._reader is None:
            return ()
        return listing.ids(self._reader, self._session_id, prefix, before, limit)

    async def saved_ids(
        self, *, prefix: str = "", limit: int | None = None
    ) -> tuple[CheckpointId, ...]:
        """Return ids, the one saved last first, mostly told from the names of files."""
        require_query(prefix, limit=limit)
        if self._reader is None:
            return ()
        return listing.saved_ids(self._reader, self._session_id, prefix, limit)

    async def list(
        self, *, before: CheckpointId | None = None, limit: int | None = None
    ) -> tuple[CheckpointMeta, ...]:
        """Return what there is, saved last first."""
        require_query("", before, limit)
        if self._reader is None:
            return ()
        return listing.listed(self._reader, self._session_id, before, limit)

    async def load_blobs(self, digests: Iterable[str], /) -> dict[str, bytes]:
        """Return blobs by their digests."""
        wanted = digests_of(digests)
        if self._reader is not None:
            return self._reader.load_blobs(self._session_id, wanted)
        for digest in wanted:
            error = MissingBlobError(digest, digest)
            error.session_id = self._session_id
            raise error
        return {}
