"""The store: what callers ask for, checked here and done in the thread of the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from aiocheckpoint.errors import UnsupportedOperationError
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
from aiocheckpoint.stores.s3.arguments import Options, checked_options, require_time
from aiocheckpoint.stores.s3.home import Home, Withdrawal
from aiocheckpoint.stores.s3.layout import Layout
from aiocheckpoint.stores.s3.marks import marked

if TYPE_CHECKING:
    from aiocheckpoint.stores.s3.reads import Reads
    from aiocheckpoint.stores.s3.work import Work

ResultT = TypeVar("ResultT")

_MAX_BYTES = 64 * 1024 * 1024
_Metas = tuple[CheckpointMeta, ...]


def _made(
    layout: Layout,
    options: Options,
    kit: RecordKit[RecordT],
    max_checkpoints: int | None,
    timeout_seconds: float,
) -> Work[RecordT]:
    """Return what works in the thread of a store."""
    # The client takes half a second to import: not on a caller's loop, nor before a call.
    from aiocheckpoint.stores.s3.work import Work  # noqa: PLC0415

    return Work(layout, options, kit, max_checkpoints, timeout_seconds)


class S3Store(AsyncClosing, Generic[RecordT]):
    """
    A `BlobStore` in a bucket of Amazon S3, or of a server that keeps its word about creates.

    Making one does no I/O. It works in a thread of its own, and serves callers of any event loop.
    Credentials, region and endpoint are found as AWS's own tools find them: `AWS_PROFILE`,
    `AWS_REGION`, `AWS_ENDPOINT_URL_S3`, `~/.aws/config`, roles of machines and containers.

    Args:
        url: `s3://bucket/prefix`; the bucket has to be there.
        record_type: the Struct to store, extending `CheckpointRecord`, or a union of several.
        max_bytes: of one document, and of one blob.
        max_checkpoints: how many to keep in a session, the newest; None keeps all. Sessions that
            only others save to are left alone.
        lock_timeout_seconds: how long a change is tried while others are faster, and how long
            `own` waits.
        lease_seconds: after how long without a sign of life an owner is held for dead; a sign is
            one request, three times in that time.
        endpoint_url: of the server, where the environment does not say it.
        region_name: of the bucket, likewise.
        profile_name: of the section in AWS's files, likewise.
        max_connections: at a time.
        request_timeout_seconds: how long one try of a request may stand still.
        must_exist: whether calls raise `MissingStoreError` where nothing was ever stored under the
            prefix, and store nothing there. Where the prefix is emptied under a store at work, a
            call that finds no session looks once more, by a LIST; and a save sees by a HEAD, beside
            its create, that the commit before it is there still, or takes itself back. From then on
            all calls are refused, by `ReplacedStoreError` where another store was begun. A save
            that is on its way in the very moment may be stored.

    Raises:
        RecordTypeError: for a `record_type` that cannot be stored.
        InvalidArgumentError: for another one of the wrong type or out of range.

    **Durability.** On return a change is in the bucket, as durable as that is. On
    `StoreUnavailableError` nothing was changed. On `DurabilityUnknownError` the server was lost
    in the middle of a create: load to find out, or save again. A cancelled change ends when what
    became of it is known.

    **Cost.** A save is one request, and one for each new blob; the newest checkpoint takes two, or
    three where it is large. Changes of a session that are called together share one commit. The
    first call of a store that asks for all ids of a session, as a load by id does, or a save with
    blobs or `max_checkpoints`, reads its index: a few requests, and about 280 bytes for each
    checkpoint that there is.

    **Damage.** A commit whose header cannot be read is told as one checkpoint, `commit-` and its
    number. What it has saved is lost with it. What it has deleted does not come back: a delete has
    overwritten it where it stood. Where an older part of the index tells of it, it is listed once
    more, and `load` raises.
    """

    @overload
    def __init__(
        self: S3Store[CheckpointData],
        url: str,
        *,
        max_bytes: int = ...,
        max_checkpoints: int | None = ...,
        lock_timeout_seconds: float = ...,
        lease_seconds: float = ...,
        endpoint_url: str | None = ...,
        region_name: str | None = ...,
        profile_name: str | None = ...,
        max_connections: int = ...,
        request_timeout_seconds: float = ...,
        must_exist: bool = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        url: str,
        *,
        record_type: type[RecordT] | RecordUnion,
        max_bytes: int = ...,
        max_checkpoints: int | None = ...,
        lock_timeout_seconds: float = ...,
        lease_seconds: float = ...,
        endpoint_url: str | None = ...,
        region_name: str | None = ...,
        profile_name: str | None = ...,
        max_connections: int = ...,
        request_timeout_seconds: float = ...,
        must_exist: bool = ...,
    ) -> None: ...

    def __init__(
        self,
        url: str,
        *,
        record_type: Any = CheckpointData,
        max_bytes: int = _MAX_BYTES,
        max_checkpoints: int | None = None,
        lock_timeout_seconds: float = 60.0,
        lease_seconds: float = 30.0,
        endpoint_url: str | None = None,
        region_name: str | None = None,
        profile_name: str | None = None,
        max_connections: int = 32,
        request_timeout_seconds: float = 30.0,
        must_exist: bool = False,
    ) -> None:
        if max_checkpoints is not None:
            require_count("max_checkpoints", max_checkpoints, 1)
        require_seconds("lock_timeout_seconds", lock_timeout_seconds)
        require_time(lease_seconds=lease_seconds)
        self._layout = Layout(url)
        self._kit: RecordKit[RecordT] = RecordKit(record_type, max_bytes)
        self._max_checkpoints = max_checkpoints
        self._lock_timeout_seconds = float(lock_timeout_seconds)
        self._lease_seconds = float(lease_seconds)
        options = checked_options(Options(
            endpoint_url, region_name, profile_name, max_connections, request_timeout_seconds,
            must_exist,
        ))  # fmt: skip
        self._turns = SessionTurns(self._lock_timeout_seconds)
        make = partial(
            _made, self._layout, options, self._kit, max_checkpoints, self._lock_timeout_seconds
        )
        self._home: Home[Work[RecordT]] = Home("aiocheckpoint-s3", make)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._layout.url!r})"

    def _require_open(self) -> None:
        self._home.require_open()

    @property
    def max_checkpoints(self) -> int | None:
        """How many checkpoints of a session are kept, the newest; None keeps all."""
        return self._max_checkpoints

    async def aclose(self) -> None:
        """
        Finish what was called, let go of connections and thread; later calls are refused.

        The `work` of an update is waited for, at most `lock_timeout_seconds`. Owners are not: what
        they own is free when their leases end.

        Raises:
            NestedCallError: the work of an update calls it.
        """
        self._turns.require_no_update(None, "aclose")
        self._home.refuse()
        if self._home.is_own:
            await self._turns.settle(self._lock_timeout_seconds)
        await self._home.aclose()

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
            SessionChangedError: another checkpoint is the newest; it says which.
            MissingBlobError: a blob that it names is neither given nor there.
            StoreBusyError: others were faster all the time.
            StoreUnavailableError: the server cannot be reached; nothing was changed.
            DurabilityUnknownError: the server was lost in the middle.
            CheckpointError: a record, an id or a blob that cannot be stored.

        Cost: one request, and one for each new blob, side by side before it. The first one of a
            session finds its newest commit, by up to two; the first one of the store probes the
            server.
        """
        return await self._save(data, blobs, expected)

    async def _save(
        self,
        data: RecordT,
        blobs: Mapping[str, bytes],
        expected: Expected,
        owner: OwnedSession[RecordT] | None = None,
    ) -> CheckpointId:
        require_expected(expected)
        record = self._kit.encode(data, blobs)
        if owner is not None:
            record.require_session(owner.session_id)
        return await self._changed(
            record.session_id,
            "save",
            lambda w, undo: w.save(record, expected, token_of(owner), undo),
        )

    async def _changed(
        self,
        session_id: SessionId,
        operation: str,
        change: Callable[[Work[RecordT], Withdrawal], Awaitable[ResultT]],
    ) -> ResultT:
        """Change a session in the thread, when the updates have ended that were called before."""
        self._require_open()
        async with self._turns.change(session_id, operation):
            return await self._home.make(change)

    async def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        """
        Remove a checkpoint; False when there is none. It is what `delete_many` of one does.

        Raises:
            CheckpointError: as `delete_many`.
        """
        check_checkpoint_id(checkpoint_id)
        return bool(await self._delete(session_id, (checkpoint_id,), operation="delete"))

    async def delete_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> int:
        """
        Remove checkpoints, all or none, and return how many there were.

        On return their bytes are overwritten or removed.

        Raises:
            ErasureIncompleteError: they are deleted, and bytes of them stay; the same call again
                erases them, or `delete_session`.
            InvalidIdError: an id that none can have.
            CheckpointCorruptError: one stands for a commit that cannot be read, which may have
                deleted older ones that stay; none was removed.
            StoreUnavailableError: the server cannot be reached; nothing was changed.
            DurabilityUnknownError: the server was lost in the middle.

        Cost: one request for the commit, about two for each object that held them, and, for the
            first one, those of `list`.
        """
        return await self._delete(session_id, checkpoint_ids_of(checkpoint_ids))

    async def _delete(
        self,
        session_id: SessionId,
        checkpoint_ids: tuple[CheckpointId, ...] | None,
        owner: OwnedSession[RecordT] | None = None,
        operation: str = "delete_many",
    ) -> int:
        check_session_id(session_id)
        return await self._changed(
            session_id,
            operation,
            lambda w, undo: w.delete(session_id, checkpoint_ids, token_of(owner), undo),
        )

    async def delete_session(self, session_id: SessionId) -> bool:
        """
        Remove all checkpoints of a session; False when it had none.

        Its last commit stays, without content: a slow writer must not bring anything back.

        Raises:
            ErasureIncompleteError: it is deleted, and bytes of it stay; the same call again, by
                any store, erases them, and says False then.
            CheckpointError: as `delete_many`.

        Cost: as `delete_many`, and one request for what tells `sessions` of it.
        """
        return bool(await self._delete(session_id, None, operation="delete_session"))

    async def copy_session(self, source_id: SessionId, target_id: SessionId) -> int:
        """
        Copy the checkpoints of a session to another, in their order, and return how many.

        A series of saves: others may see a part. What is saved to the source after the call is left
        out, so that it ends however fast others save.

        Raises:
            CheckpointError: one cannot be read, or saved; those before it were copied.
        """
        check_session_id(source_id)
        check_session_id(target_id)
        return await self._changed(
            target_id, "copy_session", lambda w, _: w.copy(source_id, target_id)
        )

    async def update(
        self, session_id: SessionId, work: Callable[[Transaction[RecordT]], Awaitable[ResultT]], /
    ) -> ResultT:
        """
        Read, decide and write as one step.

        `work` begins with what is known of the session; its commit shows whether that was still
        so, and it is called again if not.

        Args:
            session_id: the session.
            work: reads the session and stages changes, which are committed together, or, if it
                raises, not at all. It may be called again, so it has no other effects.

        Returns:
            what `work` returned the last time.

        Raises:
            SessionChangedError: others were faster, for `lock_timeout_seconds`.
            NestedCallError: `work` calls the store for its own session, or to change another one.
            InvalidArgumentError: `work` is no async function.
            ErasureIncompleteError: `work` has only deleted, and bytes of that stay. Where it has
                saved, too, that is logged, and the next delete of the session erases them.
            CheckpointError: as `save`.

        Cost: what its reads cost, and one request; where it stages nothing, one LIST.
        """
        return await self._update_one(session_id, work)

    async def _update_one(
        self,
        session_id: SessionId,
        work: Callable[[Transaction[RecordT]], Awaitable[ResultT]],
        owner: OwnedSession[RecordT] | None = None,
        operation: str = "update",
    ) -> ResultT:
        from aiocheckpoint.stores.s3.transaction import run_update  # noqa: PLC0415 - see `_made`

        check_session_id(session_id)
        require_callable("work", work)
        self._require_open()
        async with self._turns.update((session_id,), operation):
            return await run_update(self._home, self._kit, session_id, work, token_of(owner))

    async def update_many(
        self,
        session_ids: Iterable[SessionId],
        work: Callable[[Mapping[SessionId, Transaction[RecordT]]], Awaitable[ResultT]],
        /,
    ) -> ResultT:
        """
        Do what `update` does on one session; of several no bucket makes one commit.

        Raises:
            UnsupportedOperationError: for several sessions.
            CheckpointError: as `update`.
        """
        wanted = session_ids_of(session_ids)
        require_callable("work", work)
        if not wanted:
            self._require_open()
            async with self._turns.update((), "update_many"):
                return await result_of(work, {})
        if len(wanted) > 1:
            reason = "a bucket has no commit over several objects; update one session at a time"
            raise UnsupportedOperationError("update_many", "an S3 store", reason)

        async def of_one(transaction: Transaction[RecordT]) -> ResultT:
            return await result_of(work, {transaction.session_id: transaction})

        return await self._update_one(next(iter(wanted)), of_one, operation="update_many")

    def own(
        self, session_id: SessionId, *, wait: bool = True
    ) -> AbstractAsyncContextManager[Ownership[RecordT]]:
        """
        Own a session while the block runs: `async with store.own("support-42") as owner:`.

        Args:
            session_id: the session.
            wait: until it is free, at most `lock_timeout_seconds`; False: not at all.

        Raises:
            SessionOwnedError: on entry: somebody else owns it.
            InvalidArgumentError: `wait` is no bool.
            CheckpointError: as `save`.

        Cost: two requests, and one for each third of `lease_seconds`. An owner that died is
            followed after `lease_seconds`.
        """
        return self._owned(session_id, wait=wait)

    @asynccontextmanager
    async def _owned(
        self, session_id: SessionId, *, wait: bool
    ) -> AsyncIterator[Ownership[RecordT]]:
        from aiocheckpoint.stores.s3.owners import owned  # noqa: PLC0415 - see `_made`

        require_instance("wait", wait, bool)
        check_session_id(session_id)
        self._require_open()
        timeout_seconds = self._lock_timeout_seconds if wait else 0.0
        async with owned(
            self._home, self._turns, session_id, timeout_seconds, self._lease_seconds
        ) as token:
            yield OwnedSession(
                session_id, token, save=self._save, delete=self._delete, update=self._update_one
            )

    # Reads

    async def _read(
        self,
        operation: str,
        session_id: SessionId,
        read: Callable[[Reads[RecordT]], Awaitable[ResultT]],
    ) -> ResultT:
        """Read a session in the thread; an update does it by its transaction alone."""
        check_session_id(session_id)
        self._require_open()
        self._turns.require_outside(session_id, operation)
        return await self._home.ask(lambda work: work.read(session_id, read))

    async def _in_thread(self, work: Callable[[Work[RecordT]], Awaitable[ResultT]]) -> ResultT:
        self._require_open()
        return await self._home.ask(work)

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> RecordT | None:
        """
        Return a checkpoint, the one saved last by default; None when there is none.

        Raises:
            CheckpointCorruptError: it is damaged; nothing older is handed out instead.
            CheckpointError: it cannot be read, or the server cannot be reached.

        Cost: a LIST and a GET, and another GET for a document of more than 60 KB; by id, for the
            first one of a session, also what `list` costs.
        """
        if checkpoint_id is not None:
            check_checkpoint_id(checkpoint_id)
        return await self._read("load", session_id, lambda reads: reads.load(checkpoint_id))

    async def load_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> tuple[RecordT, ...]:
        """
        Return those of the checkpoints that are there, the one saved first first.

        Raises:
            CheckpointError: one cannot be read, or the server cannot be reached.

        Cost: what `list` costs, and a GET for each, side by side.
        """
        wanted = checkpoint_ids_of(checkpoint_ids)
        return await self._read("load_many", session_id, lambda reads: reads.load_many(wanted))

    async def list(
        self,
        session_id: SessionId,
        *,
        before: CheckpointId | None = None,
        limit: int | None = None,
    ) -> _Metas:
        """
        Return what there is of a session, saved last first, damaged ones included.

        A commit whose header is damaged is one entry, `commit-` and its number, with the problem.
        Documents are not read for it.

        Args:
            session_id: the session.
            before: only those saved before this one; of an id that is not there, none.
            limit: at most so many.

        Cost: a LIST; for the first one of a session, also its index.
        """
        require_query("", before, limit)
        return await self._read("list", session_id, lambda reads: reads.list(before, limit))

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

        Cost: as `list`.
        """
        require_query(prefix, before, limit)
        return await self._read("ids", session_id, lambda reads: reads.ids(prefix, before, limit))

    async def load_blobs(
        self, session_id: SessionId, digests: Iterable[str], /
    ) -> dict[str, bytes]:
        """
        Return blobs of a session by their digests, verified.

        Raises:
            MissingBlobError: one is not there.
            CheckpointCorruptError: one is damaged.

        Cost: as `list`, and a GET for each, side by side.
        """
        wanted = digests_of(digests)
        return await self._read("load_blobs", session_id, lambda reads: reads.load_blobs(wanted))

    async def read(
        self, session_id: SessionId, work: Callable[[SessionReader[RecordT]], Awaitable[ResultT]], /
    ) -> ResultT:
        """
        Do several reads of a session, of which one needs the outcome of another.

        Raises:
            InvalidArgumentError: `work` cannot be called.
            CheckpointError: what the reads raise, and `work` lets pass.

        Cost: one LIST, and then what is read; for the first one of a session, also its index.
        """
        from aiocheckpoint.stores.s3.transaction import run_reads  # noqa: PLC0415 - see `_made`

        check_session_id(session_id)
        require_callable("work", work)
        self._require_open()
        self._turns.require_outside(session_id, "read")
        return await run_reads(self._home, self._kit, session_id, work)

    # Across sessions

    async def sessions(self, *, prefix: str = "") -> AsyncIterator[SessionId]:
        """
        Yield the ids of the sessions that have checkpoints, in any order.

        Raises:
            LostIdError: the id is longer than a name may be, and no commit is left to tell it. All
                others have been yielded by then; of several such sessions the rest are in `others`.

        Cost: a LIST for 1,000 sessions, and one for each that was emptied; a GET for each whose id
            is longer than a name may be.
        """
        require_query(prefix)
        self._require_open()
        async for session_id in self._home.iterate(lambda: self._home.worker.session_ids(prefix)):
            yield session_id

    async def load_newest(self, session_ids: Iterable[SessionId], /) -> dict[SessionId, RecordT]:
        """
        Return the newest checkpoint of each of many sessions, side by side.

        Returns:
            in the order given; without those that have none.

        Raises:
            CheckpointError: of the first that cannot be loaded; the rest are in its notes.

        Cost: as `load` for each.
        """
        wanted = session_ids_of(session_ids)
        self._require_open()
        for session_id in wanted:
            self._turns.require_outside(session_id, "load_newest")
        return await self._in_thread(lambda w: w.load_newest(wanted))

    async def unfinished(
        self, *, final_triggers: Iterable[str], prefix: str = ""
    ) -> AsyncIterator[CheckpointMeta]:
        """
        Yield the newest checkpoint of each session where its `trigger` is not a final one.

        A newest one that `load` refuses is yielded, too, with its problem.

        Cost: as `load` for each session there is.
        """
        require_query(prefix)
        final = frozenset(triggers_of(final_triggers))
        self._require_open()
        async for meta in self._home.iterate(lambda: self._home.worker.newest_of_all(prefix)):
            if meta.problem is not None or meta.trigger not in final:
                yield meta

    # Health

    async def verify(self, session_id: SessionId, checkpoint_id: CheckpointId, /) -> bool:
        """
        Tell whether a checkpoint is there and intact, whatever its type; but for its blobs.

        Raises:
            FormatVersionError: of another format version, and its checksum is not right for ours.
            CheckpointTooLargeError: it is over `max_bytes`; raise it to tell.

        Cost: as `load` by id.
        """
        check_checkpoint_id(checkpoint_id)
        return await self._read("verify", session_id, lambda reads: reads.is_intact(checkpoint_id))

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        """
        Put what is damaged of a session aside, so that the newest intact one is the newest.

        It is copied under `quarantine/`, then deleted. Blobs that a crash has left are removed.

        Raises:
            CheckpointError: the server cannot be reached.

        Cost: a GET for every checkpoint and blob of the session.
        """
        check_session_id(session_id)
        return await self._changed(session_id, "recover", lambda w, _: w.recover(session_id))

    async def exists(self) -> bool:
        """
        Tell whether anything was ever stored under the prefix, also if all of it was deleted.

        Raises:
            CheckpointError: the server cannot be reached, or there is no such bucket.

        Cost: one LIST, of one key; another one where there is none.
        """
        return await self._in_thread(lambda w: w.exists())

    def mark(self) -> AbstractAsyncContextManager[str]:
        """
        Leave a mark while the block runs: an empty object under `probe/`.

        Where it cannot be deleted then, it stays, and means nothing.

        Raises:
            CheckpointError: the server cannot be reached, or refuses.

        Cost: two requests.
        """
        return marked(self._home)

    async def has_mark(self, mark: str, /) -> bool:
        """
        Tell whether somebody leaves a mark at this moment under the same prefix of the same bucket.

        Raises:
            CheckpointError: the server cannot be reached.

        Cost: one LIST, of one key.
        """
        return await self._in_thread(lambda w: w.has_mark(mark))

    async def check(self) -> tuple[Finding, ...]:
        """
        Read everything and report what is wrong, changing nothing.

        Raises:
            CheckpointError: the server cannot be reached.

        Cost: a GET for every checkpoint and blob there is.
        """
        return await self._in_thread(lambda w: w.check())
