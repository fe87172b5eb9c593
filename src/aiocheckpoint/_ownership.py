"""One owner of a session at a time: what `own` does within a process and among those of a root."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

from aiocheckpoint._arguments import require_callable, require_expected, require_session, result_of
from aiocheckpoint._engine.changes import Batch, Change, Delete, Disown, Own
from aiocheckpoint._engine.jobs import Ending, Job
from aiocheckpoint._engine.local_store import LocalStore
from aiocheckpoint._format.codec import RecordT
from aiocheckpoint._format.ids import encode_id
from aiocheckpoint._patience import Patience
from aiocheckpoint._turns import SessionTurns
from aiocheckpoint._updates import Encode, Updates
from aiocheckpoint.errors import SessionOwnedError, WriterClosedError
from aiocheckpoint.kit import OwnedSession
from aiocheckpoint.models import CheckpointId, Expected, SessionId
from aiocheckpoint.store import Transaction

_PAUSES_SECONDS = (0.005, 0.1)
ResultT = TypeVar("ResultT")


class OwnersWrites(Generic[RecordT]):
    """
    What owners write by one writer; each call is bound to the token of its owner.

    Args:
        encode: makes saves of records.
        change: makes a change, in the order of the calls; it is given the method's name.
        updates: those of the writer.
        require_usable: refuses what comes after its end.
    """

    def __init__(
        self,
        encode: Encode[RecordT],
        change: Callable[[Change, str], Awaitable[Any]],
        updates: Updates[RecordT],
        require_usable: Callable[[], None],
    ) -> None:
        self._encode = encode
        self._change = change
        self._updates = updates
        self._require_usable = require_usable

    def by(self, session_id: SessionId, token: int) -> OwnedSession[RecordT]:
        """Return the hold on a session by whoever was given a token."""
        return OwnedSession(
            session_id, token, save=self._save, delete=self._delete, update=self._update
        )

    async def _save(
        self,
        data: RecordT,
        blobs: Mapping[str, bytes],
        expected: Expected,
        owner: OwnedSession[RecordT],
    ) -> CheckpointId:
        require_expected(expected)
        save = self._encode(data, blobs, Job())
        require_session(save.session_id, owner.session_id)
        save.expected = expected
        await self._make(save, "save", owner)
        return save.checkpoint_id

    async def _delete(
        self,
        session_id: SessionId,
        checkpoint_ids: tuple[CheckpointId, ...],
        owner: OwnedSession[RecordT],
    ) -> int:
        delete = Delete(Job(), session_id, _name(session_id), checkpoint_ids=checkpoint_ids)
        count: int = await self._make(delete, "delete_many", owner)
        return count

    async def _update(
        self,
        session_id: SessionId,
        work: Callable[[Transaction[RecordT]], Awaitable[ResultT]],
        owner: OwnedSession[RecordT],
    ) -> ResultT:
        require_callable("work", work)
        self._require_usable()
        return await self._updates.run(
            "update",
            (session_id,),
            self._encode,
            lambda transactions: result_of(work, transactions[session_id]),
            {_name(session_id): owner.token},
        )

    async def _make(self, part: Change, operation: str, owner: OwnedSession[RecordT]) -> Any:
        name = _name(owner.session_id)
        batch = Batch(
            Job(), sessions={name: owner.session_id}, parts=(part,), states={name: None},
            tokens={name: owner.token},
        )  # fmt: skip
        results = await self._change(batch, operation)
        return results[0] if results else 0  # there is no root any more


def _name(session_id: SessionId) -> str:
    return encode_id(session_id, "session id")


class Ownerships(Generic[RecordT]):
    """
    The ownerships of one writer.

    Args:
        store: where its sessions are.
        turns: the order of its calls.
        timeout_seconds: how long a session that is owned is waited for.
    """

    def __init__(
        self,
        store: LocalStore[RecordT],
        turns: SessionTurns,
        timeout_seconds: float,
    ) -> None:
        self._store = store
        self._turns = turns
        self._timeout_seconds = timeout_seconds

    @contextlib.asynccontextmanager
    async def own(
        self, session_id: SessionId, require_own_process: Callable[[], None], *, wait: bool
    ) -> AsyncIterator[int]:
        """
        Own a session while the block runs.

        Args:
            session_id: the session.
            require_own_process: refuses a fork of the process that the writer belongs to.
            wait: whether to wait for another owner.

        Raises:
            SessionOwnedError: somebody else owns it.
            NestedCallError: the work of an update calls it.
        """
        timeout_seconds = self._timeout_seconds if wait else 0.0
        async with self._turns.own(session_id, timeout_seconds, *_PAUSES_SECONDS) as patience:
            token = await self._entered(session_id, timeout_seconds, patience)
            try:
                yield token
            finally:
                with contextlib.suppress(WriterClosedError):  # a fork owns nothing
                    require_own_process()
                    await self._leave(session_id, token)

    async def _entered(
        self, session_id: SessionId, timeout_seconds: float, patience: Patience
    ) -> int:
        """Become the owner among processes, looking now and then while another one is."""
        while True:
            own = Own(Job(), session_id, _name(session_id))
            try:
                token: int = await self._store.made(own)
            except SessionOwnedError as error:
                if patience.is_over:
                    raise SessionOwnedError(session_id, timeout_seconds, error.owner) from None
            except asyncio.CancelledError:
                if own.job.error is None and own.job.result is not None:
                    await self._leave(session_id, own.job.result)
                raise
            else:
                return token
            await patience.pause()

    async def _leave(self, session_id: SessionId, token: int) -> None:
        """Let the next one in, however this one is cancelled; one that has lost it leaves it be."""
        disown = Disown(Ending(), session_id, _name(session_id), token=token)
        with contextlib.suppress(WriterClosedError):  # it has let go of all it owned
            await self._store.made(disown)
