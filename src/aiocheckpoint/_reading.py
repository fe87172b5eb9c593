"""The reads of one session of a directory, within an update or one hop."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from aiocheckpoint._arguments import checkpoint_ids_of, digests_of, require_query
from aiocheckpoint._engine import listing
from aiocheckpoint._engine.read import Reader
from aiocheckpoint._format.codec import RecordT
from aiocheckpoint._format.ids import encode_id
from aiocheckpoint.errors import MissingBlobError
from aiocheckpoint.models import CheckpointId, CheckpointMeta, SessionId

ResultT = TypeVar("ResultT")
Work = Callable[[Reader[RecordT]], ResultT]


class SessionReads(Generic[RecordT]):
    """
    A `SessionReader`, but for how its reads come to a reader of the root.

    Args:
        session_id: the session.
    """

    def __init__(self, session_id: SessionId) -> None:
        self._session_id = session_id

    @property
    def session_id(self) -> SessionId:
        """The session."""
        return self._session_id

    @abstractmethod
    async def _answer(
        self, work: Work[RecordT, ResultT], otherwise: ResultT, *, at_once: bool = False
    ) -> ResultT:
        """
        Do a read.

        Args:
            work: what to do with a reader.
            otherwise: the answer where there is no root.
            at_once: whether what is in memory may answer it, on an event loop.
        """

    async def load(self, checkpoint_id: CheckpointId | None = None) -> RecordT | None:
        """Return a checkpoint, the one saved last by default; None when there is none."""
        if checkpoint_id is not None:
            encode_id(checkpoint_id, "checkpoint id")
        return await self._answer(
            lambda reader: reader.load(self._session_id, checkpoint_id), None, at_once=True
        )

    async def load_many(self, checkpoint_ids: Iterable[CheckpointId], /) -> tuple[RecordT, ...]:
        """Return those of the checkpoints that are there, the one saved first first."""
        wanted = checkpoint_ids_of(checkpoint_ids)
        return await self._answer(
            lambda reader: reader.load_many(self._session_id, wanted), (), at_once=True
        )

    async def ids(
        self, *, prefix: str = "", before: CheckpointId | None = None, limit: int | None = None
    ) -> tuple[CheckpointId, ...]:
        """Return ids, the greatest first."""
        require_query(prefix, before, limit)
        return await self._answer(
            lambda reader: listing.ids(reader, self._session_id, prefix, before, limit),
            (),
            at_once=True,
        )

    async def saved_ids(
        self, *, prefix: str = "", limit: int | None = None
    ) -> tuple[CheckpointId, ...]:
        """Return ids, the one saved last first, mostly told from the names of files."""
        require_query(prefix, limit=limit)
        return await self._answer(
            lambda reader: listing.saved_ids(reader, self._session_id, prefix, limit), ()
        )

    async def list(
        self, *, before: CheckpointId | None = None, limit: int | None = None
    ) -> tuple[CheckpointMeta, ...]:
        """Return what there is, saved last first."""
        require_query("", before, limit)
        return await self._answer(
            lambda reader: listing.listed(reader, self._session_id, before, limit), ()
        )

    async def load_blobs(self, digests: Iterable[str], /) -> dict[str, bytes]:
        """Return blobs by their digests."""
        wanted = digests_of(digests)
        nothing: dict[str, bytes] = {}
        found = await self._answer(
            lambda reader: reader.load_blobs(self._session_id, wanted), nothing
        )
        if found is nothing and wanted:
            error = MissingBlobError(wanted[0], wanted[0])
            error.session_id = self._session_id
            raise error
        return found


class LocalReader(SessionReads[RecordT]):
    """
    The reads in a thread, all of them within one hop: they block, and so await nothing.

    Args:
        reader: of the root; None where there is no root.
        session_id: the session.
    """

    def __init__(self, reader: Reader[RecordT] | None, session_id: SessionId) -> None:
        super().__init__(session_id)
        self._reader = reader

    async def _answer(
        self, work: Work[RecordT, ResultT], otherwise: ResultT, *, at_once: bool = False
    ) -> ResultT:
        del at_once
        return otherwise if self._reader is None else work(self._reader)
