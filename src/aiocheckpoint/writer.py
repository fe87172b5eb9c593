"""The public face: `AsyncCheckpointWriter` and the Protocol it implements."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from os import PathLike
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, Self, TypeAlias, TypeVar, get_args, overload

from aiocheckpoint._arguments import (
    checkpoint_ids_of,
    digests_of,
    path_text,
    require_choice,
    require_count,
    require_query,
    require_seconds,
)
from aiocheckpoint._disk.files import LocalFiles, process_id
from aiocheckpoint._engine import recovery
from aiocheckpoint._engine.changes import Change, Delete, Save
from aiocheckpoint._engine.commit import Commits, DirectCommit, GroupCommit
from aiocheckpoint._engine.jobs import Job, Threads, done, hop
from aiocheckpoint._engine.replay import replay
from aiocheckpoint._engine.store import Limits, Precondition, Store, Terms
from aiocheckpoint._format import codec
from aiocheckpoint._format.codec import RecordCodec, RecordT
from aiocheckpoint._format.names import encode_id
from aiocheckpoint.errors import ThreadStartError, WriterClosedError
from aiocheckpoint.models import (
    BlobRecord,
    CheckpointData,
    CheckpointId,
    CheckpointMeta,
    CheckpointRecord,
    Finding,
    RecoveryReport,
    SessionId,
)

DEFAULT_MAX_BYTES = 64 * 1024 * 1024
DEFAULT_LOCK_TIMEOUT_SECONDS = 60.0
DEFAULT_SETTLE_BYTES = 16 * 1024 * 1024
_FLUSH_SECONDS = 1.0
# Each system call lets go of the GIL: with more threads, more of them wait to have it back.
_MAX_THREADS = 5
_SESSIONS_PER_HOP = 64

ResultT = TypeVar("ResultT")

Durability: TypeAlias = Literal["journal", "file", "none"]


NO_BLOBS: Mapping[str, bytes] = {}


class CheckpointStore(Protocol[RecordT]):
    """What every checkpoint store does; the counterpart of the crate's `CheckpointSystemTrait`."""

    async def save(
        self,
        data: RecordT,
        /,
        *,
        blobs: Mapping[str, bytes] = NO_BLOBS,
        precondition: Precondition | None = None,
    ) -> CheckpointId:
        """Store a checkpoint and its new blobs, replacing one of its id, and return its id."""
        ...

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> RecordT | None:
        """Return a checkpoint, the one saved last by default; None when there is none."""
        ...

    async def list(self, session_id: SessionId) -> tuple[CheckpointMeta, ...]:
        """Return what there is of a session, saved last first."""
        ...

    async def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        """Remove a checkpoint; False when there is none."""
        ...

    async def verify(self, path: str | PathLike[str], /) -> bool:
        """Tell whether a stored checkpoint is intact."""
        ...

    async def ids(
        self,
        session_id: SessionId,
        *,
        prefix: str = "",
        before: CheckpointId | None = None,
        limit: int | None = None,
    ) -> tuple[CheckpointId, ...]:
        """Return ids of a session, the greatest first."""
        ...

    async def load_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> tuple[RecordT, ...]:
        """Return those of the checkpoints that are there, the one saved first first."""
        ...

    async def delete_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> int:
        """Remove checkpoints, all or none, and return how many there were."""
        ...

    async def load_blobs(
        self, session_id: SessionId, digests: Iterable[str], /
    ) -> dict[str, bytes]:
        """Return blobs of a session by their digests."""
        ...


class SessionReader(Generic[RecordT]):
    """
    The reads of one session, for use within one hop; blocking.

    Its methods do what those of `AsyncCheckpointWriter` do that have their names.
    """

    def __init__(self, store: Store[RecordT], session_id: SessionId) -> None:
        self._store = store
        self._session_id = session_id

    def ids(
        self, *, prefix: str = "", before: CheckpointId | None = None, limit: int | None = None
    ) -> tuple[CheckpointId, ...]:
        """Return ids of checkpoints, the greatest first."""
        require_query(prefix, before, limit)
        return self._store.ids(self._session_id, prefix, before, limit)

    def load_many(self, checkpoint_ids: Iterable[CheckpointId], /) -> tuple[RecordT, ...]:
        """Return those of the checkpoints that are there, the one saved first first."""
        return self._store.load_many(self._session_id, checkpoint_ids_of(checkpoint_ids))

    def load_blobs(self, digests: Iterable[str], /) -> dict[str, bytes]:
        """Return blobs by their digests."""
        return self._store.load_blobs(self._session_id, digests_of(digests))


