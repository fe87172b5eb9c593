"""Pools of connections to a server, which prepare statements where nobody stands between."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, ClassVar

import asyncpg

from aiocheckpoint.stores.postgres.urls import wanted_servers

Connection = Any
"""A connection of asyncpg, of its pool or not; their types forward everything, and tell little."""

RELEASE_SECONDS = 5.0
"""How long a connection may take to come to rest, until the pool cuts it off."""

_IDLE_SECONDS = 300.0
_KEPT_SECONDS = 5.0
_STATEMENTS = 100
_FIRST_OWN_OID = 10_000  # below it each type has its number by hand, the same on every server


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
    options["target_session_attrs"] = wanted_servers(url)
    return await asyncpg.create_pool(
        url,
        min_size=0,
        max_size=max_connections,
        max_inactive_connection_lifetime=_IDLE_SECONDS,
        timeout=timeout_seconds,
        reset=_keep,
        connection_class=_Connection,
        server_settings={"application_name": "aiocheckpoint"},
        **options,
    )


async def _keep(_: Connection) -> None:
    """Reset nothing: no state is ever left in a session of ours."""


class _Connection(asyncpg.Connection):
    """
    A connection that asks of what built-in types are made only what no other of the process has.

    The driver asks that on each connection before its first `bytea[]`, and so on: by a query that
    takes milliseconds to plan, and a second to compile where a pooler does not let the driver turn
    that off. Nothing but this private method saves it.
    """

    _known: ClassVar[dict[tuple[object, frozenset[int]], Any]] = {}

    async def _introspect_types(self, typeoids: Any, *args: Any) -> Any:
        key = self.get_server_version(), frozenset(typeoids)
        if key not in self._known:
            told = await super()._introspect_types(typeoids, *args)  # type: ignore[misc]
            if max(typeoids) >= _FIRST_OWN_OID:
                return told
            self._known[key] = told
        return self._known[key]


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


def _is_at_rest(connection: Connection) -> bool:
    try:
        return not (connection.is_closed() or connection.is_in_transaction())
    except asyncpg.InterfaceError:  # the pool has taken it back, as it was cut off
        return False


class Hand:
    """
    Connections of a pool at hand: what was used a moment ago is used again without asking it.

    The pool takes longer to give one out and take it back than a server to answer.

    Args:
        pool: where connections come from.
        keeps: whether any are kept at hand; none of a pool that others use, too.
    """

    def __init__(self, pool: Any, *, keeps: bool) -> None:
        self._pool = pool
        self._keeps = keeps
        self._kept: list[tuple[Connection, float]] = []  # the one used last at the end
        self._waiting = 0
        self._releasing: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def take(self) -> Connection | None:
        """Return one that is at hand, if any is."""
        while self._kept:
            connection, _ = self._kept.pop()
            if _is_at_rest(connection):
                return connection
            self._release(connection)
        return None

    async def acquired(self) -> Connection:
        """Return one of the pool."""
        self._waiting += 1
        try:
            return await self._pool.acquire()
        finally:
            self._waiting -= 1

    def give(self, connection: Connection, *, is_fine: bool) -> None:
        """Take one back; where somebody waits for the pool, or it is not at rest, it gets it."""
        if is_fine and self._keeps and not self._waiting and _is_at_rest(connection):
            loop = asyncio.get_running_loop()
            self._kept.append((connection, loop.time()))
            if self._timer is None:
                self._timer = loop.call_later(_KEPT_SECONDS, self._let_go_of_old)
        else:
            self._release(connection)

    def _release(self, connection: Connection) -> None:
        releasing = asyncio.ensure_future(self._released(connection))
        self._releasing.add(releasing)
        releasing.add_done_callback(self._releasing.discard)

    async def _released(self, connection: Connection) -> None:
        with contextlib.suppress(Exception):
            await self._pool.release(connection, timeout=RELEASE_SECONDS)

    def _let_go_of_old(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() - _KEPT_SECONDS / 2
        while self._kept and self._kept[0][1] < until:
            self._release(self._kept.pop(0)[0])
        self._timer = loop.call_later(_KEPT_SECONDS, self._let_go_of_old) if self._kept else None

    def let_go(self) -> None:
        """Give all that are at hand back."""
        while self._kept:
            self._release(self._kept.pop()[0])

    async def aclose(self) -> None:
        """Give all back, and wait until the pool has them."""
        self._keeps = False
        if self._timer is not None:
            self._timer.cancel()
        self.let_go()
        await self.returned()

    async def returned(self) -> None:
        """Wait until the pool has what was given back: the server has ended what was cancelled."""
        if self._releasing:
            await asyncio.wait(self._releasing)
