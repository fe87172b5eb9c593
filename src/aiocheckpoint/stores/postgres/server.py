"""One event loop's connections to the database: opening, trying again, and what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar
from urllib.parse import quote

import asyncpg

from aiocheckpoint.errors import (
    CheckpointError,
    DurabilityUnknownError,
    StorageError,
    StoreBusyError,
    UnsuitableStoreError,
    WriterClosedError,
)
from aiocheckpoint.kit import encode_id
from aiocheckpoint.models import CheckpointId, SessionId
from aiocheckpoint.stores.postgres.errors import (
    IS_REPLICA,
    LostError,
    NotMadeError,
    is_about_settings,
    is_lost,
    is_read_only,
    reason_of,
    translated,
)
from aiocheckpoint.stores.postgres.identity import Identity
from aiocheckpoint.stores.postgres.options import Options
from aiocheckpoint.stores.postgres.pools import RELEASE_SECONDS, Connection, Hand, made_pool
from aiocheckpoint.stores.postgres.schema import in_schema, require_schema, version_of
from aiocheckpoint.stores.postgres.urls import place_of, wrong_parameter

ResultT = TypeVar("ResultT")
_OLDEST_VERSION = 130000
_PAUSES_SECONDS = (0.02, 0.05, 0.1, 0.25, 0.5)
_GOODBYE_SECONDS = 1.0
_logger = logging.getLogger("aiocheckpoint")

_LOOK = """
select current_setting('server_version_num')::int as version, current_setting('fsync') as fsync,
    pg_is_in_recovery() as is_replica, current_database() as database,
    current_setting('default_transaction_isolation') as isolation,
    current_setting('transaction_read_only') = 'on' as is_read_only
