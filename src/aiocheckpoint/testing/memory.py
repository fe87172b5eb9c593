"""A store that lives in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, overload

import msgspec

from aiocheckpoint._arguments import (
    checkpoint_ids_of,
    digests_of,
    frozen_blobs,
    require_expected,
    require_query,
)
from aiocheckpoint._format.blobs import require_digest, require_digests
from aiocheckpoint._format.codec import RecordCodec, RecordT
from aiocheckpoint._format.documents import seal, verified
from aiocheckpoint._format.ids import encode_id
from aiocheckpoint._format.listing import parse_meta
from aiocheckpoint.errors import MissingBlobError, SessionChangedError, WriterClosedError
from aiocheckpoint.models import (
    ANY_NEWEST,
    BlobRecord,
    CheckpointData,
    CheckpointId,
    CheckpointMeta,
    Expected,
    SessionId,
    utc_now,
)
from aiocheckpoint.store import NO_BLOBS


class _Stored(NamedTuple):
    body: bytes
    digests: tuple[str, ...]
    saved_at: datetime


class MemoryStore(Generic[RecordT]):
    """
    A `CheckpointStore` that forgets everything when the process ends.

    It keeps the bytes that a file would hold, so it refuses what the writer refuses and never
    hands out an object twice. For unit tests of an application, and as the model of a store.

    Args:
        record_type: the Struct to store, extending `CheckpointRecord`.
    """

    @overload
    def __init__(self: MemoryStore[CheckpointData]) -> None: ...

    @overload
    def __init__(self, record_type: type[RecordT]) -> None: ...

    def __init__(self, record_type: type[Any] = CheckpointData) -> None:
        self._codec: RecordCodec[RecordT] = RecordCodec(record_type)
        self._sessions: dict[SessionId, dict[CheckpointId, _Stored]] = {}
        self._blobs: dict[SessionId, dict[str, bytes]] = {}
        self._last_saved_at = datetime.min.replace(tzinfo=UTC)
        self._is_closed = False

    async def __aenter__(self) -> Self:
        self._require_open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Refuse every later call but this one, as a closed writer does."""
        self._is_closed = True

    def _require_open(self) -> None:
        if self._is_closed:
            raise WriterClosedError("the store is closed")

    def _session(self, session_id: SessionId) -> dict[CheckpointId, _Stored]:
        """Return the checkpoints of a session, the one saved first first."""
        encode_id(session_id, "session id")
        self._require_open()
        return self._sessions.get(session_id, {})

    async def save(
        self,
        data: RecordT,
        /,
        *,
        blobs: Mapping[str, bytes] = NO_BLOBS,
        expected: Expected = ANY_NEWEST,
    ) -> CheckpointId:
        """Store a checkpoint and its new blobs, replacing one of its id, and return its id."""
        require_expected(expected)
        draft = self._codec.draft(data)
        _path(draft.session_id, draft.checkpoint_id)
        self._require_open()
        session = self._sessions.setdefault(draft.session_id, {})
        newest_id = next(reversed(session), None)
        if expected is not ANY_NEWEST and newest_id != expected:
            raise SessionChangedError(draft.session_id, newest_id)
        digests = data.blob_digests if isinstance(data, BlobRecord) else ()
        self._store_blobs(draft.session_id, digests, blobs)
        session.pop(draft.checkpoint_id, None)  # a dict keeps the place of a key that it has
        self._last_saved_at = max(utc_now(), self._last_saved_at + timedelta.resolution)
        session[draft.checkpoint_id] = _Stored(seal(draft), digests, self._last_saved_at)
        self._collect(draft.session_id)
        return draft.checkpoint_id

    def _store_blobs(
        self, session_id: SessionId, digests: tuple[str, ...], given: Mapping[str, bytes]
    ) -> None:
        require_digests(digests)
        stored = self._blobs.setdefault(session_id, {})
        new = frozen_blobs(given, digests)
        for digest, data in new.items():
            require_digest(digest, data)
        for digest in digests:
            if digest not in new and digest not in stored:
                raise MissingBlobError(str(_path(session_id, digest)), digest)
        stored.update(new)

    def _collect(self, session_id: SessionId) -> None:
        session = self._sessions.get(session_id, {})
        used = {digest for stored in session.values() for digest in stored.digests}
        blobs = self._blobs.get(session_id, {})
        self._blobs[session_id] = {key: data for key, data in blobs.items() if key in used}

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> RecordT | None:
        """Return a checkpoint, the one saved last by default; None when there is none."""
        path = _path(session_id, checkpoint_id or "")
        session = self._session(session_id)
        if checkpoint_id is None:
            checkpoint_id = next(reversed(session), None)
        stored = None if checkpoint_id is None else session.get(checkpoint_id)
        if stored is None:
            return None
        return self._codec.decode(verified(stored.body, str(path)), str(path))

    async def list(self, session_id: SessionId) -> tuple[CheckpointMeta, ...]:
        """Return what there is of a session, saved last first."""
        session = self._session(session_id)
        metas = [
            parse_meta(stored.body, _path(session_id, key), stored.saved_at)
            for key, stored in session.items()
        ]
        return tuple(meta for meta in reversed(metas) if meta is not None)

    async def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        """Remove a checkpoint; False when there is none."""
        return bool(await self.delete_many(session_id, (checkpoint_id,)))

    async def verify(self, path: str | PathLike[str], /) -> bool:
        """Tell whether a path is one of those `list` gives; they name no file."""
        self._require_open()
        return any(
            Path(path) == _path(session_id, checkpoint_id)
            for session_id, session in self._sessions.items()
            for checkpoint_id in session
        )

    async def ids(
        self,
        session_id: SessionId,
        *,
        prefix: str = "",
        before: CheckpointId | None = None,
        limit: int | None = None,
    ) -> tuple[CheckpointId, ...]:
        """Return ids of a session, the greatest first."""
        require_query(prefix, before, limit)
        found = [
            key
            for key in sorted(self._session(session_id), reverse=True)
            if key.startswith(prefix) and (before is None or key < before)
        ]
        return tuple(found[:limit])

    async def load_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> tuple[RecordT, ...]:
        """Return those of the checkpoints that are there, the one saved first first."""
        wanted = {*checkpoint_ids_of(checkpoint_ids)}
        records = [
            await self.load(session_id, key) for key in self._session(session_id) if key in wanted
        ]
        return tuple(record for record in records if record is not None)

    async def delete_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> int:
        """Remove checkpoints, all or none, and return how many there were."""
        doomed = {*checkpoint_ids_of(checkpoint_ids)}
        session = self._session(session_id)
        found = doomed & session.keys()
        for checkpoint_id in found:
            del session[checkpoint_id]
        self._collect(session_id)
        return len(found)

    async def load_blobs(
        self, session_id: SessionId, digests: Iterable[str], /
    ) -> dict[str, bytes]:
        """Return blobs of a session by their digests."""
        wanted = tuple(dict.fromkeys(digests_of(digests)))
        self._session(session_id)
        stored = self._blobs.get(session_id, {})
        for digest in wanted:
            if digest not in stored:
                raise MissingBlobError(str(_path(session_id, digest)), digest)
        return {digest: stored[digest] for digest in wanted}

    async def sessions(self, *, prefix: str = "") -> AsyncIterator[SessionId]:
        """Yield the ids of the sessions that have checkpoints."""
        require_query(prefix)
        self._require_open()
        for session_id in [key for key, session in self._sessions.items() if session]:
            if session_id.startswith(prefix):
                yield session_id

    async def delete_session(self, session_id: SessionId) -> bool:
        """Remove all checkpoints of a session; False when it had none."""
        return bool(await self.delete_many(session_id, tuple(self._session(session_id))))

    async def copy_session(self, source_id: SessionId, target_id: SessionId) -> int:
        """Copy the checkpoints of a session to another, in their order, and return how many."""
        records = await self.load_many(source_id, self._session(source_id))
        self._session(target_id)
        for record in records if source_id != target_id else ():
            digests = record.blob_digests if isinstance(record, BlobRecord) else ()
            blobs = await self.load_blobs(source_id, digests)
            await self.save(msgspec.structs.replace(record, session_id=target_id), blobs=blobs)
        return len(records)


def _path(session_id: SessionId, checkpoint_id: CheckpointId) -> Path:
    session_name = encode_id(session_id, "session id")
    return Path("memory", session_name, encode_id(checkpoint_id, "checkpoint id"))
