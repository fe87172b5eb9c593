"""One process after another, driven step by step: what each saves, applies, flushes and sees."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from aiocheckpoint import ANY_NEWEST, CheckpointData, CheckpointError
from aiocheckpoint._engine import listing
from aiocheckpoint._engine import root as roots
from aiocheckpoint._engine.applier import Applier
from aiocheckpoint._engine.changes import Change, Delete, Flush, Recover, Save, Wake
from aiocheckpoint._engine.check import check_session
from aiocheckpoint._engine.check_journal import check_journal
from aiocheckpoint._engine.commit import Committer
from aiocheckpoint._engine.demand import Demand
from aiocheckpoint._engine.jobs import Job
from aiocheckpoint._engine.read import Reader
from aiocheckpoint._engine.recover import find_damage
from aiocheckpoint._engine.root import OpenRoot, WritableRoot
from aiocheckpoint._engine.session_plan import Limits
from aiocheckpoint._engine.sessions import session_names
from aiocheckpoint._format import documents
from aiocheckpoint._format.codec import RecordCodec
from aiocheckpoint._format.documents import Body
from aiocheckpoint._format.ids import encode_id
from aiocheckpoint.models import Expected, Finding
from tests.engine.disk import Disk
from tests.engine.files import DiskFiles
from tests.engine.kernel import ROOT_NAME

CREATED_AT = datetime(2026, 11, 23, 10, 15, tzinfo=UTC)
SMALL_JOURNAL_BYTES = 1 << 20
_MAX_FILE_BYTES = 1 << 20
_TENURES = 8
ResultT = TypeVar("ResultT")
RECORDS = RecordCodec(CheckpointData)

Seen = tuple[tuple[str, int], ...]
"""A session: the ids of its checkpoints and what each holds, saved first first."""


class _NoLoop:
    """A loop in which nobody waits."""

    def call_soon_threadsafe(self, *args: object) -> None:
        """Drop it: the outcome is in the job."""


_NO_LOOP: Any = _NoLoop()


class _Demand(Demand):
    """What only the test meets."""

    def wait_for_flush(self, seconds: float) -> None:
        """Ask for a flush; nobody makes it meanwhile."""
        super().wait_for_flush(0)


class Answer(Job[Any]):
    """The outcome of a change, without a loop."""

    def __init__(self) -> None:
        self.result = None
        self.error = None
        self.is_over = False
        self._loop = _NO_LOOP
        self._state = "waiting"
        self._is_unwanted = False
        self._is_delivered = False
        self._mutex = threading.Lock()


def make_record(session: str, checkpoint_id: str, serial: int, size: int = 0) -> CheckpointData:
    """Return a checkpoint whose content follows from its fields."""
    return CheckpointData(
        session_id=session,
        checkpoint_id=checkpoint_id,
        created_at=CREATED_AT,
        iteration=serial,
        tokens_used=size,
        messages=[f"{checkpoint_id}/{serial} ".ljust(size, ".")],
    )


@lru_cache(maxsize=1000)
def body_of(session: str, checkpoint_id: str, serial: int, size: int) -> Body:
    """Return its body."""
    return documents.body_of(RECORDS.draft(make_record(session, checkpoint_id, serial, size)))


class Process:
    """
    A process that uses a root, without threads.

    Args:
        disk: it is on.
        wake: when its callers wake.
        max_checkpoints: kept in a session.
        max_backups: kept in a session.
        max_journal_bytes: how much may be unflushed.

    Attributes:
        files: the disk, as it uses it.
        applier: its applier.
    """

    def __init__(
        self,
        disk: Disk,
        *,
        wake: Wake = "synced",
        max_checkpoints: int | None = None,
        max_backups: int = 1,
        max_journal_bytes: int = SMALL_JOURNAL_BYTES,
    ) -> None:
        self.path = Path(disk.outer, ROOT_NAME)
        self.files = DiskFiles(disk)
        self._max_journal_bytes = max_journal_bytes
        self._opened: WritableRoot | None = None
        self._reading: OpenRoot | None = None
        limits = Limits(max_backups, max_checkpoints, _MAX_FILE_BYTES)
        self.applier = Applier(_Demand(), self.to_write)
        self._committer = Committer(self, self.applier, limits, wake, 60)

    # What the committer needs

    def to_write(self) -> WritableRoot:
        """Return the root, opened when it is first needed."""
        if self._opened is None:
            self._opened = roots.open_to_write(
                str(self.path), self.files, _MAX_FILE_BYTES, self._max_journal_bytes
            )
        return self._opened

    def is_there(self, *, with_log: bool = True) -> bool:
        """Tell that there is something to change."""
        return True

    def reopen(self) -> None:
        """Open everything anew."""
        self._opened = None

    # Changes

    def commit(self, *changes: Change) -> None:
        """Commit changes in one batch; each job has its outcome then, or waits for a flush."""
        if changes:
            self._committer._commit([*changes])

    def save(
        self,
        session: str,
        checkpoint_id: str,
        serial: int = 0,
        *,
        size: int = 0,
        expected: Expected = ANY_NEWEST,
        blobs: Mapping[str, bytes] = {},
        body: Body | None = None,
    ) -> None:
        """Save a checkpoint."""
        self._done(
            self.new_save(
                session, checkpoint_id, serial, size=size, expected=expected, blobs=blobs, body=body
            )
        )

    def new_save(
        self,
        session: str,
        checkpoint_id: str,
        serial: int = 0,
        *,
        size: int = 0,
        expected: Expected = ANY_NEWEST,
        blobs: Mapping[str, bytes] = {},
        body: Body | None = None,
    ) -> Save:
        """Return a save to be committed."""
        return Save(
            Answer(), session, encode_id(session, "session id"), checkpoint_id=checkpoint_id,
            body=body or body_of(session, checkpoint_id, serial, size), digests=tuple(blobs),
            blobs=blobs, expected=expected,
        )  # fmt: skip

    def delete(self, session: str, *checkpoint_ids: str) -> int:
        """Remove checkpoints."""
        name = encode_id(session, "session id")
        return int(self._done(Delete(Answer(), session, name, checkpoint_ids=checkpoint_ids)))

    def drop(self, session: str) -> int:
        """Remove a session."""
        name = encode_id(session, "session id")
        return int(self._done(Delete(Answer(), session, name, checkpoint_ids=None)))

    def recover(self, session: str) -> None:
        """Quarantine what is damaged, and flush."""
        recovery = find_damage(self.reader(), session)
        name = encode_id(session, "session id")
        if recovery.entries:
            recover = Recover(
                Answer(), session, name, entries=recovery.entries, bodies=recovery.bodies,
                seen=recovery.seen,
            )  # fmt: skip
            self._flushed(recover)

    def _done(self, change: Change) -> Any:
        self.commit(change)
        for _ in range(_TENURES):
            if change.job.is_over:
                break
            # It waits for room, or for its file.
            with contextlib.suppress(CheckpointError):
                self.tenure()
            waiting = [*self._committer._waiting]
            self._committer._waiting.clear()
            self.commit(*waiting)
        assert change.job.is_over, "it waits for ever"
        if change.job.error is not None:
            raise change.job.error
        return change.job.result

    # Files

    def tenure(self) -> None:
        """Be the applier once: apply what there is, and flush."""
        self.applier.demand.is_wanted = True
        try:
            self.applier._tenure()
        except CheckpointError as error:
            self.applier.demand.fail_tried(error)
            raise
        if self.applier.error is not None:
            raise self.applier.error

    def flush(self, *, closes: bool = False) -> None:
        """Flush as `flush()` does, or `aclose()`: also what is to be erased."""
        self._flushed(Flush(Answer(), closes=closes))

    def _flushed(self, change: Change) -> None:
        self.commit(change)
        for _ in range(_TENURES):
            if change.job.is_over:
                break
            self.tenure()
        assert change.job.is_over, "the flush does not end"
        if change.job.error is not None:
            raise change.job.error

    # What it sees

    def _root(self) -> OpenRoot | None:
        if self._opened is not None:
            return self._opened.opened
        if self._reading is None or self._reading.log is None:  # it may have got a log since
            self._reading = roots.open_to_read(str(self.path), self.files, _MAX_FILE_BYTES)
        return self._reading

    def reader(self) -> Reader[CheckpointData]:
        """Return what reads, as a process that never writes where nothing was written yet."""
        root = self._root()
        assert root is not None, "there is no root"
        return Reader(root.bodies, RECORDS, 0.0)

    def seen(self, session: str, *, in_short: bool = False) -> Seen:
        """Return what it sees of a session, in every way there is, which must agree; or in two."""
        if self._root() is None:
            return ()
        reader = self.reader()
        ids = [meta.checkpoint_id for meta in listing.listed(reader, session, None, None)][::-1]
        assert len(set(ids)) == len(ids), f"an id is listed twice: {ids}"
        records = reader.load_many(session, ids)
        assert [record.checkpoint_id for record in records] == ids, "what is listed is not loaded"
        if not in_short:
            newest = reader.load(session, None)
            assert (newest is None) == (not ids)
            assert newest is None or newest == records[-1], "the newest is another than is listed"
            assert sorted(ids) == sorted(listing.ids(reader, session, "", None, None))
        for record in records:
            assert record == make_record(
                session, record.checkpoint_id, record.iteration, record.tokens_used
            )
        return tuple((record.checkpoint_id, record.iteration) for record in records)

    def findings(self) -> list[Finding]:
        """Return what is wrong in the store, as `check` tells it."""
        root = self._root()
        if root is None:
            return []
        found, has_journal = check_journal(root, is_applied=False)
        for name in session_names(root.bodies):
            found += check_session(root, name, has_journal=has_journal)
        return found

    def kill(self) -> None:
        """Let it be dead."""
        self.files.kill()

    def close(self) -> None:
        """Let it end in good order."""
        writable = self._opened.opened if self._opened else None
        for opened in (writable, self._reading):
            if opened is not None:
                opened.close()


def in_journal(process: Process) -> bytes:
    """Return all that the files of its journal hold."""
    files = sorted((process.path / ".aiocheckpoint").glob("log.*"))
    return b"".join(file.read_bytes() for file in files)


def outcome(work: Callable[[], object]) -> BaseException | None:
    """Do some work, and return what it raises."""
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - the outcome, KilledError among them
        return error
    return None
