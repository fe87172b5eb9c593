"""One session, as callers read it within `read` and `update`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic

from aiocheckpoint.kit import (
    LookAhead,
    RecordKit,
    RecordT,
    StagedChanges,
    check_checkpoint_id,
    checkpoint_ids_of,
    digests_of,
    require_query,
)
from aiocheckpoint.models import CheckpointId, CheckpointMeta, SessionId
from aiocheckpoint.stores.postgres.ahead import Ahead
from aiocheckpoint.stores.postgres.reads import Reads


class Reading(Generic[RecordT]):
    """
    The reads of one session.

    Args:
        session_id: the session.
        reads: of the store, or of a transaction.
    """

    def __init__(self, session_id: SessionId, reads: Reads[RecordT]) -> None:
        self._session_id = session_id
        self._reads = reads
        self._ahead: Ahead | None = None

    def require_running(self) -> None:
        """Refuse a call that comes too late; none does where no connection is held."""

    @property
    def session_id(self) -> SessionId:
        """The session."""
        return self._session_id

    async def look_ahead(self, what: LookAhead, /) -> None:
        """Ask for all of this at once; the reads that follow are answered by that."""
        self.require_running()
        self._ahead = None
        self._ahead = await self._reads.look_ahead(self._session_id, what)

    async def load(self, checkpoint_id: CheckpointId | None = None) -> RecordT | None:
        """Return a checkpoint, the one saved last by default."""
        self.require_running()
        if checkpoint_id is not None:
            check_checkpoint_id(checkpoint_id)
        return await self._reads.load(self._session_id, checkpoint_id)

    async def load_many(self, checkpoint_ids: Iterable[CheckpointId], /) -> tuple[RecordT, ...]:
        """Return those of the checkpoints that are there, the one saved first first."""
        self.require_running()
        wanted = checkpoint_ids_of(checkpoint_ids)
        if self._ahead is not None:
            contents = self._ahead.contents(wanted)
            if contents is not None:
                newest_id = self._ahead.newest_id
                return await self._reads.records(self._session_id, contents, newest_id)
        return await self._reads.load_many(self._session_id, wanted)

    async def ids(
        self, *, prefix: str = "", before: CheckpointId | None = None, limit: int | None = None
    ) -> tuple[CheckpointId, ...]:
        """Return ids, the greatest first."""
        self.require_running()
        require_query(prefix, before, limit)
        known = None if self._ahead is None else self._ahead.ids(prefix, before, limit)
        if known is not None:
            return known
        return await self._reads.ids(self._session_id, prefix, before, limit)

    async def saved_ids(
        self, *, prefix: str = "", limit: int | None = None
    ) -> tuple[CheckpointId, ...]:
        """Return ids, the one saved last first."""
        self.require_running()
        require_query(prefix, limit=limit)
        known = None if self._ahead is None else self._ahead.saved_ids(prefix, limit)
        if known is not None:
            return known
        return await self._reads.saved_ids(self._session_id, prefix, limit)

    async def list(
        self, *, before: CheckpointId | None = None, limit: int | None = None
    ) -> tuple[CheckpointMeta, ...]:
        """Return what there is, saved last first."""
        self.require_running()
        require_query("", before, limit)
        return await self._reads.list(self._session_id, before, limit)

    async def load_blobs(self, digests: Iterable[str], /) -> dict[str, bytes]:
        """Return blobs by their digests."""
        self.require_running()
        wanted = digests_of(digests)
        known = None if self._ahead is None else self._ahead.blobs(wanted)
        if known is not None:
            return await self._reads.verified_blobs(self._session_id, wanted, known)
        return await self._reads.load_blobs(self._session_id, wanted)


class Updating(StagedChanges[RecordT], Reading[RecordT]):
    """
    A session within an update.

    Args:
        kit: of the store.
        session_id: the session.
        reads: of the transaction.
    """

    def __init__(
        self, kit: RecordKit[RecordT], session_id: SessionId, reads: Reads[RecordT]
    ) -> None:
        StagedChanges.__init__(self, kit, session_id)
        Reading.__init__(self, session_id, reads)
