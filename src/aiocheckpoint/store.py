"""
What every store of checkpoints does: the whole contract in words, and the Protocols.

**Blocks.** `async with store:` gives the store and closes it at the end; it is refused, as every
call but `aclose` is, once the store is closed.

**Refusals.** Of several reasons one is told: first what is wrong with the arguments, then that the
store is closed, then that the work of an update makes the call. So a wrong call is told as such
wherever it is made. One str is never taken for a list of ids, triggers or digests.

**Order.** A store keeps the checkpoints of a session in the order in which it stored them. The
newest is the one stored last: never the greatest id, never the latest clock of somebody else.
Changes of one session that one client calls take effect in the order of the calls.

**Places.** The first change makes the store at a location where none is. Looking makes none, and
nor does `recover`, or a change that finds nothing to change, as a delete: where there is none, all
is as in an empty one, so that an application begins by a `load` that gives None. A location that is
mistyped looks the same; `exists` tells the two apart.

**Atomicity.** A change is stored as a whole or not at all: a record with its blobs, the deletes of
one call, all that one `update` stages. Nobody ever sees a part of it.

**Durability.** On return a change survives what the store promises to survive: the process, the
machine, a power cut. On an error nothing was changed, but for `DurabilityUnknownError`, which says
that nobody can know. A cancelled change is there as a whole or not at all, and what it is does not
change any more once the call has ended; a cancelled call may end late for that.

**Others.** What one client was told is stored, every other client of the same storage sees from
then on, in this process or elsewhere. A delete is final, whoever saved.

**Damage.** What is read is verified. Damage raises `CheckpointCorruptError`; nothing older is ever
handed out instead, and nothing that `load` refuses is left out of `list`.

**Cost.** No call takes longer because a session has many checkpoints, but for `list`, `ids`,
`saved_ids`, `load_many`, `recover`, `delete_session` and `copy_session`, which take what they
return.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType, UnionType
from typing import NamedTuple, Protocol, Self, TypeAlias, TypeVar, runtime_checkable

from aiocheckpoint._format.codec import RecordT, RecordT_co
from aiocheckpoint.models import (
    ANY_NEWEST,
    CheckpointId,
    CheckpointMeta,
    Expected,
    Finding,
    RecoveryReport,
    SessionId,
)

if sys.version_info >= (3, 12):
    from typing import TypeAliasType
else:
    TypeAliasType = UnionType

RecordUnion: TypeAlias = UnionType | TypeAliasType
"""Several record types, as `Event | Head`, or the name that a `type` statement gave to them."""

NO_BLOBS: Mapping[str, bytes] = {}

ResultT = TypeVar("ResultT")


class SessionReader(Protocol[RecordT_co]):
    """
    The reads of one session, within `read` or `update`.

    Attributes:
        session_id: the session.
    """

    @property
    def session_id(self) -> SessionId:
        """The session."""
        ...

    async def load(self, checkpoint_id: CheckpointId | None = None) -> RecordT_co | None:
        """Return a checkpoint, the one saved last by default; None when there is none."""
        ...

    async def load_many(self, checkpoint_ids: Iterable[CheckpointId], /) -> tuple[RecordT_co, ...]:
        """Return those of the checkpoints that are there, the one saved first first."""
        ...

    async def ids(
        self, *, prefix: str = "", before: CheckpointId | None = None, limit: int | None = None
    ) -> tuple[CheckpointId, ...]:
        """Return ids, the greatest first."""
        ...

    async def saved_ids(
        self, *, prefix: str = "", limit: int | None = None
    ) -> tuple[CheckpointId, ...]:
        """Return ids, the one saved last first: those that begin so, at most so many."""
        ...

    async def list(
        self, *, before: CheckpointId | None = None, limit: int | None = None
    ) -> tuple[CheckpointMeta, ...]:
        """Return what there is, saved last first."""
        ...

    async def load_blobs(self, digests: Iterable[str], /) -> dict[str, bytes]:
        """Return blobs by their digests."""
        ...


class LookAhead(NamedTuple):
    """
    What the work of a `read` is about to ask, for a reader that can `look_ahead`.

    It asks for the ids that were saved last; for one id, the head; for all ids of its family, which
    begin with something and go on as the head does; and for what all these are and lead to.

    Attributes:
        head: its id; of an id that is not there what the ids begin with among which the one that
            was saved last is meant.
        family: what the ids of the others begin with.
        shared_bytes: how many bytes follow there that follow `head` in the id of the head.
        newest: how many of the ids that were saved last.
    """

    head: str
    family: str
    shared_bytes: int
    newest: int


@runtime_checkable
class LooksAhead(Protocol):
    """
    A `SessionReader` that spares its work the way to a server for each question.

    Few stores have one. To look ahead changes no answer: what was not looked for is read as ever.
    """

    async def look_ahead(self, what: LookAhead, /) -> None:
        """
        Ask the server for all of this at once; the reads that follow are answered by that.

        They see the session as it was at that moment. A later call takes the place of this one.

        Raises:
            CheckpointError: what the reads raise where the server is away.
        """
        ...


class Marks(Protocol):
    """
    A store that can tell whether another one, however it was opened, is a client of the same place.

    It leaves a mark there, which is no checkpoint and which whoever lists or checks does not see;
    the other one looks for it. `copy_store` asks so whether it was given one place twice, or two of
    which one is a part of the other.
    """

    def mark(self) -> AbstractAsyncContextManager[str]:
        """
        Leave a mark at the place while the block runs, and yield what it is called.

        Raises:
            CheckpointError: it cannot be left.
        """
        ...

    async def has_mark(self, mark: str, /) -> bool:
        """Tell whether a mark is at this place; False for one of another kind of store."""
        ...


class Reads(Protocol[RecordT_co]):
    """`read` of a store, and nothing else of it."""

    async def read(
        self,
        session_id: SessionId,
        work: Callable[[SessionReader[RecordT_co]], Awaitable[ResultT]],
        /,
    ) -> ResultT:
        """Do several reads of a session, as `CheckpointStore.read` says."""
        ...


class ReadBlocking(Protocol[RecordT_co]):
    """
    `read` of a store as a plain function, whose caller waits, for callers without an event loop.

    A store whose own threads do its reads may have it as an attribute `read_blocking`, or None
    there. `Portal.read` makes use of it; other stores need not have it.
    """

    def __call__(
        self,
        session_id: SessionId,
        work: Callable[[SessionReader[RecordT_co]], Awaitable[ResultT]],
        /,
    ) -> ResultT:
        """Do several reads of a session, as `CheckpointStore.read` says."""
        ...


class Finds(Protocol[RecordT_co]):
    """
    A store that looks for something in many sessions without coming back for each of them.

    It may have it as an attribute `find`, or None there. Others need not have it: `sessions`, and a
    `read` of each, find the same.
    """

    async def find(
        self,
        work: Callable[[SessionReader[RecordT_co]], Awaitable[ResultT | None]],
        /,
        *,
        prefix: str = "",
    ) -> ResultT | None:
        """
        Do `read` of one session after the other, until one returns something.

        Args:
            work: as of `CheckpointStore.read`.
            prefix: only of sessions whose ids begin with it.

        Returns:
            what `work` returns first that is not None; None where it never does.

        Raises:
            CheckpointError: what `sessions` and `read` raise.
        """
        ...


class Transaction(SessionReader[RecordT], Protocol[RecordT]):
    """
    One session within `update`: reads see it as it is, changes are staged.

    What is staged is not seen by the reads. Of an id that is staged twice the last word counts:
    a save that was replaced or deleted again is not made at all. What it all comes to is made at
    once, so that only the order of the saves matters. A blob that a record leads to was in the
    session before, named by whatever, or is given with any save of the update. A bound on the
    number of checkpoints is kept by what is there at the end.

    When the update is over, each of its methods raises `WriterClosedError`.
    """

    def save(self, data: RecordT, /, *, blobs: Mapping[str, bytes] = NO_BLOBS) -> CheckpointId:
        """
        Stage a save; checked and encoded at once, so `data` may be changed afterwards.

        Raises:
            InvalidArgumentError: a record of another session.
            CheckpointError: what `save` of the store refuses.
        """
        ...

    def delete(self, *checkpoint_ids: CheckpointId) -> None:
        """Stage deletes; of ids that are not there nothing comes."""
        ...

    def delete_session(self) -> None:
        """Stage the delete of all that the session has, but for what is staged after it."""
        ...


class Ownership(Protocol[RecordT]):
    """
    The hold on a session that `own` yields; its writes are refused once it is lost.

    Attributes:
        session_id: the session.
        token: a number that grows with each owner of the session, for what is outside the store;
            at least the milliseconds since 1970, so that it also grows when a backup was restored
            or the session copied, unless the store's clock is wrong.
    """

    @property
    def session_id(self) -> SessionId:
        """The session."""
        ...

    @property
    def token(self) -> int:
        """Greater than that of every owner of the session before."""
        ...

    async def save(
        self,
        data: RecordT,
        /,
        *,
        blobs: Mapping[str, bytes] = NO_BLOBS,
        expected: Expected = ANY_NEWEST,
    ) -> CheckpointId:
        """
        Save as the store does, if the session is still owned.

        Raises:
            OwnershipLostError: somebody else owns the session by now; nothing was changed.
        """
        ...

    async def delete_many(self, checkpoint_ids: Iterable[CheckpointId], /) -> int:
        """Delete as the store does, if the session is still owned."""
        ...

    async def update(
        self, work: Callable[[Transaction[RecordT]], Awaitable[ResultT]], /
    ) -> ResultT:
        """
        Update as the store does, if the session is still owned when it commits.

        Where nothing is staged nothing is written, and so nothing is refused.
        """
        ...


class CheckpointStore(Protocol[RecordT]):
    """
    What every checkpoint store does; the counterpart of the crate's `CheckpointSystemTrait`.

    Functions that take one run on `AsyncCheckpointWriter`, on what `open_store` gives, and in
    tests on `MemoryStore`. What holds for all calls is said above.
    """

    async def __aenter__(self) -> Self:
        """Return the store; it is closed at the end of the block."""
        ...

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        ...

    async def aclose(self) -> None:
        """
        Finish what was called and let go of everything; later calls do nothing.

        Raises:
            NestedCallError: the work of an update calls it.
        """
        ...

    # One session

    async def save(self, data: RecordT, /, *, expected: Expected = ANY_NEWEST) -> CheckpointId:
        """
        Store a checkpoint, replacing one of its id, and return its id.

        Args:
            data: a record of the store's type; encoded before the first suspension.
            expected: an id: only if that is the newest, whether or not it was replaced; None: only
                if the session is empty; left out: no condition.

        Raises:
            SessionChangedError: another checkpoint is the newest; it says which.
        """
        ...

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> RecordT | None:
        """Return a checkpoint, the one saved last by default; None when there is none."""
        ...

    async def load_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> tuple[RecordT, ...]:
        """Return those of the checkpoints that are there, the one saved first first."""
        ...

    async def list(
        self,
        session_id: SessionId,
        *,
        before: CheckpointId | None = None,
        limit: int | None = None,
    ) -> tuple[CheckpointMeta, ...]:
        """
        Return what there is of a session, saved last first, damaged ones included.

        What is over `max_bytes` of this reader is listed with that as its `problem`.

        Args:
            session_id: the session.
            before: only those saved before this one; of an id that is not there, none.
            limit: at most so many.
        """
        ...

    async def ids(
        self,
        session_id: SessionId,
        *,
        prefix: str = "",
        before: CheckpointId | None = None,
        limit: int | None = None,
    ) -> tuple[CheckpointId, ...]:
        """Return ids of a session, the greatest first: those that begin so, and are smaller."""
        ...

    async def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        """Remove a checkpoint, also one that cannot be read; False when there is none."""
        ...

    async def delete_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> int:
        """Remove checkpoints, all or none, and return how many there were."""
        ...

    async def delete_session(self, session_id: SessionId) -> bool:
        """
        Remove all checkpoints of a session; False when it had none.

        Raises:
            ErasureIncompleteError: they are removed, and a store that erases at once could not.
        """
        ...

    async def copy_session(self, source_id: SessionId, target_id: SessionId) -> int:
        """
        Copy the checkpoints of a session to another, in their order, and return how many.

        Their documents are copied, of whatever record type, with all that they hold. A series of
        saves: others may see a part. What is copied becomes the newest of the target: a second copy
        to a session that has gone on since hides what it has gone on with. What is there when it is
        called, and is not deleted meanwhile, is copied; what is replaced meanwhile, as it was
        before or after. What is saved later is left out: it ends however fast others save.
        """
        ...

    async def update(
        self,
        session_id: SessionId,
        work: Callable[[Transaction[RecordT]], Awaitable[ResultT]],
        /,
    ) -> ResultT:
        """
        Read, decide and write as one step.

        Args:
            session_id: the session.
            work: reads the session and stages changes, which are committed together, or, if it
                raises, not at all. It is called again when another process has changed the
                session meanwhile, so it has no other effects.

        Returns:
            what `work` returned the last time.

        Updates of one session by one process run one after the other, in the order of the calls,
        and other changes of the session that are called meanwhile wait: for as long as the line
        moves on, and for one and the same update no longer than `lock_timeout_seconds`.

        Raises:
            SessionChangedError: others have changed the session again and again, for
                `lock_timeout_seconds`.
            StoreBusyError: one that was called before has gone on for as long; so of any other
                change that waits for an update.
            InvalidArgumentError: `work` is no async function; what it staged is not stored.
            NestedCallError: raised within `work`, by a call of the store itself: one that changes,
                recovers or owns something, of whatever session, or closes the store, which could
                wait for itself or for another update; and one that reads a session of the update,
                which would not be part of the step. Tasks and `asyncio.to_thread` are within it; a
                plain thread is not known to be: what it calls waits, and raises `StoreBusyError`.
        """
        ...

    def own(
        self, session_id: SessionId, *, wait: bool = True
    ) -> AbstractAsyncContextManager[Ownership[RecordT]]:
        """
        Own a session while the block runs: `async with store.own("support-42") as owner:`.

        One owner at a time, over tasks, loops, processes and machines; within a process, first
        come, first served. Writes through `owner` are refused after it was lost; writes through the
        store itself are not.

        Args:
            session_id: the session.
            wait: until it is free, at most `lock_timeout_seconds`; False: not at all.

        Raises:
            SessionOwnedError: on entry: somebody else owns it.
            NestedCallError: on entry: the task owns it already by this store, and would wait for
                itself.
            InvalidArgumentError: on entry: `wait` is no bool.
        """
        ...

    async def read(
        self,
        session_id: SessionId,
        work: Callable[[SessionReader[RecordT]], Awaitable[ResultT]],
        /,
    ) -> ResultT:
        """
        Do several reads of a session, of which one needs the outcome of another.

        The store looks once at what others have changed, and not before each of the reads, which
        see the session as it is then or later: not all have to see it at one moment.

        Args:
            session_id: the session.
            work: awaits nothing but the reads that it is given: it may run in a thread without an
                event loop. It may be called again, so it has no other effects.

        Returns:
            what `work` returns.

        Raises:
            CheckpointError: what the reads raise, and `work` lets pass.
            InvalidArgumentError: `work` is no async function, or awaits something else, where the
                store notices.
        """
        ...

    # Across sessions

    def sessions(self, *, prefix: str = "") -> AsyncIterator[SessionId]:
        """Yield the ids of the sessions that have checkpoints, in any order."""
        ...

    async def load_newest(self, session_ids: Iterable[SessionId], /) -> dict[SessionId, RecordT]:
        """
        Return the newest checkpoint of each of many sessions, in one step.

        Returns:
            in the order given; without those that have none.

        Raises:
            CheckpointError: of the first that cannot be loaded; the rest are its `others`, and in
                its notes, and all other records are its `listed`.
        """
        ...

    def unfinished(
        self, *, final_triggers: Iterable[str], prefix: str = ""
    ) -> AsyncIterator[CheckpointMeta]:
        """
        Yield the newest checkpoint of each session where its `trigger` is not a final one.

        One of which a listing notices that `load` refuses it is yielded too, with its `problem`,
        whatever its trigger. Bodies are not verified here.
        """
        ...

    async def update_many(
        self,
        session_ids: Iterable[SessionId],
        work: Callable[[Mapping[SessionId, Transaction[RecordT]]], Awaitable[ResultT]],
        /,
    ) -> ResultT:
        """
        Do what `update` does on several sessions, in one commit.

        Of no session `work` is called all the same, once, with an empty mapping.

        Raises:
            UnsupportedOperationError: the store has no commit over several sessions.
        """
        ...

    # Health

    async def exists(self) -> bool:
        """
        Tell whether there is a store at the location, also one whose sessions are all deleted.

        False where nobody has ever stored anything: before the first save of an application, and at
        a location that is mistyped. It makes none.
        """
        ...

    async def verify(self, session_id: SessionId, checkpoint_id: CheckpointId, /) -> bool:
        """
        Tell whether a checkpoint is there and intact, whatever its type; but for its blobs.

        Raises:
            FormatVersionError: of another format version, and its checksum is not right for ours.
            CheckpointTooLargeError: it is over `max_bytes`; raise it to tell.
        """
        ...

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        """
        Put what is damaged of a session aside, so that the newest intact one is the newest.

        What the session still leads to stays, and nothing is deleted.

        Raises:
            CheckpointTooLargeError: one is over `max_bytes`, so that nobody can tell whether it is
                damaged; nothing was changed.
            FormatVersionError: the newest that would be left is of another format version;
                nothing was changed.
        """
        ...

    async def check(self) -> tuple[Finding, ...]:
        """Read everything and report what is wrong, changing nothing."""
        ...


class BlobStore(CheckpointStore[RecordT], Protocol[RecordT]):
    """
    A store that keeps blobs beside the records: bytes named by their SHA-256, once a session.

    A record names blobs, and a `BlobNode` among them names others. All that a record leads to is
    there when it is saved, stays as long as it does, and goes with the last that leads to it.
    """

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
            data: a record of the store's type.
            blobs: those that a `BlobRecord` leads to and the session does not have yet, with the
                nodes that name them. One that the session has is not stored again, unless a
                read by this store, `check` included, has found it missing or damaged.
            expected: as in `CheckpointStore.save`.

        Raises:
            MissingBlobError: one that it leads to is neither given nor there.
            CheckpointEncodeError: one is not what its name says, or begins as a `BlobNode` does
                and is none.
        """
        ...

    async def load_blobs(
        self, session_id: SessionId, digests: Iterable[str], /
    ) -> dict[str, bytes]:
        """
        Return blobs of a session by their digests, verified.

        Raises:
            MissingBlobError: one is not there.
        """
        ...
