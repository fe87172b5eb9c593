"""One writer's hold on a root: open it, submit changes to it, read it, close it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from aiocheckpoint._copied_errors import own_copy
from aiocheckpoint._disk.files import (
    Directory,
    LocalFiles,
    monotonic_seconds,
    now_microseconds,
)
from aiocheckpoint._disk.locks import APPLIER_NAME, LOCK_NAME, MovedError
from aiocheckpoint._disk.pending import Backlog
from aiocheckpoint._engine.applier import Applier
from aiocheckpoint._engine.changes import Change, Flush, Wake
from aiocheckpoint._engine.commit import Committer
from aiocheckpoint._engine.demand import Demand
from aiocheckpoint._engine.jobs import Deadlines, Ending, Job, hop
from aiocheckpoint._engine.place import Place, UnwrittenError
from aiocheckpoint._engine.read import Glance, LockRefusedError, NotInMemoryError, Reader
from aiocheckpoint._engine.root import OpenRoot
from aiocheckpoint._engine.session_plan import Limits
from aiocheckpoint._engine.threads import Pool, Threads, Workers
from aiocheckpoint._format import names
from aiocheckpoint._format.codec import Codec, RecordT
from aiocheckpoint._waiting import Outcome
from aiocheckpoint.errors import (
    CheckpointError,
    DurabilityUnknownError,
    StorageError,
    StorageFullError,
    StoreBusyError,
    ThreadStartError,
    WriterClosedError,
)
from aiocheckpoint.models import WriterStats

# Each system call lets go of the GIL: with more threads, more of them wait to have it back.
_MAX_READERS = _MAX_CALLERS = 5
_MOVED_RETRIES = 3
_UNSYNCED_ROUNDS = 5  # each syncs the journal under its lock, for which nobody has asked there
_LOOK_SECONDS = 0.005
_SHORTEST_WAIT_SECONDS = 0.01
_PASSING = (StoreBusyError, UnwrittenError, LockRefusedError)  # a read is tried again for a while
ResultT = TypeVar("ResultT")


class Options(NamedTuple):
    """
    How a writer uses a root.

    Attributes:
        limits: the bounds to keep.
        wake: when callers wake.
        lock_timeout_seconds: how long a change may wait for others.
        max_journal_bytes: how much of the log may be unflushed.
        must_exist: whether to refuse a place where nobody has ever saved.
    """

    limits: Limits
    wake: Wake
    lock_timeout_seconds: float
    max_journal_bytes: int
    must_exist: bool


class LocalStore(Generic[RecordT]):
    """
    A root, as one writer uses it. Making one does no I/O.

    Args:
        path: of the root.
        record_codec: of the record type.
        options: how to use it.
        files: the file operations.

    Attributes:
        files: the file operations.
        place: where the path leads.
        readers: for reads of ours.
        callers: for what callers bring along, which may take any time.
    """

    def __init__(
        self, path: str, record_codec: Codec[RecordT], options: Options, files: LocalFiles
    ) -> None:
        self.files = files
        self._codec = record_codec
        self._options = options
        self.place = Place(
            path, files, options.limits.max_bytes, options.max_journal_bytes,
            must_exist=options.must_exist,
        )  # fmt: skip
        self._mutex = threading.Lock()
        self._threads = Threads(self._release)
        self._workers = Workers(self._threads)
        self.readers = Pool(self._workers, _MAX_READERS)
        self.callers = Pool(self._workers, _MAX_CALLERS)
        self._endings: list[Ending] = []
        self._is_closed = self._is_released = False
        rounds = _UNSYNCED_ROUNDS if options.wake == "written" else 1
        self._applier = Applier(Demand(), self.place.to_write, rounds, self.place.has_lost_journal)
        self._committer = Committer(
            self.place, self._applier, options.limits, options.wake, options.lock_timeout_seconds
        )
        self._deadlines = Deadlines(options.lock_timeout_seconds, self._too_late)
        self._unstarted = {"apply": self._applier.run, "commit": self._commit}

    @property
    def is_started(self) -> bool:
        """Whether there are threads, or open files, to let go of."""
        return self._threads.is_started or self.place.opened is not None

    @property
    def has_changed(self) -> bool:
        """Whether this writer has changed, or tried to change, the root."""
        return self.place.writing is not None or "commit" not in self._unstarted

    @property
    def may_have_committed(self) -> bool:
        """Whether the root could ever be opened to change it."""
        return self.place.was_writable

    @property
    def lacks_parts(self) -> bool:
        """Whether some sessions have to be recovered, since a part of the log was given up."""
        opened = self.place.opened
        return opened is not None and opened.view.lost.concerns_some

    # Reading

    async def in_thread(self, pool: Pool, work: Callable[[], ResultT]) -> ResultT:
        """
        Do work that reads.

        Where another process commits before our first look, that is waited for here, where it can
        be cancelled, and holds no thread.

        Raises:
            StoreBusyError: it has taken too long.
            StorageError: so it has, as the lock is another user's, and nobody has committed.
        """
        deadline = monotonic_seconds() + self._options.lock_timeout_seconds
        while True:
            try:
                return await hop(pool, work)
            except _PASSING as error:
                _require_time(deadline, error)
            await asyncio.sleep(_LOOK_SECONDS)

    def read_blocking(
        self, work: Callable[[Reader[RecordT]], ResultT], otherwise: ResultT
    ) -> ResultT:
        """
        Read for a caller that has no event loop, and waits: the first time in its own thread.

        That reads a root which nobody else knows of until it is done, and holds no lock. So ctrl-c
        leaves nothing half-known, and what the handler of a signal does meanwhile waits for nobody.

        Args:
            work: does it.
            otherwise: what it would return where there is no root.

        Raises:
            StoreBusyError: as of `in_thread`.
        """
        if self.place.is_unused:
            with contextlib.suppress(MovedError):
                found = self._read_apart(work, otherwise)
                if found is not None:
                    return found[0]
        deadline = monotonic_seconds() + self._options.lock_timeout_seconds
        read = partial(self.read, work, otherwise)
        reading = partial(contextvars.copy_context().run, read)
        while True:
            outcome = Outcome[ResultT]()
            try:
                self.callers.submit(partial(outcome.run, reading))
                return outcome.wait()
            except _PASSING as error:
                _require_time(deadline, error)
            self.files.pause(_LOOK_SECONDS)

    def _read_apart(
        self, work: Callable[[Reader[RecordT]], ResultT], otherwise: ResultT
    ) -> tuple[ResultT] | None:
        """Return what work returns; None where others may have committed during the look."""
        opened = self.place.apart()
        if opened is None:
            return (otherwise,)
        try:
            has_looked = opened.view.has_looked_apart()
            found = (work(self._reader(opened, has_looked=True)),) if has_looked else None
        except BaseException:
            opened.close()
            raise
        if found is None:
            opened.close()
        else:
            self.place.take_over(opened)
        return found

    def read(self, work: Callable[[Reader[RecordT]], ResultT], otherwise: ResultT) -> ResultT:
        """
        Read, in a thread.

        Args:
            work: does it.
            otherwise: what it would return where there is no root.
        """
        for _ in range(_MOVED_RETRIES):
            with contextlib.suppress(MovedError):
                opened = self.place.to_read()
                if opened is None:
                    return otherwise
                reader = self._reader(opened)
                if opened.log is not None and not opened.log.is_scanned:
                    reader.look()  # which may have to be tried again
                return work(reader)
            self.place.reopen()
        raise StorageError("read", self.place.path, None, "the directory keeps moving; try again")

    def glance(self, work: Callable[[Glance[RecordT]], ResultT]) -> ResultT:
        """
        Read what is in memory, without waiting; on a loop.

        Raises:
            NotInMemoryError: it is not, or is not to be relied upon.
        """
        root = self.place.writing
        if root is None or not root.log.is_scanned or root.view.lost.may_be_some:
            raise NotInMemoryError
        return work(Glance(root.bodies, self._codec))

    def _reader(self, opened: OpenRoot, *, has_looked: bool = False) -> Reader[RecordT]:
        seconds = self._options.lock_timeout_seconds
        return Reader(opened.bodies, self._codec, seconds, has_looked=has_looked)

    # Threads

    def submit(self, change: Change) -> None:
        """
        Queue a change; on any thread.

        Raises:
            WriterClosedError: it is closed.
            ThreadStartError: there is no thread to make it.
        """
        with self._mutex:
            if self._is_closed:
                raise WriterClosedError("the writer is closed")
            while self._unstarted:
                name, run = [*self._unstarted.items()][-1]
                self._threads.start(name, run)
                del self._unstarted[name]
            self._committer.submit(change)

    async def made(self, change: Change) -> Any:
        """Queue a change at once, and return what becomes of it."""
        self.submit(change)
        self.watch(change)
        return await change.job.finished()

    def submit_later(self, change: Change) -> None:
        """Queue a change whose caller waits for it already; an error is its outcome."""
        if change.job.is_over:
            return
        try:
            self.submit(change)
        except CheckpointError as error:
            if change.job.begin():
                change.job.error = error
                Job.deliver([change.job])

    def watch(self, change: Change) -> None:
        """Give a change up that has waited for others for too long; on the loop of its job."""
        self._deadlines.watch(change.job, change)

    def _commit(self) -> None:
        try:
            self._committer.run()
        finally:
            self._applier.demand.end()

    def _too_late(self, change: object) -> CheckpointError | None:
        """Return what a change, or a close, raises that has waited for too long; None if not."""
        if change is self:
            return self._held_up()
        error = change.held_up() if isinstance(change, Change) and change.held_up else None
        if error is not None:
            return error
        seconds = self._options.lock_timeout_seconds
        is_late = isinstance(change, Change) and change.job.is_late
        if self._committer.lacks_room and not is_late:
            cause = self._applier.error
            reason = f"the journal has no room for {seconds:g} s"
            if cause is not None:
                reason += f", since its files cannot be written: {cause}"
            private = Directory(self.place.path, None).join(names.PRIVATE_DIRECTORY)
            number = cause.errno if isinstance(cause, StorageError) else None
            return StorageFullError("write", private, number, reason)
        error = self._held_up(waits_for_files=is_late)
        if error is None or not is_late or isinstance(change, Flush):
            return error
        reason = f"no files were written within {seconds:g} s; the journal has the change"
        return DurabilityUnknownError("write files", error.path, None, reason)

    def _held_up(self, *, waits_for_files: bool = True) -> StoreBusyError | None:
        """Return what another process has held for too long, as an error."""
        root = self.place.writing
        log = root and root.log
        if not log:
            return None
        seconds = self._options.lock_timeout_seconds
        longest = monotonic_seconds() - max(seconds, _SHORTEST_WAIT_SECONDS)
        waits = {LOCK_NAME: log.waits_since}
        if waits_for_files:
            waits[APPLIER_NAME] = log.applier_waits_since
        found = [name for name, since in waits.items() if since is not None and since <= longest]
        return StoreBusyError(log.directory.join(found[0]), seconds) if found else None

    # Telling

    def stats(self) -> WriterStats:
        """Return how it is doing, from memory, without waiting for anybody."""
        opened = self.place.used_last
        backlog = opened.view.pending.backlog() if opened else Backlog(0, None)
        oldest = backlog.oldest_microseconds
        error = self._applier.error or self.place.error
        lag_microseconds = 0 if oldest is None else now_microseconds() - oldest
        return WriterStats(
            reads=self.readers.submitted + self.callers.submitted,
            changes=self._committer.changes,
            commits=self._committer.commits,
            waiting=self._committer.waiting,
            unflushed_changes=backlog.changes,
            unflushed_bytes=opened.log.unflushed_bytes() if opened and opened.log else 0,
            lag_seconds=max(lag_microseconds, 0) / 1_000_000,
            files_error=None if error is None else str(error) or repr(error),
        )

    # Closing

    async def closed(self, *, has_waited: bool) -> None:
        """
        Take no more changes, and wait until all that were submitted are done and all is released.

        Args:
            has_waited: whether the caller was held up until now, and will not be once more.

        Raises:
            StoreBusyError: another process holds up our threads, which end when it lets go.
        """
        ending = Ending()
        with self._mutex:
            if self._is_released:
                return
            self._endings.append(ending)
        self.abandon()
        held_up = self._held_up() if has_waited else None
        if held_up is not None:
            raise held_up
        self._deadlines.watch(ending, self)
        await ending.finished()

    def abandon(self) -> None:
        """Take no more changes, and let the threads end when those that were submitted are done."""
        with self._mutex:
            is_first, self._is_closed = not self._is_closed, True
        if is_first:
            if self.place.opened is not None and not self._threads.is_started:
                with contextlib.suppress(ThreadStartError):  # it closes what is open, not a loop
                    self.readers.submit(int)
            self._committer.end()
            for part in (self.readers, self.callers, self._workers, self._threads):
                part.end()

    def _release(self) -> None:
        """Let go of everything, in the last thread that ends."""
        error: BaseException | None = None
        try:
            self.place.close()
        except BaseException as raised:  # noqa: BLE001 - raised by whoever awaits the close
            error = raised
        with self._mutex:
            self._is_released = True
        for ending in self._endings:
            ending.error = error and own_copy(error)
        Job.deliver(self._endings)


def _require_time(
    deadline: float, error: StoreBusyError | UnwrittenError | LockRefusedError
) -> None:
    """Raise what a read has failed with, if there is no time left to try it again."""
    if monotonic_seconds() >= deadline:
        raise error if isinstance(error, StoreBusyError) else error.told()
