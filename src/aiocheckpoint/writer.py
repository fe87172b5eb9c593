"""`AsyncCheckpointWriter`: checkpoints of agent sessions in a directory."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import warnings
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
)
from collections.abc import Set as AbstractSet
from functools import partial
from os import PathLike
from typing import Any, Generic, TypeVar, get_args, overload

from aiocheckpoint._arguments import (
    checkpoint_ids_of,
    digests_of,
    frozen_blobs,
    require_callable,
    require_choice,
    require_count,
    require_expected,
    require_instance,
    require_query,
    require_seconds,
    result_at_once,
    result_of,
    session_ids_of,
    triggers_of,
)
from aiocheckpoint._closing import AsyncClosing
from aiocheckpoint._disk.files import LocalFiles, process_id
from aiocheckpoint._engine import check, check_journal, copy, listing, recover, sessions
from aiocheckpoint._engine.changes import Change, Delete, Flush, Recover, Save, Wake
from aiocheckpoint._engine.jobs import Job, hop
from aiocheckpoint._engine.local_store import LocalStore, Options
from aiocheckpoint._engine.read import Reader, verify_file
from aiocheckpoint._engine.session_plan import Limits
from aiocheckpoint._engine.sessions import Mark
from aiocheckpoint._format import documents
from aiocheckpoint._format.blobs import require_digests
from aiocheckpoint._format.codec import Codec, RecordT, codec_of
from aiocheckpoint._format.ids import encode_id
from aiocheckpoint._locations import directory_text, path_text
from aiocheckpoint._ownership import Ownerships, OwnersWrites
from aiocheckpoint._reading import LocalReader
from aiocheckpoint._turns import SessionTurns
from aiocheckpoint._updates import Updates
from aiocheckpoint.errors import (
    CheckpointError,
    CheckpointTooLargeError,
    JournalCorruptError,
    MissingStoreError,
    StoreBusyError,
    WriterClosedError,
)
from aiocheckpoint.kit import raise_all
from aiocheckpoint.models import (
    ANY_NEWEST,
    BlobRecord,
    CheckpointData,
    CheckpointId,
    CheckpointMeta,
    CheckpointRecord,
    Durability,
    Expected,
    Finding,
    RecoveryReport,
    SessionId,
    WriterStats,
)
from aiocheckpoint.store import NO_BLOBS, Ownership, RecordUnion, SessionReader, Transaction

DEFAULT_MAX_BYTES = 64 * 1024 * 1024
DEFAULT_LOCK_TIMEOUT_SECONDS = 60.0
DEFAULT_MAX_JOURNAL_BYTES = 64 * 1024 * 1024
_SESSIONS_PER_HOP = 64
_LOADS_PER_HOP = 256
_Names = list[str]  # within the class below `list` is a method
_Errors = list[CheckpointError]
_WAKE: dict[Durability, Wake] = {"journal": "synced", "file": "flushed", "none": "written"}

ResultT = TypeVar("ResultT")
_Answer = list[ResultT]
_Found = tuple[list[ResultT], list[CheckpointError]]
_Search = Callable[[str, list[str], Reader[RecordT]], tuple[list[ResultT], list[CheckpointError]]]


class AsyncCheckpointWriter(AsyncClosing, Generic[RecordT]):
    """
    Durable checkpoints of agent sessions in a directory, without blocking the event loop.

    ```python
    async with AsyncCheckpointWriter("state/") as writer:
        state = await writer.load("support-42") or CheckpointData(session_id="support-42")
        await writer.save(state.next(iteration=state.iteration + 1))
    ```

    One writer serves any number of sessions, tasks, event loops and threads; several processes
    may have writers on one directory. Making one does no I/O: the directory is made, 0700, by
    the first call, and the writer belongs to the process that makes it, which may be a fork of
    the one that made the writer. Close it with `aclose` or `async with`.

    Make one for a directory and process. Each writer has threads, descriptors and an order of
    updates of its own: its options, `files` and `stats` are its own, and so is its end. Several do
    no harm beyond that cost, and the changes of all have one order. Where many parts of a program
    ask for a directory, `open_store` gives them one that they share.

    **Cancellation** of any method: the call ends when the file work has ended. Work that had
    not begun is withdrawn. A cancelled save is stored as a whole or not at all, and leaves no
    temporary file and no lock; a hung disk therefore also holds up the cancellation.

    **Cost** of every method: one hop to the writer's own thread pool, unless said otherwise.
    Where the system grants it no thread at all, any of them raises `ThreadStartError`.

    Args:
        storage_path: the directory; a relative one is resolved by the first call. A URL is
            refused: `open_store` takes it. So is a text in which something was to be filled in, as
            `~`, or that is almost a URL, as with quotes around it; a `Path` may be called anything.
        max_backups: how many superseded files of a session keep a second name
            (`cp_....json.backup`), against an `rm` of the first. Not a second copy on disk.
        record_type: the Struct to store, extending `CheckpointRecord`, or a union of several, all
            but one of them tagged. Type checkers want a union in brackets as well:
            `AsyncCheckpointWriter[Event | Head]("state/", record_type=Event | Head)`.
        max_bytes: largest file to write or read, in bytes.
        max_checkpoints: how many checkpoints to keep in a session, the newest; None keeps all.
            Sessions that only others save to are left alone.
        lock_timeout_seconds: how long a call may wait for another process, or for one update of
            the session that was called before, until it raises `StoreBusyError`: a process that is
            stopped while it commits holds up all changes, and the first read of a process. A line
            of updates that moves on is waited for. What still waits is withdrawn when it is
            cancelled.
        refuse_inexact_floats: refuse the rare float (about 1 in 500 of those with 17 digits)
            that the Rust crate would read as its neighbour, off by one unit in the last place.
        durability: when a save returns. `"journal"`: when it is durable in the journal, by a sync
            shared by all saves that wait at the moment; its file is there moments later. `"file"`:
            when its file is durable, too; slower. `"none"`: when it is written; NEVER SYNCED
            BEFORE THAT, A POWER CUT MAY LOSE THE LAST ACKNOWLEDGED SAVES; a crash of the process
            alone loses nothing. What a reader sees is the same for all three.
        max_journal_bytes: how much of the journal of the directory may wait to be written to
            files, in bytes, and so about how much memory that takes; above it saves wait. Of
            several writers the largest counts.
        must_exist: refuse a directory where nobody has ever saved, by `MissingStoreError`, and make
            none: for a service that has run before, and whose disk may not be mounted. Also one
            that is moved away while the writer is at work; another store that is put in its place
            is a `ReplacedStoreError`.
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
        must_exist: bool = ...,
        files: LocalFiles | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        storage_path: str | PathLike[str],
        *,
        max_backups: int = ...,
        record_type: type[RecordT] | RecordUnion,
        max_bytes: int = ...,
        max_checkpoints: int | None = ...,
        lock_timeout_seconds: float = ...,
        refuse_inexact_floats: bool = ...,
        durability: Durability = ...,
        max_journal_bytes: int = ...,
        must_exist: bool = ...,
        files: LocalFiles | None = ...,
    ) -> None: ...

    def __init__(
        self,
        storage_path: str | PathLike[str],
        *,
        max_backups: int = 3,
        record_type: Any = CheckpointData,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_checkpoints: int | None = None,
        lock_timeout_seconds: float = DEFAULT_LOCK_TIMEOUT_SECONDS,
        refuse_inexact_floats: bool = False,
        durability: Durability = "journal",
        max_journal_bytes: int = DEFAULT_MAX_JOURNAL_BYTES,
        must_exist: bool = False,
        files: LocalFiles | None = None,
    ) -> None:
        require_count("max_backups", max_backups, 0)
        require_count("max_bytes", max_bytes, 1)
        if max_checkpoints is not None:
            require_count("max_checkpoints", max_checkpoints, 1)
        require_seconds("lock_timeout_seconds", lock_timeout_seconds)
        require_choice("durability", durability, get_args(Durability))
        require_count("max_journal_bytes", max_journal_bytes, 1)
        require_instance("refuse_inexact_floats", refuse_inexact_floats, bool)
        require_instance("must_exist", must_exist, bool)
        if files is not None:
            require_instance("files", files, LocalFiles)
        self._codec: Codec[RecordT] = codec_of(record_type)
        self._max_bytes = max_bytes
        self._max_checkpoints = max_checkpoints
        self._refuse_inexact_floats = refuse_inexact_floats
        self._store = LocalStore(
            directory_text("storage_path", storage_path),
            self._codec,
            Options(
                Limits(max_backups, max_checkpoints, max_bytes),
                _WAKE[durability],
                float(lock_timeout_seconds),
                max_journal_bytes,
                must_exist,
            ),
            files or LocalFiles(),
        )
        self._lock_timeout_seconds = float(lock_timeout_seconds)
        self._turns = SessionTurns(self._lock_timeout_seconds)
        self._updates = Updates(self._store, self._turns, self._lock_timeout_seconds)
        self._ownerships = Ownerships(self._store, self._turns, self._lock_timeout_seconds)
        self._process_id: int | None = None  # of whoever makes the first call
        self._is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open"
        return f"<AsyncCheckpointWriter {self._store.place.path!r} {state}>"

    def __del__(self) -> None:
        store = getattr(self, "_store", None)
        if store is None or self._is_closed or self._process_id != process_id():
            return
        if store.is_started and not sys.is_finalizing():
            store.abandon()
            warnings.warn(f"{self!r} was not closed", ResourceWarning, stacklevel=2, source=self)

    @property
    def max_checkpoints(self) -> int | None:
        """How many checkpoints of a session are kept, the newest; None keeps all."""
        return self._max_checkpoints

    async def aclose(self) -> None:
        """
        Finish what was submitted, write all files, and release threads and files.

        Every save that was called before returns or raises as usual. So does every update: its
        work is waited for, at most `lock_timeout_seconds`; what comes later, and what waits for it,
        is refused. What is owned is owned no more. Later calls do nothing.

        Raises:
            StorageError: files could not be written; the journal has all that was acknowledged.
            StoreBusyError: another process holds a lock, for `lock_timeout_seconds`; the journal
                has all, and the rest follows when that lock is free.
            MissingStoreError: the directory must exist, is not there any more, and was saved to.
            NestedCallError: the work of an update calls it.

        Durability: nothing acknowledged depends on it.
        """
        self._turns.require_no_update(None, "aclose")
        is_first, self._is_closed = not self._is_closed, True
        if self._process_id != process_id():
            return
        has_waited = False
        try:
            if is_first:
                await self._turns.settle(self._lock_timeout_seconds)
            if is_first and self._store.has_changed:
                await self._store.made(Flush(Job(), closes=True))
        except CheckpointError as error:
            has_waited = isinstance(error, StoreBusyError)
            if self._store.may_have_committed:
                raise
        finally:
            await self._store.closed(has_waited=has_waited)

    def _require_own_process(self) -> None:
        if self._process_id is None:
            self._process_id = process_id()
        if self._process_id != process_id():
            raise WriterClosedError("this writer belongs to the process that was forked")

    def _require_open(self) -> None:
        if self._is_closed:
            raise WriterClosedError("the writer is closed")

    def _require_usable(self) -> None:
        self._require_own_process()
        self._require_open()

    def _require_outside(self, session_id: SessionId, operation: str) -> None:
        """Refuse a read that an update makes by its transaction alone."""
        self._require_usable()
        self._turns.require_outside(session_id, operation)

    async def _read(
        self,
        work: Callable[[Reader[RecordT]], ResultT],
        otherwise: ResultT,
        *,
        is_callers: bool = False,
    ) -> ResultT:
        self._require_usable()
        store = self._store
        pool = store.callers if is_callers else store.readers
        return await store.in_thread(pool, partial(store.read, work, otherwise))

    async def _found(
        self, prefix: str, work: _Search[RecordT, ResultT], *, is_callers: bool = False
    ) -> AsyncGenerator[ResultT, None]:
        """Yield what is found in the sessions whose ids begin so; then raise what was refused."""
        first = partial(_first_of, prefix, work)
        nothing: _Found[ResultT] = ([], [])
        names, (found, refused) = await self._read(
            first, (_Names(), nothing), is_callers=is_callers
        )
        for each in found:
            yield each
        for start in range(_SESSIONS_PER_HOP, len(names), _SESSIONS_PER_HOP):
            part = partial(work, prefix, names[start : start + _SESSIONS_PER_HOP])
            found, errors = await self._read(part, nothing, is_callers=is_callers)
            refused += errors
            for each in found:
                yield each
        raise_all(refused)

    async def _change(self, change: Change, operation: str) -> Any:
        self._require_usable()
        self._begin(change, operation)
        return await change.job.finished()

    def _begin(self, change: Change, operation: str) -> None:
        """Queue a change at once, or when the updates of its session have ended."""
        submit = partial(self._store.submit_later, change)
        if change.session:
            change.held_up = self._turns.call(change.session_id, operation, submit)
        else:
            submit()
        self._store.watch(change)

    async def save(
        self,
        data: RecordT,
        /,
        *,
        blobs: Mapping[str, bytes] = NO_BLOBS,
        expected: Expected = ANY_NEWEST,
    ) -> CheckpointId:
        """
        Store a checkpoint durably, and with it the blobs that it refers to.

        It is checked and encoded before the first suspension, so `data` may be changed as soon
        as the call has been started. Saves of one session take effect in the order of the
        calls. An id that is there already is replaced: the new one is the newest, the old one
        is gone. So a loaded record that is saved as it is, or changed in place, replaces itself;
        its `next` is the record of the step after.

        Args:
            data: a record of the writer's type.
            blobs: for a `BlobRecord`: bytes by their SHA-256, 64 lower-case hex digits. Those
                that the session has are not stored again; those that `data` names, or a
                `BlobNode` that it leads to, need to be given only if it has not.
            expected: an id: save only if that checkpoint is the newest, the one saved last; None:
                only if the session is empty. Left out, nothing is expected. Ids alone are compared:
                whether the checkpoint of that id was replaced is seen by `update`.

        Returns:
            its checkpoint id.

        Raises:
            CheckpointEncodeError: a value that JSON, or Rust, would not give back as it is;
                names its path. Or a blob that is not what its name says, or begins as a
                `BlobNode` does and is none.
            InvalidIdError: an id that is not a str or holds a lone surrogate.
            RecordTypeError: not a record of the writer's type.
            CheckpointTooLargeError: it, or a blob, is over `max_bytes`.
            MissingBlobError: a blob that it leads to is neither given nor there.
            SessionChangedError: another checkpoint is the newest.
            CheckpointCorruptError: the newest is damaged, and with `expected` nobody knows its id.
            JournalCorruptError: changes may be lost with a part of the journal, so that nobody
                knows the newest that is expected, or what `max_checkpoints` would drop.
            InvalidArgumentError: `expected` is no id, or `blobs` has one that neither `data` nor a
                `BlobNode` among them names.
            StorageError: the disk refused; it is not saved, and does not come back.
            StorageFullError: there is no room for it, or for earlier files, on the disk.
            DurabilityUnknownError: it may or may not be saved.
            StoreBusyError: another process kept the store locked, or one update of the session
                that was called before went on, for `lock_timeout_seconds`; it is not saved.
            UnsupportedFileSystemError: the directory is on NFS, SMB or 9p.
            JournalVersionError: the journal is another version's.
            WriterClosedError: the writer is closed.

        Durability: on return the checkpoint survives a power cut. On an error or a
            cancellation it is there as a whole or not at all.

        Cost: one encode on the loop, one hop, one write and one `fdatasync` that all saves which
            wait share; the first save of a process some syncs more. Its file is written behind
            the caller's back. Independent of the number of checkpoints.
        """
        require_expected(expected)
        save = self._encode(data, blobs, Job())
        save.expected = expected
        self._require_usable()
        self._begin(save, "save")
        await save.job.finished()
        return save.checkpoint_id

    def _encode(self, data: RecordT, blobs: Mapping[str, bytes], job: Job[Any]) -> Save:
        if isinstance(data, CheckpointRecord):
            encode_id(data.checkpoint_id, "checkpoint id")
            name = encode_id(data.session_id, "session id")
        draft = self._codec.draft(data)
        if self._refuse_inexact_floats:
            documents.require_exact_floats(draft)
        body = documents.body_of(draft)
        save = Save(job, draft.session_id, name, checkpoint_id=draft.checkpoint_id, body=body)
        digests = data.blob_digests if isinstance(data, BlobRecord) else ()
        if digests or blobs is not NO_BLOBS:
            self._add_blobs(save, digests, blobs)
        return save

    def _add_blobs(self, save: Save, digests: tuple[str, ...], blobs: Mapping[str, bytes]) -> None:
        require_digests(digests)
        save.digests = digests
        save.give(frozen_blobs(blobs, digests))
        for digest, data in save.blobs.items():
            if len(data) > self._max_bytes:
                raise CheckpointTooLargeError(f"blob {digest}", len(data), self._max_bytes)

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
            CheckpointDecodeError: it is intact, and no record of the writer's type.
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
        self._require_outside(session_id, "load")
        return await self._read(lambda reader: reader.load(session_id, checkpoint_id), None)

    async def list(
        self,
        session_id: SessionId,
        *,
        before: CheckpointId | None = None,
        limit: int | None = None,
    ) -> tuple[CheckpointMeta, ...]:
        """
        Return the checkpoints of a session, saved last first.

        Bodies are not verified here. A file that `load` refuses is listed too, with its `problem`
        where one shows: it is damaged so much that it tells nothing, too large, of another session
        or not to be read. Damage in the middle of a file does not show, as that would take reading
        all of it: `verify` and `check` do. Where its name does not tell its id, that is the part of
        its name.

        Args:
            session_id: the session.
            before: only those saved before this one; of an id that is not there, none.
            limit: at most so many.

        Raises:
            InvalidIdError: an id that no session or checkpoint can have.
            InvalidArgumentError: a limit that is none.
            StorageError: the disk refused.

        Cost: one hop; of each file that is told, and was not seen before, the first and last 4 KiB
            are read, where that suffices. Where files of Rust's are among them, all count as told.
        """
        encode_id(session_id, "session id")
        require_query("", before, limit)
        self._require_outside(session_id, "list")
        return await self._read(
            lambda reader: listing.listed(reader, session_id, before, limit), ()
        )

    async def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        """
        Remove a checkpoint and its backup, durably; one that is damaged, too.

        Returns:
            False when there was none.

        Raises:
            CheckpointMismatchError: its file is intact, and of another session or id.
            CheckpointError: the file cannot be read, and `list` does not name it by this id.
            JournalCorruptError: there is none, but for what may be lost with a part of the journal.
            InvalidIdError: an id that no checkpoint can have.
            StorageError: the disk refused; the checkpoint may or may not be there still.
            StoreBusyError: another process kept the store locked.

        Durability: on return it is gone for good. On an error or a cancellation it is there or
            gone, and everything else is as it was.

        Cost: one hop, one read, one `fdatasync` of the journal.
        """
        encode_id(checkpoint_id, "checkpoint id")
        return bool(await self._delete("delete", session_id, (checkpoint_id,)))

    async def _delete(
        self,
        operation: str,
        session_id: SessionId,
        checkpoint_ids: tuple[CheckpointId, ...] | None,
    ) -> int:
        name = encode_id(session_id, "session id")
        job: Job[int] = Job()
        await self._change(Delete(job, session_id, name, checkpoint_ids=checkpoint_ids), operation)
        if checkpoint_ids is None and self._store.lacks_parts:
            await self._read(lambda reader: recover.settle(reader, name), None)
        return job.result or 0

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
            CheckpointMismatchError: the file of one is intact, and of another session or id; none
                was removed.
            CheckpointError: likewise, that of one cannot be read, and `list` does not name it so.
            JournalCorruptError: likewise, one may be lost with a part of the journal.
            InvalidIdError: an id that no checkpoint can have.
            InvalidArgumentError: a str instead of a list of them.
            StorageError: the disk refused; some may or may not be there still.
            StoreBusyError: another process kept the store locked.

        Durability: on return all are gone for good. A crash leaves all or none; an error or a
            cancellation leaves some, and everything else as it was.

        Cost: one hop, one read a checkpoint, one `fdatasync` of the journal.
        """
        return await self._delete("delete_many", session_id, checkpoint_ids_of(checkpoint_ids))

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
            CheckpointCorruptError: a damaged file alone has an id, one too long for a file name.
            StorageError: the disk refused.

        Cost: one hop, two binary searches in memory; for ids that are too long for a file name
            also the ends of their files, once.
        """
        encode_id(session_id, "session id")
        require_query(prefix, before, limit)
        self._require_outside(session_id, "ids")
        return await self._read(
            lambda reader: listing.ids(reader, session_id, prefix, before, limit), ()
        )

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
        self._require_outside(session_id, "load_many")
        return await self._read(lambda reader: reader.load_many(session_id, wanted), ())

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
        self._require_outside(session_id, "load_blobs")
        return await self.read(session_id, lambda reader: reader.load_blobs(wanted))

    @overload
    async def verify(self, path: str | PathLike[str], /) -> bool: ...

    @overload
    async def verify(self, session_id: SessionId, checkpoint_id: CheckpointId, /) -> bool: ...

    async def verify(
        self, path: str | PathLike[str], checkpoint_id: CheckpointId | None = None, /
    ) -> bool:
        """
        Tell whether a file, wherever it is, or a checkpoint of a session, is intact.

        Args:
            path: a file; `latest.json` stands for what it points at. Or, before a checkpoint id,
                the id of its session.
            checkpoint_id: of the checkpoint; left out for a file.

        Returns:
            True also for a record of another type; False for one that is damaged, is not a
            checkpoint, or is not there. Its blobs are not looked at.

        Raises:
            NotACheckpointError: a directory, device, FIFO or other symlink.
            FormatVersionError: of another format version, and its checksum is not right for ours.
            CheckpointTooLargeError: over `max_bytes`.
            StorageError: the disk refused to let it be read.

        Cost: one hop, one read, no decoding of files as we and Rust write them.
        """
        if checkpoint_id is not None:
            return await self._verify_stored(path, checkpoint_id)
        text = path_text("path", path, may_be_empty=True)
        verified = await self._read(lambda reader: reader.verify(text), None)
        if verified is not None:
            return verified
        work = partial(verify_file, self._store.files, text, self._max_bytes)
        return await hop(self._store.readers, work)

    async def _verify_stored(self, session_id: Any, checkpoint_id: CheckpointId) -> bool:
        encode_id(session_id, "session id")
        encode_id(checkpoint_id, "checkpoint id")
        self._require_outside(session_id, "verify")
        return await self._read(lambda reader: reader.is_intact(session_id, checkpoint_id), False)

    async def read(
        self,
        session_id: SessionId,
        work: Callable[[SessionReader[RecordT]], Awaitable[ResultT]],
        /,
    ) -> ResultT:
        """
        Do several reads of a session, of which one needs the outcome of another, in one hop.

        Args:
            session_id: the session.
            work: runs in a thread, without an event loop, and awaits nothing but the reads that it
                is given, any number of them; it is called again where the directory was moved
                meanwhile. As long as it takes, at most five are called at a time; other methods
                do not wait for it.

        Returns:
            what `work` returns.

        Raises:
            InvalidIdError: an id that no session can have.
            InvalidArgumentError: `work` is no async function, or awaits something else.
            CheckpointError: what the reads raise, and `work` lets pass.

        Cost: one hop, and the reads.
        """
        reading = self._reading(session_id, work)

        def read() -> ResultT:
            nothing: _Answer[ResultT] = []
            found = self._store.read(reading, nothing)
            return (found or reading(None))[0]

        return await self._store.in_thread(self._store.callers, read)

    def read_blocking(
        self,
        session_id: SessionId,
        work: Callable[[SessionReader[RecordT]], Awaitable[ResultT]],
        /,
    ) -> ResultT:
        """
        Do what `read` does for a caller that has no event loop; its thread waits.

        `Portal.read` calls it for synchronous code on any store. A loop that runs in the calling
        thread stands still meanwhile. The first call of a writer reads in that thread itself, later
        ones in one of the writer's.

        Args:
            session_id: the session.
            work: as of `read`; what it does, but for its reads, may be done in any thread.

        Returns:
            what `work` returns.

        Raises:
            InvalidIdError: an id that no session can have.
            InvalidArgumentError: `work` is no async function, or awaits something else.
            PortalBlockedError: a thread within this library waits for the caller.
            CheckpointError: what the reads raise, and `work` lets pass.

        Cost: the reads, and from the second call on one hop.
        """
        reading = self._reading(session_id, work)
        nothing: _Answer[ResultT] = []  # of `_Answer[ResultT]()` Python would make the alias anew
        found = self._store.read_blocking(reading, nothing)
        return (found or reading(None))[0]

    def _reading(
        self,
        session_id: SessionId,
        work: Callable[[SessionReader[RecordT]], Awaitable[ResultT]],
    ) -> Callable[[Reader[RecordT] | None], _Answer[ResultT]]:
        """Return what does the work of a `read`, and its result as the one in a list."""
        encode_id(session_id, "session id")
        require_callable("work", work)
        self._require_outside(session_id, "read")
        return lambda reader: [result_at_once(work, LocalReader(reader, session_id))]

    async def sessions(self, *, prefix: str = "") -> AsyncIterator[SessionId]:
        """
        Yield the ids of the sessions that have checkpoints, in the order of their directories.

        Args:
            prefix: only ids that begin with it.

        No lock or file is held between two of them.

        Raises:
            StorageError: a directory that may be a session's cannot be looked into. All others
                have been yielded by then; of several such the rest are in its `others`.
            LostIdError: likewise, one whose name is a digest, and nothing in it tells the id.
            JournalCorruptError: likewise, a part of the journal is lost, and with it perhaps
                sessions of which nobody knows.

        Cost: one hop for each 64 sessions.
        """
        require_query(prefix)
        async for session_id in self._found(prefix, _session_ids):
            yield session_id

    async def find(
        self,
        work: Callable[[SessionReader[RecordT]], Awaitable[ResultT | None]],
        /,
        *,
        prefix: str = "",
    ) -> ResultT | None:
        """
        Do `read` of one session after the other, until one returns something.

        It is for what is in a session that nobody knows, as a checkpoint of which there is the id.

        Args:
            work: as of `read`.
            prefix: only of sessions whose ids begin with it.

        Returns:
            what `work` returns first that is not None; None where it never does.

        Raises:
            InvalidArgumentError: `work` is no async function, or awaits something else.
            StorageError: it was not found, and a directory that may be a session's cannot be looked
                into; of several such the rest are in its `others`.
            LostIdError: likewise, one whose name is a digest, and nothing in it tells the id.
            JournalCorruptError: likewise, it may be lost with a part of the journal.
            CheckpointError: what the reads raise, and `work` lets pass.

        Cost: one hop for each 64 sessions, and the reads.
        """
        require_query(prefix)
        require_callable("work", work)

        def search(prefix: str, names: _Names, reader: Reader[RecordT]) -> _Found[ResultT]:
            refused: _Errors = []
            for name in names:
                session_ids, errors = _session_ids(prefix, [name], reader)
                refused += errors
                for session_id in session_ids:
                    (found,) = self._reading(session_id, work)(reader)
                    if found is not None:
                        return [found], []
            return [], refused

        async with contextlib.aclosing(self._found(prefix, search, is_callers=True)) as found:
            return await anext(found, None)

    async def load_newest(self, session_ids: Iterable[SessionId], /) -> dict[SessionId, RecordT]:
        """
        Return the newest checkpoint of each of many sessions, verified.

        Args:
            session_ids: the sessions.

        Returns:
            the records by their sessions' ids, in the order given; without those that have none.

        Raises:
            CheckpointError: what `load` raises of the first that cannot be loaded. The rest of such
                errors are its `others`, and in its notes; all other records are its `listed`.
            InvalidArgumentError: a str instead of a list of them.
            InvalidIdError: an id that no session can have.

        Cost: one hop for each 256 sessions, one file read a session, none where it is in memory.
        """
        wanted = session_ids_of(session_ids)
        self._require_usable()
        for session_id in wanted:
            self._turns.require_outside(session_id, "load_newest")
        found: dict[SessionId, RecordT] = {}
        refused: _Errors = []
        for start in range(0, len(wanted), _LOADS_PER_HOP):
            part = wanted[start : start + _LOADS_PER_HOP]
            nothing: _Found[tuple[SessionId, RecordT]] = ([], [])
            loaded, errors = await self._read(partial(_newest_of, part), nothing)
            found.update(loaded)
            refused += errors
        raise_all(refused, found)
        return found

    async def unfinished(
        self, *, final_triggers: Iterable[str], prefix: str = ""
    ) -> AsyncIterator[CheckpointMeta]:
        """
        Yield the newest checkpoint of each session where its `trigger` is not a final one.

        One that does not tell its trigger, as it is damaged or not to be read, is yielded too, with
        its `problem`; so is one of a record type that has none, unless `""` is final. Bodies are
        not verified here: damage behind a final trigger shows when it is loaded, and by `check`.

        Args:
            final_triggers: what the newest checkpoint of a session says that is over.
            prefix: only sessions whose ids begin with it.

        No lock or file is held between two of them.

        Raises:
            CheckpointError: what `sessions` raises, after all others have been yielded.
            InvalidArgumentError: a str instead of a list of triggers; a prefix that is none.

        Cost: one hop for each 64 sessions; of a newest file not seen before the first
            and last 4 KiB are read, of others none.
        """
        final = frozenset(triggers_of(final_triggers))
        require_query(prefix)
        async for meta in self._found(prefix, _newest_metas):
            if meta.problem is not None or meta.trigger not in final:
                yield meta

    async def delete_session(self, session_id: SessionId) -> bool:
        """
        Remove all checkpoints of a session, durably, and its directory if nothing else is in it.

        Returns:
            False when it had none.

        Raises:
            InvalidIdError: an id that no session can have.
            JournalCorruptError: it has none, but for what may be lost with a part of the journal.
            StorageError: the disk refused.
            StoreBusyError: another process kept the store locked.

        Durability: on return all are gone for good. On an error, a cancellation or a crash all
            are there or none is.

        Cost: one hop, one `fdatasync` of the journal; the files go behind the caller's back.
        """
        return bool(await self._delete("delete_session", session_id, None))

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
            StoreBusyError: another process kept the store locked.

        Durability: on return all are durable. After an error or a crash the target may hold
            some of them; a copy made again completes it. Where somebody has gone on with the
            target since, it hides that: what is copied becomes the newest.

        It is a series of saves: others may see a part of it. What is there when it is called, and
        is not deleted meanwhile, is copied; what is replaced meanwhile, as it was before or after.
        What is saved later is left out, so that it ends however fast others save.

        Cost: each file is read twice, some megabytes a hop, and saved.
        """
        for session_id in (source_id, target_id):
            encode_id(session_id, "session id")
        self._require_usable()
        self._turns.require_no_update(target_id, "copy_session")
        nothing: AbstractSet[CheckpointId] = frozenset()
        found = await self._read(
            lambda reader: copy.require_intact(reader, source_id, target_id), nothing
        )
        if source_id == target_id:
            return len(found)
        position = ""
        left, copied = set(found), 0
        while left:
            read = partial(copy.next_part, source_id, target_id, position, left)
            part = await self._read(read, copy.Part("", []))
            if not part.saves:  # the others were deleted meanwhile
                break
            position = part.last_name
            await self._save_all(part, target_id)
            left.difference_update(save.checkpoint_id for save in part.saves)
            copied += len(part.saves)
        return copied

    async def _save_all(self, part: copy.Part, target_id: SessionId) -> None:
        self._require_usable()
        name = encode_id(target_id, "session id")
        jobs: list[Job[CheckpointId]] = []
        for item in part.saves:
            jobs.append(Job())
            save = Save(
                jobs[-1], target_id, name, checkpoint_id=item.checkpoint_id, body=item.body,
                digests=item.digests, blobs=item.blobs,
            )  # fmt: skip
            self._begin(save, "copy_session")
        failure: BaseException | None = None
        for job in reversed(jobs):  # or one that is cancelled would leave a gap
            if failure is not None and job.withdraw():
                continue
            try:
                await job.finished()
            except BaseException as error:  # noqa: BLE001 - raised when all are over
                failure = failure if isinstance(failure, asyncio.CancelledError) else error
        if failure is not None:
            raise failure

    async def update(
        self,
        session_id: SessionId,
        work: Callable[[Transaction[RecordT]], Awaitable[ResultT]],
        /,
    ) -> ResultT:
        """
        Read, decide and write a session as one step.

        ```python
        async def pop(session: Transaction[CheckpointData]) -> CheckpointData | None:
            newest = await session.load()
            if newest is not None:
                session.delete(newest.checkpoint_id)
            return newest


        async with AsyncCheckpointWriter("state/") as writer:
            task = await writer.update("support-42", pop)
        ```

        Args:
            session_id: the session.
            work: an async function. It reads the session as it is and stages changes, which are
                committed together, or, if it raises, not at all. It is called again when the
                session has changed since it was read, by another process or by a change that
                was called before, so it has no other effects.

        Returns:
            what `work` returned the last time.

        Updates of one session by one writer run one after the other, in the order of the calls,
        over tasks, event loops and threads, and other changes of the session that are called
        meanwhile wait: however many come before, each for `lock_timeout_seconds` at most. What
        `work` was told is what there is when it commits; where it stages
        nothing or raises, what there was when it had ended.

        Raises:
            SessionChangedError: others have changed the session again and again, for
                `lock_timeout_seconds`; nothing was changed.
            StoreBusyError: one update that was called before has gone on for as long, or another
                process kept the store locked.
            NestedCallError: `work` calls the writer for the session, or to change another one;
                `update_many` is for several.
            InvalidArgumentError: `work` is no async function, or stages a record of another
                session.
            InvalidIdError: an id that no session can have.
            CheckpointError: what the reads of `work` raise, and what `save` and `delete_many`
                raise of what is staged; nothing was changed.

        Durability: as of one `save`, for all that is staged: one frame of the journal. On an error
            or a cancellation all of it is there, or nothing.

        Cost: one hop and one `fdatasync` to commit; none for reads of ids, and of what is not in
            files yet; one for each other read. Where nothing is staged no commit, and one hop to
            see that what was read from memory is still so.
        """
        encode_id(session_id, "session id")
        require_callable("work", work)
        self._require_usable()
        return await self._updates.run(
            "update",
            (session_id,),
            self._encode,
            lambda transactions: result_of(work, transactions[session_id]),
        )

    async def update_many(
        self,
        session_ids: Iterable[SessionId],
        work: Callable[[Mapping[SessionId, Transaction[RecordT]]], Awaitable[ResultT]],
        /,
    ) -> ResultT:
        """
        Do what `update` does on several sessions, in one commit.

        Args:
            session_ids: the sessions.
            work: called with a transaction for each of them, by its session's id.

        Returns:
            what `work` returned the last time.

        Two that have sessions in common run one after the other; they cannot wait for each other.

        Raises:
            CheckpointError: what `update` raises.

        Durability: as of `update`, over all of the sessions: no crash leaves a part.

        Cost: as of `update`.
        """
        wanted = session_ids_of(session_ids)
        require_callable("work", work)
        self._require_usable()
        return await self._updates.run("update_many", wanted, self._encode, work)

    @contextlib.asynccontextmanager
    async def own(
        self, session_id: SessionId, *, wait: bool = True
    ) -> AsyncIterator[Ownership[RecordT]]:
        """
        Own a session while a block runs.

        ```python
        async with AsyncCheckpointWriter("state/") as writer:
            async with writer.own("support-42") as owner:
                state = await writer.load("support-42") or CheckpointData(session_id="support-42")
                await owner.save(state.next(iteration=state.iteration + 1))
        ```

        One owner at a time, over all tasks, loops and threads that use the writer, first come,
        first served, and over all writers on the directory, of this process or another one. What
        is written through `owner` is refused once the session has another owner; what is written
        by the writer itself is not.

        A process that dies owns nothing any more. One that is stopped still does: nobody can know
        whether it goes on. A writer that is closed owns nothing either.

        Args:
            session_id: the session; it need not exist.
            wait: until it is free, at most `lock_timeout_seconds`; False: not at all.

        Yields:
            the ownership: `save`, `delete_many` and `update` as those of the writer, and `token`, a
            number that is greater than that of all owners of the session before, also across
            restarts and deletes, for systems outside of the store to tell an outdated owner by;
            at least the milliseconds since 1970, so that it also grows when a backup was restored
            or the session copied, unless the clock is wrong.

        Raises:
            SessionOwnedError: on entry: somebody else owns it.
            JournalCorruptError: on entry: a part of the journal is lost, and perhaps with it who
                owns the session.
            OwnershipLostError: of `owner`: the session has another owner, as somebody has removed
                this process's file `owner-...` by hand; nothing was changed.
            NestedCallError: the work of an update calls it.
            InvalidArgumentError: `wait` is no bool; of `owner`: a record of another session.
            InvalidIdError: an id that no session can have.
            StorageError: the disk refused; on entry nothing is owned, at the end it is owned until
                this process ends or owns it again.
            StoreBusyError: another process kept the store locked; likewise.

        Durability: on entry the token is durable, so that none is given out twice. Who owns what
            is not: after a power cut nobody does.

        Cost: one hop and one `fdatasync` on entry, one hop at the end. While another process owns
            the session, one hop now and then, at most 0.1 s apart.
        """
        encode_id(session_id, "session id")
        require_instance("wait", wait, bool)
        self._require_usable()
        async with self._ownerships.own(session_id, self._require_own_process, wait=wait) as token:
            writes = OwnersWrites(self._encode, self._change, self._updates, self._require_usable)
            yield writes.by(session_id, token)

    async def flush(self) -> None:
        """
        Make the files of every acknowledged save durable themselves, and empty the journal.

        It happens by itself, in the background and by `aclose`. Call it before something that
        is not this library takes over the directory: a backup, a copy, the Rust crate.

        It also overwrites what the journal holds of checkpoints that were deleted.

        Raises:
            StorageError: files could not be written or synced; the journal is kept, nothing
                acknowledged is lost, and it is tried again.
            StoreBusyError: another process that writes the files is stopped.
            JournalCorruptError: a part of the journal is lost, and with it perhaps changes of
                sessions that were not recovered since; all that can be read is in files. One for
                each session is in its `others`.

        Cost: two hops, one small commit, one `syncfs` where there is one, or else one sync a file
            and directory.
        """
        unflushed = _Errors()
        try:
            await self._change(Flush(Job()), "flush")
        except JournalCorruptError as error:
            unflushed.append(error)
        refused = await self._read(lambda reader: check_journal.refusals(reader.bodies), _Errors())
        raise_all([*unflushed, *refused])

    def stats(self) -> WriterStats:
        """
        Return how the writer is doing, for metrics and health checks; from any thread.

        Cost: none but a look at what is in memory, also where the disk hangs.
        """
        return self._store.stats()

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        """
        Go on from the newest intact checkpoint, knowingly.

        Moves every damaged or misplaced file of the session, every checkpoint that refers to a
        blob which is damaged or missing, and every blob that no intact checkpoint refers to,
        to `.aiocheckpoint/quarantine/<session>/`, restores one from its backup where that is
        intact, and makes `latest.json` right. Deletes nothing. Records of another type stay, and
        so do files of another format version.

        No way back for most sessions that an adapter keeps for a framework, which are of use as a
        whole alone: it may begin anew, or raise for ever. `kit.framework_of` tells which.

        A part of the journal that nobody can read is kept there, too, and the session goes on
        without what it held; the others are refused until each is recovered.

        Returns:
            what was moved and given up, and what `load` returns from now on.

        Raises:
            CheckpointTooLargeError: a file over `max_bytes`; raise it to tell damage from size.
            FormatVersionError: the newest is of another format version; nothing was moved.
            InvalidIdError: an id that no session can have.
            StorageError: the disk refused.
            StoreBusyError: another process kept the store locked.

        Durability: on return the moves are durable; after a crash a file may have both names.

        Cost: one hop, all files of the session read.
        """
        name = encode_id(session_id, "session id")
        self._require_usable()
        self._turns.require_no_update(session_id, "recover")
        found = await self._read(lambda reader: recover.find_damage(reader, session_id), None)
        if found is None:
            return RecoveryReport(session_id=session_id, newest_valid_id=None, quarantined=())
        made: Collection[object] = ()
        if found.entries:
            change = Recover(
                Job(), session_id, name, entries=found.entries, bodies=found.bodies, seen=found.seen
            )
            made = await self._change(change, "recover") or ()
        if found.given_up:
            await self._read(lambda reader: recover.settle(reader, name), None)
        return found.report(session_id, made)

    async def exists(self) -> bool:
        """
        Tell whether the directory is a store: one that this library or Rust has ever saved to.

        False for one that is not there, and for any other directory, which stays as it is.

        Raises:
            StorageError: it could not be listed.

        Cost: one hop; where this library has never saved, a look into each directory in it.
        """
        with contextlib.suppress(MissingStoreError):
            return await self._read(lambda reader: sessions.is_store(reader.bodies), False)
        return False

    @contextlib.asynccontextmanager
    async def mark(self) -> AsyncIterator[str]:
        """
        Yield what tells the directory from all others, however it is named; nothing is written.

        It tells what is around it, too, so that a directory within another one is known.

        Raises:
            StorageError: it could not be looked at.

        Cost: one hop.
        """
        yield str(await self._mark())

    async def has_mark(self, mark: str, /) -> bool:
        """
        Tell whether a mark is that of this directory, or of one within it or around it.

        Raises:
            StorageError: it could not be looked at.

        Cost: one hop.
        """
        return (await self._mark()).meets(Mark.parsed(mark))

    async def _mark(self) -> Mark:
        self._require_usable()
        store = self._store
        work = partial(Mark.of_path, store.files, store.place.path)
        return await hop(store.readers, work)

    async def check(self) -> tuple[Finding, ...]:
        """
        Read everything under the root and report what is wrong, changing nothing.

        Returns:
            the findings, in the order of directories and files; none for a healthy store. What
            could not be looked into is a finding too, also the journal: where it cannot be read,
            sessions are looked at by their files alone. Beside a process that keeps it locked for
            `lock_timeout_seconds` one is `busy-journal`, and what could be seen is told. A store in
            use may show temporary files of saves that are going on.

        Raises:
            StorageError: the root could not be listed.

        Cost: one hop for each session; every byte is read and hashed.
        """
        self._require_usable()
        threads = self._store.readers
        with contextlib.suppress(CheckpointError):  # which is a finding
            await self._read(lambda reader: reader.look(), None)
        root = await self._store.in_thread(threads, self._store.place.to_read)
        if root is None:
            return ()
        work = partial(check_journal.check_journal, root, is_applied=self._store.has_changed)
        findings, has_journal = await hop(threads, work)
        look = partial(check.check_session, has_journal=has_journal)
        names = partial(check.names_to_check, root, has_journal=has_journal)
        for name in await hop(threads, names):
            findings += await hop(threads, partial(look, root, name))
        return tuple(findings)


def _session_ids(prefix: str, names: list[str], reader: Reader[Any]) -> _Found[SessionId]:
    return sessions.session_ids(reader.bodies, names, reader.index, prefix)


def _newest_of(
    session_ids: Iterable[SessionId], reader: Reader[RecordT]
) -> _Found[tuple[SessionId, RecordT]]:
    def load(session_id: SessionId) -> Iterator[tuple[SessionId, RecordT]]:
        newest = reader.load(session_id, None)
        if newest is not None:
            yield session_id, newest

    return sessions.found_in(session_ids, load)


def _newest_metas(prefix: str, names: list[str], reader: Reader[Any]) -> _Found[CheckpointMeta]:
    session_ids, refused = _session_ids(prefix, names, reader)
    newest = partial(listing.listed, reader, before=None, limit=1)
    found, errors = sessions.found_in(session_ids, newest)
    return found, refused + errors


def _first_of(
    prefix: str, work: _Search[RecordT, ResultT], reader: Reader[RecordT]
) -> tuple[list[str], _Found[ResultT]]:
    """Return the names of sessions, and what is found in the first of them."""
    reader.look()
    names = sessions.session_names(reader.bodies, prefix)
    found, errors = work(prefix, names[:_SESSIONS_PER_HOP], reader)
    return names, (found, [*reader.unreadable(), *errors])
