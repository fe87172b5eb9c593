"""`PostgresStore`: checkpoints of agent sessions in a PostgreSQL database."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar, overload

import asyncpg

from aiocheckpoint.kit import (
    AsyncClosing,
    OwnedSession,
    RecordKit,
    RecordT,
    SessionTurns,
    check_checkpoint_id,
    check_session_id,
    checkpoint_ids_of,
    digests_of,
    outlast,
    require_callable,
    require_count,
    require_expected,
    require_instance,
    require_query,
    require_seconds,
    result_of,
    session_ids_of,
    token_of,
    triggers_of,
)
from aiocheckpoint.models import (
    ANY_NEWEST,
    CheckpointData,
    CheckpointId,
    CheckpointMeta,
    Expected,
    Finding,
    RecoveryReport,
    SessionId,
)
from aiocheckpoint.store import NO_BLOBS, Ownership, RecordUnion, SessionReader, Transaction
from aiocheckpoint.stores.postgres.changes import Change, Delete, Save
from aiocheckpoint.stores.postgres.client import Client
from aiocheckpoint.stores.postgres.clients import Clients
from aiocheckpoint.stores.postgres.listing import meta_of
from aiocheckpoint.stores.postgres.options import checked_options
from aiocheckpoint.stores.postgres.ownership import Leases
from aiocheckpoint.stores.postgres.urls import checked_source

ResultT = TypeVar("ResultT")
_Metas = tuple[CheckpointMeta, ...]

_DEFAULT_MAX_BYTES = 64 * 1024 * 1024


class PostgresStore(AsyncClosing, Generic[RecordT]):
    """
    Durable checkpoints of agent sessions in PostgreSQL; a `BlobStore`.

    ```py
    async with PostgresStore("postgresql://app@db.example.org/agents") as store:
        state = await store.load("support-42") or CheckpointData(session_id="support-42")
        await store.save(state.next(iteration=state.iteration + 1))
    ```

    Making one does no I/O; the first call connects, and the first that stores something makes the
    tables if they are not there. One store serves any number of sessions and tasks. Each event loop
    that uses it has connections of its own; a pool of the application's belongs to one loop, and so
    does a store that is given it. It belongs to the process that makes the first call.

    It works through PgBouncer in its transaction mode, which it notices: there it keeps no state in
    a session of the server, and without one only prepared statements.

    **Durability**: on return a change is committed, and on the server's disk: `synchronous_commit`
    counts unless it is `off`. What else that survives is the server's affair.

    **Cancellation**: a change that has not begun is withdrawn; one that has is waited for.

    **A server that is away**: calls wait for it and go on, for `server_timeout_seconds`, once the
    store has been connected; a commit whose answer was lost is asked for, and never made twice.

    Args:
        dsn_or_pool: a URL (`postgresql://user@host/database`), whose missing parts are taken from
            the environment as libpq does; or a pool of asyncpg that the application closes. With
            `?migrate=no` a schema of an older release is refused, not brought up to date.
        schema: the schema of the database that has the tables: letters, digits, underscores. By
            default what `schema=` in the URL says, as errors print it, else `aiocheckpoint`.
        record_type: the Struct to store, extending `CheckpointRecord`, or a union of several.
        max_bytes: largest document, and largest blob, to write or read.
        max_checkpoints: how many checkpoints to keep in a session, the newest; None keeps all.
            Sessions that only others save to are left alone.
        lock_timeout_seconds: how long a call waits for what others hold: a session that they
            change, a connection of the pool, or, in `own`, the session.
        server_timeout_seconds: how long to wait for an answer of the server until the connection
            is given up, and how long to try again then.
        lease_seconds: how long an owner that has died keeps its session; a living one tells the
            server three times as often that it is there.
        max_connections: most connections that a loop has, at least 4.
        statement_cache_size: prepared statements that asyncpg keeps in each connection. None is
            for 100 where a connection leads to the server itself, and for none where a pooler as
            PgBouncer stands between. None of them costs a message there and back for each call.
        compressed: whether bodies are stored compressed, most of them against the one saved before
            (64 MB of the newest are remembered for that). False stores documents as they are: SQL
            can read them, for several times the bytes. Either way both are read.
        must_exist: whether calls raise `MissingStoreError` where the schema is not there, and make
            none; `ReplacedStoreError` where it was dropped and made anew. One short query more for
            each call.

    Raises:
        RecordTypeError: for a `record_type` that cannot be stored.
        InvalidArgumentError: for another one of the wrong type or out of range.
    """

    @overload
    def __init__(
        self: PostgresStore[CheckpointData],
        dsn_or_pool: str | asyncpg.Pool[Any],
        *,
        schema: str | None = ...,
        max_bytes: int = ...,
        max_checkpoints: int | None = ...,
        lock_timeout_seconds: float = ...,
        server_timeout_seconds: float = ...,
        lease_seconds: float = ...,
        max_connections: int = ...,
        statement_cache_size: int | None = ...,
        compressed: bool = ...,
        must_exist: bool = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        dsn_or_pool: str | asyncpg.Pool[Any],
        *,
        schema: str | None = ...,
        record_type: type[RecordT] | RecordUnion,
        max_bytes: int = ...,
        max_checkpoints: int | None = ...,
        lock_timeout_seconds: float = ...,
        server_timeout_seconds: float = ...,
        lease_seconds: float = ...,
        max_connections: int = ...,
        statement_cache_size: int | None = ...,
        compressed: bool = ...,
        must_exist: bool = ...,
    ) -> None: ...

    def __init__(
        self,
        dsn_or_pool: str | asyncpg.Pool[Any],
        *,
        schema: str | None = None,
        record_type: Any = CheckpointData,
        max_bytes: int = _DEFAULT_MAX_BYTES,
        max_checkpoints: int | None = None,
        lock_timeout_seconds: float = 60.0,
        server_timeout_seconds: float = 30.0,
        lease_seconds: float = 15.0,
        max_connections: int = 10,
        statement_cache_size: int | None = None,
        compressed: bool = True,
        must_exist: bool = False,
    ) -> None:
        if max_checkpoints is not None:
            require_count("max_checkpoints", max_checkpoints, 1)
        require_seconds("lease_seconds", lease_seconds)
        source = checked_source(dsn_or_pool)
        options = checked_options(
            source.schema if schema is None else schema, max_connections, statement_cache_size,
            lock_timeout_seconds, server_timeout_seconds,
            compressed=compressed, must_exist=must_exist, migrates=source.migrates,
        )  # fmt: skip
        self._kit: RecordKit[RecordT] = RecordKit(record_type, max_bytes)
        self._max_checkpoints = max_checkpoints
        self._turns = SessionTurns(options.lock_timeout_seconds)
        self._leases = Leases(float(lease_seconds), self._turns)
        self._clients: Clients[RecordT] = Clients(
            source.dsn_or_pool, options, self._kit, max_checkpoints
        )

    def __repr__(self) -> str:
        return f"<PostgresStore {self._clients!r}>"

    @property
    def max_checkpoints(self) -> int | None:
        """How many checkpoints of a session are kept, the newest; None keeps all."""
        return self._max_checkpoints

    async def aclose(self) -> None:
        """
        Finish what was called, on all event loops, and close the connections.

        The `work` of an update is waited for no longer than `lock_timeout_seconds`; then it is
        not committed. Owners are not waited for: what they own is free when their leases end. A
        pool of the application's stays open. Later calls do nothing.

        Raises:
            NestedCallError: the work of an update calls it.
        """
        self._turns.require_no_update(None, "aclose")
        await self._clients.aclose()

    def _require_open(self) -> None:
        self._clients.require_open()

    def _client(self) -> Client[RecordT]:
        return self._clients.here()

    def _call(self) -> contextlib.AbstractContextManager[Client[RecordT]]:
        return self._client().call()

    def _reading(
        self, session_id: SessionId, operation: str
    ) -> contextlib.AbstractContextManager[Client[RecordT]]:
        """Note a read of a session, which an update makes by its transaction alone."""
        check_session_id(session_id)
        self._require_open()
        self._turns.require_outside(session_id, operation)
        return self._call()

    # Changes

    async def save(
        self,
        data: RecordT,
        /,
        *,
        blobs: Mapping[str, bytes] = NO_BLOBS,
        expected: Expected = ANY_NEWEST,
    ) -> CheckpointId:
        """
        Store a checkpoint and its new blobs, replacing one of its id, and return its id.

        Args:
            data: a record of the store's type; encoded before the first suspension.
            blobs: those that a `BlobRecord` names and the session does not have yet.
            expected: an id: only if that is the newest; None: only if the session is empty;
                left out: no condition.

        Raises:
            CheckpointEncodeError: a value that would not come back as it is; names its path.
            InvalidIdError: an id that is not a str or holds a lone surrogate.
            RecordTypeError: not a record of the store's type.
            CheckpointTooLargeError: it, or a blob, is over `max_bytes`.
            MissingBlobError: a blob that it names is neither given nor there.
            SessionChangedError: another checkpoint is the newest.
            InvalidArgumentError: `expected` is no id, or `blobs` has one that `data` does not name.
            StoreBusyError: somebody else changes the session, for `lock_timeout_seconds`.
            StorageFullError: the server's disk is full.
            StoreUnavailableError: the server is away, or refuses; nothing was changed.
            DurabilityUnknownError: the connection was lost, and no other was to be had to ask.
            UnsuitableStoreError: the server is a replica, has no such schema, or grants too little.
            WriterClosedError: the store is closed.

        Durability: on return it is committed. On an error or a cancellation it is there as a
            whole or not at all.

        Cost: one encode, and one statement that all saves which wait share, with its commit.
        """
        return await self._save(data, blobs, expected, None)

    async def _save(
        self,
        data: RecordT,
        blobs: Mapping[str, bytes],
        expected: Expected,
        owner: OwnedSession[RecordT] | None,
    ) -> CheckpointId:
        require_expected(expected)
        record = self._kit.encode(data, blobs)
        if owner is not None:
            record.require_session(owner.session_id)
        step = Save(record, meta_of(self._kit, record, ""), expected)
        await self._change(Change(record.session_id, step, token_of(owner)), "save")
        return record.checkpoint_id

    async def _change(self, change: Change, operation: str) -> int:
        with self._call() as client:
            async with self._turns.change(change.session_id, operation):
                return await client.commits.make(change)

    async def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        """
        Remove a checkpoint; False when there is none.

        Raises:
            InvalidIdError: an id that no checkpoint can have.
            CheckpointError: what else `save` raises of the server.

        Cost: one statement, which is shared as a save's is.
        """
        check_checkpoint_id(checkpoint_id)
        return bool(await self._delete(session_id, (checkpoint_id,), operation="delete"))

    async def _delete(
        self,
        session_id: SessionId,
        checkpoint_ids: tuple[CheckpointId, ...] | None,
        owner: OwnedSession[RecordT] | None = None,
        operation: str = "delete_many",
    ) -> int:
        check_session_id(session_id)
        change = Change(session_id, Delete(checkpoint_ids), token_of(owner))
        return await self._change(change, operation)

    async def delete_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> int:
        """
        Remove checkpoints, all or none, and return how many there were.

        Raises:
            InvalidIdError: an id that no checkpoint can have.
            InvalidArgumentError: a str instead of a list of them.
            CheckpointError: what else `save` raises of the server.

        Cost: one statement, which is shared as a save's is.
        """
        return await self._delete(session_id, checkpoint_ids_of(checkpoint_ids))

    async def delete_session(self, session_id: SessionId) -> bool:
        """
        Remove all checkpoints of a session; False when it had none.

        Raises:
            InvalidIdError: an id that no session can have.
            CheckpointError: what else `save` raises of the server.

        Durability: on return all are gone for every reader; their bytes stay in dead rows and in
            the write-ahead log for a while, as the how-to tells.

        Cost: one statement, which is shared as a save's is.
        """
        return bool(await self._delete(session_id, None, operation="delete_session"))

    async def copy_session(self, source_id: SessionId, target_id: SessionId) -> int:
        """
        Copy the checkpoints of a session to another, in their order, and return how many.

        A series of saves: others may see a part, and after an error a part may be there. What is
        saved to the source after the call is left out, so that it ends however fast others save.

        Raises:
            CheckpointCorruptError: one of the source is damaged.
            CheckpointError: what else `load_blobs` and `save` raise.

        Cost: everything is read, and saved again.
        """
        check_session_id(source_id)
        check_session_id(target_id)
        count = 0
        with self._call() as client:
            self._turns.require_no_update(target_id, "copy_session")
            async for record in client.health.copies(source_id, target_id):
                count += 1
                if source_id != target_id:
                    step = Save(record, meta_of(self._kit, record, ""))
                    await self._change(Change(target_id, step, None), "save")
        return count

    async def update(
        self,
        session_id: SessionId,
        work: Callable[[Transaction[RecordT]], Awaitable[ResultT]],
        /,
    ) -> ResultT:
        """
        Read, decide and write as one step: one transaction, which holds the session meanwhile.

        Args:
            session_id: the session.
            work: reads the session and stages changes, which are committed together, or, if it
                raises, not at all. It is called again where the connection was lost, and where it
                began before there were tables, and somebody else has filled the session since.

        Returns:
            what `work` returned the last time.

        Raises:
            NestedCallError: `work` calls the store for its own session, or to change another one.
            InvalidArgumentError: `work` is no async function.
            MissingBlobError: a blob that a record names is neither given nor there.
            StoreBusyError: somebody else changes the session, or too many updates go on, for
                `lock_timeout_seconds`.
            StoreUnavailableError: the server is away for longer than that.
            DurabilityUnknownError: the connection was lost in the commit, and no other was to be
                had to ask.
            CheckpointError: what else `save` raises of the server.

        Cost: a connection for as long as it takes; four statements, and those of `work`.
        """
        return await self._update_one(session_id, work, None)

    async def _update_one(
        self,
        session_id: SessionId,
        work: Callable[[Transaction[RecordT]], Awaitable[ResultT]],
        owner: OwnedSession[RecordT] | None,
    ) -> ResultT:
        async def of_one(sessions: Mapping[SessionId, Transaction[RecordT]]) -> ResultT:
            return await result_of(work, sessions[session_id])

        check_session_id(session_id)
        require_callable("work", work)
        return await self._update((session_id,), of_one, "update", token_of(owner))

    async def _update(
        self,
        session_ids: tuple[SessionId, ...],
        work: Callable[[Mapping[SessionId, Transaction[RecordT]]], Awaitable[ResultT]],
        operation: str,
        fence: int | None,
    ) -> ResultT:
        client = self._client()
        with client.update():
            async with self._turns.update(session_ids, operation):
                return await client.updates.run(session_ids, work, fence)

    async def update_many(
        self,
        session_ids: Iterable[SessionId],
        work: Callable[[Mapping[SessionId, Transaction[RecordT]]], Awaitable[ResultT]],
        /,
    ) -> ResultT:
        """
        Do what `update` does on several sessions, in one transaction.

        Raises:
            InvalidArgumentError: a str instead of a list of session ids.
            CheckpointError: what `update` raises.
        """
        wanted = session_ids_of(session_ids)
        require_callable("work", work)
        return await self._update(wanted, work, "update_many", None)

    def own(
        self, session_id: SessionId, *, wait: bool = True
    ) -> contextlib.AbstractAsyncContextManager[Ownership[RecordT]]:
        """
        Own a session while the block runs: `async with store.own("support-42") as owner:`.

        One owner at a time, over tasks, loops, processes and machines; within a process, first
        come, first served. It is a lease in the database, which a task renews: an owner whose
        process dies, or whose loop does not come to it for `lease_seconds`, may be followed by
        another one, and its writes are refused from then on.

        Args:
            session_id: the session.
            wait: until it is free, at most `lock_timeout_seconds`; False: not at all.

        Raises:
            SessionOwnedError: on entry: somebody else owns it.
            InvalidArgumentError: `wait` is no bool.
            CheckpointError: on entry: what `save` raises of the server.

        Cost: a statement at the beginning, one at the end, and three in each `lease_seconds`; one
            that waits asks twice a second.
        """
        return self._owned(session_id, wait=wait)

    @contextlib.asynccontextmanager
    async def _owned(
        self, session_id: SessionId, *, wait: bool
    ) -> AsyncIterator[Ownership[RecordT]]:
        require_instance("wait", wait, bool)
        check_session_id(session_id)
        client = self._client()
        lease = self._leases.held(client.server, session_id, waits=wait)
        async with client.entered(lease) as token:
            yield OwnedSession(
                session_id, token, save=self._save, delete=self._delete, update=self._update_one
            )

    # Reads

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> RecordT | None:
        """
        Return a checkpoint, the one saved last by default, verified; None when there is none.

        Raises:
            CheckpointCorruptError: it is damaged; `newest_valid_id` says what is intact.
            CheckpointDecodeError: it is intact, and no record of the store's type.
            FormatVersionError: it has another format version.
            CheckpointTooLargeError: it is over `max_bytes`.
            InvalidIdError: an id that no checkpoint can have.
            StoreUnavailableError: the server is away, or refuses.

        Cost: one query, which looks two rows up.
        """
        if checkpoint_id is not None:
            check_checkpoint_id(checkpoint_id)
        with self._reading(session_id, "load") as client:
            return await client.reads.load(session_id, checkpoint_id)

    async def load_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> tuple[RecordT, ...]:
        """
        Return those of the checkpoints that are there, the one saved first first.

        Raises:
            InvalidArgumentError: a str instead of a list of ids.
            CheckpointError: what `load` raises.

        Cost: one query.
        """
        wanted = checkpoint_ids_of(checkpoint_ids)
        with self._reading(session_id, "load_many") as client:
            return await client.reads.load_many(session_id, wanted)

    async def list(
        self,
        session_id: SessionId,
        *,
        before: CheckpointId | None = None,
        limit: int | None = None,
    ) -> _Metas:
        """
        Return what there is of a session, saved last first; bodies are not read.

        What is over `max_bytes`, and what the server cannot read, is listed with its problem.

        Args:
            session_id: the session.
            before: only those saved before this one; of an id that is not there, none.
            limit: at most so many.

        Raises:
            InvalidIdError: an id that no session or checkpoint can have.
            StoreUnavailableError: the server is away, or refuses.

        Cost: one query.
        """
        require_query("", before, limit)
        with self._reading(session_id, "list") as client:
            return await client.reads.list(session_id, before, limit)

    async def ids(
        self,
        session_id: SessionId,
        *,
        prefix: str = "",
        before: CheckpointId | None = None,
        limit: int | None = None,
    ) -> tuple[CheckpointId, ...]:
        """
        Return ids of a session, the greatest first: those that begin so, and are smaller.

        Raises:
            InvalidIdError: an id that no session or checkpoint can have.
            StoreUnavailableError: the server is away, or refuses.

        Cost: one query, by an index.
        """
        require_query(prefix, before, limit)
        with self._reading(session_id, "ids") as client:
            return await client.reads.ids(session_id, prefix, before, limit)

    async def load_blobs(
        self, session_id: SessionId, digests: Iterable[str], /
    ) -> dict[str, bytes]:
        """
        Return blobs of a session by their digests, verified.

        Raises:
            MissingBlobError: one is not there.
            CheckpointCorruptError: one is damaged.
            StoreUnavailableError: the server is away, or refuses.

        Cost: one query.
        """
        wanted = digests_of(digests)
        with self._reading(session_id, "load_blobs") as client:
            return await client.reads.load_blobs(session_id, wanted)

    async def read(
        self, session_id: SessionId, work: Callable[[SessionReader[RecordT]], Awaitable[ResultT]], /
    ) -> ResultT:
        """
        Do several reads of a session, of which one needs the outcome of another.

        Raises:
            InvalidArgumentError: `work` cannot be called.
            CheckpointError: what the reads raise, and `work` lets pass.

        Cost: a query for each read.
        """
        require_callable("work", work)
        with self._reading(session_id, "read") as client:
            return await client.read(session_id, work)

    # Across sessions

    async def sessions(self, *, prefix: str = "") -> AsyncIterator[SessionId]:
        """
        Yield the ids of the sessions that have checkpoints, in the order of their UTF-8.

        Raises:
            StoreUnavailableError: the server is away, or refuses.

        Cost: a query for each 500.
        """
        require_query(prefix)
        async for session_id in self._client().reads.sessions(prefix):
            yield session_id

    async def load_newest(self, session_ids: Iterable[SessionId], /) -> dict[SessionId, RecordT]:
        """
        Return the newest checkpoint of each of many sessions, in the order given.

        Raises:
            CheckpointError: of the first that cannot be loaded; the rest are in its notes.

        Cost: one query.
        """
        wanted = session_ids_of(session_ids)
        with self._call() as client:
            for session_id in wanted:
                self._turns.require_outside(session_id, "load_newest")
            return await client.reads.load_newest(wanted)

    async def unfinished(
        self, *, final_triggers: Iterable[str], prefix: str = ""
    ) -> AsyncIterator[CheckpointMeta]:
        """
        Yield the newest checkpoint of each session where its `trigger` is not a final one.

        A newest one whose body was damaged is yielded, too.

        Raises:
            InvalidArgumentError: a str instead of a list of triggers.
            StoreUnavailableError: the server is away, or refuses.

        Cost: a query for each 500; the server looks at the newest of each session, and hashes
            those that are final.
        """
        require_query(prefix)
        final = triggers_of(final_triggers)
        async for meta in self._client().reads.unfinished(final, prefix):
            yield meta

    # Health

    async def verify(self, session_id: SessionId, checkpoint_id: CheckpointId, /) -> bool:
        """
        Tell whether a checkpoint is there and intact, whatever its type; but for its blobs.

        Raises:
            InvalidIdError: an id that no checkpoint can have.
            FormatVersionError: of another format version, and its checksum is not right for ours.
            CheckpointTooLargeError: it is over `max_bytes`; raise it to tell.
            StoreUnavailableError: the server is away, or refuses.

        Cost: one query.
        """
        check_checkpoint_id(checkpoint_id)
        with self._reading(session_id, "verify") as client:
            return await client.reads.verify(session_id, checkpoint_id)

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        """
        Put damaged checkpoints of a session aside, so that the newest intact one is the newest.

        They go to the table `quarantine`, with their bytes as far as the server can read them; so
        do those that name a blob which is damaged or missing, and blobs that nothing names any
        more. Nothing is deleted.

        Raises:
            CheckpointTooLargeError: one is over `max_bytes`; raise it to tell damage from size.
            FormatVersionError: the newest is of another format version; nothing was moved.
            CheckpointError: what `save` raises of the server.

        Durability: on return all moves are committed; they are one transaction.

        Cost: everything of the session is read.
        """
        check_session_id(session_id)
        with self._call() as client:
            async with self._turns.change(session_id, "recover"):
                return await outlast(client.health.recover(session_id))

    async def exists(self) -> bool:
        """
        Tell whether the database has the schema with the tables; it makes none.

        Raises:
            StoreUnavailableError: the server is away, or refuses.

        Cost: two small queries.
        """
        return await self._client().exists()

    def mark(self) -> contextlib.AbstractAsyncContextManager[str]:
        """
        Leave a mark while the block runs: an advisory lock of a transaction; nothing is stored.

        Raises:
            StoreBusyError: all connections are in use.
            StoreUnavailableError: the server is away, or was lost before the block had ended.

        Cost: a connection, held while the block runs.
        """
        return self._client().marked()

    async def has_mark(self, mark: str, /) -> bool:
        """
        Tell whether somebody leaves a mark at this moment in the same schema of the same database.

        Raises:
            StoreUnavailableError: the server is away, or refuses.

        Cost: one small query.
        """
        return await self._client().has_mark(mark)

    async def check(self) -> tuple[Finding, ...]:
        """
        Read everything and report what is wrong, changing nothing.

        Raises:
            StoreUnavailableError: the server is away, or refuses.

        Cost: every body and blob is read and verified here.
        """
        with self._call() as client:
            return tuple([finding async for finding in client.health.findings()])
