"""One writer's hold on a root: open it, submit changes to it, read it, close it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, NamedTuple, TypeVar

from aiocheckpoint._disk.files import Directory, LocalFiles, absolute, monotonic_seconds
from aiocheckpoint._disk.locks import APPLIER_NAME, LOCK_NAME, MovedError
from aiocheckpoint._engine import root as roots
from aiocheckpoint._engine.applier import Applier
from aiocheckpoint._engine.changes import Change, Flush, Wake
from aiocheckpoint._engine.commit import Committer
from aiocheckpoint._engine.jobs import Deadlines, Threads
from aiocheckpoint._engine.plan import Limits
from aiocheckpoint._engine.read import Reader
from aiocheckpoint._engine.root import OpenRoot, WritableRoot
from aiocheckpoint._format import names
from aiocheckpoint._format.codec import RecordCodec, RecordT
from aiocheckpoint.errors import (
    CheckpointError,
    DurabilityUnknownError,
    StorageError,
    StorageFullError,
    StoreBusyError,
    ThreadStartError,
    WriterClosedError,
)

# Each system call lets go of the GIL: with more threads, more of them wait to have it back.
_MAX_READERS = 5
_MOVED_RETRIES = 3
_LOOK_SECONDS = 0.05
_SHORTEST_WAIT_SECONDS = 0.01
ResultT = TypeVar("ResultT")


class Options(NamedTuple):
    """
    How a writer uses a root.

    Attributes:
        limits: the bounds to keep.
        wake: when callers wake.
        lock_timeout_seconds: how long a change may wait for others.
        max_journal_bytes: how much of the log may be unflushed.
    """

    limits: Limits
    wake: Wake
    lock_timeout_seconds: float
    max_journal_bytes: int


class LocalStore(Generic[RecordT]):
    """
    A root, as one writer uses it. Making one does no I/O.

    Args:
        path: of the root.
        record_codec: of the record type.
        options: how to use it.
        files: the file operations.
    """

    def __init__(
        self, path: str, record_codec: RecordCodec[RecordT], options: Options, files: LocalFiles
    ) -> None:
        self.path = path
        self.files = files
        self._codec = record_codec
        self._options = options
        self._reading: OpenRoot | None = None
        self._writing: WritableRoot | None = None
        self._was_writable = False
        self._retired: list[OpenRoot] = []
        self._opening = threading.RLock()  # held over file operations, so never on a loop
        self._mutex = threading.Lock()
        self._threads: Threads | None = None
        self._closed: Future[None] | None = None
        self._applier = Applier(self._held)
        self._committer = Committer(self, self._applier, options.limits, options.wake)
        self._deadlines = Deadlines(options.lock_timeout_seconds, self._too_late)
        self._work = {"commit": self._committer.run, "apply": self._applier.run}
        self._running: list[threading.Thread] = []

    # Opening

    def to_read(self) -> OpenRoot | None:
        """Return the root, as it is; None when there is none."""
        with self._opening:
            if self._writing is not None:
                return self._writing.opened
            found = self._reading
            if found is None or found.has_got_log():
                self._retire(found)
                self._absolute()
                found = roots.open_to_read(self.path, self.files, self._options.limits.max_bytes)
                self._reading = found
            return found

    def to_write(self) -> WritableRoot:
        """Return the root, made if need be."""
        with self._opening:
            if self._writing is None:
                self._absolute()
                limits = self._options.limits
                self._writing = roots.open_to_write(
                    self.path, self.files, limits.max_bytes, self._options.max_journal_bytes
                )
                self._was_writable = True
                self._retire(self._reading)
                self._reading = None
            return self._writing

    def _absolute(self) -> None:
        """Keep to where the path leads now, whatever directory the process goes to."""
        self.path = absolute(self.path)

    @property
    def is_started(self) -> bool:
        """Whether there are threads, or open files, to let go of."""
        return bool(self._running or self._threads is not None)

    @property
    def has_changed(self) -> bool:
        """Whether this writer has changed, or tried to change, the root."""
        return self._writing is not None or bool(self._running)

    @property
    def may_have_committed(self) -> bool:
        """Whether the root could ever be opened to change it."""
        return self._was_writable

    @property
    def has_damage(self) -> bool:
        """Whether a part of the log is damaged."""
        opened = self._reading or (self._writing and self._writing.opened)
        return opened is not None and opened.log is not None and bool(opened.log.damages)

    def is_there(self, *, with_log: bool) -> bool:
        """Tell whether there is anything that could be removed, or flushed."""
        found = self.to_read()
        return found is not None and (found.log is not None or not with_log)

    def reopen(self) -> None:
        """Let the next use open everything anew, where the path leads to by then."""
        with self._opening:
            self._retire(self._reading)
            self._retire(self._writing and self._writing.opened)
            self._reading = self._writing = None

    def _retire(self, opened: OpenRoot | None) -> None:
        """Keep what others may be using until the end."""
        if opened is not None:
            self._retired.append(opened)

    def _held(self) -> WritableRoot:
        return self.to_write()

    # Reading

    def read(self, work: Callable[[Reader[RecordT]], ResultT], otherwise: ResultT) -> ResultT:
        """
        Read, in a thread.

        Args:
            work: does it.
            otherwise: what it would return where there is no root.
        """
        for _ in range(_MOVED_RETRIES):
            opened = self.to_read()
            if opened is None:
                return otherwise
            with contextlib.suppress(MovedError):
                return work(self._reader(opened))
            self.reopen()
        raise StorageError("read", self.path, None, "the directory keeps moving; try again")

    def _reader(self, opened: OpenRoot) -> Reader[RecordT]:
        return Reader(opened.bodies, self._codec, self._options.lock_timeout_seconds)

    # Threads

    def threads(self) -> Threads:
        """
        Return the pool that reads run on, started by the first call.

        Raises:
            WriterClosedError: it is closed.
        """
        with self._mutex:
            self._require_open()
            if self._threads is None:
                self._threads = Threads(_MAX_READERS, thread_name_prefix="aiocheckpoint")
            return self._threads

    def _require_open(self) -> None:
        if self._closed is not None:
            raise WriterClosedError("the writer is closed")

    def submit(self, change: Change) -> None:
        """
        Queue a change; on the loop of its job.

        Raises:
            WriterClosedError: it is closed.
            ThreadStartError: there is no thread to make it.
        """
        with self._mutex:
            self._require_open()
            if len(self._running) < len(self._work):
                self._start()
            self._committer.submit(change)
        self._deadlines.watch(change.job, change)

    def _start(self) -> None:
        for name, run in [*self._work.items()][len(self._running) :]:
            thread = threading.Thread(target=run, name=f"aiocheckpoint-{name}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise ThreadStartError(str(error)) from error
            self._running.append(thread)

    def _too_late(self, change: object) -> CheckpointError | None:
        """Return what a change raises that has waited for too long; None if it is our own doing."""
        seconds = self._options.lock_timeout_seconds
        is_late = isinstance(change, Change) and change.job.is_late
        if self._committer.lacks_room and not is_late:
            cause = self._applier.error
            reason = f"the journal has no room for {seconds} s"
            if cause is not None:
                reason += f", since its files cannot be written: {cause}"
            private = Directory(self.path, None).join(names.PRIVATE_DIRECTORY)
            number = cause.errno if isinstance(cause, StorageError) else None
            return StorageFullError("save", private, number, reason)
        error = self._held_up(waits_for_files=is_late)
        if error is None or not is_late or isinstance(change, Flush):
            return error
        reason = f"no files were written within {seconds} s; the journal has the change"
        return DurabilityUnknownError("write files", error.path, None, reason)

    def _held_up(self, *, waits_for_files: bool = True) -> StoreBusyError | None:
        """Return what another process has held for too long, as an error."""
        log = self._writing and self._writing.log
        if not log:
            return None
        seconds = self._options.lock_timeout_seconds
        longest = monotonic_seconds() - max(seconds, _SHORTEST_WAIT_SECONDS)
        waits = {LOCK_NAME: log.waits_since}
        if waits_for_files:
            waits[APPLIER_NAME] = log.applier_waits_since
        found = [name for name, since in waits.items() if since is not None and since <= longest]
        return StoreBusyError(log.directory.join(found[0]), seconds) if found else None

    # Closing

    def close(self) -> Future[None]:
        """
        Take no more changes, and release everything when those that were submitted are done.

        Raises:
            ThreadStartError: nothing was released; call it again.
        """
        with self._mutex:
            if self._closed is None:
                released: Future[None] = Future()
                thread = threading.Thread(
                    target=self._release, args=(released,), name="aiocheckpoint-close", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as error:
                    raise ThreadStartError(str(error)) from error
                self._closed = released
            return self._closed

    def _release(self, released: Future[None]) -> None:
        """Let go of everything, in a thread of its own, since it waits for the others."""
        try:
            self._end_threads(released)
            with self._opening:
                self.reopen()
                for opened in self._retired:
                    opened.close()
                self._retired.clear()
        except BaseException as error:  # noqa: BLE001 - raised by whoever awaits the close
            if not released.done():
                released.set_exception(error)
        else:
            if not released.done():
                released.set_result(None)

    def _end_threads(self, released: Future[None]) -> None:
        """Wait for the threads; where another process holds them up, let nobody else wait on."""
        self._committer.end()
        for thread in self._running:
            while thread.is_alive():
                thread.join(_LOOK_SECONDS)
                error = None if released.done() else self._held_up()
                if error is not None:
                    released.set_exception(error)
            self._applier.end()
        if self._threads is not None:
            self._threads.shutdown(wait=True)  # reads may be going on

    def abandon(self) -> None:
        """Let the threads end when they have nothing to do; for a writer that nobody closed."""
        with contextlib.suppress(ThreadStartError):
            self.close()
