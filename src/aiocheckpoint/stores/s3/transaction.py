"""One step updates: reads of what is known, and one create that shows whether it still was so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aiocheckpoint.errors import CheckpointError, SessionChangedError, StoreBusyError
from aiocheckpoint.kit import (
    Patience,
    RecordKit,
    StagedChanges,
    StagedDelete,
    StagedSave,
    check_checkpoint_id,
    checkpoint_ids_of,
    digests_of,
    require_query,
    result_of,
)
from aiocheckpoint.models import CheckpointId, CheckpointMeta, CheckpointRecord, SessionId
from aiocheckpoint.store import SessionReader, Transaction
from aiocheckpoint.stores.s3.changes import Change
from aiocheckpoint.stores.s3.home import Home
from aiocheckpoint.stores.s3.reads import Reads
from aiocheckpoint.stores.s3.sessions import Place
from aiocheckpoint.stores.s3.state import Session, Staged

if TYPE_CHECKING:
    from aiocheckpoint.stores.s3.work import Work

RecordT = TypeVar("RecordT", bound=CheckpointRecord)
ResultT = TypeVar("ResultT")
_Metas = tuple[CheckpointMeta, ...]

_PAUSES_SECONDS = (0.02, 0.5)


class S3Reader(Generic[RecordT]):
    """
    The reads of one session, for a caller's loop.

    Args:
        home: the thread of the store.
        session_id: the session.
        reads: of the session, as it is known.
    """

    def __init__(self, home: Home[Any], session_id: SessionId, reads: Reads[RecordT]) -> None:
        self._home = home
        self._session_id = session_id
        self._reads = reads

    @property
    def session_id(self) -> SessionId:
        """The session."""
        return self._session_id

    def require_running(self) -> None:
        """Refuse a call that comes too late; none does outside of an update."""

    async def load(self, checkpoint_id: CheckpointId | None = None) -> RecordT | None:
        """Return a checkpoint, the one saved last by default; None when there is none."""
        self.require_running()
        if checkpoint_id is not None:
            check_checkpoint_id(checkpoint_id)
        return await self._home.read(self._reads.load(checkpoint_id))

    async def load_many(self, checkpoint_ids: Iterable[CheckpointId], /) -> tuple[RecordT, ...]:
        """Return those of the checkpoints that are there, the one saved first first."""
        self.require_running()
        return await self._home.read(self._reads.load_many(checkpoint_ids_of(checkpoint_ids)))

    async def ids(
        self, *, prefix: str = "", before: CheckpointId | None = None, limit: int | None = None
    ) -> tuple[CheckpointId, ...]:
        """Return ids, the greatest first."""
        self.require_running()
        require_query(prefix, before, limit)
        return await self._home.read(self._reads.ids(prefix, before, limit))

    async def saved_ids(
        self, *, prefix: str = "", limit: int | None = None
    ) -> tuple[CheckpointId, ...]:
        """Return ids, the one saved last first."""
        self.require_running()
        require_query(prefix, limit=limit)
        return await self._home.read(self._reads.saved_ids(prefix, limit))

    async def list(self, *, before: CheckpointId | None = None, limit: int | None = None) -> _Metas:
        """Return what there is, saved last first."""
        self.require_running()
        require_query("", before, limit)
        return await self._home.read(self._reads.list(before, limit))

    async def load_blobs(self, digests: Iterable[str], /) -> dict[str, bytes]:
        """Return blobs by their digests."""
        self.require_running()
        return await self._home.read(self._reads.load_blobs(digests_of(digests)))


class S3Transaction(StagedChanges[RecordT], S3Reader[RecordT]):
    """
    One session within an update.

    Args:
        home: the thread of the store.
        kit: of the store.
        session_id: the session.
        reads: of the session, as it is known.
    """

    def __init__(
        self,
        home: Home[Any],
        kit: RecordKit[RecordT],
        session_id: SessionId,
        reads: Reads[RecordT],
    ) -> None:
        StagedChanges.__init__(self, kit, session_id)
        S3Reader.__init__(self, home, session_id, reads)


class _ChangedError(CheckpointError):
    """Somebody has changed the session; within this module."""


class _Attempts:
    """The tries of one update; on the loop of the home."""

    def __init__(self, work: Work[Any], place: Place, token: int | None) -> None:
        self._work = work
        self._place = place
        self._token = token
        self._base = (place.knowledge.session, 0)

    async def begin(self) -> None:
        """Know the session well enough to begin."""
        await self._work.sessions.open()
        await self._place.changes.finished()
        if not self._place.knowledge.is_trusted:
            await self._place.knowledge.refresh()
        self._base = self._now()

    def _now(self) -> tuple[Session, int]:
        session = self._place.knowledge.session
        return session, session.number

    async def is_still_so(self) -> bool:
        """Tell whether nobody has changed the session since it was begun."""
        await self._place.knowledge.refresh()
        return self._now() == self._base

    async def commit(self, staged: tuple[StagedSave | StagedDelete, ...]) -> bool:
        """Commit what was staged; False where somebody has changed the session."""
        if not staged:
            return await self.is_still_so()
        changes = [self._change(item) for item in staged]

        def stage(session: Staged) -> None:
            if self._now() != self._base:
                raise _ChangedError
            session.require_owner(self._token)
            with session.together():
                for change in changes:
                    change.stage(session)
                self._work.bound(session)

        bounds = self._work.max_checkpoints is not None
        needs_entries = bounds or any(change.needs_entries for change in changes)
        erases = any(change.erases for change in changes)
        saves = any(change.saves for change in changes)
        try:
            await self._place.changes.put(Change(stage, needs_entries, erases, saves)).done
        except (_ChangedError, StoreBusyError):
            return False
        return True

    def _change(self, item: StagedSave | StagedDelete) -> Change:
        if isinstance(item, StagedSave):
            return self._work.staging(item.record)._replace(erases=item.erases)
        return self._work.deleting(item.checkpoint_ids)

    def newest_id(self) -> CheckpointId | None:
        """Return the id of the newest checkpoint."""
        newest = self._place.knowledge.session.newest
        return None if newest is None else newest.id


async def run_reads(
    home: Home[Work[RecordT]],
    kit: RecordKit[RecordT],
    session_id: SessionId,
    work: Callable[[SessionReader[RecordT]], Awaitable[ResultT]],
) -> ResultT:
    """
    Do several reads of a session after one look at what others have changed.

    Args:
        home: the thread of the store.
        kit: of the store.
        session_id: the session.
        work: of the caller, run on the caller's loop.
    """

    async def hold() -> Place:
        await home.worker.sessions.open()
        return home.worker.sessions.hold(session_id)

    place = await home.read(hold())
    try:
        await home.read(place.knowledge.refresh())
        reads = Reads(place.knowledge, kit, follows=False)
        return await result_of(work, S3Reader(home, session_id, reads))
    finally:
        home.post(place.release)


async def run_update(
    home: Home[Work[RecordT]],
    kit: RecordKit[RecordT],
    session_id: SessionId,
    work: Callable[[Transaction[RecordT]], Awaitable[ResultT]],
    token: int | None,
) -> ResultT:
    """
    Run an update; the turn of the session is the caller's.

    Args:
        home: the thread of the store.
        kit: of the store.
        session_id: the session.
        work: of the caller, run on the caller's loop.
        token: of the owner that has to own the session; None asks for none.

    Raises:
        SessionChangedError: others were faster, for too long.
    """

    async def hold() -> Place:
        return home.worker.sessions.hold(session_id)

    place = await home.read(hold())
    try:
        attempts = _Attempts(home.worker, place, token)
        patience = Patience(home.worker.timeout_seconds, *_PAUSES_SECONDS)
        while True:
            await home.read(attempts.begin())
            reads = Reads(place.knowledge, kit, follows=False)
            transaction = S3Transaction(home, kit, session_id, reads)
            try:
                result = await result_of(work, transaction)
            except Exception:
                transaction.end()
                if await home.read(attempts.is_still_so()):
                    raise
            else:
                if await home.change(attempts.commit(transaction.end())):
                    return result
            if patience.is_over:
                raise SessionChangedError(session_id, attempts.newest_id())
            await patience.pause(is_random=True)
    finally:
        home.post(place.release)
