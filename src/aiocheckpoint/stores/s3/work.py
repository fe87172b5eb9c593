"""What the calls of a store do, in its thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, Generic, TypeVar

from aiocheckpoint.errors import (
    CheckpointError,
    MissingBlobError,
    MissingStoreError,
    StoreUnavailableError,
)
from aiocheckpoint.kit import EncodedRecord, RecordKit, raise_all
from aiocheckpoint.models import (
    ANY_NEWEST,
    CheckpointId,
    CheckpointMeta,
    CheckpointRecord,
    Expected,
    Finding,
    RecoveryReport,
    SessionId,
)
from aiocheckpoint.stores.s3.arguments import Options
from aiocheckpoint.stores.s3.changes import Change
from aiocheckpoint.stores.s3.health import Health, lost, session_ids, unused_blobs
from aiocheckpoint.stores.s3.home import Withdrawal
from aiocheckpoint.stores.s3.layout import Layout
from aiocheckpoint.stores.s3.reads import Metas, Reads
from aiocheckpoint.stores.s3.sessions import Sessions
from aiocheckpoint.stores.s3.state import Staged, StagedSave

RecordT = TypeVar("RecordT", bound=CheckpointRecord)
ResultT = TypeVar("ResultT")

_COPIED_AT_ONCE = 32
_LOOKED_AT_TOGETHER = 100


class Work(Generic[RecordT]):
    """
    The calls, on the loop of the home.

    Args:
        layout: where things stand.
        options: how to reach the bucket.
        kit: of the store.
        max_checkpoints: how many to keep in a session; None keeps all.
        timeout_seconds: how long a change may wait for others.
    """

    def __init__(
        self,
        layout: Layout,
        options: Options,
        kit: RecordKit[RecordT],
        max_checkpoints: int | None,
        timeout_seconds: float,
    ) -> None:
        self.sessions = Sessions(layout, options, timeout_seconds)
        self.timeout_seconds = timeout_seconds
        self._kit = kit
        self.max_checkpoints = max_checkpoints

    async def finish(self) -> None:
        """Finish what was begun, and close the connections."""
        await self.sessions.aclose()

    async def let_go(self) -> None:
        """Close the connections, whatever goes on."""
        await self.sessions.bucket.aclose()

    # Changes

    def staging(
        self, record: EncodedRecord, expected: Expected = ANY_NEWEST, token: int | None = None
    ) -> Change:
        """Return a save as a change that leaves the bound to whoever stages others with it."""
        meta = self._kit.meta(record.listed, "", self.sessions.bucket.clock.now())
        assert meta is not None  # noqa: S101 - the kit has made the document
        save = StagedSave(record, meta)

        def stage(staged: Staged) -> CheckpointId:
            staged.require_owner(token)
            return staged.save(save, expected)

        return Change(stage, bool(record.blob_digests), size_bytes=len(record.body))

    def bound(self, staged: Staged) -> None:
        """Stage the deletes of the oldest checkpoints above the bound."""
        if self.max_checkpoints is not None:
            staged.keep(self.max_checkpoints)

    def saving(
        self, record: EncodedRecord, expected: Expected = ANY_NEWEST, token: int | None = None
    ) -> Change:
        """Return a save as a change."""
        saving = self.staging(record, expected, token)

        def stage(staged: Staged) -> CheckpointId:
            checkpoint_id: CheckpointId = saving.stage(staged)
            self.bound(staged)
            return checkpoint_id

        needs_entries = saving.needs_entries or self.max_checkpoints is not None
        return saving._replace(stage=stage, needs_entries=needs_entries)

    @staticmethod
    def deleting(checkpoint_ids: Iterable[CheckpointId] | None, token: int | None = None) -> Change:
        """Return a delete as a change; None means all."""

        def stage(staged: Staged) -> int:
            staged.require_owner(token)
            return staged.clear() if checkpoint_ids is None else staged.delete(checkpoint_ids)

        return Change(stage, needs_entries=True, erases=True, saves=False)

    async def _changed(self, session_id: SessionId, change: Change, withdrawal: Withdrawal) -> Any:
        """Queue a change in the order of the calls, and wait for it."""
        with self.sessions.using(session_id) as place:
            waiting = place.changes.put(change)
            withdrawal.append(waiting.withdraw)
            return await waiting.done

    async def save(
        self, record: EncodedRecord, expected: Expected, token: int | None, withdrawal: Withdrawal
    ) -> CheckpointId:
        """Save a record."""
        change = self.saving(record, expected, token)
        checkpoint_id: CheckpointId = await self._changed(record.session_id, change, withdrawal)
        return checkpoint_id

    async def delete(
        self,
        session_id: SessionId,
        checkpoint_ids: Iterable[CheckpointId] | None,
        token: int | None,
        withdrawal: Withdrawal,
    ) -> int:
        """Delete checkpoints, for None all; return how many there were."""
        change = self.deleting(checkpoint_ids, token)
        count: int = await self._changed(session_id, change, withdrawal)
        return count

    async def copy(self, source_id: SessionId, target_id: SessionId) -> int:
        """Copy the checkpoints of a session to another, and return how many there are."""
        async with self._reading(source_id) as reads:
            ids = [meta.checkpoint_id for meta in (await reads.list(None, None))[::-1]]
            if source_id == target_id:
                return len(ids)
            count = 0
            with self.sessions.using(target_id) as target:
                for start in range(0, len(ids), _COPIED_AT_ONCE):
                    records = await reads.copied(ids[start : start + _COPIED_AT_ONCE], target_id)
                    changes = [await self._copying(reads, record) for record in records]
                    left = [change for change in changes if change is not None]
                    await target.changes.done(left)
                    count += len(left)
            return count

    async def _copying(self, reads: Reads[RecordT], record: EncodedRecord) -> Change | None:
        """Return a copy as a change; None of what was deleted meanwhile."""
        digests = record.blob_digests
        try:
            blobs = await reads.load_blobs(await reads.reached(digests)) if digests else {}
        except MissingBlobError:
            there = await reads.copied([record.checkpoint_id], record.session_id)
            if record in there:
                raise
            # They went with their checkpoint, in the place of which there may be another.
            return await self._copying(reads, there[0]) if there else None
        return self.saving(record._replace(blobs=blobs))

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        """Put aside what is damaged of a session; where there is no store, nothing is tried."""
        await self.sessions.open()
        if not await self.sessions.is_store():
            await self.sessions.require_store()
            return RecoveryReport(session_id=session_id, newest_valid_id=None, quarantined=())
        await self.sessions.prove()
        with self.sessions.using(session_id) as place:
            return await Health(self.sessions, place, self._kit).recover()

    # Reads

    @asynccontextmanager
    async def _reading(self, session_id: SessionId) -> AsyncIterator[Reads[RecordT]]:
        await self.sessions.open()
        with self.sessions.using(session_id) as place:
            yield Reads(place.knowledge, self._kit)

    async def read(
        self, session_id: SessionId, read: Callable[[Reads[RecordT]], Awaitable[ResultT]]
    ) -> ResultT:
        """Read a session."""
        async with self._reading(session_id) as reads:
            return await read(reads)

    # Across sessions

    async def session_ids(self, prefix: str = "") -> AsyncIterator[SessionId]:
        """Yield the sessions that have checkpoints; raise in the end why others do not tell."""
        refused: list[CheckpointError] = []
        async for session_id in self._session_ids(prefix, refused):
            yield session_id
        raise_all(refused)

    async def _session_ids(
        self, prefix: str, refused: list[CheckpointError]
    ) -> AsyncIterator[SessionId]:
        await self.sessions.open()
        await self.sessions.require_store()
        async for session_id in session_ids(self.sessions, prefix, refused):
            yield session_id

    async def load_newest(self, wanted: Iterable[SessionId]) -> dict[SessionId, RecordT]:
        """Return the newest checkpoint of each session, without those that have none."""
        await self.sessions.open()
        ids = [*wanted]
        found = await self.sessions.bucket.gather(map(self._newest, ids))
        newest = {
            key: data
            for key, data in zip(ids, found, strict=True)
            if data is not None and not isinstance(data, CheckpointError)
        }
        raise_all((error for error in found if isinstance(error, CheckpointError)), newest)
        return newest

    async def _newest(self, session_id: SessionId) -> RecordT | CheckpointError | None:
        try:
            return await self.read(session_id, lambda reads: reads.load(None))
        except CheckpointError as error:
            return error

    async def newest_of_all(self, prefix: str) -> AsyncIterator[CheckpointMeta]:
        """Yield the newest checkpoint of each session, as a listing tells of it."""
        some: list[SessionId] = []
        refused: list[CheckpointError] = []
        async for session_id in self._session_ids(prefix, refused):
            some.append(session_id)
            if len(some) == _LOOKED_AT_TOGETHER:
                for meta in await self._newest_metas(some):
                    yield meta
                some.clear()
        for meta in await self._newest_metas(some):
            yield meta
        raise_all(refused)

    async def _newest_metas(self, ids: Iterable[SessionId]) -> Metas:
        metas = await self.sessions.bucket.gather(map(self._newest_meta, [*ids]))
        return tuple(meta for meta in metas if meta is not None)

    async def _newest_meta(self, session_id: SessionId) -> CheckpointMeta | None:
        return await self.read(session_id, lambda reads: reads.newest())

    async def exists(self) -> bool:
        """Tell whether anything was ever stored."""
        with suppress(MissingStoreError):
            await self.sessions.open()
            await self.sessions.require_store()
            return await self.sessions.is_store()
        return False

    async def put_mark(self, mark: str) -> None:
        """Put an object that stands for a mark."""
        await self.sessions.open()
        bucket, layout = self.sessions.bucket, self.sessions.layout
        await bucket.put(layout.probe + mark, b"")
        for probe in layout.probes_around:
            with suppress(StoreUnavailableError):  # who may not write there is not asked to
                await bucket.put(probe + mark, b"")

    async def delete_mark(self, mark: str) -> None:
        """Delete it."""
        layout = self.sessions.layout
        await self.sessions.bucket.delete([layout.probe + mark])
        with suppress(StoreUnavailableError):
            await self.sessions.bucket.delete([each + mark for each in layout.probes_around])

    async def has_mark(self, mark: str) -> bool:
        """Tell whether it is there, or where one would be a part of the other."""
        await self.sessions.open()
        bucket, layout = self.sessions.bucket, self.sessions.layout
        if await bucket.first(layout.probe + mark, limit=1):
            return True
        for probe in layout.probes_around:
            with suppress(StoreUnavailableError):
                if await bucket.first(probe + mark, limit=1):
                    return True
        return False

    async def check(self) -> tuple[Finding, ...]:
        """Return what is wrong anywhere."""
        found: list[Finding] = []
        refused: list[CheckpointError] = []
        for session_id in [key async for key in self._session_ids("", refused)]:
            with self.sessions.using(session_id) as place:
                found += await Health(self.sessions, place, self._kit).findings()
        return (*found, *lost(refused), *await unused_blobs(self.sessions))
