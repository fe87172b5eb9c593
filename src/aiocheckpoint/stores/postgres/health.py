"""What is wrong with what is stored, and the way back."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from datetime import datetime
from typing import Any, NamedTuple

from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointTooLargeError,
    FormatVersionError,
    MissingBlobError,
    MissingStoreError,
)
from aiocheckpoint.kit import EncodedRecord, RecordKit
from aiocheckpoint.models import Finding, FindingKind, RecoveryReport, SessionId
from aiocheckpoint.stores.postgres import queries
from aiocheckpoint.stores.postgres.packing import unpacked, unpacked_bytes
from aiocheckpoint.stores.postgres.pools import Connection
from aiocheckpoint.stores.postgres.reads import Reads, Row, in_thread_if_large
from aiocheckpoint.stores.postgres.schema import version_of
from aiocheckpoint.stores.postgres.server import Server


class _Bad(NamedTuple):
    seq: int
    saved_at: datetime
    reason: str
    is_readable: bool


class Health:
    """
    Looks after a store.

    Args:
        server: where.
        kit: of the store.
        reads: of the store.
    """

    def __init__(self, server: Server, kit: RecordKit[Any], reads: Reads[Any]) -> None:
        self._server = server
        self._kit = kit
        self._reads = reads

    async def exists(self) -> bool:
        """Tell whether there is a schema."""
        with suppress(MissingStoreError):
            return await self._has_schema()
        return False

    async def _has_schema(self) -> bool:
        async def look(connection: Connection) -> bool:
            return bool(await version_of(connection, self._server.options.schema))

        return await self._server.run("read", look)

    @asynccontextmanager
    async def marked(self) -> AsyncIterator[str]:
        """Hold a lock that stands for a new mark, in a transaction: a pooler may be between."""
        mark = secrets.token_hex(16)
        held = AsyncExitStack()
        try:
            with self._told("mark"):
                connection = await held.enter_async_context(
                    self._server.connection(is_change=False)
                )
                await held.enter_async_context(connection.transaction())
                await connection.execute("select pg_advisory_xact_lock($1)", self._key_of(mark))
            yield mark
        finally:
            with self._told("mark"):
                await held.aclose()

    async def has_mark(self, mark: str) -> bool:
        """Tell whether anybody holds the lock of a mark."""

        async def look(connection: Connection) -> bool:
            query = "select pg_try_advisory_xact_lock($1)"
            return not await connection.fetchval(query, self._key_of(mark))

        return await self._server.run("read", look)

    def _key_of(self, mark: str) -> int:
        """Return the lock of a mark in this schema; locks are those of a database."""
        text = f"{self._server.options.schema}/{mark}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], signed=True)

    @contextmanager
    def _told(self, operation: str) -> Iterator[None]:
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:
            raise self._server.error(error, operation) from error

    async def findings(self) -> AsyncIterator[Finding]:
        """Yield what is wrong, session after session."""
        after = 0
        newest = await self._reads.fetch(queries.NEWEST_SESSION)
        end = newest[0]["session_key"] if newest else 0  # or there may be none, beside who saves
        while page := await self._reads.fetch(queries.ALL_SESSIONS, after, end):
            for row in page:
                after = row["session_key"]
                async for finding in self._of_session(row["session_id"].decode()):
                    yield finding

    async def _of_session(self, session_id: SessionId) -> AsyncIterator[Finding]:
        async for row in self._reads.rows(session_id):
            error = await self._reads.problem_of(session_id, row)
            if error is not None:
                location = self._server.location_of(session_id, row.checkpoint_id)
                kind = await self._kind(row, location, error)
                yield _finding(kind, location, _detail(error), session_id)
        async for digest, problem in self._reads.blobs(session_id):
            if problem is not None:
                location = self._server.location_of_blob(session_id, digest)
                yield _finding("damaged", location, problem, session_id)
        for row in await self._reads.fetch(queries.MISSING, session_id.encode()):
            self._reads.doubt_blobs(session_id)
            location = self._server.location_of_blob(session_id, row["digest"].hex())
            users = await self._reads.fetch(queries.USERS, session_id.encode(), [row["digest"]])
            ids = ", ".join(repr(user["checkpoint_id"].decode()) for user in users[:3])
            detail = f"what leads to it: {ids or 'a blob'}"
            yield _finding("missing-blob", location, detail, session_id)
        for row in await self._reads.fetch(queries.UNUSED, session_id.encode()):
            location = self._server.location_of_blob(session_id, row["digest"].hex())
            yield _finding("unused-blob", location, "no checkpoint refers to it", session_id)

    async def _kind(self, row: Row, location: str, error: CheckpointError) -> FindingKind:
        if row.parts is None or isinstance(error, CheckpointTooLargeError):
            return "unreadable"
        if isinstance(error, CheckpointMismatchError):
            return "misplaced"
        if isinstance(error, FormatVersionError):
            try:
                is_intact = await self._reads.is_intact(row.parts, location)
            except FormatVersionError:
                is_intact = False
            return "other-version" if is_intact else "unreadable"
        return "damaged"

    async def copies(
        self, source_id: SessionId, target_id: SessionId
    ) -> AsyncIterator[EncodedRecord]:
        """
        Yield what a session has by now as that of another, with the blobs that are new to it.

        One that is replaced meanwhile is found in its new place.
        """
        copied: set[str] = set()
        place = 0
        left = set(await self._reads.saved_ids(source_id, "", None))
        while left:
            async for row in self._reads.rows(source_id, after=place):
                place = row.seq
                if row.checkpoint_id not in left:
                    continue
                record = await self._copied(source_id, row, target_id)
                try:
                    blobs = await self._reads.load_reached(source_id, record.blob_digests, copied)
                except MissingBlobError:
                    if await self._is_there(source_id, row):
                        raise
                    continue  # it went with its checkpoint
                left.discard(row.checkpoint_id)
                copied |= blobs.keys()
                yield record._replace(blobs=blobs)
            left = left and left.intersection(await self._reads.saved_ids(source_id, "", None))

    async def _is_there(self, session_id: SessionId, row: Row) -> bool:
        query = queries.LOAD
        found = await self._reads.fetch(query, session_id.encode(), row.checkpoint_id.encode())
        return any(one["seq"] == row.seq for one in found)

    async def _copied(self, source_id: SessionId, row: Row, target_id: SessionId) -> EncodedRecord:
        location = self._server.location_of(source_id, row.checkpoint_id)
        parts = row.parts
        if parts is None:
            raise CheckpointCorruptError(location, row.problem)

        def work() -> EncodedRecord:
            body = unpacked(parts, location)
            return self._kit.copied(body, location, source_id, row.checkpoint_id, target_id)

        return await in_thread_if_large(unpacked_bytes(parts), work)

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        """
        Put aside what is damaged, and tell what is the newest then; no schema is made for that.

        Raises:
            CheckpointTooLargeError: nobody can tell whether one over `max_bytes` is damaged.
            FormatVersionError: the newest that is left is of another format version.
            MissingStoreError: there is no schema, and has to be one.
        """
        if not await self._has_schema():
            return RecoveryReport(session_id=session_id, newest_valid_id=None, quarantined=())
        blobs = {
            digest: problem
            async for digest, problem in self._reads.blobs(session_id)
            if problem is not None
        }
        bad = await self._bad_checkpoints(session_id, set(blobs))

        async def put_aside(connection: Connection) -> list[int]:
            numbers: list[int] = await connection.fetchval(
                self._server.sql(queries.PUT_ASIDE),
                session_id.encode(),
                [one.seq for one in bad],
                [one.saved_at for one in bad],
                [_plain(one.reason) for one in bad],
                [one.is_readable for one in bad],
                [bytes.fromhex(digest) for digest in blobs],
                [_plain(problem) for problem in blobs.values()],
                [not problem.startswith("the server") for problem in blobs.values()],
            )
            return numbers

        numbers = await self._server.run("recover", put_aside, is_change=True)
        newest = await self._reads.list(session_id, None, 1)
        return RecoveryReport(
            session_id=session_id,
            newest_valid_id=newest[0].checkpoint_id if newest else None,
            quarantined=tuple(f"{self._server.location}#quarantine/{n}" for n in numbers),
        )

    async def _bad_checkpoints(self, session_id: SessionId, bad_blobs: set[str]) -> list[_Bad]:
        missing = await self._reads.fetch(queries.MISSING, session_id.encode())
        lost = [*map(bytes.fromhex, bad_blobs), *(row["digest"] for row in missing)]
        users = await self._reads.fetch(queries.USERS, session_id.encode(), lost) if lost else []
        incomplete = {(row["seq"], row["saved_at"]) for row in users}
        bad: list[_Bad] = []
        newest_refused: CheckpointError | None = None
        async for row in self._reads.rows(session_id):
            error = await self._reads.problem_of(session_id, row)
            if isinstance(error, CheckpointTooLargeError):
                raise error
            if error is None and (row.seq, row.saved_at) in incomplete:
                error = CheckpointCorruptError("", "a blob that it leads to is damaged or missing")
            if isinstance(error, CheckpointCorruptError):
                is_readable = row.parts is not None
                bad.append(_Bad(row.seq, row.saved_at, _detail(error), is_readable))
            else:
                newest_refused = error
        if newest_refused is not None:
            raise newest_refused
        return bad


def _detail(error: CheckpointError) -> str:
    return error.reason if isinstance(error, CheckpointCorruptError) else str(error)


def _plain(text: str) -> str:
    """Return a text as any database can hold it."""
    return text.encode("ascii", "backslashreplace").decode().replace("\0", "\\0")


def _finding(kind: FindingKind, location: str, detail: str, session_id: SessionId) -> Finding:
    return Finding(kind=kind, location=location, detail=detail, session_id=session_id)
