"""The files of a root whose locks its processes share, and the one of their positions."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Generator

from aiocheckpoint._disk.files import Directory, FileStatus, LocalFiles, monotonic_seconds
from aiocheckpoint.errors import StorageError

CONTROL_NAME = "control"
LOCK_NAME = "lock"
APPLIER_NAME = "applier"
_TURN_NAME = "turn"
_LOOK_SECONDS = (0.002, 0.02)  # the first pause, and the longest
_NAMES = (_TURN_NAME, LOCK_NAME, APPLIER_NAME, CONTROL_NAME)


class MovedError(Exception):
    """The place that this process holds open is not what its path, the text, leads to any more."""


class _Locked(contextlib.AbstractContextManager[None]):
    """Holds the lock of commits, for one thread at a time."""

    def __init__(self, files: LockFiles) -> None:
        self._files = files
        self._threads = threading.RLock()

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            self._files.acquire()
        except BaseException:
            self._threads.release()
            raise

    def __exit__(self, *error: object) -> None:
        try:
            self._files.release()
        finally:
            self._threads.release()


class LockFiles:
    """
    The open files in a store's own directory that are not slots.

    Args:
        files: the file operations.
        directory: the store's own, open.
        writable: whether to open them to write, and make them.

    Attributes:
        waits_since: since when this process has been waiting for the lock, which another one had
            then; None if it is not. Who is slow to take what nobody has blames nobody.
        applier_waits_since: the same of the lock under which files are written; since the last
            flush of others for who has seen one meanwhile.
        refusal: why a first look could not open the lock of another user last; None if it could.
        meanwhile: called while another process holds the lock, by who is the next to have it.
    """

    def __init__(self, files: LocalFiles, directory: Directory, *, writable: bool) -> None:
        self._files = files
        self.directory = directory
        self.waits_since: float | None = None
        self.applier_waits_since: float | None = None
        self.refusal: StorageError | None = None
        self.meanwhile: Callable[[], None] | None = None
        self._descriptors: dict[str, int] = {}
        self._held: dict[str, FileStatus] = {}
        self._paths = {name: directory.join(name) for name in _NAMES}
        self._writable = writable
        self._opening = threading.Lock()
        self._locked = _Locked(self)

    def make(self) -> None:
        """Make those that are not there; not durably, for nothing is lost with them."""
        for name in _NAMES:
            self._descriptor(name)

    def close(self) -> None:
        """Close the files; that gives their locks back, too."""
        for name in [*self._descriptors]:
            self._close(name)

    def has(self, name: str) -> bool:
        """Open a file, and tell whether it is there."""
        return self._found(name) is not None

    def _descriptor(self, name: str) -> int:
        descriptor = self._found(name)
        if descriptor is None:
            raise StorageError("open", self._paths[name], None, "it was removed")
        return descriptor

    def _found(self, name: str) -> int | None:
        descriptor = self._descriptors.get(name)
        if descriptor is None:
            with self._opening:
                descriptor = self._descriptors.get(name)
                if descriptor is None:
                    descriptor = self._opened(name)
        return descriptor

    def _opened(self, name: str) -> int | None:
        path = self._paths[name]
        found = self._files.open_file(
            self.directory, name, write=self._writable, create=self._writable
        )
        if found is None:
            return None
        try:
            self._held[name] = self._files.open_status(found, path)
        except BaseException:
            with contextlib.suppress(StorageError):
                self._files.close(found, path)
            raise
        self._descriptors[name] = found
        return found

    # Locks. Order: applier, then the threads' own, then turn, then lock.

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """
        Hold the lock that commits are made under, waiting as long as it takes.

        Who waits at the turnstile is next: without it one process could starve the others.

        Raises:
            MovedError: its path leads elsewhere by now.
        """
        return self._locked

    def acquire(self) -> None:
        """Take the lock; see `locked`."""
        files = self._files
        turn, turn_path = self._descriptor(_TURN_NAME), self._paths[_TURN_NAME]
        lock, lock_path = self._descriptor(LOCK_NAME), self._paths[LOCK_NAME]
        try:
            try:
                if not files.try_lock_file(turn, turn_path):
                    self.waits_since = monotonic_seconds()
                    files.lock_file(turn, turn_path)
                if not files.try_lock_file(lock, lock_path):
                    self.waits_since = self.waits_since or monotonic_seconds()
                    if self.meanwhile is not None:
                        self.meanwhile()
                    files.lock_file(lock, lock_path)
            finally:
                self.waits_since = None
                self._give_back(_TURN_NAME)
            for name in (LOCK_NAME, CONTROL_NAME):  # others may use another one by now
                self.require_in_place(name)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the lock back."""
        self._give_back(LOCK_NAME)

    def _give_back(self, name: str) -> None:
        """Unlock a file; what was done under its lock is done, so nobody is told of a failure."""
        descriptor = self._descriptors.get(name)
        if descriptor is None:
            return
        try:
            self._files.unlock_file(descriptor, self._paths[name])
        except StorageError:
            self._close(name)  # which frees it too

    def _close(self, name: str) -> None:
        descriptor = self._descriptors.pop(name)
        with contextlib.suppress(StorageError):
            self._files.close(descriptor, self._paths[name])

    def require_in_place(self, name: str) -> None:
        """
        See that a name still leads to the file that is open.

        Raises:
            MovedError: it does not.
        """
        if not self._is_in_place(name):
            raise MovedError(self.directory.path)

    def _is_in_place(self, name: str) -> bool:
        held = self._held.get(name)
        return held is None or self._files.still_leads_to(self._paths[name], held)

    @contextlib.contextmanager
    def shared_if_free(self) -> Generator[bool]:
        """
        Keep commits out if none is under way; tell whether that is so.

        A lock that belongs to another user is as if it were held: a commit shows by what it shares.
        """
        self.refusal = None
        path = self.directory.join(LOCK_NAME)
        try:
            # Of its own, for this process may hold the other one just now.
            descriptor = self._files.open_file(self.directory, LOCK_NAME)
        except StorageError as error:
            if error.errno not in (errno.EACCES, errno.EPERM):
                raise
            self.refusal = error
            yield False
            return
        if descriptor is None:
            yield True
            return
        try:
            yield self._files.try_lock_file(descriptor, path, shared=True)
        finally:
            self._files.close(descriptor, path)

    def is_free(self) -> bool:
        """Tell whether no commit is under way; whoever makes one meanwhile is not held up."""
        path = self.directory.join(LOCK_NAME)
        descriptor = self._files.open_file(self.directory, LOCK_NAME)
        if descriptor is None:
            return True
        try:
            return self._files.is_lock_free(descriptor, path)
        finally:
            self._files.close(descriptor, path)

    @contextlib.contextmanager
    def applying(self, look: Callable[[], bool | None]) -> Generator[bool]:
        """
        Be the one process that writes files, waiting as long as it takes; tell whether this is it.

        Args:
            look: tells, while others write files, whether this process need not any more; None
                where only a turn of its own helps.
        """
        try:
            is_applier = self._lock_applier(look)
            if not self._is_in_place(APPLIER_NAME) and self._is_in_place(LOCK_NAME):
                self._close(APPLIER_NAME)  # it alone was removed: who has come since has another
                is_applier = self._lock_applier(look)
            yield is_applier
        finally:
            self._give_back(APPLIER_NAME)

    def _lock_applier(self, look: Callable[[], bool | None]) -> bool:
        """
        Take the lock under which files are written; False when that is not wanted any more.

        Not by waiting for it alone: of several that do, one may be passed over for a minute, while
        the others have long written its files.
        """
        files, (pause, longest) = self._files, _LOOK_SECONDS
        descriptor, path = self._descriptor(APPLIER_NAME), self._paths[APPLIER_NAME]
        try:
            while not files.try_lock_file(descriptor, path):
                self.applier_waits_since = self.applier_waits_since or monotonic_seconds()
                is_done = look()
                if is_done:
                    return False
                if is_done is None:
                    files.lock_file(descriptor, path)
                    return True
                files.await_lock(path, pause)
                pause = min(2 * pause, longest)
        finally:
            self.applier_waits_since = None
        return True

    def has_applier(self) -> bool:
        """Tell whether some process writes files just now."""
        return self._files.is_locked(self.directory, APPLIER_NAME)
