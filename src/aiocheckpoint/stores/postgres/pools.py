"""Pools of connections to a server, which prepare statements where nobody stands between."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

Connection = Any
"""A connection of asyncpg, of its pool or not; their types forward everything, and tell little."""

_IDLE_SECONDS = 300.0
_STATEMENTS = 100


async def made_pool(
    url: str, max_connections: int, statement_cache_size: int | None, timeout_seconds: float
) -> Any:
    """
    Return a pool, which connects when it has to.

    Args:
        url: of the server, or of a pooler.
        max_connections: how many there may be.
        statement_cache_size: prepared statements that each keeps; None for what suits.
        timeout_seconds: how long to wait for an answer to a new one.
    """
    options: dict[str, Any] = {"statement_cache_size": statement_cache_size}
    if statement_cache_size is None:
        options = {"connect": _Opening(timeout_seconds).opened}
    return await asyncpg.create_pool(
        url,
        min_size=0,
        max_size=max_connections,
        max_inactive_connection_lifetime=_IDLE_SECONDS,
        timeout=timeout_seconds,
        reset=_keep,
        server_settings={"application_name": "aiocheckpoint"},
        **options,
    )


async def _keep(_: Connection) -> None:
    """Reset nothing: no state is ever left in a session of ours."""


class _Opening:
    """Opens the connections of a pool; it looks at each, as an address may come to be another's."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._is_direct: bool | None = None

    async def opened(self, *args: Any, **options: Any) -> Connection:
        """Return a new connection, that keeps prepared statements if a pooler cannot lose them."""
        if self._is_direct is None:
            # Without them: the driver itself may ask something, which a pooler would keep.
            first = await asyncpg.connect(*args, statement_cache_size=0, **options)
            if not await self._looked_at(first):
                return first
            await first.close()
        if self._is_direct:
            connection = await asyncpg.connect(*args, statement_cache_size=_STATEMENTS, **options)
            if await self._looked_at(connection):
                return connection
            await connection.close()
        return await asyncpg.connect(*args, statement_cache_size=0, **options)

    async def _looked_at(self, connection: Connection) -> bool:
        """Note whether a connection leads to a server itself."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                self._is_direct = await _is_direct(connection)
        except BaseException:
            connection.terminate()
            raise
        return self._is_direct


async def _is_direct(connection: Connection) -> bool:
    """
    Tell whether the process that a client was told of is the one that answers.

    A pooler serves its clients by any of its own connections, so it tells each of a process that
    there is not. This is a plain query: it is prepared nowhere.
    """
    told = int(connection.get_server_pid())
    status = await connection.execute(f"select where pg_catalog.pg_backend_pid() = {told}")
    return bool(status == "SELECT 1")