class AsyncCheckpointWriter(Generic[RecordT]):
    """
    Durable checkpoints of agent sessions in a directory, without blocking the event loop.

    ```python
    async with AsyncCheckpointWriter("state/") as writer:
        await writer.save(CheckpointData(session_id="support-42", iteration=3))
        latest = await writer.load("support-42")
    ```

    One writer serves any number of sessions, tasks, event loops and threads; several processes
    may have writers on one directory. Making one does no I/O: the directory is made, 0700, by
    the first call. Close it with `aclose` or `async with`.

    **Cancellation** of any method: the call ends when the file work has ended. Work that had
    not begun is withdrawn. A cancelled save is stored as a whole or not at all, and leaves no
    temporary file and no lock; a hung disk therefore also holds up the cancellation.

    **Cost** of every method: one hop to the writer's own thread pool, unless said otherwise.
    Where the system grants it no thread at all, any of them raises `ThreadStartError`.

    Args:
        storage_path: the directory; relative ones are resolved by the first call.
        max_backups: how many superseded files of a session keep a second name
            (`cp_....json.backup`), against an `rm` of the first. Not a second copy on disk.
        record_type: the Struct to store, extending `CheckpointRecord`.
        max_bytes: largest file to write or read, in bytes.
        max_checkpoints: how many checkpoints to keep in a session, the newest; None keeps all.
        lock_timeout_seconds: how long to wait for another process that changes the session.
        refuse_inexact_floats: refuse the rare float (about 1 in 500 of those with 17 digits)
            that the Rust crate would read as its neighbour, off by one unit in the last place.
        durability: when a save is durable. `"journal"`: when a journal, shared by all saves
            that wait at the moment, is synced; the files are flushed in the background.
            `"file"`: when its own file and directory are synced; slower, and a tool that is not
            this library sees every acknowledged save even after a power cut. `"none"`: NEVER
            SYNCED, A POWER CUT MAY LOSE OR DAMAGE ANY ACKNOWLEDGED SAVE; a crash of the
            process alone loses nothing. What a reader sees is the same for all three.
        max_journal_bytes: journal size at which flushing begins, in bytes; at four times that,
            saves wait for it.
        files: the file operations, for tests.

    Raises:
        RecordTypeError: for a `record_type` that cannot be stored.
        InvalidArgumentError: for another one of the wrong type or out of range.
    """

    @overload
    def __init__(
        self: AsyncCheckpointWriter[CheckpointData],
        storage_path: str | PathLike[str],
        *,
        max_backups: int = ...,
        max_bytes: int = ...,
        max_checkpoints: int | None = ...,
        lock_timeout_seconds: float = ...,
        refuse_inexact_floats: bool = ...,
        durability: Durability = ...,
        max_journal_bytes: int = ...,
        files: LocalFiles | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        storage_path: str | PathLike[str],
        *,
        max_backups: int = ...,
        record_type: type[RecordT],
        max_bytes: int = ...,
        max_checkpoints: int | None = ...,
        lock_timeout_seconds: float = ...,
        refuse_inexact_floats: bool = ...,
        durability: Durability = ...,
        max_journal_bytes: int = ...,
        files: LocalFiles | None = ...,
    ) -> None: ...

    def __init__(
        self,
        storage_path: str | PathLike[str],
        *,
        max_backups: int = 3,
        record_type: type[Any] = CheckpointData,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_checkpoints: int | None = None,
        lock_timeout_seconds: float = DEFAULT_LOCK_TIMEOUT_SECONDS,
        refuse_inexact_floats: bool = False,
        durability: Durability = "journal",
        max_journal_bytes: int = DEFAULT_SETTLE_BYTES,
        files: LocalFiles | None = None,
    ) -> None:
        require_count("max_backups", max_backups, 0)
        require_count("max_bytes", max_bytes, 1)
        if max_checkpoints is not None:
            require_count("max_checkpoints", max_checkpoints, 1)
        require_seconds("lock_timeout_seconds", lock_timeout_seconds)
        require_choice("durability", durability, get_args(Durability))
        require_count("max_journal_bytes", max_journal_bytes, 1)
        self._durability = durability
        self._max_journal_bytes = max_journal_bytes
        self._lock_timeout_seconds = lock_timeout_seconds
        self._codec: RecordCodec[RecordT] = RecordCodec(record_type)
        self._store = Store(
            path_text("storage_path", storage_path),
            self._codec,
            Limits(
                max_backups=max_backups,
                max_checkpoints=max_checkpoints,
                max_bytes=max_bytes,
                lock_timeout_seconds=lock_timeout_seconds,
                refuse_inexact_floats=refuse_inexact_floats,
                is_durable=durability != "none",
            ),
            files or LocalFiles(),
            replay,
        )
        self._commits = Commits(self._store, is_durable=durability != "none")
        self._process_id = process_id()
        self._closed = False
        self._pool: Threads | None = None
        self._queue: GroupCommit[RecordT] | DirectCommit[RecordT] | None = None
        self._released: Future[None] | None = None
        self._start_mutex = threading.Lock()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<AsyncCheckpointWriter {self._store.sessions.root_path!r} {state}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        started = getattr(self, "_pool", None) is not None and self._process_id == process_id()
        if started and not self._closed and not sys.is_finalizing():
            warnings.warn(f"{self!r} was not closed", ResourceWarning, stacklevel=2, source=self)

    async def aclose(self) -> None:
        """
        Finish what was submitted and release threads and files; later calls do nothing.

        Every save that was called before returns or raises as usual.

        Raises:
            StorageError: the last flushing failed; nothing acknowledged is lost.
            ThreadStartError: nothing was released; call it again.

        Durability: nothing acknowledged depends on it.
        """
        with self._start_mutex:
            self._closed = True
            pool, queue = self._pool, self._queue
            if pool is None or queue is None or self._process_id != process_id():
                return
            if self._released is None:
                released: Future[None] = Future()
                release = partial(self._release, pool, queue.close(), released)
                try:
                    threading.Thread(target=release, name="aiocheckpoint-close").start()
                except RuntimeError as error:
                    raise ThreadStartError(str(error)) from error
                self._released = released
        await done(self._released)

    def _release(self, pool: Threads, drained: Future[None], released: Future[None]) -> None:
        """Let go of everything, in a thread of its own, since it waits for those of the pool."""
        try:
            drained.result()
            try:
                self._commits.close()
            finally:
                pool.shutdown(wait=True)  # reads may be going on
                self._store.sessions.close()
        except BaseException as error:  # noqa: BLE001 - raised by whoever awaits `aclose`
            released.set_exception(error)
        else:
            released.set_result(None)

    def _started(
        self,
    ) -> tuple[Threads, GroupCommit[RecordT] | DirectCommit[RecordT]]:
        if self._process_id != process_id():
            raise WriterClosedError("this writer belongs to the process that was forked")
        with self._start_mutex:
            if self._closed:
                raise WriterClosedError("the writer is closed")
            if self._pool is None or self._queue is None:
                self._pool = Threads(_MAX_THREADS, thread_name_prefix="aiocheckpoint")
                self._queue = self._new_queue(self._pool)
            return self._pool, self._queue

    def _new_queue(self, pool: Threads) -> GroupCommit[RecordT] | DirectCommit[RecordT]:
        if self._durability == "file":
            return DirectCommit(self._store, self._commits, pool, self._max_journal_bytes)
        return GroupCommit(
            self._commits,
            pool,
            lock_timeout_seconds=self._lock_timeout_seconds,
            max_journal_bytes=self._max_journal_bytes,
            settle_seconds=_FLUSH_SECONDS,
        )

    async def _read(self, work: Callable[[], ResultT]) -> ResultT:
        pool, _ = self._started()
        return await hop(pool, work)

    async def _change(
        self, session_id: SessionId, change: Change | Callable[[], ResultT]
    ) -> ResultT:
        encode_id(session_id, "session id")
        _, queue = self._started()
        job: Job[ResultT] = Job()
        queue.submit(session_id, job, change)
        return await job.finished()

    async def save(
        self,
        data: RecordT,
        /,
        *,
        blobs: Mapping[str, bytes] = NO_BLOBS,
        precondition: Precondition | None = None,
    ) -> CheckpointId:
        """
        Store a checkpoint durably, and with it the blobs that it refers to.

        It is checked and encoded before the first suspension, so `data` may be changed as soon
        as the call has been started. Saves of one session take effect in the order of the
        calls. An id that is there already is replaced: the new one is the newest, the old one
        is gone.

        Args:
            data: a record of the writer's type.
            blobs: for a `BlobRecord`: bytes by their SHA-256, 64 lower-case hex digits. Those
                that the session has are not stored again; those that `data` names need to be
                given only if it has not.
            precondition: called with the greatest checkpoint id in the session, None for an
                empty one, in a thread and under the session's lock; where it says False,
                nothing is saved.

        Returns:
            its checkpoint id.

        Raises:
            CheckpointEncodeError: a value that JSON, or Rust, would not give back as it is;
                names its path.
            InvalidIdError: an id that is not a str or holds a lone surrogate.
            RecordTypeError: not a record of the writer's type.
            CheckpointTooLargeError: it, or a blob, is over `max_bytes`.
            MissingBlobError: a blob that it names is neither given nor there.
            SessionChangedError: the precondition said False.
            StorageError: the disk refused; the state before the call still loads.
            DurabilityUnknownError: it is there, but may not survive a power cut.
            PruneError: it is saved and durable, but something older could not be removed.
            StoreBusyError: another process kept the session locked.
            WriterClosedError: the writer is closed.

        Durability: on return the checkpoint survives a power cut. On an error or a
            cancellation it is there as a whole or not at all.

        Cost: one encode on the loop, one hop. By journal one `fdatasync`, shared by all saves
            that wait; the first save of a process four syncs more. By file two fsyncs (file,
            directory); the first save of a session in this process two or three more.
            Independent of the number of checkpoints.
        """
        if isinstance(data, CheckpointRecord):
            encode_id(data.session_id, "session id")
            encode_id(data.checkpoint_id, "checkpoint id")
        draft = self._codec.draft(data)
        if not isinstance(data, BlobRecord):
            save = Save(draft, Terms(precondition=precondition))
            return await self._change(draft.session_id, save)
        codec.require_digests(data.blob_digests)
        named = {d: _frozen(blobs[d]) for d in data.blob_digests if d in blobs}
        new_bytes = self._store.new_bytes(draft.session_id, named)
        save = Save(draft, Terms(data.blob_digests, named, precondition), new_bytes)
        return await self._change(draft.session_id, save)

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> RecordT | None:
        """
        Return a checkpoint, verified.

        Args:
            session_id: the session.
            checkpoint_id: which one; None for the one saved last.

        Returns:
            the record; None when there is no such checkpoint or session.

        Raises:
            CheckpointCorruptError: it is damaged. Nothing older is ever returned instead:
                `recover` is the way back, and `newest_valid_id` says to where.
            FormatVersionError: it has another format version.
            CheckpointMismatchError: the file holds a checkpoint of another session.
            CheckpointTooLargeError: the file is over `max_bytes`.
            NotACheckpointError: by id: its name is taken by something that is not a file.
            InvalidIdError: an id that no checkpoint can have.
            StorageError: the disk refused.

        Cost: one hop, one file read; independent of the number of checkpoints. The first call
            for a session, and the first after another process changed it, list its directory.
        """
        encode_id(session_id, "session id")
        if checkpoint_id is not None:
            encode_id(checkpoint_id, "checkpoint id")
        return await self._read(partial(self._store.load, session_id, checkpoint_id))

    async def list(self, session_id: SessionId) -> tuple[CheckpointMeta, ...]:
        """
        Return the checkpoints of a session, saved last first.

        Bodies are not verified here; files that are no checkpoints are left out, which
        `check` reports.

        Raises:
            InvalidIdError: an id that no session can have.
            StorageError: the disk refused.

        Cost: one hop; of a file not seen before the first and last 4 KiB are read, where that
            suffices, of one seen before and unchanged nothing.
        """
        encode_id(session_id, "session id")
        return await self._read(partial(self._store.listing, session_id))

    async def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        """
        Remove a checkpoint and its backup, durably.

        Returns:
            False when there was none.

        Raises:
            CheckpointCorruptError: the file that may be it cannot be read to make sure.
            InvalidIdError: an id that no checkpoint can have.
            StorageError: the disk refused; the checkpoint may or may not be there still.
            StoreBusyError: another process kept the session locked.

        Durability: on return it is gone for good. On an error or a cancellation it is there or
            gone, and everything else is as it was.

        Cost: one hop, one read, one `fdatasync` of the journal.
        """
        encode_id(checkpoint_id, "checkpoint id")
        return bool(await self._change(session_id, Delete((checkpoint_id,))))

    async def delete_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> int:
        """
        Remove checkpoints and their backups in one commit, durably.

        Args:
            session_id: the session.
            checkpoint_ids: which; those that are not there count as removed.

        Returns:
            how many there were.

        Raises:
            CheckpointCorruptError: a file that may be one of them cannot be read to make sure;
                none was removed.
            InvalidIdError: an id that no checkpoint can have.
            InvalidArgumentError: a str instead of a list of them.
            StorageError: the disk refused; some may or may not be there still.
            StoreBusyError: another process kept the session locked.

        Durability: on return all are gone for good. A crash leaves all or none; an error or a
            cancellation leaves some, and everything else as it was.

        Cost: one hop, one read a checkpoint, one `fdatasync` of the journal.
        """
        return await self._change(session_id, Delete(checkpoint_ids_of(checkpoint_ids)))

    async def ids(
        self,
        session_id: SessionId,
        *,
        prefix: str = "",
        before: CheckpointId | None = None,
        limit: int | None = None,
    ) -> tuple[CheckpointId, ...]:
        """
        Return ids of a session's checkpoints, the greatest first, by code points.

        They are told from the names of files, which are not verified.

        Args:
            session_id: the session.
            prefix: only ids that begin with it.
            before: only ids below this one.
            limit: at most so many.

        Raises:
            InvalidIdError: an id that no session or checkpoint can have.
            InvalidArgumentError: a prefix or a limit that is none.
            StorageError: the disk refused.

        Cost: one hop, two binary searches in memory; for ids that are too long for a file name
            also the ends of their files, once.
        """
        encode_id(session_id, "session id")
        require_query(prefix, before, limit)
        return await self._read(partial(self._store.ids, session_id, prefix, before, limit))

    async def load_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> tuple[RecordT, ...]:
        """
        Return checkpoints of a session, verified.

        Args:
            session_id: the session.
            checkpoint_ids: which; those that are not there are left out.

        Returns:
            the records, the one saved first first.

        Raises:
            CheckpointCorruptError: one is damaged; also what else `load` raises.
            InvalidIdError: an id that no checkpoint can have.
            InvalidArgumentError: a str instead of a list of them.
            StorageError: the disk refused.

        Cost: one hop, one file read a checkpoint.
        """
        wanted = checkpoint_ids_of(checkpoint_ids)
        encode_id(session_id, "session id")
        return await self._read(partial(self._store.load_many, session_id, wanted))

    async def load_blobs(
        self, session_id: SessionId, digests: Iterable[str], /
    ) -> dict[str, bytes]:
        """
        Return blobs of a session, verified.

        Args:
            session_id: the session.
            digests: which, as a record of the session names them.

        Returns:
            their bytes by their digests.

        Raises:
            MissingBlobError: one is not there; the record may have been deleted meanwhile.
            CheckpointCorruptError: one is damaged.
            InvalidIdError: an id that no session, or a digest that no blob can have.
            InvalidArgumentError: a str instead of a list of them.
            StorageError: the disk refused.

        Cost: one hop, one file read a blob.
        """
        encode_id(session_id, "session id")
        wanted = digests_of(digests)
        return await self._read(partial(self._store.load_blobs, session_id, wanted))

    async def verify(self, path: str | PathLike[str], /) -> bool:
        """
        Tell whether a file is an intact checkpoint, wherever it is.

        Args:
            path: a file; `latest.json` stands for what it points at.

        Returns:
            False for one that is damaged, is not a checkpoint, or is not there.

        Raises:
            NotACheckpointError: a directory, device, FIFO or other symlink.
            CheckpointTooLargeError: over `max_bytes`.
            StorageError: the disk refused to let it be read.

        Cost: one hop, one read, no decoding of files as we and Rust write them.
        """
        return await self._read(
            partial(self._store.verify, path_text("path", path, may_be_empty=True))
        )

    async def read(
        self, session_id: SessionId, work: Callable[[SessionReader[RecordT]], ResultT], /
    ) -> ResultT:
        """
        Do several reads of a session, of which one needs the outcome of another, in one hop.

        Args:
            session_id: the session.
            work: called in a thread with a reader; it may call it any number of times.

        Returns:
            what `work` returns.

        Raises:
            InvalidIdError: an id that no session can have.
            CheckpointError: what the reader raises, and `work` lets pass.

        Cost: one hop, and the reads.
        """
        encode_id(session_id, "session id")
        return await self._read(partial(work, SessionReader(self._store, session_id)))

    async def sessions(self, *, prefix: str = "") -> AsyncIterator[SessionId]:
        """
        Yield the ids of the sessions that have checkpoints, in the order of their directories.

        Args:
            prefix: only ids that begin with it.

        No lock or file is held between two of them. Left out: directories that hold no intact
        checkpoint to tell the id where the name alone does not.

        Cost: one hop, and one more for each 64 sessions.
        """
        require_query(prefix)
        find = partial(recovery.session_names, self._store, prepare=True, prefix=prefix)
        names = await self._read(find)
        for start in range(0, len(names), _SESSIONS_PER_HOP):
            part = names[start : start + _SESSIONS_PER_HOP]
            found = await self._read(partial(recovery.session_ids, self._store, part))
            for session_id in found:
                if session_id.startswith(prefix):
                    yield session_id

    async def delete_session(self, session_id: SessionId) -> bool:
        """
        Remove all checkpoints of a session, durably, and its directory if nothing else is in it.

        Returns:
            False when it had none.

        Raises:
            InvalidIdError: an id that no session can have.
            StorageError: the disk refused.
            StoreBusyError: another process kept the session locked.

        Durability: on return all are gone for good. On an error, a cancellation or a crash
            the newest is there or none is; never an older one in its place.

        Cost: one hop, one removal a file, one `fdatasync` of the journal.
        """
        return bool(await self._change(session_id, Delete(None)))

    async def copy_session(self, source_id: SessionId, target_id: SessionId) -> int:
        """
        Copy all checkpoints of a session to another, keeping ids, times and order.

        Args:
            source_id: left as it is.
            target_id: checkpoints it has already stay, but for those with an id of the source.

        Returns:
            how many were copied; 0 for an unknown source.

        Raises:
            CheckpointCorruptError: one of the source is damaged; nothing was copied.
            InvalidIdError: an id that no session can have.
            StorageError: the disk refused.
            StoreBusyError: another process kept the target locked.

        Durability: on return all are durable. After an error or a crash the target may hold
            some of them; a copy made again completes it.

        Cost: one hop, each file read twice, one fsync a file and one or more for the directories.
        """
        encode_id(source_id, "session id")
        return await self._change(
            target_id, partial(self._store.copy_session, source_id, target_id)
        )

    async def flush(self) -> None:
        """
        Make the files of every acknowledged save durable themselves, and empty the journal.

        It happens by itself, in the background and by `aclose`. Call it before something that
        is not this library takes over the directory: a backup, a copy, the Rust crate.

        Raises:
            StorageError: a sync failed; the journal is kept, nothing acknowledged is lost.

        Cost: one hop, one `syncfs` where there is one, or else one sync a file and directory.
        """
        await self._read(self._commits.flush)

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        """
        Go on from the newest intact checkpoint, knowingly.

        Moves every damaged or misplaced file of the session, every checkpoint that refers to a
        blob which is damaged or missing, and every blob that no intact checkpoint refers to,
        to `.aiocheckpoint/quarantine/<session>/`, restores one from its backup where that is
        intact, and makes `latest.json` right. Deletes nothing.

        Returns:
            what was moved, and what `load` returns from now on.

        Raises:
            CheckpointTooLargeError: a file over `max_bytes`; raise it to tell damage from size.
            InvalidIdError: an id that no session can have.
            StorageError: the disk refused.
            StoreBusyError: another process kept the session locked.

        Durability: on return the moves are durable; after a crash a file may have both names.

        Cost: one hop, all files of the session read.
        """
        return await self._change(session_id, partial(recovery.recover, self._store, session_id))

    async def check(self) -> tuple[Finding, ...]:
        """
        Read everything under the root and report what is wrong, changing nothing.

        Returns:
            the findings, in the order of directories and files; none for a healthy store. What
            could not be looked into is a finding too. A store in use may show temporary files
            of saves that are going on.

        Raises:
            StorageError: the root could not be listed.

        Cost: one hop for each session; every byte is read and hashed.
        """
        findings = await self._read(partial(recovery.check_journals, self._store))
        names = await self._read(partial(recovery.session_names, self._store, prepare=False))
        for name in names:
            findings += await self._read(partial(recovery.check_session, self._store, name))
        return tuple(findings)


def _frozen(data: bytes | bytearray | memoryview) -> bytes:
    """Return bytes that the caller cannot change any more; those of `bytes` are not copied."""
    return data if isinstance(data, bytes) else bytes(memoryview(data))
