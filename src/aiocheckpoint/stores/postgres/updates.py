"""`update`: read, decide and write in one transaction of the database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from aiocheckpoint.errors import CheckpointError, StoreBusyError
from aiocheckpoint.kit import (
    Patience,
    RecordKit,
    RecordT,
    StagedDelete,
    StagedSave,
    outlast,
    result_of,
)
from aiocheckpoint.models import SessionId
from aiocheckpoint.stores.postgres import changes as answers
from aiocheckpoint.stores.postgres.changes import (
    APPLY,
    OUTCOMES,
    Change,
    arguments,
    is_baseless,
)
from aiocheckpoint.stores.postgres.commits import Commits, Slot
from aiocheckpoint.stores.postgres.errors import LostError, is_lost
from aiocheckpoint.stores.postgres.packing import Packed
from aiocheckpoint.stores.postgres.pools import Connection
from aiocheckpoint.stores.postgres.reads import Reads
from aiocheckpoint.stores.postgres.server import Server, cut
from aiocheckpoint.stores.postgres.sessions import Updating
from aiocheckpoint.stores.postgres.staged import Preparing, Staged

ResultT = TypeVar("ResultT")

_LOCK_TIMEOUT = "select set_config('lock_timeout', $1, true)"
_HAVE_CHECKPOINTS = """
select exists (
    select from aiocheckpoint.session where session_key = any ($1::bigint[]) and checkpoints > 0
)
"""
_LOCK = "select aiocheckpoint.lock_session($1, true, true)"
_OPERATION = "update"
_PAUSE_SECONDS = 0.1
_ROLLBACK_SECONDS = 5.0


class Updates(Generic[RecordT]):
    """
    Updates of one event loop.

    Args:
        server: where.
        kit: of the store.
        commits: those of the loop, whose slots and room are shared.
    """

    def __init__(self, server: Server, kit: RecordKit[RecordT], commits: Commits) -> None:
        self._server = server
        self._kit = kit
        self._commits = commits

    async def run(
        self,
        session_ids: Sequence[SessionId],
        work: Callable[[Mapping[SessionId, Updating[RecordT]]], Awaitable[ResultT]],
        fence: int | None = None,
    ) -> ResultT:
        """
        Let `work` read sessions, and commit what it stages; again where the connection was lost.

        Args:
            session_ids: each once; nobody else of this process changes them meanwhile.
            work: may be called several times.
            fence: the token of the owner who makes the changes.
        """
        options = self._server.options
        patience: Patience | None = None
        try:
            async with asyncio.timeout(options.lock_timeout_seconds):
                await self._commits.may_wait.acquire()
        except TimeoutError:
            raise StoreBusyError(self._server.location, options.lock_timeout_seconds) from None
        is_alone = False
        try:
            while True:
                attempt = _Attempt(self._server, self._kit, self._commits, is_alone=is_alone)
                try:
                    return await attempt.run(session_ids, work, fence)
                except _BaselessError:  # `work` may read the same base again
                    is_alone = True
                    continue
                except _OvertakenError:  # by the first who have stored anything there
                    continue
                except LostError as error:
                    patience = patience or Patience(self._server.patience_seconds, _PAUSE_SECONDS)
                    if patience.is_over:
                        cause = error.__cause__ or error
                        raise self._server.error(cause, _OPERATION) from cause
                await patience.pause()
        finally:
            self._commits.may_wait.release()


class _BaselessError(Exception):
    """What a body was packed against is not there; nothing was changed."""


class _OvertakenError(Exception):
    """Somebody else has stored something where nothing could be locked yet."""


class _NothingYet(Reads[RecordT]):
    """What is read where there is no schema when an update begins, whoever makes it meanwhile."""

    async def fetch(self, _: str, /, *__: Any) -> list[Any]:
        """Return nothing."""
        return []


class _Attempt(Generic[RecordT]):
    def __init__(
        self, server: Server, kit: RecordKit[RecordT], commits: Commits, *, is_alone: bool
    ) -> None:
        self._server = server
        self._kit = kit
        self._commits = commits
        self._is_alone = is_alone

    async def run(
        self,
        session_ids: Sequence[SessionId],
        work: Callable[[Mapping[SessionId, Updating[RecordT]]], Awaitable[ResultT]],
        fence: int | None,
    ) -> ResultT:
        """
        Try once.

        Raises:
            LostError: to try again may help; nothing was changed.
            _BaselessError: to try again, with bodies that are packed alone, does help.
            _OvertakenError: to try again does help.
        """
        async with contextlib.AsyncExitStack() as stack:
            with self._driver_errors():
                connection = await stack.enter_async_context(
                    self._server.connection(is_change=True, makes_schema=fence is not None)
                )
                has_schema = await self._server.has_schema(connection)
            bodies = self._commits.bodies
            if has_schema:
                transaction, keys = await self._locked(connection, session_ids)
                async with _undone_by_an_error(transaction):
                    reads = Reads(self._server, self._kit, bodies, connection)
                    result, steps = await self._done(work, session_ids, reads)
            else:
                reads = _NothingYet(self._server, self._kit, bodies)
                result, steps = await self._done(work, session_ids, reads)
                if not any(isinstance(step, StagedSave) for it in steps.values() for step in it):
                    return result
                transaction, keys = await self._locked_while_empty(connection, session_ids)
            staged = [Staged.of(name, key, steps[name]) for name, key in keys.items()]
            staged = [each for each in staged if not each.is_nothing]
            if not staged:
                await _rolled_back(transaction)
                return result
            await outlast(self._committed(connection, transaction, staged, fence))
            return result

    @contextlib.contextmanager
    def _driver_errors(self) -> Iterator[None]:
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:
            if is_lost(error):
                raise LostError("the connection was lost") from error
            raise self._server.error(error, _OPERATION) from error

    async def _locked(
        self, connection: Connection, session_ids: Sequence[SessionId]
    ) -> tuple[Any, dict[SessionId, int]]:
        """Return a transaction that holds sessions, and the keys of their rows."""
        with self._driver_errors():
            transaction = connection.transaction(isolation="read_committed")
            await transaction.start()
        async with _undone_by_an_error(transaction):
            with self._driver_errors():
                return transaction, await self._lock(connection, session_ids)

    async def _locked_while_empty(
        self, connection: Connection, session_ids: Sequence[SessionId]
    ) -> tuple[Any, dict[SessionId, int]]:
        """Make the schema, and do what `_locked` does, unless others were there first."""
        with self._driver_errors():
            await self._server.prepare(connection)
        transaction, keys = await self._locked(connection, session_ids)
        async with _undone_by_an_error(transaction):
            with self._driver_errors():
                query = self._server.sql(_HAVE_CHECKPOINTS)
                is_overtaken = await connection.fetchval(query, [*keys.values()])
        if is_overtaken:
            await _rolled_back(transaction)
            raise _OvertakenError
        return transaction, keys

    async def _lock(
        self, connection: Connection, session_ids: Sequence[SessionId]
    ) -> dict[SessionId, int]:
        """Lock the rows of sessions, in the order of all who do, and return their keys."""
        keys: dict[SessionId, int] = {}
        options = self._server.options
        async with asyncio.timeout(options.server_timeout_seconds + options.lock_timeout_seconds):
            await connection.execute(_LOCK_TIMEOUT, str(options.lock_timeout_ms))
            for session_id in sorted(session_ids, key=str.encode):
                keys[session_id] = await connection.fetchval(
                    self._server.sql(_LOCK), session_id.encode()
                )
        return keys

    async def _done(
        self,
        work: Callable[[Mapping[SessionId, Updating[RecordT]]], Awaitable[ResultT]],
        session_ids: Sequence[SessionId],
        reads: Reads[RecordT],
    ) -> tuple[ResultT, dict[SessionId, tuple[StagedSave | StagedDelete, ...]]]:
        """Return what `work` returns, and what it has staged of each session."""
        readings = {name: Updating(self._kit, name, reads) for name in session_ids}
        result = await self._result(work, readings, reads)
        return result, {name: reading.end() for name, reading in readings.items()}

    @staticmethod
    async def _result(
        work: Callable[[Mapping[SessionId, Updating[RecordT]]], Awaitable[ResultT]],
        readings: Mapping[SessionId, Updating[RecordT]],
        reads: Reads[RecordT],
    ) -> ResultT:
        try:
            return await result_of(work, readings)
        except Exception:
            if reads.lost is not None:  # whatever `work` makes of it
                raise LostError("the connection was lost") from reads.lost
            raise

    async def _committed(
        self,
        connection: Connection,
        transaction: Any,
        staged: list[Staged],
        fence: int | None,
    ) -> None:
        slot = self._commits.slots.take()
        preparing = Preparing(self._server, connection, self._kit, self._commits.max_checkpoints)
        try:
            with self._driver_errors():
                async with asyncio.timeout(self._server.options.server_timeout_seconds):
                    parts = [await preparing.changes(each, fence) for each in staged]
            changes = [change for part in parts for change in part]
            bodies = await self._commits.bodies.packed(changes, is_alone=self._is_alone)
            with self._driver_errors():
                async with asyncio.timeout(self._server.options.server_timeout_seconds):
                    outcomes = await self._apply(connection, slot, changes, bodies)
                    refusal = self._refusal(changes, outcomes)
                    if refusal is None:
                        await preparing.let_go(staged)
                    await (transaction.commit() if refusal is None else transaction.rollback())
        except LostError:
            cut(connection)
            if await self._outcomes(slot) is None:
                self._commits.slots.give(slot)
                raise
            refusal = None  # it was committed
        except CheckpointError:
            await _rolled_back(transaction)
            self._commits.slots.give(slot)
            raise
        else:
            if refusal is None:
                self._commits.bodies.made(changes, bodies, outcomes)
        self._commits.slots.give(slot)
        if refusal is not None:
            raise refusal

    async def _apply(
        self,
        connection: Connection,
        slot: Slot,
        changes: list[Change],
        bodies: list[Packed | None],
    ) -> list[bytes]:
        outcomes: list[bytes] = await connection.fetchval(
            self._server.sql(APPLY),
            slot.writer_id,
            slot.batch,
            self._server.options.lock_timeout_ms,
            None,  # how many to keep in a session: those above are among the changes
            *arguments(changes, bodies),
        )
        return outcomes

    def _refusal(self, changes: list[Change], outcomes: list[bytes]) -> Exception | None:
        for change, outcome in zip(changes, outcomes, strict=True):
            if is_baseless(outcome):
                return _BaselessError()
            result = answers.result_of(change, outcome, self._server.location_of)
            if isinstance(result, CheckpointError):
                return result
        return None

    async def _outcomes(self, slot: Slot) -> list[bytes] | None:
        """Tell what came of a commit whose answer was lost; None where it was not made."""
        options = self._server.options
        return await self._server.run(
            "commit an update",
            lambda connection: connection.fetchval(
                self._server.sql(OUTCOMES), slot.writer_id, slot.batch, options.lock_timeout_ms
            ),
            wait_seconds=options.lock_timeout_seconds,
            is_change=True,
            is_unknown=True,
        )


@contextlib.asynccontextmanager
async def _undone_by_an_error(transaction: Any) -> AsyncIterator[None]:
    """Undo a transaction when the block fails."""
    try:
        yield
    except BaseException:
        await _rolled_back(transaction)
        raise


async def _rolled_back(transaction: Any) -> None:
    """Undo a transaction; of one whose connection is gone, the server does it by itself."""

    async def roll_back() -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_ROLLBACK_SECONDS):
                await transaction.rollback()

    await outlast(roll_back())