"""
_FORGET = (
    "delete from aiocheckpoint.writer where updated_at < clock_timestamp() - interval '7 days'"
)


def cut(connection: Connection) -> None:
    """Use a connection no more, and wait for nothing that it may bring."""
    with contextlib.suppress(asyncpg.InterfaceError):  # the pool has it back already
        connection.terminate()


class _Holding:
    """A block that holds a connection; there is one for each statement."""

    def __init__(self, server: Server, *, is_change: bool, makes_schema: bool) -> None:
        self._server = server
        self._is_change = is_change
        self._makes_schema = makes_schema
        self._connection: Connection = None

    async def __aenter__(self) -> Connection:
        self._connection = await self._server.take(
            is_change=self._is_change, makes_schema=self._makes_schema
        )
        return self._connection

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._server.give(self._connection, error)


class Server:
    """
    The database, as one event loop sees it.

    Args:
        source: a URL, or a pool of the application's.
        options: how to use it.
        identity: of the schema, which must be there; None where it need not.
        was_connected: whether the store ever was, on any loop; a server that is away is waited for
            then, as it was the right one.

    Attributes:
        location: where it is, without credentials.
        options: how it is used.
    """

    def __init__(
        self,
        source: Any,
        options: Options,
        identity: Identity | None,
        was_connected: threading.Event,
    ) -> None:
        self._identity = identity
        self._was_connected = was_connected
        self.options = options
        self.location = (
            place_of(source, options.schema)
            if isinstance(source, str)
            else f"postgresql:///?schema={quote(options.schema, safe='')}"
        )
        self._source = source
        self._pool: Any = None
        self._held: set[Connection] = set()
        self._hand: Any = None
        self._opening: asyncio.Task[None] | None = None
        self._is_open = False
        self._is_read_only = False  # when it was opened
        self._has_schema = False
        self._has_forgotten = False
        self._is_closed = False

    def sql(self, text: str) -> str:
        """Return SQL that is written for schema "aiocheckpoint", for this one's."""
        return in_schema(text, self.options.schema)

    def location_of(self, session_id: SessionId, checkpoint_id: CheckpointId | None = None) -> str:
        """Return where a session, or a checkpoint, is: a URL without credentials."""
        place = f"{self.location}#{encode_id(session_id, 'session id')}"
        if checkpoint_id is None:
            return place
        return f"{place}/{encode_id(checkpoint_id, 'checkpoint id')}"

    def location_of_blob(self, session_id: SessionId, digest: str) -> str:
        """Return where a blob is."""
        return f"{self.location_of(session_id)}/blobs/{digest}"

    @property
    def max_connections(self) -> int:
        """How many connections there may be at a time."""
        if isinstance(self._source, str):
            return self.options.max_connections
        return int(self._source.get_max_size())

    @property
    def patience_seconds(self) -> float:
        """How long calls wait for a server that is away: not at all, unless it was there once."""
        return self.options.server_timeout_seconds if self._was_connected.is_set() else 0.0

    async def run(
        self,
        operation: str,
        work: Callable[[Connection], Awaitable[ResultT]],
        *,
        wait_seconds: float = 0.0,
        is_change: bool = False,
        makes_schema: bool = True,
        is_unknown: bool = False,
    ) -> ResultT:
        """
        Do something on a connection; again on another one where that was lost.

        Once nobody knows whether a change was made, whatever goes wrong is tried again: a role that
        may not log in, a server that is promoted and not set up yet.

        Args:
            operation: what, for errors.
            work: may be called several times, and then has to have the effect of once.
            wait_seconds: how long the server may wait for others in it.
            is_change: whether it changes anything.
            makes_schema: as `connection` has it.
            is_unknown: whether it asks what became of a change.

        Raises:
            DurabilityUnknownError: the connection was lost during a change, and for
                `server_timeout_seconds` no other was to be had to ask what became of it.
            StoreUnavailableError: the server is away for longer than `server_timeout_seconds`.
            CheckpointError: what else the server refuses.
        """
        loop = asyncio.get_running_loop()
        give_up_at = None
        was_lost = is_unknown
        attempt = 0
        while True:
            begun = [False]
            try:
                connection = self.connection(is_change=is_change, makes_schema=makes_schema)
                return await self._once(connection, work, wait_seconds, begun)
            except CheckpointError:
                if not was_lost:
                    raise
                failure: BaseException = LostError("the connection was lost, and no other helped")
            except NotMadeError as error:
                raise self.error(error.refusal, operation) from error.refusal
            except Exception as error:  # noqa: BLE001 - translated, all of them
                failure = error
            was_lost = was_lost or (begun[0] and is_change and is_lost(failure))
            is_demoted = is_read_only(failure) and not self._is_read_only
            may_pass = was_lost or is_lost(failure) or is_demoted
            give_up_at = give_up_at or loop.time() + self.patience_seconds
            if not may_pass or self._is_closed or loop.time() >= give_up_at:
                raise self.error(failure, operation, is_unknown=was_lost) from failure
            if is_read_only(failure):
                self._hand.let_go()
                await self._pool.expire_connections()
            await asyncio.sleep(_PAUSES_SECONDS[min(attempt, len(_PAUSES_SECONDS) - 1)])
            attempt += 1

    def error(
        self, failure: BaseException, operation: str, *, is_unknown: bool = False
    ) -> CheckpointError:
        """Return the error of the tree that stands for one of the driver's."""
        # They are told while connecting alone; afterwards a role may lack something.
        if not self._is_open and is_about_settings(failure) and isinstance(self._source, str):
            wrong = wrong_parameter(self._source, reason_of(failure))
            if wrong is not None:
                return wrong
        error = translated(failure, operation, self.location, self.options.lock_timeout_seconds)
        if is_unknown:
            reason = error.reason if isinstance(error, StorageError) else str(error)
            return DurabilityUnknownError(operation, self.location, None, reason)
        return error

    async def _once(
        self,
        held: AbstractAsyncContextManager[Connection],
        work: Callable[[Connection], Awaitable[ResultT]],
        wait_seconds: float,
        begun: list[bool],
    ) -> ResultT:
        async with held as connection:
            begun[0] = True
            try:
                async with asyncio.timeout(self.options.server_timeout_seconds + wait_seconds):
                    return await work(connection)
            except TimeoutError:
                cut(connection)  # or the pool would wait for its answer, too
                raise

    def connection(
        self, *, is_change: bool, makes_schema: bool = True
    ) -> AbstractAsyncContextManager[Connection]:
        """
        Hold a connection while the block runs; what goes wrong is the driver's error.

        Args:
            is_change: whether it is for a change.
            makes_schema: whether the schema is made for a change where there is none, so that it is
                there for what runs in the block.

        Raises:
            StoreBusyError: on entry: all connections are in use, for `lock_timeout_seconds`.
        """
        return _Holding(self, is_change=is_change, makes_schema=makes_schema)

    async def take(self, *, is_change: bool, makes_schema: bool) -> Connection:
        """Return a connection, to be given back; see `connection`."""
        if not self._is_open:
            await self._opened()
        connection = self._hand.take() or await self._acquired(self._hand)
        self._held.add(connection)
        try:
            if self._identity is not None:
                async with asyncio.timeout(self.options.server_timeout_seconds):
                    await self._identity.require(connection, self.location)
            is_first = is_change and not self._has_forgotten
            if is_first and (makes_schema or await self.has_schema(connection)):
                await self.prepare(connection)
        except BaseException as error:
            self.give(connection, error)
            raise
        return connection

    def give(self, connection: Connection, error: BaseException | None) -> None:
        """Give a connection back, after what went wrong on it."""
        if error is not None and is_lost(error) and not isinstance(error, asyncpg.PostgresError):
            cut(connection)
        self._held.discard(connection)
        self._hand.give(connection, is_fine=error is None)

    async def settled(self) -> None:
        """Wait for the end of cancelled statements; a cancelled call leaves them to the server."""
        if self._hand is not None:
            await self._hand.returned()

    async def _acquired(self, hand: Hand) -> Connection:
        seconds = self.options.lock_timeout_seconds
        if not self._is_in_use:  # it may be the server that has to answer
            seconds = max(seconds, self.options.server_timeout_seconds)
        try:
            async with asyncio.timeout(seconds):
                return await hand.acquired()
        except TimeoutError:
            if not self._is_in_use:
                raise  # of the connecting
            what = f"all {self.max_connections} connections to {self.location}"
            raise StoreBusyError(what, seconds) from None

    @property
    def _is_in_use(self) -> bool:
        """Whether all connections are."""
        pool = self._pool
        return not pool.get_idle_size() and pool.get_size() >= self.max_connections

    async def _opened(self) -> None:
        if self._is_closed:
            raise WriterClosedError("the store is closed")
        if self._opening is None or (self._opening.done() and not self._is_open):
            self._opening = asyncio.ensure_future(self._open())
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        if self._pool is None:
            self._pool = await self._made_pool()
            self._hand = Hand(self._pool, keeps=self._pool is not self._source)
        async with asyncio.timeout(self.options.server_timeout_seconds):
            connection = await self._pool.acquire()
            try:
                await self._look(connection)
            finally:
                await self._pool.release(connection, timeout=RELEASE_SECONDS)
        self._is_open = True
        self._was_connected.set()

    async def _made_pool(self) -> Any:
        if not isinstance(self._source, str):
            return self._source
        options = self.options
        return await made_pool(
            self._source,
            options.max_connections,
            options.statement_cache_size,
            options.server_timeout_seconds,
        )

    async def _look(self, connection: Connection) -> None:
        """Refuse a server that cannot hold checkpoints."""
        server = await connection.fetchrow(_LOOK)
        if not isinstance(self._source, str):
            schema = quote(self.options.schema, safe="")
            self.location = f"postgresql:///{quote(server['database'], safe='')}?schema={schema}"
        reason = None
        if server["version"] < _OLDEST_VERSION:
            reason = f"its version is {server['version'] // 10000}; use PostgreSQL 13 or newer"
        elif server["is_replica"]:
            reason = IS_REPLICA
        elif server["isolation"] != "read committed":
            reason = (
                f"default_transaction_isolation is {server['isolation']!r}, which hides what others"
                " commit; set it to 'read committed' for the role"
            )
        if reason is not None:
            raise UnsuitableStoreError(self.location, reason)
        if server["fsync"] != "on":
            _logger.warning("fsync is off at %s: a power cut loses what was saved", self.location)
        self._is_read_only = server["is_read_only"]

    async def found(
        self, query: str, arguments: tuple[Any, ...], connection: Connection
    ) -> list[Any]:
        """Return what a query finds: nothing where there is no schema, and none is made."""
        if not await self.has_schema(connection):
            return []
        rows: list[Any] = await connection.fetch(self.sql(query), *arguments)
        return rows

    async def has_schema(self, connection: Connection) -> bool:
        """
        Tell whether there is a schema; it makes none.

        One of an older version, which lacks what is asked for, is brought up to date.
        """
        if not self._has_schema and await version_of(connection, self.options.schema):
            await self._require_schema(connection)
        return self._has_schema

    async def prepare(self, connection: Connection) -> None:
        """Make the schema for a change, and forget those who commit no more."""
        async with asyncio.timeout(self.options.server_timeout_seconds):
            await self._require_schema(connection)
            await connection.execute(self.sql(_FORGET))
        self._has_forgotten = True

    async def _require_schema(self, connection: Connection) -> None:
        options = self.options
        await require_schema(connection, options.schema, self.location, migrates=options.migrates)
        self._has_schema = True

    async def aclose(self) -> None:
        """Say goodbye on the connections that are idle, and cut those that are not."""
        self._is_closed = True
        if self._opening is not None and not self._opening.done():
            await asyncio.wait([self._opening])
        pool, self._pool, self._is_open = self._pool, None, False
        for connection in self._held:
            cut(connection)  # the pool would wait for it
        if self._hand is not None:
            await self._hand.aclose()
        if pool is None or pool is self._source:
            return
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await pool.close()
        except Exception:  # noqa: BLE001 - what was not said goodbye to is cut off
            pool.terminate()

    def terminate(self) -> None:
        """Cut all connections off."""
        if self._pool is not None and self._pool is not self._source:
            self._pool.terminate()
