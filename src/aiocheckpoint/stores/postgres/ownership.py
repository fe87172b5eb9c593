"""`own`: one owner of a session at a time, by a lease in the database and a fencing token."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TypeVar

from aiocheckpoint.errors import CheckpointError, SessionOwnedError, WriterClosedError
from aiocheckpoint.kit import Patience, SessionTurns, outlast
from aiocheckpoint.models import SessionId
from aiocheckpoint.stores.postgres.server import Server

ResultT = TypeVar("ResultT")

_OWN = "select aiocheckpoint.own($1, $2, $3, $4)"
_RENEW = "select aiocheckpoint.renew($1, $2, $3)"
_OWNED_UNTIL = """
select owned_until at time zone 'UTC' from aiocheckpoint.session
where substring(session_id from 1 for 1000) = substring($1::bytea from 1 for 1000)
    and session_id = $1
"""
_DISOWN = "select aiocheckpoint.disown($1, $2)"
_PAUSES_SECONDS = (0.02, 0.5)
_WITHDRAWAL_SECONDS = 5.0
_WITHDRAWAL_WAIT_MS = 1000  # whoever holds the session for longer has kept the call from it, too
_RENEWALS = 3  # within the time of a lease
_logger = logging.getLogger("aiocheckpoint")


class Leases:
    """
    The sessions that one store owns.

    Args:
        lease_seconds: for how long an owner that does not say anything stays one.
        turns: those of the store.
    """

    def __init__(self, lease_seconds: float, turns: SessionTurns) -> None:
        self._lease = timedelta(seconds=lease_seconds)
        self._turns = turns

    @contextlib.asynccontextmanager
    async def held(
        self, server: Server, session_id: SessionId, *, waits: bool
    ) -> AsyncIterator[int]:
        """
        Own a session while the block runs, and yield the token.

        Raises:
            SessionOwnedError: somebody else owns it.
            NestedCallError: the work of an update calls it, or who owns it already.
        """
        seconds = server.options.lock_timeout_seconds if waits else 0.0
        async with self._turns.own(session_id, seconds, *_PAUSES_SECONDS) as patience:
            token = await self._token(server, session_id, seconds, patience)
            renewing = asyncio.ensure_future(self._renew(server, session_id, token))
            try:
                yield token
            finally:
                renewing.cancel()
                await outlast(self._end(server, session_id, token, renewing))

    async def _token(
        self, server: Server, session_id: SessionId, timeout_seconds: float, patience: Patience
    ) -> int:
        holder = secrets.randbits(63)
        while True:
            try:
                token = await self._own(server, session_id, holder, server.options.lock_timeout_ms)
            except asyncio.CancelledError:
                await outlast(self._withdraw(server, session_id, holder))
                raise
            if token is not None:
                return token
            if patience.is_over:
                owner = await self._told_of(server, session_id)
                raise SessionOwnedError(session_id, timeout_seconds, owner)
            await patience.pause()

    async def _own(
        self, server: Server, session_id: SessionId, holder: int, wait_ms: int
    ) -> int | None:
        """Own a session and return the token, the same for the same holder; None of another's."""
        arguments = (session_id.encode(), holder, self._lease, wait_ms)
        token: int | None = await server.run(
            "own a session",
            lambda connection: connection.fetchval(server.sql(_OWN), *arguments),
            wait_seconds=wait_ms / 1000,
            is_change=True,
        )
        return token

    async def _withdraw(self, server: Server, session_id: SessionId, holder: int) -> None:
        """Own nothing by a call that was cancelled; where that fails, the lease ends by itself."""
        with contextlib.suppress(CheckpointError, TimeoutError):
            await server.settled()  # or the call that was cancelled could own it after all of this
            async with asyncio.timeout(_WITHDRAWAL_SECONDS):
                token = await self._own(server, session_id, holder, _WITHDRAWAL_WAIT_MS)
                if token is not None:
                    await self._disown(server, session_id, token)

    async def _told_of(self, server: Server, session_id: SessionId) -> str:
        """Return what is known of a session's owner, in words."""
        until = await server.run(
            "look for an owner",
            lambda connection: connection.fetchval(server.sql(_OWNED_UNTIL), session_id.encode()),
        )
        return "" if until is None else f"until {until:%H:%M:%S} UTC, or longer if it lives"

    async def _renew(self, server: Server, session_id: SessionId, token: int) -> None:
        while True:
            await asyncio.sleep(self._lease.total_seconds() / _RENEWALS)
            try:
                is_owned = await server.run(
                    "renew a lease",
                    lambda connection: connection.fetchval(
                        server.sql(_RENEW), session_id.encode(), token, self._lease
                    ),
                )
            except WriterClosedError:
                return
            except CheckpointError as error:
                _logger.warning("the ownership of a session cannot be renewed: %s", error)
                continue
            if not is_owned:
                _logger.warning("a session is not owned any more by the owner %d", token)
                return

    async def _end(
        self, server: Server, session_id: SessionId, token: int, renewing: asyncio.Task[None]
    ) -> None:
        await asyncio.wait([renewing])
        with contextlib.suppress(CheckpointError):  # then the lease ends by itself
            await self._disown(server, session_id, token)

    async def _disown(self, server: Server, session_id: SessionId, token: int) -> None:
        await server.run(
            "end an ownership",
            lambda connection: connection.execute(server.sql(_DISOWN), session_id.encode(), token),
            is_change=True,
        )
