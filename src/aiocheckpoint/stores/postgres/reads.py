"""What is read of sessions: queries, and their answers as records and listing entries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import structs

from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointError,
    MissingBlobError,
    StoreUnavailableError,
)
from aiocheckpoint.kit import LookAhead, RecordKit, RecordT, blob_links, raise_all
from aiocheckpoint.models import CheckpointId, CheckpointMeta, SessionId
from aiocheckpoint.stores.postgres import queries
from aiocheckpoint.stores.postgres.ahead import Ahead, Content, Contents
from aiocheckpoint.stores.postgres.bodies import Bodies
from aiocheckpoint.stores.postgres.errors import is_damage, is_lost, reason_of
from aiocheckpoint.stores.postgres.listing import entry_of
from aiocheckpoint.stores.postgres.packing import unpacked, unpacked_bytes
from aiocheckpoint.stores.postgres.pools import Connection
from aiocheckpoint.stores.postgres.server import Server, cut

ResultT = TypeVar("ResultT")
_Seqs = list[int]  # within the class below `list` is a method
_Rows = list[Any]

_INLINE_BYTES = 256 * 1024  # what is larger is decoded in a thread


def _bounded(limit: int | None) -> int | None:
    """Return a limit that the server has a number for."""
    return None if limit is None else min(limit, 2**63 - 1)


class Row(NamedTuple):
    """
    A checkpoint, as it stands in its table.

    Attributes:
        seq: its place in the order of saving.
        checkpoint_id: its id.
        saved_at: when it was stored.
        parts: what its body is made of; None where the server cannot read it.
        problem: what the server says of that.
    """

    seq: int
    checkpoint_id: CheckpointId
    saved_at: datetime
    parts: list[bytes] | None
    problem: str = ""


def end_of(prefix: bytes) -> bytes | None:
    """Return what is greater than all that begins so; None where nothing is."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else None


async def in_thread_if_large(size_bytes: int, work: Callable[[], ResultT]) -> ResultT:
    """Do what takes long for large contents in a thread, and here for others."""
    if size_bytes <= _INLINE_BYTES:
        return work()
    return await asyncio.to_thread(work)


def unreadable(error: CheckpointError) -> str | None:
    """Return what the server says of contents that it cannot read; None of another error."""
    cause = error.__cause__
    if cause is None or not is_damage(cause):
        return None
    return f"the server cannot read it: {reason_of(cause)}"


