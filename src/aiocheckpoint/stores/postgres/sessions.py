"""One session, as callers read it within `read` and `update`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic

from aiocheckpoint.kit import (
    RecordKit,
    RecordT,
    StagedChanges,
    check_checkpoint_id,
    checkpoint_ids_of,
    digests_of,
    require_query,
)
from aiocheckpoint.models import CheckpointId, CheckpointMeta, SessionId
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

    def require_running(self) -> None:
        """Refuse a call that comes too late; none does where no connection is held."""

    @property
    def session_id(self) -> SessionId:
        """The session."""
        return self._session_id

    async def load(self, checkpoint_id: CheckpointId | None = None) -> RecordT | None:
        """Return a checkpoint, the one saved last by default."""
        self.require_running()
        if checkpoint_id is not None:
            check_checkpoint_id(checkpoint_id)
        return await self._reads.load(self._session_id, checkpoint_id)

    async def load_many(self, checkpoint_ids: Iterable[CheckpointId], /) -> tuple[RecordT, ...]:
        """Return those of the checkpoints that are there, the one saved first first."""
        self.require_running()
        return await self._reads.load_many(self._session_id, checkpoint_ids_of(checkpoint_ids))

    async def ids(
        self, *, prefix: str = "", before: CheckpointId | None = None, limit: int | None = None
    ) -> tuple[CheckpointId, ...]:
        """Return ids, the greatest first."""
        self.require_running()
        require_query(prefix, before, limit)
        return await self._reads.ids(self._session_id, prefix, before, limit)

    async def saved_ids(
        self, *, prefix: str = "", limit: int | None = None
    ) -> tuple[CheckpointId, ...]:
        """Return ids, the one saved last first."""
        self.require_running()
        require_query(prefix, limit=limit)
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
        return await self._reads.load_blobs(self._session_id, digests_of(digests))


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
