"""A store that lives in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

import msgspec

from aiocheckpoint._arguments import (
    checkpoint_ids_of,
    digests_of,
    require_callable,
    require_count,
    require_expected,
    require_instance,
    require_query,
    require_seconds,
    result_at_once,
    session_ids_of,
)
from aiocheckpoint._format.codec import RecordT
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointError,
    CheckpointMismatchError,
    FormatVersionError,
    MissingBlobError,
    SessionOwnedError,
    WriterClosedError,
)
from aiocheckpoint.kit import (
    OwnedSession,
    RecordKit,
    StagedChanges,
    StagedDelete,
    StagedSave,
    check_checkpoint_id,
    check_session_id,
    reachable_blobs,
    sorted_ids,
)
from aiocheckpoint.models import (
    ANY_NEWEST,
    BlobRecord,
    CheckpointData,
    CheckpointId,
    CheckpointMeta,
    Expected,
    Finding,
    FindingKind,
    RecoveryReport,
    SessionId,
)
from aiocheckpoint.store import NO_BLOBS, Ownership, RecordUnion, SessionReader, Transaction
from aiocheckpoint.testing.shelf import Changes, Session, Shelf, Stored, location_of

_MAX_BYTES = 64 * 1024 * 1024
_ASIDE = frozenset({"damaged", "misplaced", "missing-blob"})
_KINDS: dict[FindingKind, type[CheckpointError]] = {
    "misplaced": CheckpointMismatchError,
    "missing-blob": MissingBlobError,
    "other-version": FormatVersionError,
    "damaged": CheckpointCorruptError,
    "unreadable": CheckpointError,
}
ResultT = TypeVar("ResultT")
_Metas = tuple[CheckpointMeta, ...]
_Errors = list[CheckpointError]  # within the classes below `list` is a method


class _Reads(Generic[RecordT]):
    """The reads of one session."""

    def __init__(self, store: MemoryStore[RecordT], session_id: SessionId) -> None:
        self._store = store
        self._session_id = session_id

    @property
    def session_id(self) -> SessionId:
        return self._session_id

    async def load(self, checkpoint_id: CheckpointId | None = None) -> RecordT | None:
        return await self._store.load(self.session_id, checkpoint_id)

    async def load_many(self, checkpoint_ids: Iterable[CheckpointId], /) -> tuple[RecordT, ...]:
        return await self._store.load_many(self.session_id, checkpoint_ids)

    async def ids(
        self, *, prefix: str = "", before: CheckpointId | None = None, limit: int | None = None
    ) -> tuple[CheckpointId, ...]:
        return await self._store.ids(self.session_id, prefix=prefix, before=before, limit=limit)

    async def saved_ids(
        self, *, prefix: str = "", limit: int | None = None
    ) -> tuple[CheckpointId, ...]:
        require_query(prefix, limit=limit)
        found = [meta.checkpoint_id for meta in await self._store.list(self.session_id)]
        return tuple([key for key in found if key.startswith(prefix)][:limit])

    async def list(self, *, before: CheckpointId | None = None, limit: int | None = None) -> _Metas:
        return await self._store.list(self.session_id, before=before, limit=limit)

    async def load_blobs(self, digests: Iterable[str], /) -> dict[str, bytes]:
        return await self._store.load_blobs(self.session_id, digests)


class _Transaction(StagedChanges[RecordT], _Reads[RecordT]):
    """One session within an update; nobody else changes it meanwhile."""

    def __init__(
        self, store: MemoryStore[RecordT], kit: RecordKit[RecordT], session_id: SessionId
    ) -> None:
        StagedChanges.__init__(self, kit, session_id)
        _Reads.__init__(self, store, session_id)


class MemoryStore(Generic[RecordT]):
    """
    A `BlobStore` that forgets everything when the process ends.

    It keeps the bytes that a file would hold, so it refuses what the writer refuses and never
    hands out an object twice. For unit tests of an application, and as the model of a store.

    Args:
        record_type: the Struct to store, extending `CheckpointRecord`, or a union of several.
        beside: another store; this one is a further client of what that one keeps, as another
            process, or the same one after a restart, would be.
        max_bytes: of one document, and of one blob.
        max_checkpoints: how many to keep in a session, the newest; None keeps all.
        lock_timeout_seconds: how long `own` waits for another owner.

    Raises:
        RecordTypeError: for a `record_type` that cannot be stored.
        InvalidArgumentError: for another one of the wrong type or out of range.
    """

    @overload
    def __init__(
        self: MemoryStore[CheckpointData],
        *,
        beside: MemoryStore[Any] | None = ...,
        max_bytes: int = ...,
        max_checkpoints: int | None = ...,
        lock_timeout_seconds: float = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        record_type: type[RecordT] | RecordUnion,
        *,
        beside: MemoryStore[Any] | None = ...,
        max_bytes: int = ...,
        max_checkpoints: int | None = ...,
        lock_timeout_seconds: float = ...,
    ) -> None: ...

    def __init__(
        self,
        record_type: Any = CheckpointData,
        *,
        beside: MemoryStore[Any] | None = None,
        max_bytes: int = _MAX_BYTES,
        max_checkpoints: int | None = None,
        lock_timeout_seconds: float = 60.0,
    ) -> None:
        if max_checkpoints is not None:
            require_count("max_checkpoints", max_checkpoints, 1)
        require_seconds("lock_timeout_seconds", lock_timeout_seconds)
        self._kit: RecordKit[RecordT] = RecordKit(record_type, max_bytes)
        self._max_checkpoints = max_checkpoints
        self._lock_timeout_seconds = lock_timeout_seconds
        self._shelf: Shelf = Shelf() if beside is None else beside._shelf  # noqa: SLF001 - its own class
        self._is_closed = False

    @property
    def record_type(self) -> type[RecordT] | RecordUnion:
        """The type of the records."""
        return self._kit.record_type

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
        self._shelf.turns.require_no_update("", "aclose")
        self._is_closed = True

    def _require_open(self) -> None:
        if self._is_closed:
            raise WriterClosedError("the store is closed")

    def _session(self, session_id: SessionId) -> Session:
        check_session_id(session_id)
        self._require_open()
        return self._shelf.session(session_id)

    # Changes

    async def save(
        self,
        data: RecordT,
        /,
        *,
        blobs: Mapping[str, bytes] = NO_BLOBS,
        expected: Expected = ANY_NEWEST,
    ) -> CheckpointId:
        """Store a checkpoint and its new blobs, replacing one of its id, and return its id."""
        return await self._save(data, blobs, expected)

    async def _save(
        self,
        data: RecordT,
        blobs: Mapping[str, bytes],
        expected: Expected,
        owner: OwnedSession[RecordT] | None = None,
    ) -> CheckpointId:
        require_expected(expected)
        record = self._kit.encode(data, blobs)
        if owner is not None:
            record.require_session(owner.session_id)
        self._require_open()
        async with self._shelf.turns.change(record.session_id, "save"):
            self._commit({record.session_id: (StagedSave(record),)}, owner, expected)
        return record.checkpoint_id

    async def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        """Remove a checkpoint; False when there is none."""
        return bool(await self.delete_many(session_id, (checkpoint_id,)))

    async def delete_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> int:
        """Remove checkpoints, all or none, and return how many there were."""
        return await self._delete(session_id, checkpoint_ids)

    async def _delete(
        self,
        session_id: SessionId,
        checkpoint_ids: Iterable[CheckpointId] | None,
        owner: OwnedSession[RecordT] | None = None,
    ) -> int:
        doomed = None if checkpoint_ids is None else checkpoint_ids_of(checkpoint_ids)
        self._session(session_id)
        async with self._shelf.turns.change(session_id, "delete"):
            before = self._shelf.session(session_id)
            after = self._commit({session_id: (StagedDelete(doomed),)}, owner)
        return len(before.checkpoints) - len(after[session_id].checkpoints)

    async def delete_session(self, session_id: SessionId) -> bool:
        """Remove all checkpoints of a session; False when it had none."""
        return bool(await self._delete(session_id, None))

    async def copy_session(self, source_id: SessionId, target_id: SessionId) -> int:
        """Copy the checkpoints of a session to another, in their order, and return how many."""
        records = await self.load_many(source_id, self._session(source_id).checkpoints)
        self._session(target_id)
        for record in records if source_id != target_id else ():
            digests = record.blob_digests if isinstance(record, BlobRecord) else ()
            reached = reachable_blobs(digests, self._session(source_id).blobs)
            blobs = await self.load_blobs(source_id, reached)
            await self.save(msgspec.structs.replace(record, session_id=target_id), blobs=blobs)
        return len(records)

    async def update(
        self, session_id: SessionId, work: Callable[[Transaction[RecordT]], Awaitable[ResultT]], /
    ) -> ResultT:
        """Read, decide and write as one step; nobody interferes, so `work` runs once."""
        return await self._update_one(session_id, work)

    async def _update_one(
        self,
        session_id: SessionId,
        work: Callable[[Transaction[RecordT]], Awaitable[ResultT]],
        owner: OwnedSession[RecordT] | None = None,
    ) -> ResultT:
        async def of_one(sessions: Mapping[SessionId, Transaction[RecordT]]) -> ResultT:
            return await work(sessions[session_id])

        return await self._update((session_id,), of_one, "update", owner)

    async def update_many(
        self,
        session_ids: Iterable[SessionId],
        work: Callable[[Mapping[SessionId, Transaction[RecordT]]], Awaitable[ResultT]],
        /,
    ) -> ResultT:
        """Do what `update` does on several sessions, in one commit."""
        return await self._update(session_ids, work, "update_many")

    async def _update(
        self,
        session_ids: Iterable[SessionId],
        work: Callable[[Mapping[SessionId, Transaction[RecordT]]], Awaitable[ResultT]],
        operation: str,
        owner: OwnedSession[RecordT] | None = None,
    ) -> ResultT:
        wanted = session_ids_of(session_ids)
        self._require_open()
        async with self._shelf.turns.update(wanted, operation):
            sessions = {key: _Transaction(self, self._kit, key) for key in wanted}
            try:
                result = await work(sessions)
            finally:
                staged = {key: session.end() for key, session in sessions.items()}
            self._commit(staged, owner)
            return result

    def _commit(
        self,
        staged: Mapping[SessionId, Changes],
        owner: OwnedSession[RecordT] | None,
        expected: Expected = ANY_NEWEST,
    ) -> dict[SessionId, Session]:
        held = None if owner is None else (owner.session_id, owner.token)
        return self._shelf.commit(staged, expected, held, self._max_checkpoints)

    # Ownership

    def own(
        self, session_id: SessionId, *, wait: bool = True
    ) -> AbstractAsyncContextManager[Ownership[RecordT]]:
        """Own a session while the block runs; first come, first served."""
        require_instance("wait", wait, bool)
        return self._owned(session_id, self._lock_timeout_seconds if wait else 0.0)

    @contextlib.asynccontextmanager
    async def _owned(
        self, session_id: SessionId, timeout_seconds: float
    ) -> AsyncIterator[Ownership[RecordT]]:
        self._session(session_id)
        shelf = self._shelf
        shelf.turns.require_no_update(session_id, "own")
        if not await shelf.owners.take(session_id, timeout_seconds=timeout_seconds):
            raise SessionOwnedError(session_id, timeout_seconds)
        try:
            token = shelf.tokens[session_id] = shelf.tokens.get(session_id, 0) + 1
            shelf.owned[session_id] = token
            yield OwnedSession(
                session_id, token, save=self._save, delete=self._delete, update=self._update_one
            )
        finally:
            shelf.owned.pop(session_id, None)
            shelf.owners.give(session_id)

    # Reads of one session

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> RecordT | None:
        """Return a checkpoint, the one saved last by default; None when there is none."""
        if checkpoint_id is not None:
            check_checkpoint_id(checkpoint_id)
        session = self._session(session_id)
        key = session.newest_id if checkpoint_id is None else checkpoint_id
        if key is None or key not in session.checkpoints:
            return None
        return self._loaded(session_id, key, session.checkpoints[key])

    def _decode(
        self, session_id: SessionId, checkpoint_id: CheckpointId, stored: Stored
    ) -> RecordT:
        location = location_of(session_id, checkpoint_id)
        return self._kit.decode(stored.body, location, session_id, checkpoint_id)

    def _loaded(
        self, session_id: SessionId, checkpoint_id: CheckpointId, stored: Stored
    ) -> RecordT:
        try:
            return self._decode(session_id, checkpoint_id, stored)
        except CheckpointCorruptError as error:
            error.newest_valid_id = self._newest_intact_id(session_id, self._session(session_id))
            raise

    async def load_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> tuple[RecordT, ...]:
        """Return those of the checkpoints that are there, the one saved first first."""
        wanted = {*checkpoint_ids_of(checkpoint_ids)}
        return tuple(
            self._loaded(session_id, key, stored)
            for key, stored in self._session(session_id).checkpoints.items()
            if key in wanted
        )

    async def list(
        self,
        session_id: SessionId,
        *,
        before: CheckpointId | None = None,
        limit: int | None = None,
    ) -> _Metas:
        """Return what there is of a session, saved last first, damaged ones included."""
        require_query("", before, limit)
        keys = [*reversed(tuple(self._session(session_id).checkpoints))]
        if before is not None:
            keys = keys[keys.index(before) + 1 :] if before in keys else []
        return tuple(self._meta(session_id, key) for key in keys[:limit])

    def _meta(self, session_id: SessionId, checkpoint_id: CheckpointId) -> CheckpointMeta:
        stored = self._shelf.session(session_id).checkpoints[checkpoint_id]
        location = location_of(session_id, checkpoint_id)
        return self._kit.entry(stored.body, location, stored.saved_at, session_id, checkpoint_id)

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
            for key in sorted_ids(self._session(session_id).checkpoints)
            if key.startswith(prefix) and (before is None or key < before)
        ]
        return tuple(found[:limit])

    async def load_blobs(
        self, session_id: SessionId, digests: Iterable[str], /
    ) -> dict[str, bytes]:
        """Return blobs of a session by their digests, verified."""
        wanted = dict.fromkeys(digests_of(digests))
        blobs = self._session(session_id).blobs
        return {digest: self._blob(session_id, blobs, digest) for digest in wanted}

    def _blob(self, session_id: SessionId, blobs: Mapping[str, bytes], digest: str) -> bytes:
        location = location_of(session_id, digest)
        if digest not in blobs:
            raise MissingBlobError(location, digest)
        return self._kit.blob(blobs[digest], digest, location)

    async def read(
        self, session_id: SessionId, work: Callable[[SessionReader[RecordT]], Awaitable[ResultT]], /
    ) -> ResultT:
        """Do several reads of a session; as in a directory they may await nothing else."""
        require_callable("work", work)
        self._session(session_id)
        return result_at_once(work, _Reads(self, session_id))

    # Across sessions

    async def sessions(self, *, prefix: str = "") -> AsyncIterator[SessionId]:
        """Yield the ids of the sessions that have checkpoints."""
        require_query(prefix)
        self._require_open()
        for session_id, session in [*self._shelf.sessions.items()]:
            if session.checkpoints and session_id.startswith(prefix):
                yield session_id

    async def load_newest(self, session_ids: Iterable[SessionId], /) -> dict[SessionId, RecordT]:
        """Return the newest checkpoint of each of many sessions, without those that have none."""
        found: dict[SessionId, RecordT] = {}
        errors: _Errors = []
        for session_id in session_ids_of(session_ids):
            try:
                record = await self.load(session_id)
            except CheckpointError as error:
                errors.append(error)
                continue
            if record is not None:
                found[session_id] = record
        for other in errors[1:]:
            errors[0].add_note(str(other))
        if errors:
            raise errors[0]
        return found

    async def unfinished(
        self, *, final_triggers: Iterable[str], prefix: str = ""
    ) -> AsyncIterator[CheckpointMeta]:
        """Yield the newest checkpoint of each session where its `trigger` is not a final one."""
        final = {*final_triggers}
        async for session_id in self.sessions(prefix=prefix):
            newest_id = self._shelf.session(session_id).newest_id
            if newest_id is None:
                continue
            meta = self._meta(session_id, newest_id)
            if meta.problem is not None or meta.trigger not in final:
                yield meta

    # Health

    async def verify(self, session_id: SessionId, checkpoint_id: CheckpointId, /) -> bool:
        """Tell whether a checkpoint is there and intact."""
        check_checkpoint_id(checkpoint_id)
        stored = self._session(session_id).checkpoints.get(checkpoint_id)
        return stored is not None and self._kit.is_intact(stored.body)

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        """Put what is damaged of a session aside, so that the newest intact one is the newest."""
        self._session(session_id)
        async with self._shelf.turns.change(session_id, "recover"):
            session = self._shelf.session(session_id)
            bad = {
                finding.location
                for finding in self._findings(session_id, session)
                if finding.kind in _ASIDE
            }
            doomed = [key for key in session.checkpoints if location_of(session_id, key) in bad]
            moved = self._shelf.put_aside(session_id, doomed)
            newest_id = self._shelf.session(session_id).newest_id
        return RecoveryReport(session_id=session_id, newest_valid_id=newest_id, quarantined=moved)

    def damage(self, session_id: SessionId, name: str) -> None:
        """
        Damage what is stored, to see what an application does about it.

        Args:
            session_id: the session.
            name: the id of a checkpoint, or the digest of a blob.

        Raises:
            KeyError: there is none of that name.
        """
        self._shelf.damage(session_id, name)

    async def check(self) -> tuple[Finding, ...]:
        """Read everything and report what is wrong, changing nothing."""
        self._require_open()
        return tuple(
            finding
            for session_id, session in self._shelf.sessions.items()
            for finding in self._findings(session_id, session)
        )

    def _findings(self, session_id: SessionId, session: Session) -> Iterator[Finding]:
        """Yield what is wrong with the checkpoints of a session, at most one thing of each."""
        for key, stored in session.checkpoints.items():
            try:
                self._require_intact(session_id, session, key, stored)
            except CheckpointError as error:
                yield Finding(
                    kind=next(kind for kind, errors in _KINDS.items() if isinstance(error, errors)),
                    location=location_of(session_id, key),
                    detail=str(error),
                    session_id=session_id,
                )

    def _require_intact(
        self, session_id: SessionId, session: Session, key: CheckpointId, stored: Stored
    ) -> None:
        with contextlib.suppress(CheckpointDecodeError):  # of another type, and no damage
            self._decode(session_id, key, stored)
        for digest in reachable_blobs(stored.digests, session.blobs):
            self._blob(session_id, session.blobs, digest)

    def _newest_intact_id(self, session_id: SessionId, session: Session) -> CheckpointId | None:
        bad = {finding.location for finding in self._findings(session_id, session)}
        intact = [key for key in session.checkpoints if location_of(session_id, key) not in bad]
        return intact[-1] if intact else None
