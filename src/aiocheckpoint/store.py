"""What every store of checkpoints does: the Protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from os import PathLike
from types import TracebackType
from typing import Protocol, Self

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
    """
    What every checkpoint store does; the counterpart of the crate's `CheckpointSystemTrait`.

    Functions that take one run on `AsyncCheckpointWriter`, and in tests on `MemoryStore`.
    """

    async def __aenter__(self) -> Self:
        """Return the store; it is closed at the end of the block."""
        ...

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        ...

    async def aclose(self) -> None:
        """Finish what was called and let go of everything; later calls do nothing."""
        ...

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

    def sessions(self, *, prefix: str = "") -> AsyncIterator[SessionId]:
        """Yield the ids of the sessions that have checkpoints, in any order."""
        ...

    async def delete_session(self, session_id: SessionId) -> bool:
        """Remove all checkpoints of a session; False when it had none."""
        ...

    async def copy_session(self, source_id: SessionId, target_id: SessionId) -> int:
        """Copy the checkpoints of a session to another, in their order, and return how many."""
        ...