class Reads(Generic[RecordT]):
    """
    The reads of a store, on a connection that is given or any.

    Args:
        server: where.
        kit: what bodies are.
        bodies: those of the loop.
        connection: of a transaction; None for any.

    Attributes:
        lost: why the connection of the transaction cannot be used any more; None while it can.
    """

    def __init__(
        self,
        server: Server,
        kit: RecordKit[RecordT],
        bodies: Bodies,
        connection: Connection | None = None,
    ) -> None:
        self._server = server
        self._kit = kit
        self._bodies = bodies
        self._connection = connection
        self.lost: Exception | None = None

    async def fetch(self, query: str, /, *arguments: Any) -> _Rows:
        """Return what a query, written for schema "aiocheckpoint", finds."""
        found = partial(self._server.found, query, arguments)
        if self._connection is None:
            return await self._server.run("read", found)
        try:
            async with asyncio.timeout(self._server.options.server_timeout_seconds):
                return await found(self._connection)
        except Exception as error:
            if is_lost(error):
                self.lost = error
                cut(self._connection)
            raise self._server.error(error, "read") from error

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None
    ) -> RecordT | None:
        """Return a checkpoint, the newest for None."""
        try:
            if checkpoint_id is not None:
                rows = await self._read(session_id, queries.LOAD, checkpoint_id.encode())
                return await self._decoded(session_id, rows[0]) if rows else None
            rows = await self._read(session_id, queries.LOAD_NEWEST)
            return await self._newest(session_id, rows[0]) if rows else None
        except CheckpointCorruptError as error:
            self._bodies.forget(session_id)
            if checkpoint_id is None and self._connection is None:
                error.newest_valid_id = await self.newest_valid_id(session_id)
            raise

    async def _read(self, session_id: SessionId, query: str, *arguments: Any) -> _Rows:
        """Return contents; that the server cannot read what it has is damage."""
        try:
            return await self.fetch(query, session_id.encode(), *arguments)
        except StoreUnavailableError as error:
            reason = unreadable(error)
            if reason is None:
                raise
            location = self._server.location_of(session_id)
            raise CheckpointCorruptError(location, reason, session_id=session_id) from error

    async def _newest(self, session_id: SessionId, row: Mapping[str, Any]) -> RecordT:
        """Return the record of the newest, against which the next one may be packed."""
        record, body = await self._unpacked(session_id, row["checkpoint_id"].decode(), row["parts"])
        self._bodies.loaded(session_id, row["seq"], row["parts"], body)
        return record

    async def _decoded(self, session_id: SessionId, row: Mapping[str, Any]) -> RecordT:
        record, _ = await self._unpacked(session_id, row["checkpoint_id"].decode(), row["parts"])
        return record

    async def _unpacked(
        self, session_id: SessionId, checkpoint_id: CheckpointId, parts: Sequence[bytes]
    ) -> tuple[RecordT, bytes]:
        location = self._server.location_of(session_id, checkpoint_id)
        known = self._bodies.known(session_id, parts)

        def work() -> tuple[RecordT, bytes]:
            body = unpacked(parts, location) if known is None else known
            return self._kit.decode(body, location, session_id, checkpoint_id), body

        size_bytes = unpacked_bytes(parts) if known is None else len(known)
        try:
            return await in_thread_if_large(size_bytes, work)
        except CheckpointCorruptError as error:
            error.session_id, error.checkpoint_id = session_id, checkpoint_id
            raise

    async def decoded(self, session_id: SessionId, row: Row) -> RecordT:
        """Return the record of a row."""
        if row.parts is None:
            location = self._server.location_of(session_id, row.checkpoint_id)
            raise CheckpointCorruptError(
                location, row.problem, session_id=session_id, checkpoint_id=row.checkpoint_id
            )
        record, _ = await self._unpacked(session_id, row.checkpoint_id, row.parts)
        return record

    async def verify(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        """Tell whether a checkpoint is there and intact."""
        try:
            rows = await self._read(session_id, queries.LOAD, checkpoint_id.encode())
        except CheckpointCorruptError:
            return False
        if not rows:
            return False
        location = self._server.location_of(session_id, checkpoint_id)
        return await self.is_intact(rows[0]["parts"], location)

    async def is_intact(self, parts: Sequence[bytes], location: str) -> bool:
        """Tell whether a body is as it was saved."""

        def work() -> bool:
            try:
                return self._kit.is_intact(unpacked(parts, location), location)
            except CheckpointCorruptError:
                return False

        return await in_thread_if_large(unpacked_bytes(parts), work)

    async def newest_valid_id(self, session_id: SessionId) -> CheckpointId | None:
        """Return the id of the newest checkpoint that is intact."""
        async for row in self.rows(session_id, is_backward=True):
            if await self.problem_of(session_id, row) is None:
                return row.checkpoint_id
        return None

    async def problem_of(self, session_id: SessionId, row: Row) -> CheckpointError | None:
        """Return what is wrong with a checkpoint, whatever its type; None if nothing is."""
        try:
            await self.decoded(session_id, row)
        except CheckpointDecodeError:
            return None  # a record of another type
        except CheckpointError as error:
            return error
        return None

    async def load_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId]
    ) -> tuple[RecordT, ...]:
        """Return those of the checkpoints that are there, saved first first."""
        wanted = [checkpoint_id.encode() for checkpoint_id in dict.fromkeys(checkpoint_ids)]
        rows = await self._read(session_id, queries.LOAD_MANY, wanted) if wanted else []
        return tuple([await self._decoded(session_id, row) for row in rows])

    async def look_ahead(self, session_id: SessionId, what: LookAhead) -> Ahead | None:
        """Return the answers to what is about to be asked; None for no answer."""
        arguments = (what.newest, what.head.encode(), what.family.encode(), what.shared_bytes)
        try:
            rows = await self.fetch(queries.LOOK_AHEAD, session_id.encode(), *arguments)
        except StoreUnavailableError as error:
            if unreadable(error) is None:
                raise
            return None
        return Ahead(what, rows[0]) if rows else None

    async def records(
        self, session_id: SessionId, contents: Iterable[Content], newest_id: CheckpointId | None
    ) -> tuple[RecordT, ...]:
        """Return the records of contents; that of the newest is remembered."""
        found: list[RecordT] = []
        for content in contents:
            record, body = await self._unpacked(session_id, content.checkpoint_id, content.parts)
            if content.checkpoint_id == newest_id:
                self._bodies.loaded(session_id, content.seq, content.parts, body)
            found.append(record)
        return tuple(found)

    async def load_newest(self, session_ids: Sequence[SessionId]) -> dict[SessionId, RecordT]:
        """Return the newest checkpoint of each session that has one."""
        rows = await self.fetch(queries.NEWEST_OF_MANY, [name.encode() for name in session_ids])
        found: dict[SessionId, RecordT] = {}
        refused: list[CheckpointError] = []
        for row in rows:
            session_id = row["session_id"].decode()
            try:
                found[session_id] = await self._decoded(session_id, row)
            except CheckpointError as error:
                refused.append(error)
        raise_all(refused, found)
        return found

    async def list(
        self, session_id: SessionId, before: CheckpointId | None, limit: int | None
    ) -> tuple[CheckpointMeta, ...]:
        """Return listing entries, saved last first."""
        if before is None:
            rows = await self.fetch(queries.LIST, session_id.encode(), _bounded(limit))
        else:
            rows = await self.fetch(
                queries.LIST_BEFORE, session_id.encode(), before.encode(), _bounded(limit)
            )
        return tuple([self._entry(session_id, row) for row in rows])

    def _entry(self, session_id: SessionId, row: Mapping[str, Any]) -> CheckpointMeta:
        location = self._server.location_of(session_id, row["checkpoint_id"].decode())
        return entry_of(self._kit, row, location, session_id)

    async def ids(
        self,
        session_id: SessionId,
        prefix: str,
        before: CheckpointId | None,
        limit: int | None,
    ) -> tuple[CheckpointId, ...]:
        """Return ids, the greatest first."""
        begin = prefix.encode(errors="surrogatepass")
        ends = [end for end in (end_of(begin), before and before.encode()) if end is not None]
        if before == "":
            return ()
        end = min(ends, default=None)
        rows = await self.fetch(queries.IDS, session_id.encode(), begin, end, _bounded(limit))
        return tuple([row["checkpoint_id"].decode() for row in rows])

    async def saved_ids(
        self, session_id: SessionId, prefix: str, limit: int | None
    ) -> tuple[CheckpointId, ...]:
        """Return ids, the one saved last first."""
        begin = prefix.encode(errors="surrogatepass")
        session = session_id.encode()
        rows = await self.fetch(queries.SAVED_IDS, session, begin, end_of(begin), _bounded(limit))
        return tuple([row["checkpoint_id"].decode() for row in rows])

    async def load_blobs(self, session_id: SessionId, digests: Iterable[str]) -> dict[str, bytes]:
        """Return blobs by their digests."""
        wanted = list(dict.fromkeys(digests))
        asked = [bytes.fromhex(digest) for digest in wanted]
        rows = await self._read(session_id, queries.BLOBS, asked) if wanted else []
        contents = {row["digest"].hex(): row["content"] for row in rows}
        return await self.verified_blobs(session_id, wanted, contents)

    async def verified_blobs(
        self, session_id: SessionId, digests: Iterable[str], contents: Mapping[str, bytes]
    ) -> dict[str, bytes]:
        """Return blobs, once their contents are what their digests say."""
        location = self._server.location_of(session_id)

        def work() -> dict[str, bytes]:
            found: dict[str, bytes] = {}
            for digest in digests:
                place = f"{location}/blobs/{digest}"
                if digest not in contents:
                    raise MissingBlobError(place, digest)
                found[digest] = self._kit.blob(contents[digest], digest, place)
            return found

        try:
            return await in_thread_if_large(sum(map(len, contents.values())), work)
        except CheckpointCorruptError as error:
            error.session_id = session_id
            self.doubt_blobs(session_id)
            raise

    def doubt_blobs(self, session_id: SessionId) -> None:
        """Let saves give blobs of a session again, some of which are missing or damaged."""
        self._bodies.blobs.forget(session_id)

    async def load_reached(
        self, session_id: SessionId, digests: Iterable[str], known: set[str]
    ) -> dict[str, bytes]:
        """Return blobs, and all that they lead to, without those that are known."""
        found: dict[str, bytes] = {}
        wanted = set(digests) - known
        while wanted:
            level = await self.load_blobs(session_id, wanted)
            found |= level
            links = {link for content in level.values() for link in blob_links(content)}
            wanted = links - known - found.keys()
        return found

    async def sessions(self, prefix: str) -> AsyncIterator[SessionId]:
        """Yield the ids of sessions that have checkpoints, in the order of their bytes."""
        async for row in self._over_sessions(queries.SESSIONS, prefix):
            yield row["session_id"].decode()

    async def unfinished(
        self, final_triggers: Iterable[str], prefix: str
    ) -> AsyncIterator[CheckpointMeta]:
        """Yield the newest of each session where its trigger is not a final one."""
        final = [trigger.encode(errors="surrogatepass") for trigger in final_triggers]
        limit = _bounded(self._kit.max_bytes)
        async for row in self._over_sessions(queries.UNFINISHED, prefix, final, limit):
            meta = self._entry(row["session_id"].decode(), row)
            if row["is_damaged"]:
                problem = str(CheckpointCorruptError(meta.location, "its body was changed"))
                meta = structs.replace(meta, problem=problem)
            yield meta

    async def _over_sessions(
        self, query: str, prefix: str, *arguments: Any
    ) -> AsyncIterator[Mapping[str, Any]]:
        begin = prefix.encode(errors="surrogatepass")
        after = None
        while True:
            rows = await self.fetch(query, begin, after, end_of(begin), queries.PAGE, *arguments)
            for row in rows:
                yield row
            if len(rows) < queries.PAGE:
                return
            after = rows[-1]["session_id"]

    # What looks at everything

    async def rows(
        self, session_id: SessionId, *, after: int = 0, is_backward: bool = False
    ) -> AsyncIterator[Row]:
        """
        Yield the checkpoints of a session, some megabytes at a time, saved first first.

        Those that are there by now: beside somebody who saves all the time there is an end, too.
        """
        query, place, end = queries.ROWS_BACK, queries.LAST_SEQ, queries.LAST_SEQ
        if not is_backward:
            newest = await self.fetch(queries.NEWEST_SEQ, session_id.encode())
            query, place, end = queries.ROWS, after, newest[0]["seq"] if newest else 0
        while rows := await self.fetch(query, session_id.encode(), place):
            page = [row for row in rows if row["seq"] <= end]
            if not page:
                return
            bodies = await self._parts(session_id, [row["seq"] for row in page])
            for row in page:
                place = row["seq"]
                if place not in bodies:
                    continue  # deleted meanwhile
                parts = bodies[place]
                yield Row(
                    place,
                    row["checkpoint_id"].decode(),
                    row["saved_at"],
                    *((None, parts) if isinstance(parts, str) else (parts, "")),
                )

    async def _parts(self, session_id: SessionId, seqs: _Seqs) -> dict[int, Any]:
        """Return bodies, or what the server says of those that it cannot read."""
        try:
            rows = await self.fetch(queries.BODIES, session_id.encode(), seqs)
        except StoreUnavailableError as error:
            reason = unreadable(error)
            if reason is None:
                raise
            if len(seqs) == 1:
                return {seqs[0]: reason}
            parts = [await self._parts(session_id, [seq]) for seq in seqs]
            return {seq: found for part in parts for seq, found in part.items()}
        bodies = [row for row in rows if not row["is_checkpoint"]]
        columns = ([row[name] for row in bodies] for name in ("seq", "base_seq", "content"))
        contents = Contents(*columns)
        return {row["seq"]: contents.parts(row["seq"]) for row in rows if row["is_checkpoint"]}

    async def blobs(self, session_id: SessionId) -> AsyncIterator[tuple[str, str | None]]:
        """Yield the digest of each blob of a session, and what is wrong with it."""
        after = b""
        while page := await self.fetch(queries.BLOB_DIGESTS, session_id.encode(), after):
            for row in page:
                after = row["digest"]
                digest = after.hex()
                try:
                    await self.load_blobs(session_id, [digest])
                except MissingBlobError:
                    continue  # deleted meanwhile
                except CheckpointCorruptError as error:
                    yield digest, error.reason
                else:
                    yield digest, None
