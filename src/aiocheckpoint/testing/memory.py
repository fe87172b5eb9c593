"""A store that lives in memory."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic, TypeVar, overload

from aiocheckpoint._format.codec import RecordT
from aiocheckpoint.errors import (
    CheckpointError,
    SessionChangedError,
    SessionOwnedError,
    WriterClosedError,
)
from aiocheckpoint.kit import (
    AsyncClosing,
    EncodedRecord,
    OwnedSession,
    Patience,
    RecordKit,
    SessionTurns,
    StagedChanges,
    StagedDelete,
    StagedSave,
    check_checkpoint_id,
    check_session_id,
    checkpoint_ids_of,
    digests_of,
    raise_all,
    reachable_blobs,
    require_callable,
    require_count,
    require_expected,
    require_instance,
    require_query,
    require_seconds,
    result_at_once,
    result_of,
    session_ids_of,
    triggers_of,
)
from aiocheckpoint.models import (
    ANY_NEWEST,
    CheckpointData,
    CheckpointId,
    CheckpointMeta,
    Expected,
    Finding,
    RecoveryReport,
    SessionId,
)
from aiocheckpoint.store import NO_BLOBS, Ownership, RecordUnion, SessionReader, Transaction
from aiocheckpoint.testing.shelf import Changes, Session, Shelf, location_of
from aiocheckpoint.testing.shelf_reads import ShelfReads

_MAX_BYTES = 64 * 1024 * 1024
_PAUSES_SECONDS = (0.005, 0.1)
ResultT = TypeVar("ResultT")
_Metas = tuple[CheckpointMeta, ...]
_Errors = list[CheckpointError]  # within the classes below `list` is a method


class _Reads(Generic[RecordT]):
    """The reads of one session."""

    def __init__(self, session_id: SessionId, reads: ShelfReads[RecordT]) -> None:
        self._session_id = session_id
        self._reads = reads

    @property
    def session_id(self) -> SessionId:
        return self._session_id

    def require_running(self) -> None:
        """Refuse a call that comes too late; none does outside of an update."""

    async def load(self, checkpoint_id: CheckpointId | None = None) -> RecordT | None:
        self.require_running()
        if checkpoint_id is not None:
            check_checkpoint_id(checkpoint_id)
        return self._reads.load(self.session_id, checkpoint_id)

    async def load_many(self, checkpoint_ids: Iterable[CheckpointId], /) -> tuple[RecordT, ...]:
        self.require_running()
        return self._reads.load_many(self.session_id, checkpoint_ids_of(checkpoint_ids))

    async def ids(
        self, *, prefix: str = "", before: CheckpointId | None = None, limit: int | None = None
    ) -> tuple[CheckpointId, ...]:
        self.require_running()
        require_query(prefix, before, limit)
        return self._reads.ids(self.session_id, prefix, before, limit)

    async def saved_ids(
        self, *, prefix: str = "", limit: int | None = None
    ) -> tuple[CheckpointId, ...]:
        self.require_running()
        require_query(prefix, limit=limit)
        found = [meta.checkpoint_id for meta in self._reads.list(self.session_id, None, None)]
        return tuple([key for key in found if key.startswith(prefix)][:limit])

    async def list(self, *, before: CheckpointId | None = None, limit: int | None = None) -> _Metas:
        self.require_running()
        require_query("", before, limit)
        return self._reads.list(self.session_id, before, limit)

    async def load_blobs(self, digests: Iterable[str], /) -> dict[str, bytes]:
        self.require_running()
        return self._reads.load_blobs(self.session_id, digests_of(digests))


class _Transaction(StagedChanges[RecordT], _Reads[RecordT]):
    """One session within an update, as it was when its work was called."""

    def __init__(
        self, kit: RecordKit[RecordT], session_id: SessionId, reads: ShelfReads[RecordT]
    ) -> None:
        StagedChanges.__init__(self, kit, session_id)
        _Reads.__init__(self, session_id, reads)


class MemoryStore(AsyncClosing, Generic[RecordT]):
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
        lock_timeout_seconds: how long `own` waits for another owner, a change for one update, and
            how long an update is tried again beside other clients.

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
        self._turns = SessionTurns(lock_timeout_seconds)
        self._reads: ShelfReads[RecordT] = ShelfReads(self._shelf, self._kit)
        self._is_closed = False

    @property
    def record_type(self) -> type[RecordT] | RecordUnion:
        """The type of the records."""
        return self._kit.record_type

    @property
    def max_checkpoints(self) -> int | None:
        """How many checkpoints of a session are kept, the newest; None keeps all."""
        return self._max_checkpoints

    async def aclose(self) -> None:
        """Refuse every later call but this one, as a closed writer does."""
        self._turns.require_no_update(None, "aclose")
        self._is_closed = True

    def _require_open(self) -> None:
        if self._is_closed:
            raise WriterClosedError("the store is closed")

    def _require_session(self, session_id: SessionId, operation: str | None = None) -> None:
        """Refuse a call about a session; with an operation, a read that an update may not make."""
        check_session_id(session_id)
        self._require_open()
        if operation is not None:
            self._turns.require_outside(session_id, operation)

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
        return await self._stored(record, expected, owner)

    async def _stored(
        self,
        record: EncodedRecord,
        expected: Expected = ANY_NEWEST,
        owner: OwnedSession[RecordT] | None = None,
    ) -> CheckpointId:
        self._require_open()
        async with self._turns.change(record.session_id, "save"):
            self._commit({record.session_id: (StagedSave(record),)}, owner, expected)
        return record.checkpoint_id

    async def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        """Remove a checkpoint; False when there is none."""
        check_checkpoint_id(checkpoint_id)
        return bool(await self._delete(session_id, (checkpoint_id,), operation="delete"))

    async def delete_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> int:
        """Remove checkpoints, all or none, and return how many there were."""
        return await self._delete(session_id, checkpoint_ids_of(checkpoint_ids))

    async def _delete(
        self,
        session_id: SessionId,
        checkpoint_ids: tuple[CheckpointId, ...] | None,
        owner: OwnedSession[RecordT] | None = None,
        operation: str = "delete_many",
    ) -> int:
        self._require_session(session_id)
        async with self._turns.change(session_id, operation):
            before = self._shelf.session(session_id)
            after = self._commit({session_id: (StagedDelete(checkpoint_ids),)}, owner)
        return len(before.checkpoints) - len(after[session_id].checkpoints)

    async def delete_session(self, session_id: SessionId) -> bool:
        """Remove all checkpoints of a session; False when it had none."""
        return bool(await self._delete(session_id, None, operation="delete_session"))

    async def copy_session(self, source_id: SessionId, target_id: SessionId) -> int:
        """Copy the checkpoints of a session to another, in their order, and return how many."""
        check_session_id(source_id)
        self._require_session(target_id)
        self._turns.require_no_update(target_id, "copy_session")
        source = self._shelf.session(source_id)
        records = [
            self._kit.copied(stored.body, location_of(source_id, key), source_id, key, target_id)
            for key, stored in source.checkpoints.items()
        ]
        if source_id == target_id:
            return len(records)
        reached = [reachable_blobs(record.blob_digests, source.blobs) for record in records]
        loaded = [self._reads.load_blobs(source_id, digests) for digests in reached]
        for record, blobs in zip(records, loaded, strict=True):  # others may delete them now
            await self._stored(record._replace(blobs=blobs))
        return len(records)

    async def update(
        self, session_id: SessionId, work: Callable[[Transaction[RecordT]], Awaitable[ResultT]], /
    ) -> ResultT:
        """Read, decide and write as one step; again where another client has interfered."""
        return await self._update_one(session_id, work)

    async def _update_one(
        self,
        session_id: SessionId,
        work: Callable[[Transaction[RecordT]], Awaitable[ResultT]],
        owner: OwnedSession[RecordT] | None = None,
    ) -> ResultT:
        async def of_one(sessions: Mapping[SessionId, Transaction[RecordT]]) -> ResultT:
            return await result_of(work, sessions[session_id])

        check_session_id(session_id)
        require_callable("work", work)
        return await self._update((session_id,), of_one, "update", owner)

    async def update_many(
        self,
        session_ids: Iterable[SessionId],
        work: Callable[[Mapping[SessionId, Transaction[RecordT]]], Awaitable[ResultT]],
        /,
    ) -> ResultT:
        """Do what `update` does on several sessions, in one commit."""
        wanted = session_ids_of(session_ids)
        require_callable("work", work)
        return await self._update(wanted, work, "update_many")

    async def _update(
        self,
        session_ids: tuple[SessionId, ...],
        work: Callable[[Mapping[SessionId, Transaction[RecordT]]], Awaitable[ResultT]],
        operation: str,
        owner: OwnedSession[RecordT] | None = None,
    ) -> ResultT:
        self._require_open()
        async with self._turns.update(session_ids, operation):
            patience = Patience(self._lock_timeout_seconds)
            while True:
                seen = self._shelf.snapshot(session_ids)
                reads = ShelfReads(seen, self._kit)
                sessions = {key: _Transaction(self._kit, key, reads) for key in session_ids}
                try:
                    result = await result_of(work, sessions)
                finally:
                    staged = {key: session.end() for key, session in sessions.items()}
                try:
                    if any(staged.values()):
                        self._commit(staged, owner, seen=seen)
                except SessionChangedError:
                    if patience.is_over:
                        raise
                else:
                    return result

    def _commit(
        self,
        staged: Mapping[SessionId, Changes],
        owner: OwnedSession[RecordT] | None,
        expected: Expected = ANY_NEWEST,
        seen: Shelf | None = None,
    ) -> dict[SessionId, Session]:
        held = None if owner is None else (owner.session_id, owner.token)
        return self._shelf.commit(staged, expected, held, self._max_checkpoints, seen)

    # Ownership

    def own(
        self, session_id: SessionId, *, wait: bool = True
    ) -> AbstractAsyncContextManager[Ownership[RecordT]]:
        """Own a session while the block runs; first come, first served."""
        return self._owned(session_id, wait=wait)

    @contextlib.asynccontextmanager
    async def _owned(
        self, session_id: SessionId, *, wait: bool
    ) -> AsyncIterator[Ownership[RecordT]]:
        require_instance("wait", wait, bool)
        self._require_session(session_id)
        timeout_seconds = self._lock_timeout_seconds if wait else 0.0
        async with self._turns.own(session_id, timeout_seconds, *_PAUSES_SECONDS) as patience:
            while (token := self._shelf.own(session_id)) is None:
                if patience.is_over:
                    raise SessionOwnedError(session_id, timeout_seconds, "a call of this process")
                await patience.pause()
            try:
                yield OwnedSession(
                    session_id, token, save=self._save, delete=self._delete, update=self._update_one
                )
            finally:
                self._shelf.disown(session_id)

    # Reads of one session

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> RecordT | None:
        """Return a checkpoint, the one saved last by default; None when there is none."""
        if checkpoint_id is not None:
            check_checkpoint_id(checkpoint_id)
        self._require_session(session_id, "load")
        return self._reads.load(session_id, checkpoint_id)

    async def load_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> tuple[RecordT, ...]:
        """Return those of the checkpoints that are there, the one saved first first."""
        wanted = checkpoint_ids_of(checkpoint_ids)
        self._require_session(session_id, "load_many")
        return self._reads.load_many(session_id, wanted)

    async def list(
        self,
        session_id: SessionId,
        *,
        before: CheckpointId | None = None,
        limit: int | None = None,
    ) -> _Metas:
        """Return what there is of a session, saved last first, damaged ones included."""
        require_query("", before, limit)
        self._require_session(session_id, "list")
        return self._reads.list(session_id, before, limit)

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
        self._require_session(session_id, "ids")
        return self._reads.ids(session_id, prefix, before, limit)

    async def load_blobs(
        self, session_id: SessionId, digests: Iterable[str], /
    ) -> dict[str, bytes]:
        """Return blobs of a session by their digests, verified."""
        wanted = digests_of(digests)
        self._require_session(session_id, "load_blobs")
        return self._reads.load_blobs(session_id, wanted)

    async def read(
        self, session_id: SessionId, work: Callable[[SessionReader[RecordT]], Awaitable[ResultT]], /
    ) -> ResultT:
        """Do several reads of a session; as in a directory they may await nothing else."""
        require_callable("work", work)
        self._require_session(session_id, "read")
        return result_at_once(work, _Reads(session_id, self._reads))

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
        wanted = session_ids_of(session_ids)
        self._require_open()
        for session_id in wanted:
            self._turns.require_outside(session_id, "load_newest")
        for session_id in wanted:
            try:
                record = self._reads.load(session_id, None)
            except CheckpointError as error:
                errors.append(error)
                continue
            if record is not None:
                found[session_id] = record
        raise_all(errors, found)
        return found

    async def unfinished(
        self, *, final_triggers: Iterable[str], prefix: str = ""
    ) -> AsyncIterator[CheckpointMeta]:
        """Yield the newest checkpoint of each session where its `trigger` is not a final one."""
        final = {*triggers_of(final_triggers)}
        async for session_id in self.sessions(prefix=prefix):
            newest_id = self._shelf.session(session_id).newest_id
            if newest_id is None:
                continue
            meta = self._reads.meta(session_id, newest_id)
            if meta.problem is not None or meta.trigger not in final:
                yield meta

    # Health

    async def verify(self, session_id: SessionId, checkpoint_id: CheckpointId, /) -> bool:
        """Tell whether a checkpoint is there and intact."""
        check_checkpoint_id(checkpoint_id)
        self._require_session(session_id, "verify")
        stored = self._shelf.session(session_id).checkpoints.get(checkpoint_id)
        if stored is None:
            return False
        return self._kit.is_intact(stored.body, location_of(session_id, checkpoint_id))

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        """Put what is damaged of a session aside, so that the newest intact one is the newest."""
        self._require_session(session_id)
        async with self._turns.change(session_id, "recover"):
            session = self._shelf.session(session_id)
            doomed = self._reads.recoverable(session_id, session)
            moved = self._shelf.put_aside(session_id, doomed) if doomed else ()
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

    async def exists(self) -> bool:
        """Tell whether anything was ever stored, by this store or one beside it."""
        self._require_open()
        return self._shelf.was_changed

    @asynccontextmanager
    async def mark(self) -> AsyncIterator[str]:
        """Leave a mark while the block runs, which this store has, and each beside it."""
        self._require_open()
        mark = secrets.token_hex(16)
        self._shelf.marks.add(mark)
        try:
            yield mark
        finally:
            self._shelf.marks.discard(mark)

    async def has_mark(self, mark: str, /) -> bool:
        """Tell whether a mark was left by this store or one beside it."""
        self._require_open()
        return mark in self._shelf.marks

    async def check(self) -> tuple[Finding, ...]:
        """Read everything and report what is wrong, changing nothing."""
        self._require_open()
        return tuple(
            finding
            for session_id, session in self._shelf.sessions.items()
            for finding in self._reads.findings(session_id, session)
        )
