"""What every store of checkpoints does: the Protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Protocol

from aiocheckpoint._format.codec import RecordT
from aiocheckpoint.models import (
    ANY_NEWEST,
    CheckpointId,
    CheckpointMeta,
    Expected,
    SessionId,
)

NO_BLOBS: Mapping[str, bytes] = {}


class CheckpointStore(Protocol[RecordT]):
    """What every checkpoint store does; the counterpart of the crate's `CheckpointSystemTrait`."""

    async def save(
        self,
        data: RecordT,
        /,
        *,
        blobs: Mapping[str, bytes] = NO_BLOBS,
        expected: Expected = ANY_NEWEST,
    ) -> CheckpointId:
        """Store a checkpoint and its new blobs, replacing one of its id, and return its id."""
        ...

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> RecordT | None:
        """Return a checkpoint, the one saved last by default; None when there is none."""
        ...

    async def list(self, session_id: SessionId) -> tuple[CheckpointMeta, ...]:
        """Return what there is of a session, saved last first."""
        ...

    async def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        """Remove a checkpoint; False when there is none."""
        ...

    async def verify(self, path: str | PathLike[str], /) -> bool:
        """Tell whether a stored checkpoint is intact."""
        ...

    async def ids(
        self,
        session_id: SessionId,
        *,
        prefix: str = "",
        before: CheckpointId | None = None,
        limit: int | None = None,
    ) -> tuple[CheckpointId, ...]:
        """Return ids of a session, the greatest first."""
        ...

    async def load_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> tuple[RecordT, ...]:
        """Return those of the checkpoints that are there, the one saved first first."""
        ...

    async def delete_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> int:
        """Remove checkpoints, all or none, and return how many there were."""
        ...

    async def load_blobs(
        self, session_id: SessionId, digests: Iterable[str], /
    ) -> dict[str, bytes]:
        """Return blobs of a session by their digests."""
        ...
