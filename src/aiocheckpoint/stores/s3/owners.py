"""Ownership: commits that say whose a session is, and signs of life beside them.

Who owns a session stands in its commits, so that a write by a former owner is refused by the very
create that it is made by. Whether the owner is alive is told by an object that it puts again and
again; a new owner looks at its date, by the server's clock alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from aiocheckpoint.errors import CheckpointError, SessionOwnedError, WriterClosedError
from aiocheckpoint.kit import Patience, SessionTurns
from aiocheckpoint.models import (
    CheckpointRecord,
    SessionId,
)
from aiocheckpoint.stores.s3.changes import Change, Waiting
from aiocheckpoint.stores.s3.commits import Owner
from aiocheckpoint.stores.s3.home import Home
from aiocheckpoint.stores.s3.sessions import Place, Sessions
from aiocheckpoint.stores.s3.state import Staged

if TYPE_CHECKING:
    from aiocheckpoint.stores.s3.work import Work

RecordT = TypeVar("RecordT", bound=CheckpointRecord)
ResultT = TypeVar("ResultT")

_PAUSES_SECONDS = (0.05, 2.0)


class _OwnedError(CheckpointError):
    """Somebody owns the session; within this module."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self.owner = owner


class Lease:
    """
    The hold of this client on a session, while it is renewed.

    Args:
        sessions: of the store.
        place: the session.
        lease_seconds: how long after a sign of life the owner is held for alive.
    """

    def __init__(self, sessions: Sessions, place: Place, lease_seconds: float) -> None:
        self._sessions = sessions
        self._place = place
        self._lease_seconds = lease_seconds
        self._renewing: asyncio.Task[None] | None = None
        self._waiting: Waiting | None = None
        self._is_unwanted = False
        self._woken = asyncio.Event()
        self.token = 0

    async def take(self, timeout_seconds: float, left_seconds: float) -> int:
        """
        Own the session as soon as nobody else does, and return the token.

        Args:
            timeout_seconds: how long its caller waits in all.
            left_seconds: how long of that is left.

        Raises:
            SessionOwnedError: somebody else did all the time.
        """
        patience = Patience(left_seconds, *_PAUSES_SECONDS)
        dead: int | None = None
        while True:
            try:
                self.token = await self._commit(dead)
                break
            except _OwnedError as error:
                owner = error.owner
            if dead != owner.token and not await self._is_alive(owner):
                dead = owner.token
                continue
            if patience.is_over or self._is_unwanted:
                session_id = self._place.knowledge.session_id
                told = f"since {owner.since:%Y-%m-%d %H:%M:%S} UTC"
                raise SessionOwnedError(session_id, timeout_seconds, told)
            await patience.pause(self._woken)
        self._renewing = asyncio.ensure_future(self._renew())
        return self.token

    async def _commit(self, dead: int | None) -> int:
        clock = self._sessions.bucket.clock

        def stage(staged: Staged) -> int:
            owner = staged.owner
            if owner is not None and owner.token != dead:
                raise _OwnedError(owner)
            now = clock.now()
            token = max(staged.token + 1, int(now.timestamp() * 1000))
            staged.set_owner(Owner(token, now, self._lease_seconds))
            return token

        self._waiting = self._place.changes.put(Change(stage))
        token: int = await self._waiting.done
        return token

    def withdraw(self) -> None:
        """Wait no longer; what is under way is not cut off."""
        self._is_unwanted = True
        if self._waiting is not None:
            self._waiting.withdraw()
        self._woken.set()

    async def _is_alive(self, owner: Owner) -> bool:
        lease = timedelta(seconds=owner.lease_seconds)
        bucket, layout = self._sessions.bucket, self._sessions.layout
        age = await bucket.age(layout.owner(self._place.knowledge.session_id, owner.token))
        since = bucket.clock.now() - owner.since if age is None else age
        return since <= lease + timedelta(seconds=1)  # dates are cut to a second

    async def _renew(self) -> None:
        """Show that the owner is alive; whatever fails is tried again."""
        bucket, layout = self._sessions.bucket, self._sessions.layout
        key = layout.owner(self._place.knowledge.session_id, self.token)
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            with contextlib.suppress(CheckpointError):
                await bucket.put(key, b"")

    async def give(self) -> None:
        """Set the session free; where that fails, it is free when the lease has run out."""
        try:
            if self._renewing is not None:
                await self._end(self._renewing)
        finally:
            self._place.release()

    async def _end(self, renewing: asyncio.Task[None]) -> None:
        renewing.cancel()
        await asyncio.wait([renewing])
        with contextlib.suppress(CheckpointError):
            await self._place.changes.put(Change(self._free)).done
        session_id = self._place.knowledge.session_id
        key = self._sessions.layout.owner(session_id, self.token)
        self._sessions.sweeper.start(session_id, self._sessions.bucket.delete([key]))

    def _free(self, staged: Staged) -> None:
        if staged.owner is not None and staged.owner.token == self.token:
            staged.set_owner(None)


@contextlib.asynccontextmanager
async def owned(
    home: Home[Work[RecordT]],
    turns: SessionTurns,
    session_id: SessionId,
    timeout_seconds: float,
    lease_seconds: float,
) -> AsyncIterator[int]:
    """
    Own a session for a block, and yield the token.

    First among the tasks of the process, then among all.

    Args:
        home: the thread of the store.
        turns: those of the store.
        session_id: the session.
        timeout_seconds: how long to wait.
        lease_seconds: how long after a sign of life the owner is held for alive.

    Raises:
        SessionOwnedError: somebody else owned it all the time.
        NestedCallError: the work of an update calls it, or who owns it already.
    """
    async with turns.own(session_id, timeout_seconds) as patience:
        left_seconds = patience.left_seconds  # the home has a clock of its own
        leases: list[Lease] = []

        async def take() -> int:
            sessions = home.worker.sessions
            place = sessions.hold(session_id)
            leases.append(Lease(sessions, place, lease_seconds))
            return await leases[0].take(timeout_seconds, left_seconds)

        def withdraw() -> None:
            for lease in leases:
                lease.withdraw()

        try:
            token = await home.change(take(), withdraw)
            yield token
        finally:
            with contextlib.suppress(
                WriterClosedError
            ):  # then it is free when the lease has run out
                for lease in leases:
                    await home.change(lease.give())
